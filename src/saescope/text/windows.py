"""Documents → windows of tokens → batches of similar length.

A window is a context of its own; a document longer than `ctx_len` becomes several, with one document id.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from saescope.config import ProbesConfig
from saescope.errors import ProbeError
from saescope.left_out import LeftOut
from saescope.text.beginnings import begins_with, prefix_of
from saescope.text.content import Chat, as_text, is_blank, uses_template
from saescope.text.documents import Document, Part, Probes, Task
from saescope.text.duplicates import find_repeats
from saescope.text.notices import on_left_out, on_repeats, on_templates
from saescope.text.probes import open_probes

log = logging.getLogger(__name__)

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Windows:
    """The probe set as tokens. W windows, D documents, K tasks."""

    ids: list[Ids]
    """Token ids of each window, at most ctx_len."""

    counted: list[npt.NDArray[np.bool_]]
    """Positions that count: not special, not among the first `exclude_first` of their window."""

    doc_W: npt.NDArray[np.int64]
    """Document of each window, ascending. Near-duplicates are one document (`probes.duplicates=merge`)."""

    start_W: npt.NDArray[np.int64]
    """Document position of the window's index 0 (−1 where a BOS token stands before the first own token, less
    where the tokenizer puts several tokens before a text)."""

    task_D: npt.NDArray[np.int64]
    """Task of each document."""

    tasks: tuple[str, ...]
    """Task names, in the order of their numbers."""

    pad_id: int
    """Token id used for padding."""

    truncated: dict[str, int]
    """Documents left unread per task, where its budget of tokens was reached."""

    origins: dict[str, str] = field(default_factory=dict)
    """Where the documents came from: folders, and Hub datasets as `name@commit`."""

    warnings: tuple[str, ...] = ()
    """What a reader has to know about the probes: sentences."""

    chats: str | None = None
    """How chats became text, where there are any: by the tokenizer's `template` or as `plain` lines."""

    left_out: tuple[LeftOut, ...] = ()
    """Files, documents and positions of the probes that are not measured."""

    @cached_property
    def tokens_W(self) -> npt.NDArray[np.int64]:
        """Counted tokens of each window."""
        return np.array([mask.sum() for mask in self.counted], dtype=np.int64)

    @cached_property
    def task_W(self) -> npt.NDArray[np.int64]:
        """Task of each window."""
        task_W: npt.NDArray[np.int64] = self.task_D[self.doc_W]
        return task_W

    @cached_property
    def row_W(self) -> npt.NDArray[np.int64]:
        """First row of each window when the counted tokens of all windows are laid end to end, [W + 1].

        The last entry is the number of rows.
        """
        return np.concatenate([[0], np.cumsum(self.tokens_W)]).astype(np.int64)

    @cached_property
    def token_N(self) -> Ids:
        """Token id of each counted token, windows laid end to end."""
        return np.concatenate([ids[mask] for ids, mask in zip(self.ids, self.counted, strict=True)])

    @cached_property
    def previous_N(self) -> Ids:
        """Id of the token before each counted one in its window; -1 at the window's start."""
        start = np.array([-1], dtype=np.int32)
        return np.concatenate(
            [np.append(start, ids[:-1])[mask] for ids, mask in zip(self.ids, self.counted, strict=True)]
        )

    @property
    def has_bos(self) -> bool:
        """Whether every window begins with a BOS token put before its text."""
        return bool(self.start_W.min() < 0)

    @property
    def num_tokens(self) -> int:
        """Counted tokens."""
        return int(self.row_W[-1])


@dataclass(frozen=True)
class Batch:
    """B windows, right-padded to their longest, T."""

    input_ids_BT: Tensor
    """int64."""

    counted_BT: Tensor
    """bool: positions that count; never padding."""

    real_BT: Tensor
    """bool: positions that are not padding."""

    window_B: Tensor
    """int64: index into Windows."""

    def to(self, device: Any) -> "Batch":
        """The batch on `device` (Lightning moves batches by this method)."""
        return Batch(
            *(t.to(device) for t in (self.input_ids_BT, self.counted_BT, self.real_BT, self.window_B))
        )


