"""The cache beside a GPU (tests/support/accelerator.py): its times, what is left to it."""

import time
import zlib

import numpy as np
import pytest
import torch

from saescope.activations import ActivationCache, CachedActivations, LiveActivations
from saescope.activations import cached as module
from tests.activations.world import SHARD_BYTES, WIDTH, CountingCapture, make_key, token_table
from tests.support.accelerator import cuda_device


class OnDevice(CountingCapture):
    """Activations on the device, where the token ids must be too."""

    def __call__(self, ids):
        self.calls += 1
        self.rows += len(ids)
        time.sleep(self.delay)
        return torch.sin(ids.float()[..., None] * torch.arange(1.0, WIDTH + 1, device=ids.device))


def opened(folder, capture, rows, device):
    live = LiveActivations(capture, rows, batch_rows=5, device=device)
    return CachedActivations(ActivationCache(folder, 1.0), make_key(rows), live, shard_bytes=SHARD_BYTES)


@pytest.mark.parametrize(("slower", "shards"), [("model", 5), ("disk", 1)])
def test_a_slow_disk_is_left_to_the_gpu(tmp_path, monkeypatch, caplog, slower, shards):
    monkeypatch.setattr(module, "JUDGED_BYTES", 0)
    rows = token_table()
    with opened(tmp_path / "cpu", CountingCapture(), rows, "cpu") as source:
        expected = source.read(np.arange(len(rows)))
    crc32 = zlib.crc32
    if slower == "disk":
        monkeypatch.setattr(zlib, "crc32", lambda *args: time.sleep(0.1) or crc32(*args))
    capture = OnDevice(0.1 if slower == "model" else 0.0)
    with cuda_device(monkeypatch), opened(tmp_path / "gpu", capture, rows, "cuda") as source:
        source.build()
        assert source.built == shards
        assert ("to store; the rest is computed on the fly" in caplog.text) == (slower == "disk")
        torch.testing.assert_close(source.read(np.arange(len(rows))).cpu(), expected)


def test_little_is_stored_in_any_case(tmp_path, monkeypatch):
    crc32 = zlib.crc32
    monkeypatch.setattr(zlib, "crc32", lambda *args: time.sleep(0.02) or crc32(*args))
    with cuda_device(monkeypatch), opened(tmp_path, OnDevice(), token_table(), "cuda") as source:
        source.build()
        assert source.built == 5


def test_the_seconds_of_the_model_end_with_the_copy(tmp_path, monkeypatch):
    """A GPU's operations return at once; the copy to the host waits for them."""
    real = torch.Tensor.to

    def to(tensor, *args, **kwargs):
        if args[:1] == ("cpu",):
            time.sleep(0.05)
        return real(tensor, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "to", to)
    rows = token_table(5)
    with cuda_device(monkeypatch), opened(tmp_path, OnDevice(), rows, "cuda") as source:
        source.build()
        assert source._opened(0).build_s >= 0.05
