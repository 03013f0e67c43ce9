"""Two sides that share no document, and losses that are those of the splicing pass."""

import numpy as np
import pytest

from saescope.activations import LiveWindows
from saescope.analysis.reconstruction import loss_metrics
from saescope.config import DynamicKConfig
from saescope.dynamic_k.passes import Passes, split, unmeasured
from saescope.errors import ProbeError
from saescope.extraction.engine import Engine, splice_windows
from saescope.model.losses import edit_at
from tests.conftest import write_probes

from .job import config, sae_of, setup_of


def test_calibration_and_evaluation_share_no_document(model_folder, probes, tmp_path):
    cfg = config(model_folder, probes)
    windows = setup_of(cfg).windows
    sides = split(windows, 600, 900)
    calibration, evaluation = (set(windows.doc_W[side]) for side in sides)
    assert not calibration & evaluation
    for side in sides:
        assert {windows.task_D[windows.doc_W[w]] for w in side} == {0, 1, 2}
        assert len(set(side.tolist())) == len(side)
    lone = setup_of(config(model_folder, write_probes(tmp_path / "lone", documents=1))).windows
    with pytest.raises(ProbeError, match="two documents of every task"):
        split(lone, 600, 900)


def test_losses_are_those_of_the_splicing_pass(model_folder, probes):
    """The same windows, an SAE spliced in: `lm/*` summed over tasks, dynamic k's over documents."""
    cfg = config(model_folder, probes)
    setup = setup_of(cfg)
    model, windows, machine, capture = setup.lm.model, setup.windows, setup.machine, setup.capture
    sae = sae_of(cfg, setup)
    source = LiveWindows(capture, windows, machine.batch_tokens, "cpu", 32)
    engine = Engine(setup, sae, source)
    lm = loss_metrics(sums := engine.splice(600, np.zeros(32)))

    passes = Passes(model, windows, splice_windows(windows, 600), machine.batch_tokens, "cpu")

    def spliced(batch):
        return capture.replaced(edit_at(batch.counted_BT, lambda x, _old: sae.reconstruct(x, sae.encode(x))))

    dense, edited = passes.losses({"spliced": spliced})
    assert dense.tokens_D.sum() == sums["tokens_clean"].sum() > 0
    assert dense.ce == pytest.approx(lm["lm/ce"], rel=1e-12)
    assert edited["spliced"].ce == pytest.approx(lm["lm/ce_spliced"], rel=1e-12)
    assert edited["spliced"].kl == pytest.approx(lm["lm/kl"], rel=1e-12)
    assert (dense.kl, dense.agree_D.sum()) == (0.0, dense.tokens_D.sum())
    assert 0 < edited["spliced"].agree_D.sum() < dense.tokens_D.sum()
    for task in range(len(windows.tasks)):
        of_task = dense.of(windows.task_D == task)
        assert of_task.ce_D.sum() == pytest.approx(sums["ce_clean"][task], rel=1e-12)


def test_counted_tokens_of_each_document_are_those_of_the_chosen_windows(model_folder, probes):
    setup = setup_of(config(model_folder, probes, ctx_len=16))
    windows = setup.windows
    order = np.arange(1, len(windows.ids), 3)
    passes = Passes(setup.lm.model, windows, order, 512, "cpu")
    expected = np.zeros(len(windows.task_D), dtype=int)
    for w in order:
        expected[windows.doc_W[w]] += windows.counted[w].sum()
    assert passes.tokens_D.tolist() == expected.tolist()
    lost = unmeasured(passes, DynamicKConfig(tokens=77))
    assert (lost.count, lost.of) == (windows.num_tokens - sum(expected), windows.num_tokens)
    assert "dynamic_k.tokens=77" in lost.why
    documents = [doc for batch in passes.batches for doc in passes.documents(batch, batch.counted_BT)]
    assert np.bincount(documents, minlength=len(expected)).tolist() == expected.tolist()