def tokenize_probes(cfg: ProbesConfig, tokenizer: Any, probes: Probes | None = None) -> Windows:
    """Read, tokenise and window every task of `probes`; None: of the source that `cfg` names.

    Documents of a task are taken in order until the next one would exceed its budget of counted tokens; of
    parallel tasks those that every task has taken. What a reader has to know is logged and in `warnings`.
    Raises ProbeError when a task has no counted token.
    """
    builder = _WindowsBuilder(cfg, tokenizer)
    probes = probes or open_probes(cfg)
    for task in probes.tasks:
        builder.add_task(task)
        if not builder.documents[-1]:
            raise ProbeError(
                f"{task.parts[0].where} gives no counted token: its first document is longer than "
                f"{_budget(task.parts[0], cfg)}, or all are shorter than "
                f"probes.exclude_first={cfg.exclude_first} + 1 tokens"
            )
    windows = builder.windows(probes)
    for warning in windows.warnings:
        log.warning("%s", warning)
    return windows


@dataclass(frozen=True)
class _Tokenised:
    """A document as tokens."""

    number: int
    """In its task, as read; documents that are left out have one too."""

    text: str
    ids: Ids
    """Tokens of the text, without what is put before every window."""

    windows: list[tuple[int, Ids]]
    """Document position of index 0, and token ids, of each window."""

    counted: list[npt.NDArray[np.bool_]]
    repeat: int

    @cached_property
    def size(self) -> int:
        """Counted tokens, repeats included."""
        return int(sum(mask.sum() for mask in self.counted)) * self.repeat


