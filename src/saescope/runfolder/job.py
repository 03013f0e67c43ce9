"""One job folder as a sweep sees it: never raises for a damaged file, but says which one is damaged."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from saescope.errors import ReportError
from saescope.runfolder.values import finite

SKIPPED = {"wandb", "artifacts", "sae", "figures"}
"""Folders that hold no jobs."""

_MARKS = ("status.json", "metrics.json", ".hydra/overrides.yaml")
"""Any of these makes a folder a job's."""


@dataclass(frozen=True)
class Job:
    """What a job folder holds."""

    path: Path
    state: str
    """`ok`, `failed`, or `unfinished` (still running, killed, or its files are not readable)."""
    error: str
    """Why it is not `ok`; empty otherwise."""
    status: Mapping[str, Any] = field(repr=False)
    overrides: tuple[str, ...]
    config: Mapping[str, Any] = field(repr=False)
    """Resolved config, else Hydra's record of it."""
    provenance: Mapping[str, Any] = field(repr=False)
    tracking: Mapping[str, Any] = field(repr=False)
    metrics: Mapping[str, Any] = field(repr=False)
    """`metrics.json` of an `ok` job, else empty."""

    @property
    def ok(self) -> bool:
        """It finished, and its metrics are there."""
        return self.state == "ok"

    @property
    def tasks(self) -> list[str]:
        """Task names in the order of the metrics."""
        names = [key[len("task/") : -len("/tokens")] for key in self.metrics if _is_tokens(key)]
        return list(dict.fromkeys(names))

    def section(self, name: str) -> Mapping[str, Any]:
        """A group of the config; empty when absent."""
        return _mapping(self.config.get(name))

    def found(self, name: str) -> Mapping[str, Any]:
        """A group of the provenance; empty when absent."""
        return _mapping(self.provenance.get(name))


def find_jobs(dirs: Sequence[Path]) -> list[Job]:
    """Every job folder in or below the given folders, each once.

    A folder given twice, or reached by a link too, counts once. Raises ReportError for a folder that is not
    there, or when there is no job at all.
    """
    found: dict[Path, None] = {}
    for top in dirs:
        if not Path(top).is_dir():
            raise ReportError(f"no folder {top}; give run folders, sweep folders, or any folder above them")
        for path in sorted(_folders(Path(top).resolve()), key=_natural):
            found.setdefault(path)
    if not found:
        raise ReportError(
            f"no job in {', '.join(map(str, dirs))}: no folder below has status.json, metrics.json or "
            ".hydra/overrides.yaml; give run folders, sweep folders, or any folder above them"
        )
    return [read_job(path) for path in found]


def read_job(path: Path) -> Job:
    """Read a job folder; what is missing or broken ends up in `state` and `error`."""
    broken: list[str] = []

    def load(name: str) -> Any:
        try:
            return _load(path / name)
        except (OSError, ValueError) as error:
            broken.append(f"{name} cannot be read ({' '.join(str(error).split())[:120]})")
            return None

    status, metrics = _mapping(load("status.json")), _mapping(load("metrics.json"))
    config = _mapping(load("config.yaml")) or _mapping(load(".hydra/config.yaml"))
    given = load(".hydra/overrides.yaml")
    if not isinstance(given, list):
        given = status.get("overrides")
    state, error = str(status.get("state") or ""), str(status.get("error") or "")
    if state == "ok" and not metrics:
        state, error = "unfinished", "; ".join(broken) or "metrics.json is missing or empty"
    elif state == "ok":
        error = ""
    elif state == "failed":
        error = error or "no reason recorded"
    else:
        why = {
            "running": "did not finish: still running, or killed",
            "": "status.json is missing or empty",
        }
        state, error = "unfinished", "; ".join(broken) or error or why.get(state, f"state {state}")
    return Job(
        path=path,
        state=state,
        error=" ".join(error.split()),
        status=status,
        overrides=tuple(map(str, given)) if isinstance(given, list) else (),
        config=config,
        provenance=_mapping(load("provenance.json")),
        tracking=_mapping(load("tracking.json")),
        metrics={str(key): _number(value) for key, value in metrics.items()} if state == "ok" else {},
    )


def _folders(top: Path) -> Iterator[Path]:
    seen: set[Path] = set()
    for name, below, _ in os.walk(top, followlinks=True):
        path = Path(name).resolve()
        if path in seen:
            below.clear()
            continue
        seen.add(path)
        if any((path / mark).is_file() for mark in _MARKS):
            below.clear()  # a job holds no jobs
            yield path
        below[:] = sorted(it for it in below if it not in SKIPPED and not it.startswith("."))


def _natural(path: Path) -> list[tuple[int, int | str]]:
    """Job 10 comes after job 9."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in path.parts]


def _load(path: Path) -> Any:
    import yaml

    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8")
    try:
        return yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> float | int | None:
    number = finite(value)
    return value if isinstance(value, int) and number is not None else number


def _is_tokens(key: str) -> bool:
    return key.startswith("task/") and key.endswith("/tokens")
