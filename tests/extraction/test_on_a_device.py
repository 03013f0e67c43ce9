"""The passes on a device beside the CPU: the same numbers, nothing left on the other side, few waits.

On a GPU, a simulated one where there is none (tests/support/accelerator.py).
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers as hf

from saescope.activations import LiveActivations, LiveWindows
from saescope.config import HookpointConfig
from saescope.extraction.encoding import Encoding
from saescope.extraction.engine import _Results
from saescope.extraction.modules import Extraction, Splice
from saescope.extraction.shared_losses import SharedLosses
from saescope.model.capture import Capture, Captures
from saescope.model.hookpoints import resolve
from saescope.model.losses import clean_pass, edit_at, edited_passes
from saescope.model.upper_blocks import upper_blocks
from saescope.sae.coder import CoderSae, SparseCoder, SparseCoderConfig
from saescope.sae.neurons import NeuronBasis
from saescope.sae.python_target import wrap
from tests.extraction.test_engine import make_engine
from tests.support.accelerator import WrongDeviceError, cuda_device

D, F, K = 32, 256, 8


def coder(**values) -> CoderSae:
    torch.manual_seed(3)
    inner = SparseCoder(D, SparseCoderConfig(num_latents=F, k=K, **values))
    for weight in inner.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return CoderSae(inner, torch.float32, {})


class Relu(torch.nn.Module):
    """A user's own SAE."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(D, 64, generator=torch.Generator().manual_seed(1)))

    def encode(self, x):
        return (x @ self.weight).relu()

    def decode(self, dense):
        return dense @ self.weight.T


SAES = {
    "topk": coder,
    "groupmax": lambda: coder(activation="groupmax"),
    "transcoder": lambda: coder(transcode=True, skip_connection=True),
    "neurons": lambda: NeuronBasis(D, k=K),
    "python": lambda: wrap(Relu(), d_in=D),
}


@pytest.fixture
def engine(model_folder, probes):
    return make_engine(model_folder, coder(), probes)


def results(module, tmp_path):
    """What the pass hands back."""
    kept = _Results(tmp_path / "results.pt")
    kept.on_test_end(SimpleNamespace(is_global_zero=True, world_size=1), module)
    return kept.read()


def batches_of(module, device):
    """Run all batches, as Lightning does; the waits and uploads of each."""
    module.to("cuda")
    counts = []
    with torch.no_grad():
        module.on_test_start()
        for number, batch in enumerate(module.batches):
            device.forget()
            module.test_step(module.transfer_batch_to_device(batch, torch.device("cuda"), 0), number)
            counts.append((dict(+device.waits), device.uploads))
        module.on_test_epoch_end()
    return counts


