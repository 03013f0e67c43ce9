"""Probe tables of every kind and content: every row is measured or counted, or one line says why not."""

import csv
import datetime
import decimal
import gzip
import io
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from saescope.config import ProbesConfig
from saescope.text.windows import Windows, tokenize_probes
from tests.campaigns.outcome import attempt, seeded
from tests.campaigns.test_probe_files import sound

SUFFIXES = (".csv", ".tsv", ".json", ".parquet", ".arrow")
ENCODINGS = ("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252", "utf-7", "shift_jis")

words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=15, max_size=60)
texts = st.one_of(
    words,
    words,
    st.sampled_from(["", " ", "null", "NA", "007", 'a "quoted", text; of\nlines', "x\ty" * 9, "=1+1"]),
)
message = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", ""]), "content": texts})
VALUES: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "text": (pa.string(), texts),
    "large text": (pa.large_string(), texts),
    "text by number": (pa.dictionary(pa.int32(), pa.string()), texts),
    "numbers": (pa.int64(), st.integers(-3, 3)),
    "fractions": (pa.float64(), st.floats()),
    "switches": (pa.bool_(), st.booleans()),
    "bytes": (pa.binary(), st.binary(max_size=20)),
    "times": (pa.timestamp("ms"), st.datetimes(datetime.datetime(1980, 1, 1), datetime.datetime(2030, 1, 1))),
    "amounts": (pa.decimal128(12, 2), st.decimals(-9, 9, places=2)),
    "nothing": (pa.null(), st.none()),
    "lists of text": (pa.list_(pa.string()), st.lists(texts, max_size=3)),
    "lists of lists": (pa.list_(pa.list_(pa.string())), st.lists(st.lists(texts, max_size=2), max_size=2)),
    "objects": (
        pa.struct([("text", pa.string()), ("n", pa.int8())]),
        st.fixed_dictionaries({"text": texts, "n": st.just(1)}),
    ),
    "chats": (
        pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])), st.lists(message, max_size=3)
    ),
    "maps": (pa.map_(pa.string(), pa.string()), st.lists(st.tuples(texts, texts), max_size=2)),
}  # fmt: skip
"""Kinds of a column: its type in Arrow, and values."""
kinds = st.one_of(st.just("text"), st.just("text"), st.sampled_from(sorted(VALUES)))
names = st.one_of(
    st.just("text"), st.sampled_from(["text", "Text", "text.text", "", "task", "日本語", "a,b", "text "])
)


@st.composite
def tables(draw) -> pa.Table:
    """One to three columns, one to five rows, some without a value."""
    rows = draw(st.integers(0, 5) if draw(st.booleans()) else st.integers(2, 5))
    columns, labels = [], draw(st.lists(names, min_size=1, max_size=3))
    for _ in labels:
        kind, value = VALUES[draw(kinds)]
        cell = st.none() | value if draw(st.integers(0, 3)) == 0 else value
        columns.append(pa.array(draw(st.lists(cell, min_size=rows, max_size=rows)), kind))
    return pa.Table.from_arrays(columns, names=labels)


