"""`probes=standard`: six public datasets, each record read as prompt and answer together.

The repositories hold parquet files and no loading script (`datasets` runs none since version 4). Their
names, configurations, splits and columns are as published. None of it could be checked on the Hub when this
was written, so a column or split that has moved is an error that lists those that exist. Commits are not
pinned here: the one that was read is in `provenance.json` and decides the run's identity.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from saescope.text.content import Record, WrongValueError, plain_at
from saescope.text.documents import Part, Probes, Task
from saescope.text.hub_dataset import HubDataset
from saescope.text.probe_dataset import ProbeDataset


def humaneval(record: Record) -> str:
    """The function as a whole: signature and docstring, then the body."""
    return plain_at(record, "prompt") + plain_at(record, "canonical_solution")


def gsm8k(record: Record) -> str:
    """Question and solution, without the `<<48/2=24>>` marks that are meant for a calculator."""
    return f"{plain_at(record, 'question')}\n{re.sub(r'<<.*?>>', '', plain_at(record, 'answer'))}"


def squad(record: Record) -> str:
    """Passage, question, first of the accepted answers."""
    answers = _list(record, "answers", "text")
    return "\n".join([plain_at(record, "context"), plain_at(record, "question"), *answers[:1]])


def wikitext(record: Record) -> str | None:
    """A paragraph; headings (` = Title = `) and the empty lines between are no documents.

    `@-@`, `@,@` and `@.@` are undone.
    """
    text = plain_at(record, "text").strip()
    if not text or (text.startswith("=") and text.endswith("=")):
        return None
    return re.sub(r" @([-,.])@ ", r"\1", text)


def dailydialog(record: Record) -> str:
    """One turn a line."""
    return plain_at(record, "dialog")


def arc(record: Record) -> str:
    """Question, choices, answer."""
    labels, texts = _list(record, "choices", "label"), _list(record, "choices", "text")
    text_of_label = dict(zip(labels, texts, strict=False))
    key = plain_at(record, "answerKey")
    if key not in text_of_label:
        raise WrongValueError(f"answerKey '{key}' is not among the choices {', '.join(text_of_label)}")
    lines = [f"{label}. {text}" for label, text in text_of_label.items()]
    return "\n".join([plain_at(record, "question"), *lines, f"Answer: {key}. {text_of_label[key]}"])


def open_standard() -> Probes:
    """The six tasks."""
    sources = {
        task: ProbeDataset(
            dataset, columns, text, f"probes=standard task {task}", unique_column=unique_column
        )
        for task, (dataset, columns, text, unique_column) in DATASETS.items()
    }
    tasks = [
        Task(
            task,
            (
                Part(
                    f"{source.where} ({source.dataset.name})",
                    partial(source.documents, task),
                    left_out=source.left_out,
                ),
            ),
        )
        for task, source in sources.items()
    ]
    return Probes(tuple(tasks), {f"probes {task}": source.origin for task, source in sources.items()})


def _list(record: Record, column: str, key: str) -> list[str]:
    """The texts under `column.key`."""
    value: Any = record[column]
    texts = value.get(key) if isinstance(value, Mapping) else None
    if not isinstance(texts, list) or not all(isinstance(item, str) for item in texts):
        raise WrongValueError(f"column '{column}' has no list of texts under '{key}'")
    return texts


Reading = tuple[HubDataset, tuple[str, ...], Callable[[Record], str | None], str | None]
DATASETS: dict[str, Reading] = {
    "humaneval": (
        HubDataset("openai/openai_humaneval", "openai_humaneval", "test"),
        ("prompt", "canonical_solution"),
        humaneval,
        None,
    ),
    "gsm8k": (HubDataset("openai/gsm8k", "main", "test"), ("question", "answer"), gsm8k, None),
    # several questions about one passage are no independent documents
    "squad": (
        HubDataset("rajpurkar/squad", "plain_text", "validation"),
        ("context", "question", "answers"),
        squad,
        "context",
    ),
    # wikitext-103 has the same test articles, in a far larger download
    "wikitext": (HubDataset("Salesforce/wikitext", "wikitext-2-raw-v1", "test"), ("text",), wikitext, None),
    # its own repository, li2017dailydialog/daily_dialog, is a loading script; this mirror is parquet
    "dailydialog": (HubDataset("OpenRL/daily_dialog", None, "test"), ("dialog",), dailydialog, None),
    "arc_challenge": (
        HubDataset("allenai/ai2_arc", "ARC-Challenge", "test"),
        ("question", "choices", "answerKey"),
        arc,
        None,
    ),
}
"""Task → its dataset, the columns that are read, how a record becomes a text, the column without repeats."""
