"""Training steps on a device beside the CPU: the same numbers, nothing left on the other side, few waits.

On a GPU, a simulated one where there is none (tests/support/accelerator.py).
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_map_only

from saescope.activations import LiveActivations
from saescope.sae.coder import CoderSae
from saescope.training import Recipe, SaeTraining, new_coder
from saescope.training.callbacks import CheckpointSaver
from saescope.training.side_by_side import Companion, SideBySide
from saescope.training.train import heldout_fvu
from tests.support.accelerator import cuda_device

D, F, N, STEPS = 16, 128, 64, 6
RECIPES = {
    "signum": Recipe(k=4),
    "adam": Recipe(k=4, optimizer="adam", lr_warmup_steps=3),
    "muon": Recipe(k=4, optimizer="muon", lr_warmup_steps=3),
    "auxk": Recipe(k=4, optimizer="adam", auxk_alpha=0.1, dead_feature_threshold=100, lr_warmup_steps=3),
    "multi_topk": Recipe(k=4, optimizer="adam", multi_topk=True, lr_warmup_steps=3),
    "groupmax": Recipe(k=4, optimizer="adam", activation="groupmax", lr_warmup_steps=3),
    "accumulation": Recipe(
        k=4, optimizer="adam", grad_acc_steps=2, micro_acc_steps=2, k_decay_steps=4, lr_warmup_steps=3
    ),
    "free_decoder": Recipe(k=4, optimizer="adam", normalize_decoder=False, lr_warmup_steps=3),
}


def batches():
    torch.manual_seed(5)
    return (torch.randn(STEPS * N, D) @ torch.randn(D, D)).split(N)


def a_module(recipe, encoder_dtype=None):
    module = SaeTraining(
        new_coder(D, F, recipe), recipe, total_steps=STEPS, finetune=False, encoder_dtype=encoder_dtype
    )
    # Lightning's own asks its trainer for the precision, and then calls this
    module.manual_backward = lambda loss: loss.backward()
    return module


def steps(module, xs, device=None):
    """Metrics and waits of each step."""
    metrics, waits = [], []
    for number, x in enumerate(xs):
        x = x if device is None else x.to("cuda")
        if device is not None:
            device.forget()
        module.training_step(x, number)
        metrics.append(module.last_metrics)
        waits.append({} if device is None else dict(+device.waits))
    return metrics, waits


@pytest.mark.parametrize("name", RECIPES)
def test_the_steps_of_the_cpu(name, monkeypatch):
    recipe = RECIPES[name]
    on_cpu = a_module(recipe)
    on_cpu.configure_optimizers()
    expected, _ = steps(on_cpu, batches())
    with cuda_device(monkeypatch) as device:
        module = a_module(recipe).to("cuda")
        module.configure_optimizers()
        metrics, waits = steps(module, batches(), device)
        tensors = [*module.parameters(), *module.buffers()]
        tensors += [p.grad for p in module.parameters() if p.grad is not None]
        assert all(tensor.is_cuda for tensor in tensors)
    for step, wanted in zip(metrics, expected, strict=True):
        assert step == pytest.approx(wanted, rel=5e-3)
    # One copy: losses, number of activations and of tokens, before the optimiser may act on a loss that is
    # not finite. One number: the share of dead latents, which the optimiser step changes.
    least = {"copy to the host": 1, "number to the host": 1}
    dead = {"nonzero": recipe.micro_acc_steps} if recipe.auxk_alpha else {}  # AuxK: how many are dead
    assert waits == [least | dead] * STEPS
    assert metrics[-1]["dead_frac"] > 0 or not recipe.auxk_alpha, "AuxK had something to do"


def test_saes_side_by_side(monkeypatch, tmp_path):
    """Each makes the steps it makes alone, and waits no more than then."""
    names = ("signum", "muon", "auxk")
    with cuda_device(monkeypatch) as device:
        modules = {}
        for name in names:
            modules[name] = a_module(RECIPES[name]).to("cuda")
            modules[name].configure_optimizers()
        alone = {}
        for name in names:
            module = a_module(RECIPES[name]).to("cuda")
            module.configure_optimizers()
            alone[name], _ = steps(module, batches(), device)
        companions = [Companion(modules[name], tmp_path / name) for name in names[1:]]
        whole = SideBySide(modules["signum"], companions)
        for number, x in enumerate(batches()):
            x = x.to("cuda")
            device.forget()
            whole.training_step(x, number)
            assert +device.waits == {"copy to the host": 3, "number to the host": 3, "nonzero": 1}
            assert device.uploads == 0
            assert [modules[name].last_metrics for name in names] == [alone[name][number] for name in names]
        assert all(tensor.is_cuda for tensor in [*whole.parameters(), *whole.buffers()])


def test_a_checkpoint_goes_to_the_host_and_back(monkeypatch):
    recipe = RECIPES["auxk"]
    with cuda_device(monkeypatch) as device:
        whole = a_module(recipe).to("cuda")
        whole.configure_optimizers()
        expected, _ = steps(whole, batches(), device)

        half = a_module(recipe).to("cuda")
        half.configure_optimizers()
        steps(half, batches()[:4], device)
        state = tree_map_only(torch.Tensor, lambda tensor: tensor.cpu().clone(), half.training_state())
        resumed = a_module(recipe).to("cuda")
        resumed.configure_optimizers()
        resumed.restore(state)
        metrics, _ = steps(resumed, batches()[4:], device)
    assert metrics == expected[4:]


def test_the_callback_does_not_wait(tmp_path, monkeypatch):
    """Whether SIGTERM has arrived is asked after every batch."""
    with cuda_device(monkeypatch) as device:
        module = a_module(RECIPES["adam"]).to("cuda")
        module.configure_optimizers()
        steps(module, batches()[:1], device)
        device.forget()
        saver = CheckpointSaver(tmp_path / "checkpoint.pt", every=100, resume=False)
        saver.on_train_batch_end(SimpleNamespace(world_size=1), module, None, None, 0)
        assert (+device.waits, device.uploads) == ({}, 0)


def test_encoder_products_in_bfloat16_sum_in_float32(monkeypatch):
    """And weights, gradients and all other products stay in float32."""
    sums = []
    real = torch.addmm

    def addmm(*args, **kwargs):
        sums.append(torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction)
        return real(*args, **kwargs)

    before = torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction
    with cuda_device(monkeypatch) as device:
        module = a_module(RECIPES["adam"], torch.bfloat16).to("cuda")
        module.configure_optimizers()
        monkeypatch.setattr(torch, "addmm", addmm)
        steps(module, batches(), device)
        assert device.dtypes["addmm"] == {torch.bfloat16}
        assert all(p.dtype is torch.float32 for p in module.parameters())
    assert sums == [False] * STEPS
    assert torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction == before


def test_held_out_error(monkeypatch):
    """Sums stay on the device until the end."""
    sae = CoderSae(new_coder(D, F, RECIPES["adam"]), torch.float32, {})
    rows = np.random.default_rng(0).integers(0, 50, (40, 8)).astype(np.int32)
    table = torch.randn(50, D, generator=torch.Generator().manual_seed(0))

    class Table:
        """Activations of single tokens, for a language model."""

        def __init__(self, table):
            self.table = table

        def __call__(self, ids_BT):
            return self.table[ids_BT]

        def width(self):
            return D

    expected = heldout_fvu(sae, LiveActivations(Table(table), rows, 4, "cpu"))
    with cuda_device(monkeypatch) as device:
        sae.to("cuda")
        source = LiveActivations(Table(table.to("cuda")), rows, 4, "cuda")
        device.forget()
        assert heldout_fvu(sae, source) == pytest.approx(expected, rel=1e-6)
        parts = -(-len(rows) // 16)
        # how many codes, in each part; at the end the sums
        assert +device.waits == {"nonzero": parts, "copy to the host": 9}
