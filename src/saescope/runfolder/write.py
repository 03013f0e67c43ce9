"""The files of a run folder."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from saescope.analysis.features import FeatureResults
from saescope.analysis.reconstruction import Metrics
from saescope.config import AppConfig
from saescope.files import whole, write_json, write_text

BROWSE_ROWS = 500


@dataclass(frozen=True)
class Results:
    """Everything a job found."""

    metrics: Metrics
    notes: dict[str, str]
    warnings: list[str]
    found: FeatureResults
    contexts: pd.DataFrame
    provenance: dict[str, Any]
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    """Written as `<name>.csv`."""
    sections: list[dict[str, Any]] = field(default_factory=list)
    """Tables with their words, written as `dynamic_k_structure.json` where there are any."""

    def top_table(self) -> pd.DataFrame:
        """The most specialised supported latents, for browsing on a dashboard."""
        table = self.found.features
        live = table[table.supported].sort_values("si", ascending=False).head(BROWSE_ROWS)
        return live[
            [
                "latent",
                "si",
                "si_q",
                "si_excess",
                "top_task",
                "density",
                "count",
                "docs",
                "community",
                "degree",
            ]
        ]


def write_results(run_dir: Path, results: Results, cfg: AppConfig, tracking: dict[str, Any]) -> None:
    """Write all data files; `status.json` is written last, by the caller, and says that they are complete."""
    write_text(run_dir / "config.yaml", to_yaml(cfg.as_dict()))
    for name, table in (
        ("features", results.found.features),
        ("edges", results.found.edges),
        ("examples", results.contexts),
    ):
        with whole(run_dir / f"{name}.parquet") as temporary:
            table.to_parquet(temporary, index=False)
    for name, table in results.tables.items():
        with whole(run_dir / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)
    if results.sections:
        write_json(run_dir / "dynamic_k_structure.json", results.sections)
    write_json(run_dir / "histograms.json", results.found.histograms)
    write_json(run_dir / "provenance.json", results.provenance)
    write_json(run_dir / "tracking.json", tracking)
    write_json(run_dir / "metrics.json", results.metrics)


def to_yaml(values: dict[str, Any]) -> str:
    """YAML of a plain nested dictionary."""
    import yaml

    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
