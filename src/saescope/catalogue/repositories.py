"""The recorded SAE repositories: a row for each repository, or part of it (`repositories.yaml`)."""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from saescope.catalogue.shapes import canonical

READERS = {"sparsify": "hub", "dictionary_learning": "hub", "mlsae": "hub", "saelens": "saelens"}
"""Format → the `sae.source` that reads it."""


@dataclass(frozen=True)
class CatalogueRow:
    """SAEs of one repository about which the same is known, from the same source."""

    repo: str
    """Hub id; with a `*` a family of repositories; `embedded` for those in the package."""

    model: str | None
    """Name as in `models.yaml`, with -deduped where that was the model; None where it is not known."""

    format: str
    """One of `READERS`, or one that saescope does not read."""

    basis: str
    """How it is known: what was read or seen."""

    source: str
    """Where it was read or seen."""

    date: str
    """Date on which it was so."""

    folders: dict[str, str] = field(default_factory=dict)
    """Kind of hookpoint (`resid`, `mlp`, `attention`) → folder, with `{layer}` for the block."""

    layers: frozenset[int] = frozenset()
    """Blocks that have a folder."""

    seen: frozenset[int] = frozenset()
    """Those of `layers` whose folders we have seen."""

    num_latents: int | None = None
    k: int | None = None

    architecture: str | None = None
    """As sae_lens names it; None: `topk` for sparsify's, else only the SAE's config says it."""

    l0: dict[int, float] = field(default_factory=dict)
    """Block → active latents per token as published, for SAEs without a k."""

    fvu: dict[int, float] = field(default_factory=dict)
    """Block → fraction of variance unexplained that somebody measured, to compare with."""

    hooks: dict[str, str] = field(default_factory=dict)
    """Kind of hookpoint → name of the exact hookpoint, with `{layer}`, where the kind does not say it."""

    release: str | None = None
    """SAELens: the registered release."""

    ids: dict[str, str] = field(default_factory=dict)
    """SAELens: kind of hookpoint → id, with `{layer}` for the block."""

    unverified: tuple[str, ...] = ()
    """Fields that are stated somewhere, and not seen by us."""

    caution: str | None = None
    """Why it is not a first choice."""

    note: str | None = None
    """What else to know."""

    exists: bool = True
    """False: it is named somewhere, and no public trace of it was found."""

    live: str | None = None
    """State on the Hub now (`live.py`); None: the Hub was not consulted."""

    def folder(self, layer: int, kind: str) -> str:
        """Folder of the SAE in the repository."""
        return self.folders[kind].format(layer=layer)

    def covers(self, layer: int, kind: str) -> bool:
        """Whether there is an SAE of this hookpoint, as far as is known."""
        return self.exists and kind in self.folders and layer in self.layers

    def certain(self, layer: int) -> bool:
        """Whether the folder was seen, and is of this model for sure."""
        return layer in self.seen and not {"model", "folders", "layers"} & set(self.unverified)

    @property
    def readable(self) -> bool:
        """Whether the format is one that saescope can read."""
        return self.format in READERS


@cache
def load_rows() -> tuple[CatalogueRow, ...]:
    """The rows recorded in `repositories.yaml`, best first for each model."""
    return tuple(_row(values) for values in _recorded()["repositories"])


def registered_sizes() -> dict[str, int]:
    """Release of sae_lens → number of latents, where its registry does not state it and it was seen."""
    return {
        release: entry["num_latents"] for entry in _recorded()["registered"] for release in entry["releases"]
    }


@cache
def _recorded() -> dict[str, Any]:
    import yaml

    text = (Path(__file__).parent / "repositories.yaml").read_text(encoding="utf-8")
    values: dict[str, Any] = yaml.safe_load(text)
    return values


def known_repositories(model_name: str) -> list[str]:
    """Hub ids that `sae.repo` takes for the model (a name, Hub id, or -deduped), best first."""
    model = canonical(model_name)
    rows = [
        r
        for r in load_rows()
        if model and r.model == model and r.exists and r.format == "sparsify" and r.folders
    ]
    rows.sort(key=lambda r: (bool({"model", "folders"} & set(r.unverified)), r.caution is not None))
    return list(dict.fromkeys(r.repo for r in rows))


def never_seen(repo: str) -> bool:
    """Whether the repository is named somewhere, and no public trace of it was found."""
    return any(row.repo == repo and not row.exists for row in load_rows())


def layer_numbers(text: str | int) -> frozenset[int]:
    """`0-2,5` → {0, 1, 2, 5}."""
    layers: set[int] = set()
    for part in filter(None, str(text).split(",")):
        first, _, last = part.partition("-")
        layers |= set(range(int(first), int(last or first) + 1))
    return frozenset(layers)


def _row(values: dict[str, Any]) -> CatalogueRow:
    layers = layer_numbers(values.get("layers", ""))
    plain = {k: v for k, v in values.items() if k not in ("layers", "seen", "unverified", "format")}
    return CatalogueRow(
        **plain,
        format=values.get("format", "unknown format"),
        layers=layers,
        seen=layer_numbers(values["seen"]) if "seen" in values else layers,
        unverified=tuple(values.get("unverified", ())),
    )
