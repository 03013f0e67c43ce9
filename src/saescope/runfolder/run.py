"""One run folder, read: `open_run` for a finished run, `read_run` for any folder of a sweep."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from saescope.errors import ReportError
from saescope.left_out import LeftOut, parsed
from saescope.runfolder.names import (
    BESIDE,
    CONFIG,
    EDGES,
    EDGES_WITHIN_TOKEN,
    EXAMPLES,
    FEATURES,
    HISTOGRAMS,
    HYDRA_CONFIG,
    MATCHED,
    METRICS,
    OVERRIDES,
    PROVENANCE,
    STATUS,
    STRUCTURE,
    TABLES,
    TRACKING,
)
from saescope.runfolder.status import unreadable
from saescope.runfolder.values import finite

if TYPE_CHECKING:
    import pandas as pd

Columns = Mapping[str, NDArray[Any]]

_PAGE_FILES = (STATUS, CONFIG, TRACKING, HISTOGRAMS, FEATURES, EXAMPLES)
"""Files that a run page reads beside the metrics, each where it exists."""
_TEXT_COLUMNS = {FEATURES: ("top_task",), EDGES: (), EDGES_WITHIN_TOKEN: ()}
"""Tables of numbers, and their columns of text."""
_WRITTEN_BY = {
    "resamples": "runs of older versions lack it: measure again with force=true",
    "edges_within_token": "runs of an earlier version do not have it: measure again with force=true",
    "history": "only sae=train writes it",
    "dynamic_k": "only dynamic_k=mlp or dynamic_k=sae writes it",
    "causal": "only causal=ablate writes it",
    "causal_modules": "only causal=ablate writes it",
    "causal_layers": "only causal=ablate with causal.layers writes it",
}
"""Why a table may be missing; every finished run has the other tables."""
_ALWAYS_WRITTEN = "every finished run has it: measure again with force=true"


@dataclass(frozen=True, eq=False)
class Run:
    """The contents of a run folder. JSON and YAML are read at once, tables when they are first used.

    Example:
        >>> run = saescope.open_run(folder)
        >>> run.state, run.ok, run.tasks[:2], "features" in run.tables
        ('ok', True, ['arithmetic', 'code'], True)
    """

    path: Path
    state: str
    """`ok`, `failed`, or `unfinished` (still running, killed, of a newer version, or not readable)."""
    error: str
    """Why it is not `ok`, in one line; empty otherwise."""
    metrics: Mapping[str, float | int | None] = field(repr=False)
    """`metrics.json`: key → number, None where it does not apply (see `notes`). Those of a run that is not
    `ok` may be of an earlier one in the same folder, or empty."""
    status: Mapping[str, Any] = field(repr=False)
    """The content of `status.json`."""
    overrides: tuple[str, ...] = field(repr=False)
    """What the job was given on the command line, such as `sae.k=16`."""
    config: Mapping[str, Any] = field(repr=False)
    """Resolved configuration; of a run that is not `ok` Hydra's record of it, where there is one."""
    provenance: Mapping[str, Any] = field(repr=False)
    """Model, hookpoint, SAE and texts as resolved, versions."""
    tracking: Mapping[str, Any] = field(repr=False)
    """W&B's mode, id, group, url or sync command."""
    histograms: Mapping[str, Any] = field(repr=False)
    """Name → `{"edges": [B + 1], "counts": [B]}` over B bins that are the same in every run."""
    damaged: tuple[str, ...] = field(default=(), repr=False)
    """Files that are there but cannot be read, one phrase each, the file's name first."""

    @property
    def ok(self) -> bool:
        """It finished, and its metrics are there."""
        return self.state == "ok"

    @property
    def notes(self) -> Mapping[str, str]:
        """Why a metric is null, by metric key."""
        return {str(key): str(why) for key, why in _mapping(self.status.get("notes")).items()}

    @property
    def warnings(self) -> list[str]:
        """What a reader must know and the metrics do not say."""
        return list(map(str, _list(self.status.get("warnings"))))

    @property
    def left_out(self) -> list[LeftOut]:
        """What the measurement did without, a record a reason; [] of a folder of an older version."""
        return parsed(self.status.get("left_out"))

    @property
    def identity(self) -> str:
        """12 hex digits over everything that decides the numbers; empty where none is recorded."""
        return str(self.status.get("identity") or "")

    @property
    def reused_from(self) -> Path | None:
        """The run folder whose result this folder links to or copies; None where it was measured here."""
        folder = self.status.get("reused_from")
        return Path(folder) if isinstance(folder, str) else None

    @property
    def tasks(self) -> list[str]:
        """Task names in the order of the metrics."""
        tokens = (key for key in self.metrics if key.startswith("task/") and key.endswith("/tokens"))
        return [key.removeprefix("task/").removesuffix("/tokens") for key in tokens]

    @property
    def si_fdr(self) -> float:
        """The level at which a latent is called significant."""
        return finite(self.section("metrics").get("si_fdr")) or 0.05

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables that are there, such as `features`; each is a property of that name."""
        return tuple(name for name, file in TABLES.items() if (self.path / file).is_file())

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the files that a run page reads and this folder lacks."""
        return tuple(name for name in _PAGE_FILES if not (self.path / name).is_file())

    @cached_property
    def features(self) -> "pd.DataFrame":
        """One row a latent, dead latents too: firing statistics, SI, null, p, q, `rate_<task>`, community.

        Raises ReportError when `features.parquet` is missing or unreadable.
        """
        return self.table("features")

    @cached_property
    def edges(self) -> "pd.DataFrame":
        """One row a validated edge, `source` < `target` (latents): joint count, PMI (nats), p by document.

        Raises ReportError when `edges.parquet` is missing or unreadable.
        """
        return self.table("edges")

    @cached_property
    def edges_within_token(self) -> "pd.DataFrame":
        """The edges that token ids do not explain, columns as `edges`.

        Raises ReportError when `edges_within_token.parquet` is missing or unreadable.
        """
        return self.table("edges_within_token")

    @cached_property
    def examples(self) -> "pd.DataFrame":
        """Top-activating contexts of the most specialised latents, strongest (`rank` 0) first.

        Raises ReportError when `examples.parquet` is missing or unreadable.
        """
        return self.table("examples")

    @cached_property
    def resamples(self) -> "pd.DataFrame":
        """Metrics with the documents drawn anew: `scheme` (`bootstrap`, `groups`), `draw`, a column a metric.

        Draw by draw the same in all jobs on the same documents. Raises ReportError where none was made.
        """
        return self.table("resamples")

    @cached_property
    def history(self) -> "pd.DataFrame":
        """Training curves, one row a logged step. Raises ReportError where no SAE was trained."""
        return self.table("history")

    @cached_property
    def dynamic_k(self) -> "pd.DataFrame":
        """Loss, cost and speed of every selector and k. Raises ReportError where none was measured."""
        return self.table("dynamic_k")

    @cached_property
    def causal(self) -> "pd.DataFrame":
        """What ablating each task's latents does to every task. Raises ReportError where nothing was."""
        return self.table("causal")

    @cached_property
    def causal_modules(self) -> "pd.DataFrame":
        """What taking communities out whole does to every task. Raises ReportError where none was."""
        return self.table("causal_modules")

    @cached_property
    def causal_layers(self) -> "pd.DataFrame":
        """What ablating latents at several hookpoints does to every task. Raises ReportError without."""
        return self.table("causal_layers")

    @cached_property
    def structure(self) -> list[Any]:
        """Tables `{"title", "sentences", "columns", "rows"}` on structure under dynamic k; [] without file.

        Raises ReportError for a file that cannot be read.
        """
        try:
            return _list(_load(self.path / STRUCTURE))
        except ValueError as error:
            raise ReportError(
                f"{self.path / STRUCTURE} cannot be read: {error}; delete it to have the page without it"
            ) from error

    @cached_property
    def matched(self) -> Mapping[str, Any]:
        """SI and Q at standard amounts of evidence; `report.sweep` takes from it what all jobs have.

        Raises ReportError when `matched.json` is missing (measured by saescope 0.1) or cannot be read.
        """
        try:
            content = _load(self.path / MATCHED)
        except ValueError as error:
            raise ReportError(f"{self.path / MATCHED} cannot be read: {error}; {_ALWAYS_WRITTEN}") from error
        if not isinstance(content, Mapping):
            raise ReportError(f"{self.path / MATCHED} is missing or empty; {_ALWAYS_WRITTEN}")
        return content

    @property
    def beside(self) -> list[str]:
        """Sentences on the result beside the controls of its sweep; [] where there are none to read."""
        try:
            return [text for text in _list(_load(self.path / BESIDE)) if isinstance(text, str)]
        except ValueError:
            return []

    def section(self, name: str) -> Mapping[str, Any]:
        """A group of the config, such as `sae`; empty when absent."""
        return _mapping(self.config.get(name))

    def resolved(self, name: str) -> Mapping[str, Any]:
        """A group of the provenance, such as `model`; empty when absent."""
        return _mapping(self.provenance.get(name))

    def file_of(self, table: str) -> Path:
        """Path of a table's file, which may be missing. Raises ReportError when no table has that name."""
        if table not in TABLES:
            raise ReportError(f"no table {table!r}; choose one of {', '.join(TABLES)}")
        return self.path / TABLES[table]

    def table(self, name: str) -> "pd.DataFrame":
        """A table, read again at every call. Raises ReportError when it is missing or unreadable."""
        path = self.existing(name)
        import pandas as pd

        if path.suffix == ".parquet":
            arrow = _arrow(path)
            try:
                content: pd.DataFrame = arrow.to_pandas()
            except ValueError as error:  # half a character in a name or a text
                raise _unreadable(path, error) from error
            return content
        try:
            return pd.read_csv(path)
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from error

    def columns(self, table: str, names: Sequence[str]) -> Columns:
        """Columns of a parquet table as arrays [rows]; no others are read, and nothing is cached.

        Raises ReportError when the table is missing, unreadable or lacks a column.
        """
        path = self.existing(table)
        content = _arrow(path, names)
        try:
            return {name: np.asarray(content[name].to_numpy()) for name in names}
        except ValueError as error:  # half a character in a text
            raise _unreadable(path, error) from error

    def column_names(self, table: str) -> tuple[str, ...]:
        """Names of the columns of a parquet table; runs of an earlier version have fewer.

        Raises ReportError when the table is missing or unreadable.
        """
        return _column_names(self.existing(table))

    def rows(self, table: str) -> list[dict[str, str]]:
        """Rows of a CSV table as text; empty cells are empty strings.

        Raises ReportError when the table is missing or unreadable.
        """
        path = self.existing(table)
        try:
            with path.open(encoding="utf-8", newline="") as file:
                return list(csv.DictReader(file, restval=""))
        except (OSError, ValueError, csv.Error) as error:
            raise _unreadable(path, error) from error

    def existing(self, table: str) -> Path:
        """Path of a table's file. Raises ReportError when it is missing, with what would have written it."""
        path = self.file_of(table)
        if not path.is_file():
            raise ReportError(f"{path} is missing; {_WRITTEN_BY.get(table, _ALWAYS_WRITTEN)}")
        return path


