"""Run folders with a file that is old, damaged, or not what its name says."""

import dataclasses
import io
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from hypothesis import strategies as st

values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 300),
        st.floats(),
        st.text(max_size=12),
        st.sampled_from(
            [10**400, -(10**400), 2**63, 1e308, "ok", "<script>", "\x1b[31m\n", "日本", "\ud800"]
        ),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)


class Trace:
    """Unpickled, it writes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.write_text, (self.file, "code ran")


@dataclasses.dataclass(frozen=True)
class Outside:
    """What must stay as it is, beside the run folder."""

    folder: Path

    @property
    def trace(self) -> Path:
        """Written when a pickle is read with its code."""
        return self.folder.parent / "trace"

    def make(self, run: Path) -> None:
        """A copy of the run folder, to which links point."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(run, self.folder)
        (self.folder / "secret").write_text("stay out")

    def contents(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }


def harm(run: Path, file: str, outside: Outside, draw: Callable[[Any], Any]) -> str:
    """Do one thing to a file of the run folder; what it was."""
    path = run / file
    how = draw(st.sampled_from(["gone", "empty", "cut", "flipped", "folder", "link", "pickle", "junk"]))
    whole = path.read_bytes() if path.is_file() else b""
    if how == "cut" and whole:
        path.write_bytes(whole[: draw(st.integers(0, len(whole) - 1))])
    elif how == "flipped" and whole:
        at = draw(st.integers(0, len(whole) - 1))
        path.write_bytes(whole[:at] + bytes([draw(st.integers(0, 255))]) + whole[at + 1 :])
    else:
        _remove(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if how == "empty":
            path.write_bytes(b"")
        elif how == "folder":
            (path / "inside").mkdir(parents=True)
        elif how == "link":
            places = [outside.folder / file, outside.folder, outside.folder / "secret", Path("nowhere"), path]
            path.symlink_to(draw(st.sampled_from(places)))
        elif how == "pickle":
            path.write_bytes(pickle.dumps(Trace(outside.trace)))
        elif how == "junk":
            deep = [b"[" * 5000, b"{" * 5000, b'{"a":' * 3000, b"null", b"[]", b"{}", b"3", b"9" * 5000]
            path.write_bytes(draw(st.one_of(st.binary(max_size=40), st.sampled_from(deep))))
    return how


def change(run: Path, file: str, outside: Outside, draw: Callable[[Any], Any]) -> str:
    """Change what a file says, in its own format; what was done."""
    path = run / file
    match path.suffix:
        case ".json":
            content = json.loads(path.read_text())
            text = json.dumps(_other(content, draw))
        case ".yaml":
            text = yaml.safe_dump(_other(yaml.safe_load(path.read_text()), draw))
        case ".parquet":
            return _other_table(path, draw)
        case ".npz":
            return _other_arrays(path, outside, draw)
        case ".csv":
            lines = path.read_text().splitlines()
            how = draw(st.sampled_from(["header", "no header", "cell", "quote", "short"]))
            line = draw(st.integers(0, len(lines) - 1))
            edits = {
                "header": lines[:1],
                "no header": lines[1:],
                "quote": [*lines, '"'],
                "short": [lines[0], "1"],
            }
            edits["cell"] = [*lines[:line], "x" + lines[line], *lines[line + 1 :]]
            path.write_text("\n".join(edits[how]))
            return how
        case _:
            return harm(run, file, outside, draw)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return "value"


def _other(content: Any, draw: Callable[[Any], Any]) -> Any:
    """The content with one value, at any depth, replaced or left out."""
    if isinstance(content, dict) and content and draw(st.integers(0, 9)):
        key = draw(st.sampled_from(sorted(content)))
        if isinstance(content[key], dict | list) and draw(st.booleans()):
            return content | {key: _other(content[key], draw)}
        if draw(st.booleans()):
            return {name: value for name, value in content.items() if name != key}
        return content | {key: draw(values)}
    if isinstance(content, list) and content and draw(st.booleans()):
        at = draw(st.integers(0, len(content) - 1))
        return [*content[:at], _other(content[at], draw), *content[at + 1 :]]
    return draw(values)


def _other_table(path: Path, draw: Callable[[Any], Any]) -> str:
    table = pq.read_table(path)
    how = draw(
        st.sampled_from(["drop", "rename", "null", "text", "huge", "nan", "negative", "rows", "twice"])
    )
    at = draw(st.integers(0, table.num_columns - 1))
    name, column, length = table.column_names[at], table.column(at), table.num_rows
    if how == "drop":
        table = table.remove_column(at)
    elif how == "rename":
        table = table.rename_columns([*table.column_names[:at], "日 <b>", *table.column_names[at + 1 :]])
    elif how == "rows":
        table = table.slice(0, draw(st.integers(0, min(3, length))))
    elif how == "twice":
        table = pa.concat_tables([table, table])
    else:
        column = {
            "null": lambda: pa.nulls(length),
            "text": lambda: pa.array(["\x1b[31m<b>日"] * length),
            "huge": lambda: pa.array([2**62] * length),
            "nan": lambda: pa.array([float("nan")] * length),
            "negative": lambda: pa.array([-7] * length),
        }[how]()
        table = table.set_column(at, name, column)
    pq.write_table(table, path)
    return f"{how} {name}"


def _other_arrays(path: Path, outside: Outside, draw: Callable[[Any], Any]) -> str:
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    name = draw(st.sampled_from(sorted(arrays)))
    how = draw(
        st.sampled_from(["drop", "short", "empty", "scalar", "huge", "negative", "nan", "text", "object"])
    )
    array = arrays[name]
    changed: Any = {
        "drop": lambda: None,
        "short": lambda: array[:-1] if array.ndim else array,
        "empty": lambda: array[:0] if array.ndim else array,
        "scalar": lambda: np.array(3),
        "huge": lambda: np.full(array.shape, 2**31 - 1),
        "negative": lambda: np.full(array.shape, -9),
        "nan": lambda: np.full(array.shape, np.nan),
        "text": lambda: np.full(array.shape, "日"),
        "object": lambda: np.array([Trace(outside.trace)], dtype=object),
    }[how]()
    del arrays[name]
    if changed is not None:
        arrays[name] = changed
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    path.write_bytes(packed.getvalue())
    return f"{how} {name}"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def older(run: Path, version: str) -> None:
    """Take out of a run folder what `version` did not write."""
    for file in OLDER[version]["files"]:
        (run / file).unlink(missing_ok=True)
    for file, starts in OLDER[version]["keys"].items():
        path = run / file
        if path.is_file():
            content = json.loads(path.read_text())
            path.write_text(json.dumps({k: v for k, v in content.items() if not k.startswith(starts)}))
    for file, starts in OLDER[version]["columns"].items():
        path = run / file
        if path.is_file():
            table = pq.read_table(path)
            pq.write_table(table.select([n for n in table.column_names if not n.startswith(starts)]), path)


_ADDED_FILES = [
    "latents.npz",
    "features.html",
    "resamples.parquet",
    "matched.json",
    "edges_within_token.parquet",
    "causal.parquet",
    "causal_modules.parquet",
    "causal_layers.parquet",
    "beside_controls.json",
    "dynamic_k_structure.json",
]
OLDER: dict[str, dict[str, Any]] = {
    "0.1": {
        "files": _ADDED_FILES,
        "keys": {
            "metrics.json": (
                "causal/",
                "q/within_token",
                "q/word",
                "q/lexical",
                "si/token",
                "si/bigram",
                "lm/kl",
            ),
            "status.json": ("schema", "identity", "overrides", "warnings"),
            "provenance.json": ("hookpoint", "probes", "texts"),
        },
        "columns": {"features.parquet": ("causal", "si_token", "si_bigram", "community_within")},
    },
    **{f"without {file}": {"files": [file], "keys": {}, "columns": {}} for file in _ADDED_FILES},
    "without notes": {"files": [], "keys": {"status.json": ("notes",)}, "columns": {}},
    "metrics alone": {
        "files": [
            "status.json",
            "config.yaml",
            "provenance.json",
            "tracking.json",
            "histograms.json",
            "matched.json",
            "features.parquet",
            "edges.parquet",
            "examples.parquet",
            "resamples.parquet",
            "history.csv",
        ],
        "keys": {},
        "columns": {},
    },
}
"""What earlier versions left out: files, keys that begin so, columns that begin so."""
