"""What a run folder holds, read once. Only `metrics.json` must be there; the rest is used when present."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saescope.errors import ReportError
from saescope.runfolder.status import status_of, unreadable
from saescope.runfolder.values import finite

Table = Mapping[str, NDArray[Any]]

_FEATURE_COLUMNS = [
    "latent",
    "docs",
    "density",
    "max_act",
    "supported",
    "si",
    "si_q",
    "top_task",
    "community",
]
_EXAMPLE_COLUMNS = ["latent", "rank", "task", "activation", "token", "context_before", "context_after"]


@dataclass(frozen=True)
class RunFolder:
    """The files of one run as plain Python and numpy."""

    path: Path
    metrics: Mapping[str, float | int | None]
    status: Mapping[str, Any]
    config: Mapping[str, Any]
    tracking: Mapping[str, Any]
    provenance: Mapping[str, Any]
    histograms: Mapping[str, Any]
    features: Table | None
    examples: Table | None
    missing: tuple[str, ...]
    """Names of the optional files that are not there."""

    @property
    def notes(self) -> Mapping[str, str]:
        """Why a metric is null, by metric key."""
        return {str(key): str(why) for key, why in (self.status.get("notes") or {}).items()}

    @property
    def tasks(self) -> list[str]:
        """Task names, in the order of the rate columns (else of the metrics)."""
        if self.features is not None:
            return [name.removeprefix("rate_") for name in self.features if name.startswith("rate_")]
        keys = [key.removeprefix("task/") for key in self.metrics if key.startswith("task/")]
        return list(dict.fromkeys(key.rsplit("/", 1)[0] for key in keys))

    @property
    def si_fdr(self) -> float:
        """The level at which a latent is called significant."""
        return finite((self.config.get("metrics") or {}).get("si_fdr")) or 0.05


def read_run(path: Path) -> RunFolder:
    """Read a run folder; a `ReportError` names the file that is missing or unreadable."""
    if not path.is_dir():
        raise ReportError(f"no run folder {path}; give the folder that holds metrics.json")
    if not (path / "metrics.json").is_file():
        raise ReportError(f"{path / 'metrics.json'} is missing; a report needs the metrics of a finished run")
    missing: list[str] = []

    def mapping(name: str, needed: bool = True) -> dict[str, Any]:
        if (path / name).is_file():
            return _mapping(path / name)
        if needed:
            missing.append(name)
        return {}

    def table(name: str, columns: list[str]) -> Table | None:
        if (path / name).is_file():
            return _table(path / name, columns)
        missing.append(name)
        return None

    if why := unreadable(status_of(path)):
        raise ReportError(f"{path}: {why}")
    metrics = {
        key: value if finite(value) is not None else None for key, value in mapping("metrics.json").items()
    }
    return RunFolder(
        path=path,
        metrics=metrics,
        status=mapping("status.json"),
        config=mapping("config.yaml"),
        tracking=mapping("tracking.json"),
        provenance=mapping("provenance.json", needed=False),
        histograms=mapping("histograms.json"),
        features=table("features.parquet", _FEATURE_COLUMNS),
        examples=table("examples.parquet", _EXAMPLE_COLUMNS),
        missing=tuple(missing),
    )


def _mapping(path: Path) -> dict[str, Any]:
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, yaml.YAMLError) as error:
        raise ReportError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ReportError(f"{path} cannot be read: it holds no mapping of names to values")
    return content


def _table(path: Path, columns: list[str]) -> Table:
    import pyarrow
    import pyarrow.parquet

    try:
        content = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise ReportError(f"{path} cannot be read: {error}") from error
    lacking = [name for name in columns if name not in content.column_names]
    if lacking:
        raise ReportError(f"{path} lacks the columns {', '.join(lacking)}")
    return {name: np.asarray(content[name].to_numpy()) for name in content.column_names}
