"""Hookpoints × known repositories → plans: which SAE to load for each, or to train one."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from saescope.catalogue.command_line import load_command, train_command
from saescope.catalogue.repositories import CatalogueRow
from saescope.catalogue.shapes import Shape
from saescope.config.catalogue import CoverageConfig
from saescope.config.hookpoint import layer_at
from saescope.errors import ConfigError


@dataclass(frozen=True)
class HookpointPlan:
    """How one hookpoint of one model gets its SAE."""

    shape: Shape
    layer: int
    kind: str

    row: CatalogueRow | None
    """The best row of the catalogue with an SAE that saescope reads; None: train one."""

    others: tuple[str, ...]
    """Other repositories with an SAE of the hookpoint, readable or not."""

    num_latents: int | None
    """Of the SAE to load, or to train."""

    k: int | None

    command: str
    """Command line that measures with this SAE."""

    live: str | None = None
    """State of the SAE (or of the one recorded) on the Hub now; None: the Hub was not consulted."""

    @property
    def state(self) -> str:
        """`covered`, `unverified` (stated somewhere, not seen by us) or `train`."""
        if self.row is None:
            return "train"
        return "covered" if self.row.certain(self.layer) else "unverified"

    @property
    def hookpoint(self) -> str:
        """As sparsify names it: `layers.3`, `layers.3.mlp`."""
        return f"layers.{self.layer}" + ("" if self.kind == "resid" else f".{self.kind}")

    @property
    def folder(self) -> str | None:
        """Folder of the SAE in its repository."""
        return self.row.folder(self.layer, self.kind) if self.row else None

    @property
    def matches(self) -> bool | None:
        """Whether the folder is named as sparsify names the hookpoint; None: to be trained."""
        return self.folder == self.hookpoint if self.row else None

    @property
    def sae_id(self) -> str | None:
        """What `sae.id` is for an SAE that sae_lens reads."""
        return self.row.ids[self.kind].format(layer=self.layer) if self.row and self.row.ids else None

    @property
    def hook(self) -> str | None:
        """Name of the exact hookpoint, where `hookpoint` does not say it."""
        name = self.row.hooks.get(self.kind) if self.row else None
        return name.format(layer=self.layer) if name else None

    @property
    def architecture(self) -> str | None:
        """Of the SAE to load, as sae_lens names it; None where only its config says it."""
        if self.row is None:
            return None
        return self.row.architecture or ("topk" if self.row.format == "sparsify" else None)

    @property
    def l0(self) -> float | None:
        """Active latents per token as published, for an SAE without a k."""
        return self.row.l0.get(self.layer) if self.row else None

    @property
    def fvu(self) -> float | None:
        """Fraction of variance unexplained that somebody measured, to compare with."""
        return self.row.fvu.get(self.layer) if self.row else None

    @property
    def expansion(self) -> float | None:
        """num_latents / width, never the number in a name or card."""
        return self.num_latents / self.shape.width if self.num_latents else None

    @property
    def unverified(self) -> tuple[str, ...]:
        """Fields that are stated somewhere, and not seen by us."""
        if self.row is None:
            return ()
        fields = list(self.row.unverified)
        if self.layer not in self.row.seen and "folders" not in fields:
            fields.insert(0, "folders")
        return tuple(fields)


def make_plans(
    cfg: CoverageConfig, shapes: Sequence[Shape], rows: Iterable[CatalogueRow]
) -> list[HookpointPlan]:
    """One plan per model, layer and kind, in the order of the configuration.

    Raises ConfigError for a layer that a model does not have.
    """
    rows = list(rows)
    plans = []
    for shape in shapes:
        for layer in layers(cfg, shape):
            plans += [_choose(cfg, shape, layer, kind, rows) for kind in cfg.kinds]
    return plans


def layers(cfg: CoverageConfig, shape: Shape) -> list[int]:
    """The blocks that `layers` or `depth` names. Raises ConfigError for one the model does not have."""
    if cfg.layers is None:
        return list(dict.fromkeys(layer_at(depth, shape.num_layers) for depth in cfg.depth))
    for layer in cfg.layers:
        if layer >= shape.num_layers:
            raise ConfigError(
                f"layers={layer}: {shape.name} has layers 0–{shape.num_layers - 1}; "
                "choose layers in that range, or give depth=0.5"
            )
    return list(dict.fromkeys(cfg.layers))


def _choose(
    cfg: CoverageConfig, shape: Shape, layer: int, kind: str, rows: list[CatalogueRow]
) -> HookpointPlan:
    """The best row for a hookpoint: seen before stated, then without a caution, then by place in the file."""
    model = shape.catalogue_name or shape.name
    candidates = [r for r in rows if r.model == model and r.covers(layer, kind)]
    candidates.sort(key=lambda r: (not r.readable, not r.certain(layer), r.caution is not None))
    best = candidates[0] if candidates and candidates[0].readable else None
    others = tuple(dict.fromkeys(r.repo for r in candidates if r is not best))
    if best is None:
        command = train_command(shape, layer, kind, cfg.expansion, cfg.k)
        return HookpointPlan(shape, layer, kind, None, others, cfg.expansion * shape.width, cfg.k, command)
    command = load_command(shape, layer, kind, best)
    return HookpointPlan(shape, layer, kind, best, others, best.num_latents, best.k, command, best.live)
