"""The passes of dynamic k on a device beside the CPU: the same numbers, and few waits.

On a GPU, a simulated one where there is none (tests/support/accelerator.py).
"""

import numpy as np
import torch

from saescope.config import HookpointConfig
from saescope.config.dynamic_k import DynamicKConfig
from saescope.dynamic_k.calibration import calibrate, fitting_batch
from saescope.dynamic_k.mlps import find_mlps
from saescope.dynamic_k.neurons import gather, study
from saescope.dynamic_k.passes import Passes
from saescope.dynamic_k.reads import Point
from saescope.dynamic_k.sae import SplicedReads
from saescope.dynamic_k.transfer import by_document
from saescope.dynamic_k.variants import Masks, phase_of, sparse_positions, variants
from saescope.model.capture import Capture
from saescope.model.hookpoints import resolve
from saescope.sae.neurons import NeuronBasis
from tests.support.accelerator import cuda_device

from .models import D, tiny, windows

GRID = DynamicKConfig(
    k=(0.3,),
    selectors=("topk", "threshold", "rel_max", "top_p"),
    scores=("abs_act", "abs_act_x_wnorm"),
    granularities=("token", "task", "static"),
    phase="all",
)


def passes_of(model, device):
    token_windows = windows()
    return Passes(model, token_windows, np.arange(len(token_windows.ids)), 32, device)


def losses_of(dense, edited):
    return [dense.ce_D, dense.tokens_D] + [
        values for losses in edited.values() for values in (losses.ce_D, losses.kl_D, losses.agree_D)
    ]


def on_both(numbers, monkeypatch, tolerance=1e-4):
    """`numbers(model, passes, device)` on the CPU and on the device, compared; the waits on the device."""
    model = tiny("llama")
    expected = numbers(model, passes_of(model, "cpu"), None)
    with cuda_device(monkeypatch) as device:
        model.to("cuda")
        passes = passes_of(model, "cuda")
        assert len(passes.batches) > 2
        actual = numbers(model, passes, device)
    for value, wanted in zip(actual, expected, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=tolerance, atol=tolerance)
    return len(passes.batches)


def waits(device):
    return dict(+device.waits) if device is not None else {}


def test_calibration_and_masks(monkeypatch):
    counts = {}

    def numbers(model, passes, device):
        mlps = find_mlps(model)
        if device is not None:
            device.forget()
        calibration = calibrate(mlps, passes, 0)
        counts["calibrate"] = waits(device)
        grid = [
            Masks(v, mlps, calibration, phase_of(v.granularity, "all"), "none", 0) for v in variants(GRID)
        ]
        for masks in grid:
            masks.fit(model, fitting_batch(passes))
        if device is not None:
            device.forget()
        measured = passes.losses(
            {masks.variant: masks.applied for masks in grid},
            among=lambda batch: sparse_positions("all", batch),
        )
        counts["losses"] = waits(device)
        counts["variants"] = len(grid)
        fractions = np.array([masks.kept_neurons.fraction for masks in grid])
        sums = [sums_KF.cpu().numpy() for sums_KF in calibration.layers[1].score_sum.values()]
        dense, sparse = measured
        # one neuron may lie on the other side of a cut, which changes the losses of its document
        top = {variant: losses for variant, losses in sparse.items() if variant.selector == "topk"}
        return [*sums, fractions, *losses_of(dense, top), [losses.ce for losses in sparse.values()]]

    batches = on_both(numbers, monkeypatch, tolerance=1e-2)
    # transformers' check for packed texts, and which positions count
    assert counts["calibrate"] == {"number to the host": batches, "nonzero": batches}
    # in every forward pass, the dense one too, transformers' check, and one copy of all losses
    passes = batches * (1 + counts["variants"])
    assert counts["losses"] == {"number to the host": passes, "copy to the host": passes}


def test_scores_of_neurons(monkeypatch):
    counts = {}

    def numbers(model, passes, device):
        mlps = find_mlps(model)
        if device is not None:
            device.forget()
        scores, doc_N = gather(mlps, passes)
        counts["gather"] = waits(device)
        return [*scores.values(), doc_N]

    batches = on_both(numbers, monkeypatch)
    # the scores of two MLPs, which belong on the host; documents and positions of the batch
    assert counts["gather"] == {
        "number to the host": batches, "nonzero": batches, "copy to the host": batches * 4,
    }  # fmt: skip


def test_reads_of_an_sae(monkeypatch):
    counts = {}
    points = [Point("topk", 0.5, -1.0), Point("threshold", 0.5, 0.2), Point("top_p", 0.5, -0.7)]
    sae = NeuronBasis(D, k=4)

    def numbers(model, passes, device):
        hookpoint = resolve(HookpointConfig("resid", layer=0), model)
        if device is not None:
            sae.to("cuda")
        reads = SplicedReads(Capture(model, hookpoint), sae, points)
        if device is not None:
            device.forget()
        measured = passes.losses(
            {point: reads.spliced(point) for point in points}, during_dense=reads.encoding, at=hookpoint
        )
        counts["losses"] = waits(device)
        quality = np.array([[reads.quality[point].l0, reads.quality[point].fvu] for point in points])
        return [quality, *losses_of(*measured)]

    batches = on_both(numbers, monkeypatch)
    # transformers' check in every forward pass, two of them to see whether the model can be entered, and the
    # answer; which positions count and how many codes there are; one copy of all losses for every pass
    passes = batches * (1 + len(points))
    assert counts["losses"] == {
        "number to the host": passes + 3, "nonzero": 2 * batches, "copy to the host": passes,
    }  # fmt: skip


def test_masks_by_document(monkeypatch):
    def numbers(model, passes, device):
        generator = torch.Generator().manual_seed(0)
        neurons = study(find_mlps(model), passes, 0.3, 0)
        tables = {each.mlp.layer: torch.rand(2, each.mlp.d_ff, generator=generator) > 0.5 for each in neurons}
        edit = by_document(neurons, tables, passes.windows.task_D, passes)
        return losses_of(*passes.losses({"own": edit}))

    on_both(numbers, monkeypatch)