def assert_same(on_device, on_cpu):
    assert on_device.keys() == on_cpu.keys()
    for name, values in on_cpu.items():
        np.testing.assert_allclose(on_device[name], values, rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("side", ["output", "both"])
def test_extraction(model_folder, probes, tmp_path, monkeypatch, side):
    engine = make_engine(model_folder, coder(transcode=side == "both"), probes)
    windows, setup = engine.windows, engine.setup
    if side == "both":
        setup = engine.setup.on_both_sides()
    source = LiveWindows(setup.capture, windows, 600, "cpu", setup.width)
    all_batches = engine._batches(np.arange(len(windows.ids)))
    assert len(all_batches) > 1

    def module(source):
        return Extraction(engine.model, setup.hookpoint, engine.sae, windows, all_batches, source)

    on_cpu = module(source)
    with torch.inference_mode():
        for number, batch in enumerate(all_batches):
            on_cpu.test_step(batch, number)
    expected = results(on_cpu, tmp_path)
    with cuda_device(monkeypatch) as device:
        on_device = module(LiveWindows(setup.capture, windows, 600, "cuda", setup.width))
        counts = batches_of(on_device, device)
        assert_same(results(on_device, tmp_path), expected)
    # Numbers: transformers' check for packed texts, activations finite, codes and reconstruction finite.
    # One for the number of codes; three copies are the codes themselves, which belong on the host.
    # Up go the token ids, where the counted ones are, where they go, and their tasks.
    waits = {"number to the host": 3, "nonzero": 1, "copy to the host": 3}
    assert counts == [(waits, 4)] * len(all_batches)


def test_the_model_stays_on_the_device(engine, monkeypatch):
    """Lightning calls `cpu` when a pass ends; the next pass needs the model where it was."""
    chosen = engine._batches(np.arange(12))
    source = LiveWindows(engine.setup.capture, engine.windows, 600, "cpu", D)
    module = Extraction(engine.model, engine.hookpoint, engine.sae, engine.windows, chosen, source)
    with cuda_device(monkeypatch):
        module.to("cuda")
        module.cpu()
        assert all(parameter.is_cuda for parameter in module.parameters())


def test_losses(engine, tmp_path, monkeypatch):
    chosen = engine._batches(np.arange(12))
    mean = torch.randn(D, generator=torch.Generator().manual_seed(0))

    def module(shared):
        return Splice(engine.model, engine.hookpoint, engine.sae, engine.windows, chosen, mean, shared)

    on_cpu = module(SharedLosses())
    with torch.inference_mode():
        on_cpu.on_test_start()
        for number, batch in enumerate(chosen):
            on_cpu.test_step(batch, number)
    expected = results(on_cpu, tmp_path)
    with cuda_device(monkeypatch) as device:
        shared = SharedLosses(storing=True)
        first = module(shared)
        counts = batches_of(first, device)
        assert set(first.parts) == {"entry", "last"}, "entered in the middle"
        assert_same(results(first, tmp_path), expected)
        assert all(tensor.device.type == "cpu" for tensor in shared.tensors.values())

        again = module(SharedLosses(shared.tensors, stored=True))
        counts_again = batches_of(again, device)
        assert_same(results(again, tmp_path), expected)
    # transformers' check for packed texts in each of four forward passes; which predictions are scored, which
    # positions count, how many codes; two copies are the streams that the next SAE is measured with
    assert counts == [({"number to the host": 4, "nonzero": 3, "copy to the host": 2}, 4)] * len(chosen)
    # only the spliced model is run, and what follows the blocks; the streams come from the host
    assert counts_again == [({"number to the host": 2, "nonzero": 3}, 6)] * len(chosen)


@pytest.mark.parametrize("name", SAES)
def test_codes(name, monkeypatch):
    sae, x = SAES[name](), torch.randn(70, D, generator=torch.Generator().manual_seed(0))
    codes = sae.encode(x)
    expected = [*codes, sae.reconstruct(x, codes)]
    with cuda_device(monkeypatch) as device:
        sae.to("cuda")
        x = x.to("cuda")
        device.forget()
        codes = sae.encode(x)
        actual = [*codes, sae.reconstruct(x, codes)]
        # a user's SAE is checked on every batch, and gives a code whose number of entries is not fixed
        assert +device.waits == {"nonzero": 1} or name == "python"
        assert all(tensor.is_cuda for tensor in actual)
        actual = [tensor.cpu() for tensor in actual]
    order = [
        np.lexsort((latents, np.repeat(np.arange(70), sizes))) for sizes, latents, *_ in (expected, actual)
    ]
    for value, wanted in zip(actual, expected, strict=True):
        if len(value) == len(order[0]) != 70:
            value, wanted = value[order[1]], wanted[order[0]]
        torch.testing.assert_close(value, wanted, rtol=1e-5, atol=1e-5)


def test_tokens_that_are_not_finite(monkeypatch):
    x = torch.randn(9, D, generator=torch.Generator().manual_seed(0))
    x[4, 2], x[7, 0] = float("nan"), float("inf")
    rows, tasks = torch.arange(9) * 10, torch.arange(9) % 3
    with cuda_device(monkeypatch):
        encoding = Encoding(coder(), 3, "layers.2", 13).to("cuda")
        on_device = x.to("cuda")
        encoding.update(on_device, on_device, rows, tasks.to("cuda"))
        encoding.update(on_device[:4], on_device[:4].clone(), rows[:4].to("cuda"), tasks[:4].to("cuda"))
        assert encoding.bad_rows.compute().tolist() == [40, 70]
        assert encoding.codes.compute().rows.tolist() == [0, 10, 20, 30, 50, 60, 80, 0, 10, 20, 30]
        assert encoding.reconstruction.compute()["tokens"].sum() == 11


ARCHITECTURES = {
    "gpt2": lambda: hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=90, n_embd=D, n_layer=3, n_head=4)),
    "llama": lambda: hf.LlamaForCausalLM(
        hf.LlamaConfig(
            vocab_size=90, hidden_size=D, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4
        )
    ),
}
PLACES = {
    "resid": HookpointConfig("resid", layer=1),
    "mlp": HookpointConfig("mlp", layer=1),
    "attention": HookpointConfig("attention", layer=1),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_capture_and_edits(architecture, place, monkeypatch):
    torch.manual_seed(0)
    model = ARCHITECTURES[architecture]().eval().requires_grad_(False)
    hookpoint = resolve(PLACES[place], model)
    ids = torch.randint(3, 90, (2, 9), generator=torch.Generator().manual_seed(0))
    scored = torch.rand(2, 8, generator=torch.Generator().manual_seed(0)) > 0.3

    def numbers(ids, scored):
        capture = Capture(model, hookpoint)
        clean = clean_pass(model, ids, scored)
        counted = torch.ones_like(ids, dtype=torch.bool).nonzero(as_tuple=True)
        upper = upper_blocks(model, hookpoint, ids)
        assert upper is not None
        with upper.recorded() as streams:
            model(input_ids=ids)
        halved = {"halved": capture.replaced(edit_at(counted, lambda _x, old: old / 2))}
        with upper.entered(streams[0]):
            ((_, losses),) = edited_passes(model, clean, halved)
        return [capture(ids), Captures(model, [hookpoint]).each(ids)[0], *clean.losses, *losses]

    expected = numbers(ids, scored)
    with cuda_device(monkeypatch):
        model.to("cuda")
        actual = numbers(ids.to("cuda"), scored.to("cuda"))
        assert all(tensor.is_cuda for tensor in actual)
        actual = [tensor.cpu() for tensor in actual]
    for value, wanted in zip(actual, expected, strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-4, atol=1e-4)


def test_rows_of_text_come_without_waiting(engine, monkeypatch):
    rows = np.random.default_rng(0).integers(3, 300, (6, 16)).astype(np.int32)
    capture = engine.setup.capture
    expected = LiveActivations(capture, rows, 4, "cpu").read(np.arange(6))
    with cuda_device(monkeypatch) as device:
        engine.model.to("cuda")
        source = LiveActivations(capture, rows, 4, "cuda")
        device.forget()
        values = source.read(np.arange(6))
        assert +device.waits == {"number to the host": 2}, "transformers' own, in each of two passes"
        torch.testing.assert_close(values.cpu(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(torch.cuda.is_available(), reason="of the simulated device")
def test_an_operation_on_two_devices_is_refused(monkeypatch):
    """What makes the tests above fail where a tensor stays behind."""
    with cuda_device(monkeypatch) as device:
        x = torch.randn(4, 3, device="cuda")
        for mixed in (
            lambda: x + torch.ones(3),
            lambda: x @ torch.ones(3, 2),
            lambda: torch.cat([x, torch.ones(1, 3)]),
            lambda: x[torch.tensor([0, 2])],
            lambda: x[torch.tensor([True, False, True, True])],
            lambda: torch.ones(4, 3).add_(x),
            lambda: x.index_add(0, torch.tensor([1]), torch.ones(1, 3, device="cuda")),
        ):
            with pytest.raises(WrongDeviceError):
                mixed()
        assert (x + torch.tensor(2.0)).is_cuda, "CUDA takes single numbers"
        device.forget()
        x[x > 0] = 0.0
        assert not +device.waits, "a masked fill"
        x[x[:, 0] < 0] = torch.ones(3, device="cuda")
        _ = x[x > 0], x.sum().item(), x.tolist(), bool((x > 0).any()), torch.from_numpy(np.ones(2)).to("cuda")
        assert +device.waits == {"boolean index": 2, "number to the host": 2, "copy to the host": 1}
        assert device.uploads == 1
