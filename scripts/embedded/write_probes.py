"""Write the probe documents of every task and show that no training text contains them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tokenizers import Tokenizer

from saescope.text import embedded_corpus
from saescope.text.duplicates import find_repeats

SHINGLE = 80
"""Characters of a window that a probe document of a generated task should share with no training document."""

LONGEST = {"code": 520, "reference": 520}
"""Documents of these tasks end at the last line end within this many characters."""


def write_probes(
    folder: Path, tokenizer: Tokenizer, seed: int, tokens: int, documents: int, training: int
) -> dict[str, object]:
    """Write `<task>.jsonl` files of at most `documents` texts and about `tokens` tokens; return the sizes.

    A generated text is left out if it has a window in common with the first `training` training
    documents, or is too short to have a window; any text, if it is nearly the same as one before.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sizes: dict[str, object] = {}
    for task in embedded_corpus.TASKS:
        generated = task in embedded_corpus.GENERATED_TASKS
        known = training_shingles(task, seed, training) if generated else frozenset()
        texts, held, shared = [], 0, 0
        for text in islice(embedded_corpus.task_documents(task, "probe", seed), 40 * documents):
            text = trimmed(text, LONGEST.get(task, len(text)))
            if len(text) < SHINGLE:
                continue
            if any(window in known for window in windows(text)):
                shared += 1
                continue
            if find_repeats([*texts, text], [0] * (len(texts) + 1)).first_D[-1] < len(texts):
                continue
            texts.append(text)
            held += len(tokenizer.encode(text, add_special_tokens=False).ids)
            if len(texts) == documents or held >= tokens:
                break
        lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
        (folder / f"{task}.jsonl").write_text(lines, encoding="utf-8")
        sizes[task] = {"documents": len(texts), "tokens": held, "left_out_for_shared_windows": shared}
        print(f"probe {task}: {sizes[task]}", flush=True)
    return sizes


def read_probes(folder: Path) -> dict[str, list[str]]:
    """Return the texts of every probe file of a folder."""
    return {
        task: [
            json.loads(line)["text"] for line in (folder / f"{task}.jsonl").read_text("utf-8").splitlines()
        ]
        for task in embedded_corpus.TASKS
    }


def training_shingles(task: str, seed: int, documents: int) -> frozenset[int]:
    """Return hashes of every window of the first training documents of a task."""
    return frozenset(window for text in islice(embedded_corpus.task_documents(task, "train", seed), documents)
                     for window in windows(text))  # fmt: skip


def trimmed(text: str, longest: int) -> str:
    """Return the lines of the text that fit into `longest` characters (the first line always)."""
    if len(text) <= longest:
        return text
    end = text.rfind("\n", 0, longest)
    return text[:end].rstrip() if end > 0 else text.split("\n")[0]


def windows(text: str) -> Iterator[int]:
    """Hashes of all windows of the text."""
    return (hash(text[i : i + SHINGLE]) for i in range(len(text) - SHINGLE + 1))
