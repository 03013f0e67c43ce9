"""Config group `hookpoint`."""

from dataclasses import dataclass

from saescope.config.check import at_least, between, one_of
from saescope.errors import ConfigError

KINDS = ("resid", "mlp", "attention", "custom")


@dataclass(frozen=True)
class HookpointConfig:
    """Where in the model the SAE reads."""

    kind: str
    """`resid` (block output), `mlp`, `attention` (outputs of the sublayers) or `custom` (by `name`)."""

    layer: int | None = None
    """0-based block number."""

    depth: float | None = None
    """0 to 1: block floor(depth × number of blocks), the last block at 1; used when `layer` is null."""

    name: str | None = None
    """`custom`: any spelling, such as layers.3.mlp, gpt_neox.layers.3, blocks.3.hook_resid_post."""

    def __post_init__(self) -> None:
        one_of("hookpoint.kind", self.kind, KINDS)
        at_least("hookpoint.layer", self.layer, 0)
        between("hookpoint.depth", self.depth, 0.0, 1.0)
        if self.name and (set(self.name) & set("*?[]{},") or self.name != self.name.strip()):
            raise ConfigError(
                f"hookpoint.name={self.name}: one hookpoint a job, no pattern and no list; a sweep takes "
                "several: saescope -m hookpoint.layer=0,1,2 "
                "(or hookpoint=custom hookpoint.name=layers.0,layers.1)"
            )
        if self.kind == "custom":
            if not self.name:
                raise ConfigError(
                    "hookpoint=custom needs hookpoint.name, such as hookpoint.name=layers.3.mlp"
                )
            for key in ("layer", "depth"):
                if getattr(self, key) is not None:
                    raise ConfigError(
                        f"hookpoint=custom takes hookpoint.name only; leave hookpoint.{key} out"
                    )
        elif self.name:
            raise ConfigError(f"hookpoint.name={self.name} needs hookpoint=custom")
        elif self.layer is None and self.depth is None:
            raise ConfigError("set hookpoint.layer (0-based) or hookpoint.depth (0 to 1)")


def layer_at(depth: float, num_layers: int) -> int:
    """0-based block at `depth` of `num_layers` blocks."""
    # the small addend: 0.29 * 100 is 28.999… in floating point
    return min(int(depth * num_layers + 1e-9), num_layers - 1)