def plain(value: Any) -> Any:
    """A value as JSON and CSV have it."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return str(value) if isinstance(value, datetime.datetime | decimal.Decimal) else value


def written(table: pa.Table, suffix: str, draw: Any) -> tuple[bytes, bool]:
    """The table as a file, and whether a reader of this ending can be expected to get it back."""
    file = io.BytesIO()
    columns = [[plain(value) for value in column.to_pylist()] for column in table.columns]
    rows = list(zip(*columns, strict=True))
    twice = len(set(table.column_names)) < len(table.column_names)
    if suffix == ".parquet":
        pq.write_table(table, file, compression=draw(st.sampled_from(["snappy", "none", "zstd", "gzip"])))
        return file.getvalue(), not twice
    if suffix == ".arrow":
        stream = draw(st.booleans())
        with (pa.ipc.new_stream if stream else pa.ipc.new_file)(file, table.schema) as writer:
            writer.write_table(table)
        return file.getvalue(), not twice
    encoding = draw(st.sampled_from(ENCODINGS))
    if suffix == ".json":
        records = [dict(zip(table.column_names, row, strict=True)) for row in rows]
        lines = draw(st.booleans())
        text = "\n".join(map(json.dumps, records)) if lines else json.dumps(records)
        return text.encode(encoding, "replace"), False
    text_file = io.StringIO()
    form = csv.writer(
        text_file,
        delimiter="," if suffix == ".csv" else "\t",
        lineterminator=draw(st.sampled_from(["\n", "\r\n"])),
    )
    form.writerow(table.column_names)
    form.writerows(["" if value is None else value for value in row] for row in rows)
    return text_file.getvalue().encode(encoding, "replace"), not twice and encoding.startswith("utf-8")


def damaged(data: bytes, draw: Any) -> bytes:
    """Cut, changed, joined, packed, or something else."""
    match draw(st.sampled_from(["cut", "flip", "twice", "gzip", "zeros", "other", "tail"])):
        case "cut":
            return data[: draw(st.integers(0, max(0, len(data) - 1)))]
        case "flip":
            at = draw(st.integers(0, max(0, len(data) - 1)))
            return data[:at] + bytes([draw(st.integers(0, 255))]) + data[at + 1 :]
        case "twice":
            return data * 2
        case "gzip":
            return gzip.compress(data)
        case "zeros":
            return bytes(len(data))
        case "tail":
            return data + draw(st.binary(min_size=1, max_size=9))
    return draw(st.binary(max_size=40))


def rows_in(table: pa.Table, suffix: str) -> int:
    """Rows that a reader sees: where a line is one value, a line of spaces is no row."""
    if table.num_columns > 1 or suffix not in (".csv", ".tsv"):
        return table.num_rows
    written_as = ["" if value is None else str(plain(value)) for value in table[0].to_pylist()]
    return sum(not text or bool(text.strip()) for text in written_as)  # csv writes "" for an empty one


def rows_of(windows: Windows) -> int:
    """Documents that are measured, or left out and counted."""
    lost = sum(record.count for record in windows.left_out if record.what == "documents")
    return len(windows.task_D) + lost


@seeded(400)
@given(st.sampled_from(SUFFIXES), st.data())
def test_folders_of_tables(tokenizer, suffix, data):
    """Beside a good task; the text may be in any column."""
    folder = Path(tempfile.mkdtemp(dir=Path.cwd()))
    table = data.draw(tables())
    content, readable = written(table, suffix, data.draw)
    broken = data.draw(st.integers(0, 3)) == 0
    (folder / f"tried{suffix}").write_bytes(damaged(content, data.draw) if broken else content)
    key = data.draw(st.sampled_from(["text", "text", *table.column_names, "text.text", "no"]))
    key = key or "text"
    good = json.dumps({key: "all the good words of this text are here"})
    (folder / "good.jsonl").write_text(f"{good}\n{good}\n")
    cfg = ProbesConfig("folder", path=str(folder), text_key=key, ctx_len=32, max_tokens_per_task=4000)
    found = attempt("probe tables", lambda: tokenize_probes(cfg, tokenizer))
    if isinstance(found, Windows):
        sound(found)
        if readable and not broken:
            assert rows_of(found) == 2 + rows_in(table, suffix)
    elif readable and not broken and table.num_rows and key in table.column_names:
        texts_there = [value for value in table[key].to_pylist() if value and str(value).strip()]
        assert table[key].type not in (pa.string(), pa.large_string()) or not texts_there, found
    shutil.rmtree(folder)


@seeded(150)
@given(st.sampled_from(SUFFIXES), st.data())
def test_tables_whose_column_is_the_task(tokenizer, suffix, data):
    table = data.draw(tables())
    labels = data.draw(
        st.lists(
            st.sampled_from(["a", "b", "a", "b", "", None, "ü/ü"]),
            min_size=table.num_rows,
            max_size=table.num_rows,
        )
    )
    table = table.append_column("label", pa.array(labels, pa.string()))
    content, readable = written(table, suffix, data.draw)
    broken = data.draw(st.integers(0, 3)) == 0
    path = Path(tempfile.mkdtemp(dir=Path.cwd())) / f"all{suffix}"
    path.write_bytes(damaged(content, data.draw) if broken else content)
    cfg = ProbesConfig("folder", path=str(path), task_key="label", ctx_len=32, max_tokens_per_task=4000)
    found = attempt("probe tables by task", lambda: tokenize_probes(cfg, tokenizer))
    if isinstance(found, Windows):
        sound(found)
        if readable and not broken:
            assert rows_of(found) == table.num_rows
    shutil.rmtree(path.parent)


@seeded(150)
@given(st.sampled_from(SUFFIXES), st.data())
def test_tables_of_languages(tokenizer, suffix, data):
    table = data.draw(tables())
    content, _readable = written(table, suffix, data.draw)
    broken = data.draw(st.integers(0, 3)) == 0
    path = Path(tempfile.mkdtemp(dir=Path.cwd())) / f"all{suffix}"
    path.write_bytes(damaged(content, data.draw) if broken else content)
    named = data.draw(st.sampled_from([(), (), tuple(dict.fromkeys(table.column_names)), ("text", "no")]))
    cfg = ProbesConfig(
        "languages", path=str(path), languages=named, sentences=1, ctx_len=32, max_tokens_per_task=4000
    )
    found = attempt("probe tables of languages", lambda: tokenize_probes(cfg, tokenizer))
    if isinstance(found, Windows):
        sound(found)
    shutil.rmtree(path.parent)
