"""The files of a finished run, from plain values and tables."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saescope.files import lock, remove_leftovers, whole, write_json, write_text
from saescope.left_out import LeftOut
from saescope.runfolder.latents import Arrays, write_latents
from saescope.runfolder.names import (
    BESIDE,
    CAUSAL,
    CAUSAL_LAYERS,
    CAUSAL_MODULES,
    CONFIG,
    DYNAMIC_K,
    EDGES,
    EDGES_WITHIN_TOKEN,
    EXAMPLES,
    FEATURES,
    FEATURES_PAGE,
    FEATURES_SHARDS,
    FIGURES,
    HISTOGRAMS,
    HYDRA,
    LATENTS,
    LOCK,
    MATCHED,
    METRICS,
    PROVENANCE,
    RESAMPLES,
    STRUCTURE,
    TRACKING,
)

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Keep other writers out of a run folder, and first remove what killed ones left there.

    The lock ends with its process. Raises filelock.Timeout, an OSError, where another process is at work.
    """
    with lock(run_dir / LOCK, timeout=0):
        for folder in (run_dir, run_dir / FIGURES, run_dir / HYDRA):
            remove_leftovers(folder)
        yield


@dataclass(frozen=True)
class Results:
    """Everything a job leaves in its run folder."""

    metrics: dict[str, float | None]
    """Key → finite number, None where it does not apply."""
    notes: dict[str, str]
    """Why a metric is null; for `status.json`."""
    warnings: list[str]
    """What a reader must know beyond the metrics; for `status.json`."""
    features: "pd.DataFrame"
    """One row a latent."""
    edges: "pd.DataFrame"
    """One row a validated edge."""
    examples: "pd.DataFrame"
    """Top-activating contexts."""
    histograms: dict[str, Any]
    """Name → `{"edges": [B + 1], "counts": [B]}` over B bins."""
    provenance: dict[str, Any]
    left_out: list[LeftOut] = field(default_factory=list)
    """What the measurement did without; for `status.json`."""
    resamples: "pd.DataFrame | None" = None
    """Metrics with the documents drawn anew; None: no file."""
    tables: dict[str, "pd.DataFrame"] = field(default_factory=dict)
    """Further tables, written as `<name>.csv`."""
    structure: list[dict[str, Any]] = field(default_factory=list)
    """Tables with their words (`title`, `sentences`, `columns`, `rows`); no file where there is none."""
    latents: "tuple[Arrays, list[str]] | None" = None
    """The arrays of `latents.npz` and the words that its token ids index."""
    matched: dict[str, Any] = field(default_factory=dict)
    """SI and Q at standard amounts of evidence, for sweeps."""
    causal: dict[str, "pd.DataFrame"] = field(default_factory=dict)
    """Tables of the causal stage, written as `<name>.parquet`."""
    edges_within_token: "pd.DataFrame | None" = None
    """One row an edge that token ids do not explain; no file where there is no table."""


def write_results(
    run_dir: Path, results: Results, *, config: Mapping[str, Any], tracking: Mapping[str, Any]
) -> None:
    """Write all data files, each whole or not at all.

    `status.json` is written last, by the caller: it states that they are complete. Tables that an earlier run
    left in the folder and this one does not have are removed. Raises ValueError for a NaN or infinity outside
    the tables, OSError when the folder cannot be written.
    """
    write_text(run_dir / CONFIG, to_yaml(config))
    for name, table in (
        (FEATURES, results.features),
        (EDGES, results.edges),
        (EDGES_WITHIN_TOKEN, results.edges_within_token),
        (EXAMPLES, results.examples),
    ):
        if table is None:
            (run_dir / name).unlink(missing_ok=True)
            continue
        with whole(run_dir / name) as temporary:
            table.to_parquet(temporary, index=False)
    causal = (CAUSAL, CAUSAL_MODULES, CAUSAL_LAYERS)
    for name in (RESAMPLES, BESIDE, DYNAMIC_K, STRUCTURE, *causal, LATENTS, FEATURES_PAGE):
        (run_dir / name).unlink(missing_ok=True)
    shutil.rmtree(run_dir / FEATURES_SHARDS, ignore_errors=True)
    if results.latents is not None:
        write_latents(run_dir / LATENTS, *results.latents)
    if results.resamples is not None:
        with whole(run_dir / RESAMPLES) as temporary:
            results.resamples.to_parquet(temporary, index=False)
    for name, table in results.tables.items():
        with whole(run_dir / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)
    for name, table in results.causal.items():
        with whole(run_dir / f"{name}.parquet") as temporary:
            table.to_parquet(temporary, index=False)
    if results.structure:
        write_json(run_dir / STRUCTURE, results.structure)
    write_json(run_dir / HISTOGRAMS, results.histograms)
    write_json(run_dir / MATCHED, results.matched)
    write_json(run_dir / PROVENANCE, results.provenance)
    write_tracking(run_dir, tracking)
    write_json(run_dir / METRICS, results.metrics)


def write_beside(run_dir: Path, sentences: Sequence[str]) -> None:
    """`beside_controls.json`: the result beside the controls of its sweep."""
    write_json(run_dir / BESIDE, list(sentences))


def write_tracking(run_dir: Path, tracking: Mapping[str, Any]) -> None:
    """`tracking.json`: W&B's mode, id, group, url or sync command."""
    write_json(run_dir / TRACKING, tracking)


def to_yaml(values: Mapping[str, Any]) -> str:
    """YAML of a plain nested dictionary."""
    import yaml

    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)