class _WindowsBuilder:
    """Collects the windows of the probe set, document by document."""

    def __init__(self, cfg: ProbesConfig, tokenizer: Any) -> None:
        self.cfg, self.tokenizer = cfg, tokenizer
        self.prefix = prefix_of(cfg, tokenizer)
        self.special = np.array(sorted(set(tokenizer.all_special_ids)), dtype=np.int64)
        self.documents: list[list[_Tokenised]] = []
        """The documents taken, task by task."""
        self.unread: dict[str, int] = {}
        self.blank: dict[str, int] = {}
        self.uncounted: dict[str, int] = {}
        self.chats: str | None = None
        """How chats were written, where there were any: `template` or `plain`."""

    def add_task(self, task: Task) -> None:
        """Take documents of the task until its budget is reached."""
        taken: list[_Tokenised] = []
        unread, full = 0, False
        for part in task.parts:
            if full:
                unread += _texts_in(part.read())
                continue
            rest, full = self._add_part(task.name, part, taken)
            unread += rest
        if unread:
            self.unread[task.name] = unread
        self.documents.append(taken)

    def _add_part(self, task: str, part: Part, taken: list[_Tokenised]) -> tuple[int, bool]:
        """Add documents of a part to `taken` until the task's budget, or the part's own, is reached.

        Returns its documents left unread, and whether the task's budget is what was reached.
        """
        budget = self.cfg.max_tokens_per_task - sum(document.size for document in taken)
        documents = part.read()
        tokens = 0
        for number, document in enumerate(documents):
            if is_blank(document.text):
                self.blank[task] = self.blank.get(task, 0) + 1
                continue
            tokenised = self._tokenised(document, part, number)
            if tokenised.size == 0:
                self.uncounted[task] = self.uncounted.get(task, 0) + 1
                continue
            full = tokens + tokenised.size > budget
            if full or _exceeds(tokens + tokenised.size, part):
                return 1 + _texts_in(documents), full
            tokens += tokenised.size
            taken.append(tokenised)
        return 0, False

    def _tokenised(self, document: Document, part: Part, number: int) -> _Tokenised:
        text = as_text(document.text, self.tokenizer, self.cfg.chat, "probes.chat", part.where, ProbeError)
        templated = False
        if isinstance(document.text, Chat):
            templated = uses_template(self.tokenizer, self.cfg.chat)
            self.chats = "template" if templated else "plain"
        encoded = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        ids, prefix = np.array(encoded, dtype=np.int32), self.prefix
        if templated and self.cfg.prepend_bos is None:
            # the template alone says what a chat begins with
            bos = self.tokenizer.bos_token_id
            prefix = prefix if begins_with(ids, prefix) else [bos] if len(ids) and ids[0] == bos else []
        if begins_with(ids, prefix):  # the text has it already
            ids = ids[len(prefix) :]
        windows = list(_windows(ids, self.cfg.ctx_len, prefix))
        counted = [_counted(window, self.special, self.cfg.exclude_first) for _, window in windows]
        return _Tokenised(number, text, ids, windows, counted, document.repeat)

    def windows(self, probes: Probes) -> Windows:
        """The windows collected so far, which are those of `probes`."""
        names = tuple(task.name for task in probes.tasks)
        notices = list(probes.notices)
        taken = sum(map(len, self.documents))
        if probes.parallel:
            notices += self._align(names)
        unaligned = taken - sum(map(len, self.documents))
        repeated = 0
        notices += on_left_out(self.blank, self.uncounted, self.cfg.exclude_first)
        documents = [(task, document) for task, taken in enumerate(self.documents) for document in taken]
        task_D = np.array([task for task, _ in documents], dtype=np.int64)
        first_D = np.arange(len(documents))
        if self.cfg.duplicates != "keep":
            repeats = find_repeats([document.text for _, document in documents], task_D.tolist())
            first_D = repeats.first_D
            if self.cfg.duplicates == "merge":
                repeated = int((first_D != np.arange(len(documents))).sum())
            notices += on_repeats(repeats, task_D, names, merged=self.cfg.duplicates == "merge")
        distinct: list[list[Ids]] = [[] for _ in names]
        for number in np.unique(first_D):
            distinct[task_D[number]].append(documents[number][1].ids)
        notices += on_templates(names, distinct, self.tokenizer)
        unit_D = first_D if self.cfg.duplicates == "merge" else np.arange(len(documents))
        numbers, doc_D = np.unique(unit_D, return_inverse=True)
        ids: list[Ids] = []
        counted: list[npt.NDArray[np.bool_]] = []
        doc_W: list[int] = []
        start_W: list[int] = []
        for at in np.argsort(doc_D, kind="stable"):
            document = documents[at][1]
            for (start, window), mask in [
                *zip(document.windows, document.counted, strict=True)
            ] * document.repeat:
                ids.append(window)
                counted.append(mask)
                doc_W.append(int(doc_D[at]))
                start_W.append(start)
        pad = self.tokenizer.pad_token_id
        if pad is None:
            pad = self.tokenizer.eos_token_id
        return Windows(
            ids,
            counted,
            np.array(doc_W, dtype=np.int64),
            np.array(start_W, dtype=np.int64),
            task_D[numbers],
            names,
            int(pad) if pad is not None else 0,
            self.unread,
            {key: str(origin) for key, origin in probes.origins.items()},
            tuple(notices),
            self.chats,
            (
                *probes.left_out,
                *(record for task in probes.tasks for part in task.parts for record in part.left_out()),
                *self._left_out(probes, taken, unaligned, repeated),
                *self._uncounted(counted),
            ),
        )

    def _left_out(self, probes: Probes, taken: int, unaligned: int, repeated: int) -> list[LeftOut]:
        """Documents that are not measured: `taken` were, before `unaligned` and `repeated` ones went."""
        blank, uncounted, unread = (
            sum(counts.values()) for counts in (self.blank, self.uncounted, self.unread)
        )
        total = taken + blank + uncounted + unread
        budgets = f"probes.max_tokens_per_task={self.cfg.max_tokens_per_task}"
        if any(part.max_tokens is not None for task in probes.tasks for part in task.parts):
            budgets += " or its record's own max_tokens"
        return [
            LeftOut("documents", count, total, why)
            for count, why in (
                (blank, "The document is empty."),
                (
                    uncounted,
                    f"The document has no token that counts (probes.exclude_first={self.cfg.exclude_first}).",
                ),
                (unread, f"The task had its tokens before the document was read ({budgets})."),
                (unaligned, f"A translation of the document in another language does not fit {budgets}."),
                (
                    repeated,
                    "The document repeats an earlier one of its task and counts as one with it "
                    "(probes.duplicates=merge).",
                ),
            )
            if count
        ]

    def _uncounted(self, counted: Sequence[npt.NDArray[np.bool_]]) -> list[LeftOut]:
        """Positions of the windows that do not count."""
        positions = sum(mask.size for mask in counted)
        count = positions - int(sum(mask.sum() for mask in counted))
        why = (
            f"The token is special, or among the first {self.cfg.exclude_first} of its window "
            "(probes.exclude_first)."
        )
        return [LeftOut("tokens", count, positions, why)] if count else []

    def _align(self, names: tuple[str, ...]) -> list[str]:
        """Leave in every task only the documents that all tasks have taken; a sentence where some go."""
        common = set.intersection(*({document.number for document in taken} for taken in self.documents))
        if not common:
            raise ProbeError(
                "no document of the parallel texts fits every language: raise probes.max_tokens_per_task, or "
                "lower probes.sentences"
            )
        dropped = [
            sum(document.number not in common for document in taken) + self.unread.get(name, 0)
            for name, taken in zip(names, self.documents, strict=True)
        ]
        self.documents = [
            [document for document in taken if document.number in common] for taken in self.documents
        ]
        if not any(dropped):
            return []
        return [
            f"probes: {len(common)} documents of each language are measured, those that fit "
            f"probes.max_tokens_per_task={self.cfg.max_tokens_per_task} in all of them; "
            f"{max(dropped)} are left out in every language."
        ]


