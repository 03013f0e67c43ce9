"""What the loss passes of all SAEs at one hookpoint share: computed by the first job, stored for the others.

For every batch of the windows whose losses are measured, the residual stream where the model is entered and
the one above its last block; and the losses with the activation ablated. They lie beside the cached
activations of the hookpoint and are evicted with them.
"""

import hashlib
import json
import logging
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from filelock import Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from saescope.activations import ActivationCache, NoRoomError, activation_key
from saescope.extraction.setup import Setup
from saescope.files import lock, remove_leftovers
from saescope.text.windows import Batch

log = logging.getLogger(__name__)

FORMAT = 2
"""Incremented when the meaning of what is stored changes."""

MAX_BYTES = 2 * 2**30
"""More than this is not stored: it is in memory until the pass ends."""

Indices = npt.NDArray[np.int64]


@dataclass
class SharedLosses:
    """Tensors under `entry.3`, `last.3` (streams [B, T, d] of batch 3) and `ce_zero` … (sums by cell)."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    stored: bool = False
    """They were there before this pass."""
    storing: bool = False
    """They are wanted after this pass."""

    def add(self, name: str, tensor: Tensor) -> None:
        """Add a stream or sum, if they are wanted; all are given up once they are too large."""
        if not self.storing:
            return
        self.tensors[name] = tensor.cpu().contiguous()
        if sum(tensor.nbytes for tensor in self.tensors.values()) > MAX_BYTES:
            self.tensors.clear()
            self.storing = False
            log.info("losses of the untouched model are not stored: larger than %d GiB", MAX_BYTES >> 30)


@contextmanager
def shared_losses(
    setup: Setup, batches: list[Batch], left_out: Indices | None, document_groups: int = 0
) -> Iterator[SharedLosses]:
    """The stored streams and sums of these batches, or an empty set that is stored when the block ends.

    `left_out`: windows of tokens that do not count in the mean activation; `document_groups`: those over
    which sums are kept apart. Without a cache, with several
    processes and where they do not fit, nothing is read or stored.
    """
    cache = setup.store.cache
    if cache is None or setup.processes > 1:
        yield SharedLosses()
        return
    key = activation_key(setup.store.model, setup.hookpoint, setup.windows, setup.width, setup.machine.dtype)
    with cache.entry(key) as folder:
        path = folder / f"losses-{_digest(batches, left_out, document_groups)}.safetensors"
        tensors = _read(path)
        if tensors is not None:
            log.info("losses of the untouched and the ablated model: from %s", path)
            yield SharedLosses(tensors, stored=True)
            return
        shared = SharedLosses(storing=True)
        yield shared
        if shared.storing:
            _write(path, shared.tensors, cache)


def _digest(batches: list[Batch], left_out: Indices | None, document_groups: int) -> str:
    basis = [FORMAT, [] if left_out is None else left_out.tolist(), document_groups]
    digest = hashlib.sha256(json.dumps(basis).encode())
    for batch in batches:
        digest.update(batch.window_B.numpy().tobytes() + b"/")
    return digest.hexdigest()[:32]


def _read(path: Path) -> dict[str, Tensor] | None:
    """The tensors of a file, or None where it is missing or damaged."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            if int(file.metadata()["crc32"]) == _crc(tensors):
                return tensors
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        pass
    log.warning("%s is damaged; its losses are measured again", path)
    return None


def _write(path: Path, tensors: dict[str, Tensor], cache: ActivationCache) -> None:
    """Store the tensors where they fit under the cap of the cache and on the disk."""
    size = sum(tensor.nbytes for tensor in tensors.values())
    try:
        with lock(path.with_name(f"{path.name}.lock"), timeout=0):
            remove_leftovers(path.parent, path.name)
            with cache.reserved(path, size) as temporary:
                save_file(tensors, temporary, metadata={"crc32": str(_crc(tensors))})
    except Timeout:
        log.debug("another process stores %s", path)
    except NoRoomError:
        log.info("losses of the untouched model are not stored: the cache is full")
    except (OSError, SafetensorError) as error:
        log.warning("cannot store losses in %s: %s", path.parent, error)


def _crc(tensors: dict[str, Tensor]) -> int:
    crc = 0
    for name in sorted(tensors):
        data = tensors[name].contiguous().reshape(-1)
        crc = zlib.crc32(name.encode(), crc)
        if data.numel():
            crc = zlib.crc32(data.view(torch.uint8).numpy().data, crc)
    return crc
