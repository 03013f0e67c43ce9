import dataclasses
import logging
import multiprocessing
import os
import re
import resource
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from saescope.activations import ActivationCache, CacheError, LiveActivations, open_cache
from saescope.activations.shards import DamagedShardError, OpenShard
from tests.activations.world import (
    CTX,
    ROW_BYTES,
    WIDTH,
    CountingCapture,
    build_in_process,
    cached,
    make_key,
    token_table,
)

ORDER = np.random.default_rng(3).permutation(23)


def live_values(rows: np.ndarray) -> torch.Tensor:
    return LiveActivations(CountingCapture(), rows, 5, "cpu").read(ORDER)


def fill(root: Path) -> Path:
    """A complete key; its folder."""
    with cached(root, CountingCapture(), token_table()) as source:
        source.build()
        return source.folder


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_cached_values_are_live_values(tmp_path: Path, dtype: str):
    rows = token_table()
    wanted = live_values(rows).to(getattr(torch, dtype))
    with cached(tmp_path, CountingCapture(), rows, dtype=dtype) as source:
        first, again = source.read(ORDER), source.read(ORDER)
    assert first.dtype is getattr(torch, dtype)
    assert first.shape == (23 * CTX, WIDTH)
    assert torch.equal(first, wanted)
    assert torch.equal(again, wanted)
    with cached(tmp_path, CountingCapture(), rows, dtype=dtype) as source:
        assert torch.equal(source.read(ORDER[:4]), wanted[: 4 * CTX])
        assert source.read(ORDER[:0]).shape == (0, WIDTH)
        with pytest.raises(IndexError):
            source.read(np.array([23]))


def test_a_hit_skips_the_language_model(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    capture = CountingCapture(delay=0.01)
    with cached(tmp_path, capture, token_table()) as source:
        source.read(ORDER)
    assert capture.rows == 23
    assert source.built == 5
    assert "miss, 0 of 5 shards" in caplog.text
    assert "5 shards written" in caplog.text
    second = CountingCapture()
    with cached(tmp_path, second, token_table()) as source:
        source.build()
        source.read(ORDER)
    assert second.calls == 0
    assert source.saved_s >= 0.05
    assert "hit, 5 of 5 shards" in caplog.text
    assert "of language model" in caplog.records[-1].message


def test_only_missing_shards_are_built(tmp_path: Path):
    with cached(tmp_path, CountingCapture(), token_table()) as source:
        source.read(np.array([0, 22]))
        assert source.built == 2
    capture, seen = CountingCapture(), []
    with cached(tmp_path, capture, token_table()) as source:
        source.build(seen.append)
    assert capture.rows == 15
    assert seen == [5 * CTX] * 3


def test_concurrent_jobs_on_a_cold_cache_finish_with_one_set_of_shards(tmp_path: Path):
    spawn = multiprocessing.get_context("spawn")
    start, ready, results = spawn.Event(), spawn.Semaphore(0), spawn.Queue()
    jobs = [
        spawn.Process(target=build_in_process, args=(str(tmp_path), ready, start, results)) for _ in range(2)
    ]
    for job in jobs:
        job.start()
    for _ in jobs:
        ready.acquire(timeout=60)
    start.set()
    found = [results.get(timeout=60) for _ in jobs]
    for job in jobs:
        job.join(60)
        assert job.exitcode == 0
    assert sum(built for built, _, _ in found) == 12
    assert sum(rows for _, rows, _ in found) == 60
    assert found[0][2] == found[1][2]
    entries = list((tmp_path / "activations").iterdir())
    assert len(entries) == 1
    assert len(list(entries[0].glob("shard-*.safetensors"))) == 12
    assert not list(entries[0].glob(".*"))
    assert not list((entries[0] / "users").iterdir())


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-ROW_BYTES - 7] ^= 4
    path.write_bytes(data)


def half_written(path: Path) -> None:
    """As a writer leaves it that was killed before the rename."""
    (path.parent / f".{path.name}.abc{path.suffix}").write_bytes(path.read_bytes()[:50])
    path.unlink()


