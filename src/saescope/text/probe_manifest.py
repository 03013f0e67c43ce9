"""`probes=manifest`: a JSONL file of task records, each with prompts of its own or a dataset.

{"task_id": "haiku", "domain": "poetry", "source": {"type": "prompt", "text": "An old silent pond ..."}}
{"task_id": "maths", "domain": "science", "source": {"type": "dataset", "name": "openai/gsm8k",
 "config": "main", "split": "test", "text_key": "question", "num_docs": 200}, "max_tokens": 20000}
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from saescope.config import ProbesConfig
from saescope.errors import ProbeError, choices, nearest
from saescope.text.content import text_at
from saescope.text.documents import Document, Part, Probes, Task, task_name
from saescope.text.hub_dataset import HubDataset
from saescope.text.probe_dataset import ProbeDataset
from saescope.text.text_files import lines, whole_text

Fields = dict[str, tuple[type, bool]]
"""Field → its type, and whether it is required."""

RECORD: Fields = {
    "task_id": (str, True), "domain": (str, True), "description": (str, False), "source": (dict, True),
    "max_tokens": (int, False), "repeat": (int, False),
}  # fmt: skip
SOURCES: dict[str, Fields] = {
    "prompt": {"type": (str, True), "text": (str, True)},
    "prompt_list": {"type": (str, True), "prompts": (list, True)},
    "dataset": {
        "type": (str, True), "name": (str, True), "config": (str, False), "split": (str, False),
        "text_key": (str, False), "num_docs": (int, False), "revision": (str, False),
    },
}  # fmt: skip
NAMES = {
    str: "text that is not empty",
    int: "a whole number of 1 or more",
    list: "a list of texts",
    dict: "an object",
}


@dataclass(frozen=True)
class Entry:
    """One task record of the manifest, checked."""

    where: str
    """File and line, for messages."""

    task: str
    """Task label, fit for a metric key."""

    texts: tuple[str, ...]
    dataset: ProbeDataset | None
    max_tokens: int | None
    repeat: int

    def read(self) -> Iterator[Document]:
        """The documents of the record, in order. Raises ProbeError when a dataset cannot be read."""
        if self.dataset is not None:
            yield from self.dataset.documents(self.task, self.repeat)
        for text in self.texts:
            yield Document(self.task, text, self.repeat)


def open_manifest(cfg: ProbesConfig) -> Probes:
    """Tasks by `task_id` (or by `domain`), in the order of their first line; several lines may share one.

    Raises ProbeError naming the line that is wrong and the fields that are valid.
    """
    assert cfg.path is not None
    path = Path(cfg.path).expanduser()
    if not path.is_file():
        raise ProbeError(
            f"probes.path={cfg.path}: no such file (looked in {Path.cwd()}); give a JSONL file of tasks"
        )
    parts: dict[str, list[Part]] = {}
    origins: dict[str, Path | str] = {"probes": path}
    for entry in _entries(path, cfg.group_by):
        parts.setdefault(entry.task, []).append(Part(entry.where, entry.read, entry.max_tokens))
        if entry.dataset is not None:
            origins[f"probes {entry.where.rpartition(' ')[2]}"] = entry.dataset.origin
    if len(parts) < 2:
        raise ProbeError(
            f"{path} has {len(parts)} tasks (probes.group_by={cfg.group_by}); SI compares tasks, so at least "
            "two are needed"
        )
    return Probes(tuple(Task(name, tuple(parts_of_task)) for name, parts_of_task in parts.items()), origins)


def _entries(path: Path, group_by: str) -> Iterator[Entry]:
    original: dict[str, str] = {}
    for number, line in lines(path, ProbeError):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        where = f"{path} line {number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ProbeError(f"{where} is no JSON ({error}); each line is one task record") from error
        _check(record, RECORD, where)
        source = record["source"]
        kind = source.get("type")
        if kind not in SOURCES:
            raise ProbeError(
                f"{where}: source type {kind!r} is not known: {nearest(str(kind), SOURCES)}"
                f"valid: {choices(SOURCES)}"
            )
        _check(source, SOURCES[kind], f"{where} source")
        label = record[group_by]
        task = task_name(label)
        if original.setdefault(task, label) != label:
            raise ProbeError(
                f"{where}: {group_by} '{label}' and '{original[task]}' give the same task name '{task}'; "
                "rename one"
            )
        texts = tuple([source["text"]] if kind == "prompt" else source.get("prompts", []))
        if kind != "dataset" and not (texts and all(isinstance(t, str) and t.strip() for t in texts)):
            raise ProbeError(f"{where} source: every prompt must be text, and not empty")
        for text in (label, *texts):
            whole_text(text, where, ProbeError)
        dataset = _dataset(source, path, where) if kind == "dataset" else None
        yield Entry(where, task, texts, dataset, record.get("max_tokens"), record.get("repeat") or 1)


def _dataset(source: dict[str, Any], manifest: Path, where: str) -> ProbeDataset:
    key = source.get("text_key") or "text"
    beside = manifest.parent / source["name"]
    name = str(beside) if beside.is_dir() else source["name"]
    dataset = HubDataset(name, source.get("config"), source.get("split") or "train", source.get("revision"))
    return ProbeDataset(dataset, (key,), partial(text_at, column=key), where, source.get("num_docs"))


def _check(values: Any, fields: Fields, where: str) -> None:
    """Check that all fields are known, present and of their type; null stands for an optional one left out.

    Raises ProbeError.
    """
    if not isinstance(values, dict):
        raise ProbeError(f"{where} is no object; its fields: {choices(fields)}")
    for key in values:
        if key not in fields:
            raise ProbeError(
                f"{where}: unknown field '{key}': {nearest(key, fields)}valid: {choices(fields)}"
            )
    for key, (kind, required) in fields.items():
        value = values.get(key)
        if value is None:
            if required:
                raise ProbeError(f"{where} has no '{key}'; its fields: {choices(fields)}")
        elif not _fits(value, kind):
            raise ProbeError(f"{where}: '{key}' must be {NAMES[kind]}, not {json.dumps(value)}")


def _fits(value: Any, kind: type) -> bool:
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 1
    return bool(value.strip()) if isinstance(value, str) and kind is str else isinstance(value, kind)
