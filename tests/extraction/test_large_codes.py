"""Codes too large for memory: the same numbers from files without a name, of which nothing is left."""

import gc
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from saescope.analysis.examples import top_contexts
from saescope.analysis.features import analyse
from saescope.config import MetricsConfig
from saescope.extraction.accumulators import CodeLists
from saescope.extraction.codes import Codes, assemble
from saescope.sae.base import SparseCodes
from saescope.stats import row_blocks, scratch
from saescope.stats.edges_without import edges_without_each
from saescope.stats.strata import Strata
from saescope.stats.synthetic import planted
from saescope.text.windows import Windows

TOKENS, LATENTS, K, DOC, TASKS = 6000, 120, 8, 50, 6
SETTINGS = MetricsConfig(
    permutations=20, bootstraps=20, rewirings=20, leiden_seeds=1, null_tokens=2000, word_draws=2,
    min_count=5, min_docs=3,
)  # fmt: skip


def codes_in_batches() -> Codes:
    """Planted modules, collected in batches that arrive in any order."""
    rng = np.random.default_rng(0)
    data = planted(LATENTS, K, TOKENS, boost=2.0, seed=1)
    order = np.argsort(data.task_N, kind="stable")
    active, task_N = data.active_NF[order], data.task_N[order]
    doc_N = np.unique(task_N * TOKENS + np.arange(TOKENS) // DOC, return_inverse=True)[1]
    acts = rng.exponential(size=active.nnz).astype(np.float32) + 0.1
    lists = CodeLists()
    for at in rng.permutation(TOKENS // 100) * 100:
        part = active[at : at + 100]
        lists.update(
            torch.arange(at, at + 100),
            SparseCodes(
                torch.from_numpy(np.diff(part.indptr).astype(np.int64)),
                torch.from_numpy(part.indices.astype(np.int64)),
                torch.from_numpy(acts[active.indptr[at] : active.indptr[at + 100]]),
            ),
        )
    token_N = rng.integers(0, 40, TOKENS).astype(np.int32)
    codes = assemble(
        *lists.compute(),
        window_N=doc_N, position_N=np.arange(TOKENS), doc_N=doc_N,
        task_D=task_N[np.searchsorted(doc_N, np.arange(doc_N.max() + 1))],
        tasks=tuple("abcdef"), num_latents=LATENTS, token_N=token_N, previous_N=np.roll(token_N, 1),
    )  # fmt: skip
    lists.reset()
    return codes


def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "LARGE_BYTES", 100)
    monkeypatch.setattr(row_blocks, "BLOCK_ENTRIES", 1000)


@pytest.mark.parametrize("unit", ["token", "chunk"])
def test_codes_in_files_give_the_numbers_of_codes_in_memory(tmp_path, monkeypatch, unit):
    settings = MetricsConfig(**{**vars(SETTINGS), "unit": unit})
    in_memory = codes_in_batches()
    expected = analyse(in_memory, settings, seed=3)
    small_limits(monkeypatch)
    with scratch.scratch_in(tmp_path):
        codes = codes_in_batches()
        assert isinstance(codes.latents, np.memmap)
        assert isinstance(codes.acts, np.memmap)
        results = analyse(codes, settings, seed=3)
        assert list(tmp_path.iterdir()) == []  # no name, so nothing to remove after a failure either
    np.testing.assert_array_equal(codes.latents, in_memory.latents)
    np.testing.assert_array_equal(codes.acts, in_memory.acts)
    assert expected.metrics["q/n_edges"] > 50
    assert results.metrics.keys() == expected.metrics.keys()
    for key, value in expected.metrics.items():
        if key in ("q/lexical", "q/lexical_n_edges", "q/ami_lexical"):
            # the surrogate is not drawn where memory has no room for it
            assert results.metrics[key] is None
            assert results.notes[key].startswith("not drawn" if unit == "token" else "joint firings are")
            continue
        assert results.metrics[key] == (None if value is None else pytest.approx(value, rel=1e-12)), key
    pd.testing.assert_frame_equal(results.features, expected.features, rtol=1e-12)
    pd.testing.assert_frame_equal(results.edges, expected.edges, rtol=1e-12)


def test_examples_of_codes_in_files(monkeypatch):
    def contexts(codes: Codes) -> pd.DataFrame:
        ids = [np.arange(TOKENS)] * len(codes.task_D)
        start_W = np.zeros(len(ids), dtype=int)
        windows = Windows(ids, [], np.arange(len(ids)), start_W, codes.task_D, codes.tasks, 0, {})
        return top_contexts(codes, windows, [5, 2, 117], 4, lambda some: str(some.tolist()))

    expected = contexts(codes_in_batches())
    assert len(expected) == 12
    small_limits(monkeypatch)
    pd.testing.assert_frame_equal(contexts(codes_in_batches()), expected)


def test_files_are_gone_when_nothing_uses_them(tmp_path, monkeypatch):
    def open_files() -> int:
        return Path("/proc/self/maps").read_text().count(str(tmp_path))

    if not Path("/proc/self/maps").exists():
        pytest.skip("needs /proc")
    small_limits(monkeypatch)
    with scratch.scratch_in(tmp_path):
        codes = codes_in_batches()
        assert codes.doc_counts_DF.nnz > 0
        assert open_files() >= 3  # latents, acts, ones
        del codes
        gc.collect()
        assert open_files() == 0


def test_files_are_gone_after_a_kill(tmp_path):
    code = (
        "import os, signal; from pathlib import Path; import numpy as np\n"
        "from saescope.stats import scratch\n"
        f"scratch.LARGE_BYTES = 10\nwith scratch.scratch_in(Path({str(tmp_path)!r})):\n"
        "    some = scratch.empty(1000, np.int32); some[:] = 1; growing = scratch.Growing(np.int32)\n"
        "    growing.append(some); growing.append(some); assert growing.array().sum() == 2000\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(scratch.__file__).parents[2])}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert ended.returncode == -9
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_an_error_and_no_crash(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "LARGE_BYTES", 10)
    with scratch.scratch_in(tmp_path), pytest.raises(OSError, match=r"space|large"):
        scratch.empty(2**50, np.float32)


def test_what_lies_in_files_is_not_copied_into_memory(monkeypatch, tmp_path):
    """Strata, and the firings without a group of documents, hold less than the firings take."""
    rng = np.random.default_rng(0)
    tokens, latents, k = 100_000, 400, 40
    columns = np.sort(rng.random((tokens, latents)).argpartition(k, 1)[:, :k].astype(np.int32), axis=1)
    ones, ends = np.ones(columns.size, np.int32), np.arange(0, columns.size + 1, k)
    active = sparse.csr_matrix((ones, columns.ravel(), ends), shape=(tokens, latents))
    group_N = np.arange(tokens) // 100 % 4
    monkeypatch.setattr(scratch, "LARGE_BYTES", 2**20)
    monkeypatch.setattr(row_blocks, "BLOCK_ENTRIES", 50_000)
    with scratch.scratch_in(tmp_path):
        by_latent = row_blocks.by_column(active)
        work = {
            "strata": lambda: Strata.of(by_latent, group_N),
            "a part of the tokens": lambda: row_blocks.some_rows(active, np.flatnonzero(group_N != 1)),
            "groups": lambda: list(edges_without_each(active, group_N, block=20)),
        }
        for name, run in work.items():
            tracemalloc.start()
            run()
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 0.5 * (active.data.nbytes + active.indices.nbytes), name