def open_run(path: Path | str) -> Run:
    """Read the folder of a finished run.

    Raises ReportError when it is no run folder, has no metrics, was written by a newer version, or a file
    cannot be read (a table: when it is first used). The message is one line and says how to fix it.

    Example, with `folder` such as `outputs/2026-01-31/12-00-00-000000`:
        >>> run = saescope.open_run(folder)
        >>> run.metrics["features/num_latents"], run.notes.get("q/z")
        (1024, None)
        >>> int(run.features.supported.sum()) == run.metrics["features/supported"]
        True
    """
    folder = Path(path)
    if not folder.is_dir():
        raise ReportError(f"no run folder {folder}; give the folder that holds metrics.json")
    run = read_run(folder)
    if why := unreadable(run.status):
        raise ReportError(f"{folder}: {why}")
    if not (folder / METRICS).is_file():
        raise ReportError(
            f"{folder / METRICS} is missing; give the folder of a finished run (this one: {run.error})"
        )
    if run.damaged:
        remedy = "measure again with force=true"
        if not run.damaged[0].startswith(METRICS):
            remedy += ", or delete it to read the run without it"
        raise ReportError(f"{folder / run.damaged[0]}; {remedy}")
    return run


def read_run(path: Path) -> Run:
    """Read a run folder; never raises: what is missing or broken ends up in `state`, `error`, `damaged`."""
    damaged: dict[str, str] = {}

    def load(name: str, kind: type = dict) -> Any:
        try:
            content = _load(path / name)
            if content is not None and not isinstance(content, kind):
                what = "mapping of names to values" if kind is dict else "list"
                raise ValueError(f"it holds no {what}")
        except ValueError as error:
            damaged[name] = f"{name} cannot be read: {' '.join(str(error).split())[:160]}"
            content = None
        return content or kind()

    status, metrics = load(STATUS), load(METRICS)
    state, error = _outcome(status, metrics, damaged)
    # config.yaml comes with the results; Hydra's record is of the job that had the folder last
    recorded = (CONFIG, HYDRA_CONFIG) if state == "ok" else (HYDRA_CONFIG, CONFIG)
    return Run(
        path=path,
        state=state,
        error=" ".join(error.split()),
        metrics={str(key): _number(value) for key, value in metrics.items()},
        status=status,
        overrides=_overrides(status, load(OVERRIDES, list)),
        config=load(recorded[0]) or load(recorded[1]),
        provenance=load(PROVENANCE),
        tracking=load(TRACKING),
        histograms=load(HISTOGRAMS),
        damaged=tuple(damaged.values()),
    )


