"""What the speed rests on, counted and not timed: passes, blocks, encoder products, bytes."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from saescope.cli.main import main
from saescope.sae.coder import untrained
from saescope.stats import (
    ModularitySettings,
    SpecializationSettings,
    permutation_null,
    permutation_p,
    summarise_modularity,
    summarise_specialization,
)
from saescope.stats import document_product as products
from saescope.stats.synthetic import documents, planted

from .test_engine import make_engine

LATENTS, LAYER = 4096, 2


class LargestTensor(TorchDispatchMode):
    """Size of the largest tensor that any operation makes."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
        return made


@contextmanager
def counted(**modules):
    """Calls and tokens of modules while open, under their names."""
    seen = {name: [0, 0] for name in modules}

    def hook(name):
        def on_call(module, args, kwargs, output):
            first = next(t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor))
            seen[name][0] += 1
            seen[name][1] += first.shape[0] * first.shape[1]

        return on_call

    handles = [
        m.register_forward_hook(hook(n), with_kwargs=True, always_call=True) for n, m in modules.items()
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@pytest.fixture
def wide():
    return untrained(32, k=8, expansion_factor=None, num_latents=LATENTS, seed=0, dtype=torch.float32)


def test_extraction_runs_each_block_once_and_none_above(model_folder, wide, probes):
    engine = make_engine(model_folder, wide, probes, layer=LAYER)
    blocks = {f"block{i}": block for i, block in enumerate(engine.model.base_model.layers)}
    assert len(blocks) > LAYER + 1
    with counted(**blocks, head=engine.model.get_output_embeddings()) as seen:
        engine.extract()
    batches = len(engine._batches(np.arange(len(engine.windows.ids))))
    real = sum(len(ids) for ids in engine.windows.ids)
    for i in range(LAYER + 1):
        calls, tokens = seen[f"block{i}"]
        assert calls == batches
        assert real <= tokens < 1.1 * real  # sorted by length: hardly any padding
    assert all(
        seen[name] == [0, 0] for name in ("head", *(f"block{i}" for i in range(LAYER + 1, len(blocks))))
    )


def test_extraction_multiplies_by_the_encoder_once_a_token(model_folder, wide, probes, monkeypatch):
    engine = make_engine(model_folder, wide, probes)
    rows, batches = [], []
    encode, encode_rows = wide.encode, wide.encode_rows
    monkeypatch.setattr(wide, "encode", lambda x: batches.append(len(x)) or encode(x))
    monkeypatch.setattr(wide, "encode_rows", lambda x: rows.append(len(x)) or encode_rows(x))
    engine.extract()
    assert sum(batches) == sum(rows) == engine.windows.num_tokens
    assert len(batches) == len(engine._batches(np.arange(len(engine.windows.ids))))


def test_extraction_never_holds_tokens_by_latents(model_folder, wide, probes, monkeypatch):
    from saescope.sae import cpu_topk

    monkeypatch.setitem(cpu_topk.BLOCK_BYTES, "cpu", 4 * LATENTS * 64)
    engine = make_engine(model_folder, wide, probes, batch_tokens=4000)
    with LargestTensor() as largest:
        codes, _ = engine.extract()
    assert codes.num_tokens > 2000
    assert 4 * LATENTS * 64 <= largest.bytes < 4 * codes.num_tokens * LATENTS / 8
    assert largest.bytes <= max(4 * LATENTS * 64, 4 * 50304 * 32)


def test_a_sweep_runs_the_language_model_once_over_training_and_probe_text(monkeypatch, tmp_path, capsys):
    """Every job after the first finds training and probe activations in the cache."""
    from saescope.model.capture import Capture

    tokens = []
    call = Capture.__call__
    monkeypatch.setattr(Capture, "__call__", lambda self, ids: tokens.append(ids.numel()) or call(self, ids))
    job = [
        "saescope", "sae=train", "sae.expansion_factor=2", "sae.k=4", "sae.tokens=8192",
        "corpus.holdout_tokens=2048", "probes.max_tokens_per_task=1000",
        "metrics=quick", "metrics.permutations=20", "metrics.bootstraps=20",
        "metrics.lm_tokens=0", "metrics.rewirings=20", "tracking=disabled", "runtime.device=cpu",
        f"runtime.cache={tmp_path}/cache",
    ]  # fmt: skip
    sums = []
    for k in (4, 8):
        monkeypatch.setattr("sys.argv", [*job[:3], f"sae.k={k}", *job[4:]])
        assert main() == 0, capsys.readouterr().err
        sums.append(sum(tokens))
        tokens.clear()
    assert sums[0] > 8192 + 2048
    assert sums[1:] == [2 + 8 + 8]  # two tokens tell the width of the hookpoint, two texts of eight prove it


def test_nulls_hold_no_more_than_a_block(monkeypatch):
    """The permutation null's largest array is a block of draws, however many latents there are."""
    data = planted(512, 16, 4000, boost=2.0, seed=0)
    order = np.argsort(data.task_N, kind="stable")
    counts, tokens, task = documents(data.active_NF[order], data.task_N[order], 32)
    documents_of_tasks = counts, tokens, task, 6
    whole = permutation_null(*documents_of_tasks, permutations=40, seed=3)
    whole_p = permutation_p(*documents_of_tasks, permutations=40, seed=3)
    monkeypatch.setattr(products, "DENSE_ENTRIES", 20_000)
    sizes = []
    product = products.DocumentProduct.by_task

    def watched(self, label_DP, num_tasks):
        made = product(self, label_DP, num_tasks)
        sizes.append((made.size, self.num_docs * self.num_latents))
        return made

    monkeypatch.setattr(products.DocumentProduct, "by_task", watched)
    blocks = permutation_null(*documents_of_tasks, permutations=40, seed=3)
    np.testing.assert_array_equal(permutation_p(*documents_of_tasks, permutations=40, seed=3), whole_p)
    assert len(sizes) >= 512 * counts.shape[0] // 20_000
    assert max(dense for _, dense in sizes) <= 20_000
    np.testing.assert_array_equal(blocks.draw_counts, whole.draw_counts)
    np.testing.assert_allclose(blocks.mean_F, whole.mean_F, rtol=1e-12)


def test_all_graphs_share_the_joint_counts(monkeypatch):
    from saescope.stats import coactivation

    data = planted(256, 16, 3000, boost=2.0, seed=0)
    live, task = (
        np.ones(256, dtype=bool),
        np.arange(3000) % 6,
    )  # not the planted tasks, which explain all edges
    token_N = np.arange(3000) % 35
    made = []
    count = coactivation._joint_counts
    monkeypatch.setattr(
        coactivation,
        "_joint_counts",
        lambda some, tail, m: made.append(some.shape[0]) or count(some, tail, m),
    )
    found = summarise_modularity(
        data.active_NF,
        task,
        6,
        live,
        np.maximum(data.module_F, 0),
        ModularitySettings(null_tokens=0, rewirings=0, naive=False),
        token_N=token_N,
    )
    assert sum(made) == 2 * 256  # of the firings, and of the surrogate
    plain = coactivation.validated_edges(data.active_NF)
    within = coactivation.validated_edges(data.active_NF, stratum_N=task)
    token = coactivation.validated_edges(data.active_NF, stratum_N=token_N)
    graphs = ((found.edges, plain), (found.within_edges, within), (found.within_token_edges, token))
    for one, other in graphs:
        assert len(one) == len(other) > 0
        for name in ("source", "target", "joint", "pmi", "rank_tail"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_threads_change_no_number(monkeypatch):
    data = planted(512, 16, 4000, boost=2.0, seed=0)
    order = np.argsort(data.task_N, kind="stable")
    counts, tokens, task = documents(data.active_NF[order], data.task_N[order], 32)
    live = np.ones(512, dtype=bool)
    made = []
    for threads in ("1", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        si = summarise_specialization(counts, tokens, task, 6, live, SpecializationSettings(40, 40))
        q = summarise_modularity(
            data.active_NF,
            data.task_N,
            6,
            live,
            si.top_task,
            ModularitySettings(null_tokens=1000, rewirings=2),
        )
        made.append((si.metrics, q.metrics))
    assert made[0] == made[1]
    assert made[0][1]["q/n_edges"] > 100
