"""Documents → windows of tokens → batches of similar length.

A window is a context of its own; a document longer than `ctx_len` becomes several, with one document id.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from saescope.config import ProbesConfig
from saescope.errors import ProbeError
from saescope.text.documents import Part, Probes, Task
from saescope.text.probes import open_probes

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Windows:
    """The probe set as tokens. W windows, D documents, K tasks."""

    ids: list[Ids]
    """Token ids of each window, at most ctx_len."""

    counted: list[npt.NDArray[np.bool_]]
    """Positions that count: not special, not among the first `exclude_first` of their window."""

    doc_W: npt.NDArray[np.int64]
    """Document of each window."""

    start_W: npt.NDArray[np.int64]
    """Document position of the window's index 0 (−1 where a BOS token stands before the first own token)."""

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

    Documents of a task are taken in order until the next one would exceed its budget of counted tokens.
    Raises ProbeError when a task has no counted token.
    """
    builder = _WindowsBuilder(cfg, tokenizer)
    probes = probes or open_probes(cfg)
    for number, task in enumerate(probes.tasks):
        if builder.add_task(number, task) == 0:
            raise ProbeError(
                f"{task.parts[0].where} gives no counted token: its first document is longer than "
                f"{_budget(task.parts[0], cfg)}, or all are shorter than "
                f"probes.exclude_first={cfg.exclude_first} + 1 tokens"
            )
    return builder.windows(probes)


class _WindowsBuilder:
    """Collects the windows of the probe set, document by document."""

    def __init__(self, cfg: ProbesConfig, tokenizer: Any) -> None:
        self.cfg, self.tokenizer = cfg, tokenizer
        self.bos = _bos(cfg, tokenizer)
        self.special = np.array(sorted(set(tokenizer.all_special_ids)), dtype=np.int64)
        self.ids: list[Ids] = []
        self.counted: list[npt.NDArray[np.bool_]] = []
        self.doc_of_window: list[int] = []
        self.start_of_window: list[int] = []
        self.task_of_doc: list[int] = []
        self.unread: dict[str, int] = {}

    def add_task(self, number: int, task: Task) -> int:
        """Take documents of the task until its budget is reached; returns its counted tokens."""
        total, unread, full = 0, 0, False
        for part in task.parts:
            if full:
                unread += sum(1 for _ in part.read())
                continue
            tokens, rest, full = self._add_part(number, part, self.cfg.max_tokens_per_task - total)
            total += tokens
            unread += rest
        if unread:
            self.unread[task.name] = unread
        return total

    def _add_part(self, number: int, part: Part, budget: int) -> tuple[int, int, bool]:
        """Take documents of a part until `budget`, or the part's own, is reached.

        Returns its counted tokens, its documents left unread, and whether `budget` is what was reached.
        """
        documents = part.read()
        tokens = 0
        for document in documents:
            encoded = self.tokenizer(document.text, add_special_tokens=False, verbose=False)["input_ids"]
            windows = list(_windows(np.array(encoded, dtype=np.int32), self.cfg.ctx_len, self.bos))
            masks = [_counted(window, self.special, self.cfg.exclude_first) for _, window in windows]
            size = int(sum(mask.sum() for mask in masks)) * document.repeat
            if size == 0:
                continue
            full = tokens + size > budget
            if full or _exceeds(tokens + size, part):
                return tokens, 1 + sum(1 for _ in documents), full
            tokens += size
            for (start, window), mask in [*zip(windows, masks, strict=True)] * document.repeat:
                self.ids.append(window)
                self.counted.append(mask)
                self.doc_of_window.append(len(self.task_of_doc))
                self.start_of_window.append(start)
            self.task_of_doc.append(number)
        return tokens, 0, False

    def windows(self, probes: Probes) -> Windows:
        """The windows collected so far, which are those of `probes`."""
        pad = self.tokenizer.pad_token_id
        if pad is None:
            pad = self.tokenizer.eos_token_id
        return Windows(
            self.ids,
            self.counted,
            np.array(self.doc_of_window, dtype=np.int64),
            np.array(self.start_of_window, dtype=np.int64),
            np.array(self.task_of_doc, dtype=np.int64),
            tuple(task.name for task in probes.tasks),
            int(pad) if pad is not None else 0,
            self.unread,
            {key: str(origin) for key, origin in probes.origins.items()},
        )


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


def _windows(tokens: Ids, ctx_len: int, bos: int | None) -> Iterator[tuple[int, Ids]]:
    """Windows of a document as (document position of its index 0, token ids)."""
    prefix = np.array([] if bos is None else [bos], dtype=np.int32)
    room = ctx_len - len(prefix)
    for start in range(0, len(tokens), room):
        yield start - len(prefix), np.concatenate([prefix, tokens[start : start + room]])


def _counted(window: Ids, special: npt.NDArray[np.int64], exclude_first: int) -> npt.NDArray[np.bool_]:
    """Which positions of a window count."""
    mask = ~np.isin(window, special)
    mask[:exclude_first] = False
    return mask


def _bos(cfg: ProbesConfig, tokenizer: Any) -> int | None:
    """The token put before every window, if any."""
    bos: int | None = tokenizer.bos_token_id
    if cfg.prepend_bos is None:
        # as the tokenizer does by itself
        default_ids = tokenizer("a", verbose=False)["input_ids"]
        return bos if bos is not None and default_ids and default_ids[0] == bos else None
    if cfg.prepend_bos and bos is None:
        raise ProbeError(
            "probes.prepend_bos=true, but this tokenizer has no beginning-of-sequence token; set it to false"
        )
    return bos if cfg.prepend_bos else None