def _outcome(status: dict[str, Any], metrics: dict[str, Any], damaged: dict[str, str]) -> tuple[str, str]:
    """State and error; `ok` only where there is something to read."""
    state, error = str(status.get("state") or ""), str(status.get("error") or "")
    if why := unreadable(status):
        return "unfinished", why
    if state == "ok":
        why = "" if metrics else damaged.get(METRICS, "metrics.json is missing or empty")
        return ("unfinished" if why else "ok"), why
    if state == "failed":
        return "failed", error or "no reason recorded"
    reasons = {
        "running": "did not finish: still running, or killed",
        "": "status.json is missing or empty",
    }
    return "unfinished", damaged.get(STATUS) or error or reasons.get(state, f"state {state}")


def _overrides(status: Mapping[str, Any], recorded: list[Any]) -> tuple[str, ...]:
    """Those of the job whose result this is; else Hydra's record, of a job that was killed at its start."""
    own = status.get("overrides")
    return tuple(map(str, own if isinstance(own, list) else recorded))


def _load(path: Path) -> Any:
    """The content of a JSON or YAML file, None without the file. Raises ValueError when it is broken."""
    try:
        if not path.is_file():
            return None
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix == ".json" else _yaml(text)
    except (OSError, RecursionError) as error:
        raise ValueError(str(error)) from error


