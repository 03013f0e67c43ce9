"""Wanted hookpoints × known repositories → load this one, or train."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from saescope.catalogue.command import load_command, train_command
from saescope.catalogue.known import Known
from saescope.catalogue.shapes import Shape
from saescope.config.catalogue import CoverageConfig
from saescope.config.hookpoint import layer_at
from saescope.errors import ConfigError


@dataclass(frozen=True)
class Wanted:
    """One hookpoint of one model, and what to do about it."""

    shape: Shape
    layer: int
    kind: str

    known: Known | None
    """The best readable SAEs that hold it; None: train."""

    others: tuple[str, ...]
    """Other repositories that hold it, readable or not."""

    num_latents: int | None
    """Of the known SAE, or of the one to be trained."""

    k: int | None

    command: str

    live: str | None = None
    """What the Hub says now about the SAE, or about the one that was recorded; None: not asked."""

    @property
    def state(self) -> str:
        """`covered`, `unverified` (somebody says so, nobody here has seen it) or `train`."""
        if self.known is None:
            return "train"
        return "covered" if self.known.certain(self.layer) else "unverified"

    @property
    def hookpoint(self) -> str:
        """As sparsify names it: `layers.3`, `layers.3.mlp`."""
        return f"layers.{self.layer}" + ("" if self.kind == "resid" else f".{self.kind}")

    @property
    def folder(self) -> str | None:
        """Folder of the SAE in its repository."""
        return self.known.folder(self.layer, self.kind) if self.known else None

    @property
    def matches(self) -> bool | None:
        """Whether the folder is named as sparsify names the hookpoint; None: to be trained."""
        return self.folder == self.hookpoint if self.known else None

    @property
    def expansion(self) -> float | None:
        """num_latents / width, never the number in a name or card."""
        return self.num_latents / self.shape.width if self.num_latents else None

    @property
    def unverified(self) -> tuple[str, ...]:
        """What about it nobody here has seen."""
        if self.known is None:
            return ()
        found = list(self.known.unverified)
        if self.layer not in self.known.seen and "folders" not in found:
            found.insert(0, "folders")
        return tuple(found)


def plan(cfg: CoverageConfig, shapes: Sequence[Shape], rows: Iterable[Known]) -> list[Wanted]:
    """One row per model, layer and kind, in the order asked for.

    Raises ConfigError for a layer that a model does not have.
    """
    rows = list(rows)
    wanted = []
    for shape in shapes:
        for layer in layers(cfg, shape):
            wanted += [_choose(cfg, shape, layer, kind, rows) for kind in cfg.kinds]
    return wanted


def layers(cfg: CoverageConfig, shape: Shape) -> list[int]:
    """The blocks of the model that are asked for. Raises ConfigError for one it does not have."""
    if cfg.layers is None:
        return list(dict.fromkeys(layer_at(depth, shape.num_layers) for depth in cfg.depth))
    for layer in cfg.layers:
        if layer >= shape.num_layers:
            raise ConfigError(
                f"layers={layer}: {shape.name} has layers 0–{shape.num_layers - 1}; "
                "choose layers in that range, or give depth=0.5"
            )
    return list(dict.fromkeys(cfg.layers))


def _choose(cfg: CoverageConfig, shape: Shape, layer: int, kind: str, rows: list[Known]) -> Wanted:
    """Seen before claimed, without a caution before with one, then in the order of the file."""
    found = [r for r in rows if shape.known_as and r.model == shape.known_as and r.holds(layer, kind)]
    found.sort(key=lambda r: (not r.readable, not r.certain(layer), r.caution is not None))
    best = found[0] if found and found[0].readable else None
    others = tuple(dict.fromkeys(r.repo for r in found if r is not best))
    if best is None:
        command = train_command(shape, layer, kind, cfg.expansion, cfg.k)
        return Wanted(shape, layer, kind, None, others, cfg.expansion * shape.width, cfg.k, command)
    command = load_command(shape, layer, kind, best)
    return Wanted(shape, layer, kind, best, others, best.num_latents, best.k, command, best.live)