def _texts_in(documents: Iterator[Document]) -> int:
    """Number of the documents that are not empty."""
    return sum(not is_blank(document.text) for document in documents)


def batches(windows: Windows, order: npt.NDArray[np.int64], batch_tokens: int) -> list[Batch]:
    """Batches of at most `batch_tokens` positions, padding included, longest windows first.

    Windows of similar length share a batch, so little of the forward pass is spent on padding; the longest
    batch comes first, so that too little memory shows at once.
    """
    lengths = np.array([len(windows.ids[w]) for w in order])
    ranked = order[np.argsort(-lengths, kind="stable")]
    result: list[Batch] = []
    start = 0
    while start < len(ranked):
        longest = len(windows.ids[ranked[start]])
        size = max(1, batch_tokens // longest)
        result.append(_pad(windows, ranked[start : start + size], longest))
        start += size
    return result


def _pad(windows: Windows, window_B: npt.NDArray[np.int64], longest: int) -> Batch:
    """The windows numbered in `window_B`, right-padded to `longest` tokens."""
    ids = np.full((len(window_B), longest), windows.pad_id, dtype=np.int64)
    counted = np.zeros((len(window_B), longest), dtype=bool)
    real = np.zeros((len(window_B), longest), dtype=bool)
    for row, w in enumerate(window_B):
        size = len(windows.ids[w])
        ids[row, :size] = windows.ids[w]
        counted[row, :size] = windows.counted[w]
        real[row, :size] = True
    return Batch(
        torch.from_numpy(ids), torch.from_numpy(counted), torch.from_numpy(real), torch.from_numpy(window_B)
    )


def _exceeds(tokens: int, part: Part) -> bool:
    """Whether `tokens` are more than the part's own budget."""
    return part.max_tokens is not None and tokens > part.max_tokens


def _budget(part: Part, cfg: ProbesConfig) -> str:
    """The setting that limits the tokens of a part, for messages."""
    if part.max_tokens is not None and part.max_tokens < cfg.max_tokens_per_task:
        return f"max_tokens={part.max_tokens}"
    return f"probes.max_tokens_per_task={cfg.max_tokens_per_task}"


def _windows(tokens: Ids, ctx_len: int, prefix: list[int]) -> Iterator[tuple[int, Ids]]:
    """Windows of a document as (document position of its index 0, token ids)."""
    before = np.array(prefix, dtype=np.int32)
    room = ctx_len - len(before)
    for start in range(0, len(tokens), room):
        yield start - len(before), np.concatenate([before, tokens[start : start + room]])


def _counted(window: Ids, special: npt.NDArray[np.int64], exclude_first: int) -> npt.NDArray[np.bool_]:
    """Which positions of a window count."""
    mask = ~np.isin(window, special)
    mask[:exclude_first] = False
    return mask
