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
from saescope.text.documents import Part, Probes
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

    @property
    def has_bos(self) -> bool:
        """Does every window begin with a BOS token put before its text?"""
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

    Raises ProbeError when a task has no counted token.
    """
    bos = _bos(cfg, tokenizer)
    special = np.array(sorted(set(tokenizer.all_special_ids)), dtype=np.int64)
    ids: list[Ids] = []
    counted: list[npt.NDArray[np.bool_]] = []
    docs: list[int] = []
    starts: list[int] = []
    task_of_doc: list[int] = []
    left: dict[str, int] = {}
    probes = probes or open_probes(cfg)
    for number, task in enumerate(probes.tasks):
        total = 0
        full = False
        for part in task.parts:
            taken = 0
            documents = part.read()
            for document in () if full else documents:
                encoded = tokenizer(document.text, add_special_tokens=False, verbose=False)["input_ids"]
                tokens: Ids = np.array(encoded, dtype=np.int32)
                windows = list(_windows(tokens, cfg.ctx_len, bos))
                masks = [_counted(window, special, cfg.exclude_first) for _, window in windows]
                size = int(sum(mask.sum() for mask in masks)) * document.repeat
                if size == 0:
                    continue
                full = total + size > cfg.max_tokens_per_task
                if full or _exceeds(taken + size, part):
                    left[task.name] = left.get(task.name, 0) + 1
                    break
                taken += size
                total += size
                for (start, window), mask in [*zip(windows, masks, strict=True)] * document.repeat:
                    ids.append(window)
                    counted.append(mask)
                    docs.append(len(task_of_doc))
                    starts.append(start)
                task_of_doc.append(number)
            unread = sum(1 for _ in documents)
            if unread:
                left[task.name] = left.get(task.name, 0) + unread
        if total == 0:
            raise ProbeError(
                f"{task.parts[0].where} gives no counted token: its first document is longer than "
                f"{_budget(task.parts[0], cfg)}, or all are shorter than "
                f"probes.exclude_first={cfg.exclude_first} + 1 tokens"
            )
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return Windows(
        ids,
        counted,
        np.array(docs, dtype=np.int64),
        np.array(starts, dtype=np.int64),
        np.array(task_of_doc, dtype=np.int64),
        tuple(task.name for task in probes.tasks),
        int(pad) if pad is not None else 0,
        left,
        {key: str(origin) for key, origin in probes.origins.items()},
    )


def batches(windows: Windows, order: npt.NDArray[np.int64], batch_tokens: int) -> list[Batch]:
    """Batches of at most `batch_tokens` positions, padding included, longest windows first.

    Windows of similar length share a batch, so little of the forward pass is spent on padding; the longest
    batch comes first, so that too little memory shows at once.
    """
    lengths = np.array([len(windows.ids[w]) for w in order])
    ranked = order[np.argsort(-lengths, kind="stable")]
    out: list[Batch] = []
    at = 0
    while at < len(ranked):
        longest = len(windows.ids[ranked[at]])
        size = max(1, batch_tokens // longest)
        out.append(_pad(windows, ranked[at : at + size], longest))
        at += size
    return out


def _pad(windows: Windows, chosen: npt.NDArray[np.int64], longest: int) -> Batch:
    ids = np.full((len(chosen), longest), windows.pad_id, dtype=np.int64)
    counted = np.zeros((len(chosen), longest), dtype=bool)
    real = np.zeros((len(chosen), longest), dtype=bool)
    for row, w in enumerate(chosen):
        size = len(windows.ids[w])
        ids[row, :size] = windows.ids[w]
        counted[row, :size] = windows.counted[w]
        real[row, :size] = True
    return Batch(
        torch.from_numpy(ids), torch.from_numpy(counted), torch.from_numpy(real), torch.from_numpy(chosen)
    )


def _exceeds(tokens: int, part: Part) -> bool:
    return part.max_tokens is not None and tokens > part.max_tokens


def _budget(part: Part, cfg: ProbesConfig) -> str:
    if part.max_tokens is not None and part.max_tokens < cfg.max_tokens_per_task:
        return f"max_tokens={part.max_tokens}"
    return f"probes.max_tokens_per_task={cfg.max_tokens_per_task}"


def _windows(tokens: Ids, ctx_len: int, bos: int | None) -> Iterator[tuple[int, Ids]]:
    prefix = np.array([] if bos is None else [bos], dtype=np.int32)
    room = ctx_len - len(prefix)
    for start in range(0, len(tokens), room):
        yield start - len(prefix), np.concatenate([prefix, tokens[start : start + room]])


def _counted(window: Ids, special: npt.NDArray[np.int64], exclude_first: int) -> npt.NDArray[np.bool_]:
    mask = ~np.isin(window, special)
    mask[:exclude_first] = False
    return mask


def _bos(cfg: ProbesConfig, tokenizer: Any) -> int | None:
    """The token put before every window, if any."""
    bos: int | None = tokenizer.bos_token_id
    if cfg.prepend_bos is None:
        # does the tokenizer add one by itself?
        by_itself = tokenizer("a", verbose=False)["input_ids"]
        return bos if bos is not None and by_itself and by_itself[0] == bos else None
    if cfg.prepend_bos and bos is None:
        raise ProbeError(
            "probes.prepend_bos=true, but this tokenizer has no beginning-of-sequence token; set it to false"
        )
    return bos if cfg.prepend_bos else None