def _yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)  # not libyaml's loader: deep nesting crashes the process there
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _arrow(path: Path, names: Sequence[str] | None = None) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        present = _column_names(path) if names else ()
        lacking = [name for name in names or () if name not in present]
        if not lacking:
            table = pyarrow.parquet.read_table(path, columns=None if names is None else list(names))
            _check_numbers(path, table.schema)
            return table
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        if isinstance(error, ReportError):
            raise
        raise _unreadable(path, error) from error
    raise ReportError(f"{path} lacks the columns {', '.join(lacking)}; measure again with force=true")


def _check_numbers(path: Path, schema: Any) -> None:
    """Raise ReportError for a column of other values than numbers in a table of numbers."""
    if path.name not in _TEXT_COLUMNS:
        return
    from pyarrow import types

    kinds = (types.is_integer, types.is_floating, types.is_boolean, types.is_null)
    for column in schema:
        if column.name not in _TEXT_COLUMNS[path.name] and not any(kind(column.type) for kind in kinds):
            raise ReportError(
                f"{path}: column {column.name} holds {column.type} where numbers belong; {_ALWAYS_WRITTEN}"
            )


def _column_names(path: Path) -> tuple[str, ...]:
    import pyarrow
    import pyarrow.parquet

    try:
        return tuple(pyarrow.parquet.read_schema(path).names)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ReportError:
    what = " ".join(str(error).split())[:160]
    return ReportError(f"{path} cannot be read: {what}; measure again with force=true")


def _number(value: Any) -> float | int | None:
    number = finite(value)
    return value if isinstance(value, int) and number is not None else number


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
