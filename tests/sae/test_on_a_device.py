"""No tensor of tokens × latents on a device: encoder products come in chunks.

On a GPU, a simulated one where there is none (tests/support/accelerator.py).
"""

import pytest
import torch

from saescope.sae import base, cpu_topk
from saescope.sae.coder import CoderSae, SparseCoder, SparseCoderConfig
from saescope.training import Recipe, SaeTraining, new_coder
from tests.support.accelerator import cuda_device

N, D, F, K = 1500, 16, 1024, 4
CHUNK = 2**16
"""Elements of a chunk here: 64 rows of all latents, the fewest that a product is made of."""


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(base, "PRE_ACTS_BYTES", 4 * CHUNK)
    monkeypatch.setitem(cpu_topk.BLOCK_BYTES, "cuda", 4 * CHUNK)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("activation", ["topk", "groupmax"])
def test_encode_and_decode(activation, dtype, monkeypatch):
    torch.manual_seed(0)
    cfg = SparseCoderConfig(num_latents=F, k=K, activation=activation)
    with cuda_device(monkeypatch) as device:
        sae = CoderSae(SparseCoder(D, cfg), dtype, {}).to("cuda")
        x = torch.randn(N, D).to("cuda")
        device.forget()
        sae.decode(sae.encode(x))
        assert N * K <= device.largest <= CHUNK < N * F
        assert device.dtypes["addmm"] == {dtype}


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(k=K),
        Recipe(k=K, auxk_alpha=0.1, dead_feature_threshold=1),
        Recipe(k=K, multi_topk=True),
        Recipe(k=K, activation="groupmax"),
    ],
    ids=["topk", "auxk", "multi_topk", "groupmax"],
)
def test_training_step(recipe, monkeypatch):
    with cuda_device(monkeypatch) as device:
        module = SaeTraining(new_coder(D, F, recipe), recipe, total_steps=9).to("cuda")
        module.manual_backward = lambda loss: loss.backward()
        module.configure_optimizers()
        for step in range(3):
            x = torch.randn(N, D).to("cuda")
            device.forget()
            module.training_step(x, step)
            assert device.largest <= CHUNK < N * F
        assert not recipe.auxk_alpha or module.last_metrics["auxk"] > 0