def broken_header(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[8] = ord("[")
    path.write_bytes(data)


def other_dtype(path: Path) -> None:
    """As many bytes and the same checksum, but other numbers."""
    path.write_bytes(path.read_bytes().replace(b'"F32"', b'"I32"'))


def other_checksum(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"crc32": "', b'"crc32": "1', 1).replace(b" {", b"{", 1))


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    "damage", [cut, flip, half_written, broken_header, other_dtype, other_checksum, empty, Path.unlink]
)
def test_a_damaged_shard_is_built_again(tmp_path: Path, damage):
    entry = fill(tmp_path)
    damage(entry / "shard-00001.safetensors")
    capture = CountingCapture()
    with cached(tmp_path, capture, token_table()) as source:
        assert torch.equal(source.read(ORDER), live_values(token_table()))
        assert source.built == 1
    assert capture.rows == 5
    assert not list(entry.glob(".*"))
    assert len(list(entry.glob("shard-*.safetensors"))) == 5


def test_a_shard_of_another_size_is_not_whole(tmp_path: Path):
    with cached(tmp_path, CountingCapture(), token_table()) as source:
        source.build()
    path = source.folder / "shard-00001.safetensors"
    OpenShard(path, source.layout, 1).close()
    cut(path)
    with pytest.raises(DamagedShardError, match="bytes"):
        OpenShard(path, source.layout, 1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_shard_is_a_safetensors_file(tmp_path: Path, dtype: str):
    with cached(tmp_path, CountingCapture(), token_table(), dtype=dtype) as source:
        source.build()
        stored = [load_file(path)["activations"] for path in sorted(source.folder.glob("*.safetensors"))]
        assert torch.equal(torch.cat(stored), source.read(np.arange(23)))


def test_a_file_cut_short_under_an_open_reader(tmp_path: Path):
    entry = fill(tmp_path)
    with cached(tmp_path, CountingCapture(), token_table()) as source:
        source.read(np.array([5]))  # opens and verifies the shard
        cut(entry / "shard-00001.safetensors")
        wanted = LiveActivations(CountingCapture(), token_table(), 5, "cpu").read(np.array([6, 9]))
        assert torch.equal(source.read(np.array([6, 9])), wanted)
        assert source.built == 1


def age(root: Path, key, seconds: float) -> None:
    stamp = time.time() - seconds
    os.utime(root / "activations" / key.digest / "used", (stamp, stamp))


def test_the_cap_evicts_what_was_used_longest_ago(tmp_path: Path):
    tables = [token_table(seed=seed) for seed in range(4)]
    keys = [make_key(rows) for rows in tables]
    for number, rows in enumerate(tables[:3]):
        with cached(tmp_path, CountingCapture(), rows) as source:
            source.build()
        age(tmp_path, keys[number], 1000 - number)
    with cached(tmp_path, CountingCapture(), tables[0]) as source:  # 0 is now the latest used
        source.read(ORDER)
    size = ActivationCache(tmp_path, 1).size()
    cap = size + 2 * ROW_BYTES
    with cached(tmp_path, CountingCapture(), tables[3], cap_gb=cap / 1e9) as source:
        source.build()
        assert source.built == 5
    there = {p.name for p in (tmp_path / "activations").iterdir()}
    assert there == {keys[n].digest for n in (0, 2, 3)}
    assert ActivationCache(tmp_path, 1).size() <= cap


def test_nothing_is_evicted_for_what_does_not_fit_even_then(tmp_path: Path):
    fill(tmp_path)
    cache = ActivationCache(tmp_path, 1)
    size = cache.size()
    with cache.locked():
        assert not cache.make_room(cache.cap_bytes + 1)
        assert cache.size() == size
        assert cache.make_room(cache.cap_bytes)
        assert cache.size() < size


def test_keys_in_use_are_not_evicted_and_the_cap_holds(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    tables = [token_table(seed=seed) for seed in range(2)]
    with cached(tmp_path, CountingCapture(), tables[0]) as source:
        source.build()
        age(tmp_path, source.key, 1000)
        cap = ActivationCache(tmp_path, 1).size() + 1000
        with cached(tmp_path, CountingCapture(), tables[1], cap_gb=cap / 1e9) as other:
            other.build()
            assert 0 < other.built < 5
            assert torch.equal(other.read(ORDER), live_values(tables[1]))
        assert ActivationCache(tmp_path, 1).size() <= cap + 1000  # index files and locks
        assert torch.equal(source.read(ORDER), live_values(tables[0]))
        assert source.built == 5
    assert "do not fit under runtime.cache_gb" in caplog.text


def test_a_dead_user_does_not_keep_its_key(tmp_path: Path):
    entry = fill(tmp_path)
    (entry / "users" / "killed.lock").touch()
    age(tmp_path, make_key(token_table()), 1000)
    with cached(tmp_path, CountingCapture(), token_table(seed=1), cap_gb=3000 / 1e9) as source:
        source.build()
        assert source.built == 5
    assert not entry.exists()


@contextmanager
def full_disk():
    """No file can grow beyond 100 bytes. Only around the calls under test: pytest writes files too."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_on_a_full_disk_the_language_model_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with cached(tmp_path, CountingCapture(), token_table()) as source:
        with full_disk():
            values = source.read(ORDER)
        assert torch.equal(values, live_values(token_table()))
    assert re.search("cannot write activations to .* on the fly", caplog.text)
    assert not list(source.folder.glob("shard-*.safetensors"))
    assert not list(source.folder.glob(".shard*"))


def test_a_disk_that_does_not_keep_what_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(os, "fsync", lambda file: flip(Path(os.readlink(f"/proc/self/fd/{file}"))))
    with cached(tmp_path, CountingCapture(), token_table()) as source:
        assert torch.equal(source.read(ORDER), live_values(token_table()))
    assert "does not keep what is written to it; the rest is computed on the fly" in caplog.text


def test_entries_of_another_layout_are_not_read_and_are_evicted(tmp_path: Path):
    key = make_key(token_table())
    old = tmp_path / "activations" / dataclasses.replace(key, format=2).digest
    old.mkdir(parents=True)
    for number in range(5):
        (old / f"shard-{number:05d}.bin").write_bytes(bytes(5 * ROW_BYTES))
        (old / f"shard-{number:05d}.json").write_text('{"crc": [0, 0, 0, 0, 0], "build_s": 0.1}')
    with cached(tmp_path, CountingCapture(), token_table(), cap_gb=3000 / 1e9) as source:
        assert torch.equal(source.read(ORDER), live_values(token_table()))
        assert source.built == 5
    assert not old.exists()


def test_open_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert open_cache("off", 1) is None
    monkeypatch.setenv("SAESCOPE_CACHE", str(tmp_path / "named"))
    cache = open_cache("auto", 2.5)
    assert cache is not None
    assert cache.root == tmp_path / "named"
    assert cache.cap_bytes == 2_500_000_000
    monkeypatch.delenv("SAESCOPE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    cache = open_cache("auto", 1)
    assert cache is not None
    assert cache.root.name == "saescope"
    other = open_cache(str(tmp_path / "other"), 1)
    assert other is not None
    assert other.tokens_folder.is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="cannot write to the cache folder"):
        open_cache(str(tmp_path / "file"), 1)
