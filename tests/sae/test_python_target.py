"""`sae=python` and `wrap`: codes of the user's object against a hand computation, and what is refused."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sparsify import Sae as SparsifySae

from saescope.config import PythonSae
from saescope.errors import SaeError
from saescope.sae import base, check, load
from saescope.sae.python_target import wrap

D, F, K = 6, 10, 3
GENERATOR = torch.Generator().manual_seed(1)
W_ENC, W_DEC = torch.randn(D, F, generator=GENERATOR), torch.randn(F, D, generator=GENERATOR)
BIAS = torch.randn(D, generator=GENERATOR)
X = torch.randn(9, D, generator=GENERATOR)


class Dense:
    """ReLU, with a dense code."""

    def encode(self, x):
        return torch.relu(x @ W_ENC)

    def decode(self, code):
        return code @ W_DEC + BIAS


class Sparse:
    """The K largest of the ReLU, with indices."""

    num_latents = F

    def encode(self, x):
        return torch.relu(x @ W_ENC).topk(K)

    def decode(self, top_acts, top_indices):
        return (W_DEC[top_indices] * top_acts[..., None]).sum(1) + BIAS


class Numpy:
    """The same dense code with numpy, in float64."""

    def encode(self, x):
        return np.maximum(x.numpy().astype(np.float64) @ W_ENC.double().numpy(), 0)

    def decode(self, code):
        return code.numpy() @ W_DEC.numpy() + BIAS.numpy()


def relu() -> torch.Tensor:
    return torch.relu(X @ W_ENC)


def top() -> torch.Tensor:
    """The K largest of each row, chosen by hand."""
    out = torch.zeros(len(X), F)
    for row, values in zip(out, relu(), strict=True):
        best = sorted(range(F), key=lambda latent: -values[latent].item())[:K]
        row[best] = values[best]
    return out


def dense(codes: base.SparseCodes) -> torch.Tensor:
    out = torch.zeros(len(codes.sizes_N), F)
    rows = torch.repeat_interleave(torch.arange(len(codes.sizes_N)), codes.sizes_N)
    out[rows, codes.latents] = codes.acts
    return out


@pytest.mark.parametrize(("kind", "code", "k"), [(Dense, relu, None), (Sparse, top, K), (Numpy, relu, None)])
@pytest.mark.parametrize("rows", [1, 4, 1000])
def test_codes_and_reconstructions_are_the_object_s(kind, code, k, rows, monkeypatch):
    monkeypatch.setattr(base, "PRE_ACTS_BYTES", 4 * F * rows)  # in chunks, and at once
    sae, expected = wrap(kind(), d_in=D, name="mine"), code()
    assert (sae.d_in, sae.num_latents, sae.k, sae.control) == (D, F, k, False)
    codes = sae.encode(X)
    assert codes.sizes_N.tolist() == (expected > 0).sum(1).tolist()
    assert (codes.sizes_N.dtype, codes.latents.dtype, codes.acts.dtype) == (
        torch.int64,
        torch.int64,
        torch.float32,
    )
    torch.testing.assert_close(dense(codes), expected)
    torch.testing.assert_close(sae.reconstruct(X, codes), expected @ W_DEC + BIAS)
    assert sae.provenance() == {
        "source": "python", "target": "mine", "d_in": D, "num_latents": F, "expansion_factor": F / D, "k": k,
    }  # fmt: skip


def test_a_row_without_active_latents_and_a_batch_without_rows():
    for kind in (Dense, Sparse):
        sae = wrap(kind(), d_in=D)
        codes = sae.encode(torch.zeros(2, D))
        assert codes.sizes_N.tolist() == [0, 0]
        torch.testing.assert_close(sae.decode(codes), BIAS.expand(2, D))
        nothing = sae.encode(torch.zeros(0, D))
        assert sae.decode(nothing).shape == (0, D)


def test_codes_with_fewer_latents_than_k_are_decoded_as_they_are():
    sae = wrap(Sparse(), d_in=D)
    codes = base.SparseCodes(torch.tensor([1, 2]), torch.tensor([4, 0, 9]), torch.tensor([1.0, 2.0, -1.0]))
    expected = torch.stack([W_DEC[4], 2 * W_DEC[0] - W_DEC[9]]) + BIAS
    torch.testing.assert_close(sae.decode(codes), expected)


def test_sparsify_s_own_class_and_modules_that_move(sae_folder):
    coder = SparsifySae.load_from_disk(sae_folder / "layers.2")
    sae = wrap(coder.train(), d_in=32)
    assert not coder.training
    x = torch.randn(7, 32)
    theirs, codes = coder.encode(x), sae.encode(x)
    wanted = torch.zeros(7, 256).scatter_(1, theirs.top_indices, theirs.top_acts)
    out = torch.zeros(7, 256)
    out[torch.repeat_interleave(torch.arange(7), codes.sizes_N), codes.latents] = codes.acts
    assert torch.equal(out, wanted)
    torch.testing.assert_close(sae.decode(codes), coder.decode(theirs.top_acts, theirs.top_indices).detach())
    assert not sae.decode(codes).requires_grad
    assert coder.encoder.weight.data_ptr() in {p.data_ptr() for p in sae.parameters()}  # moves with the job


def test_one_of_ours_is_returned_as_it_is():
    sae = wrap(Dense(), d_in=D)
    assert wrap(sae, d_in=D) is sae
    with pytest.raises(SaeError, match="has d_in=6, but the activations have width 8"):
        wrap(sae, d_in=8)


def test_an_encode_in_place_leaves_the_activations_alone():
    class InPlace(Dense):
        def encode(self, x):
            return torch.relu(x.sub_(1.0) @ W_ENC)

    before = X.clone()
    codes = wrap(InPlace(), d_in=D).encode(X)
    assert torch.equal(before, X)
    torch.testing.assert_close(dense(codes), torch.relu((X - 1) @ W_ENC))


def encoding(result, **attributes):
    """An object whose `encode` returns `result(x)`."""
    decode = attributes.pop("decode", lambda *code: torch.zeros(len(code[0]), D))
    return SimpleNamespace(encode=result, decode=decode, **attributes)


def pair(acts=None, indices=None, num_latents=F, **attributes):
    """An object that returns these `top_acts` and `top_indices`, by default 1.0 for latents 0 and 1."""

    def encode(x):
        n = len(x)
        top_acts = torch.ones(n, 2) if acts is None else acts(n)
        return top_acts, torch.arange(2).repeat(n, 1) if indices is None else indices(n)

    return encoding(encode, num_latents=num_latents, **attributes)


@pytest.mark.parametrize(
    ("inner", "says"),
    [
        (None, "mine is None without the method encode; an object with encode"),
        (SimpleNamespace(encode=len), "mine is a SimpleNamespace without the method decode"),
        (encoding(lambda x: None), "mine: encode returned None; expected a dense code"),
        (encoding(lambda x: "text"), "encode returned a str; expected"),
        (encoding(lambda x: (x, x, x)), r"encode returned \(a Tensor, a Tensor, a Tensor\); expected"),
        (encoding(lambda x: (x, "text")), r"encode returned \(a Tensor, a str\); expected"),
        (encoding(lambda x: np.array(["a"])), "encode returned a ndarray; expected"),
        (encoding(lambda x: x[0]), "encode of 4 × 6 returned 6 of float32; expected a dense code"),
        (encoding(lambda x: x[:2]), "encode of 4 × 6 returned 2 × 6 of float32; expected"),
        (encoding(lambda x: x.long()), "encode of 4 × 6 returned 4 × 6 of int64; expected"),
        (encoding(lambda x: 1 / 0), "mine: encode raised ZeroDivisionError: division by zero"),
        (encoding(lambda x: x * torch.nan), "encode returned NaN or infinite activations for finite ones"),
        (encoding(lambda x: x, num_latents=7), "encode returned 4 × 6 of float32; 7 latents are expected"),
        (encoding(lambda x: x, num_latents=0), "mine has num_latents=0; a whole number from 1 is expected"),
        (encoding(lambda x: x, num_latents="6"), "mine has num_latents='6'; a whole number"),
        (encoding(lambda x: x, d_in=torch.tensor(8)), "mine has d_in=8, but the activations have width 6"),
        (
            pair(num_latents=None),
            "do not say how many latents there are: give the object an attribute",
        ),
        (
            pair(indices=lambda n: torch.ones(n, 3).long()),
            "top_acts 4 × 2 of float32 and top_indices 4 × 3",
        ),
        (pair(indices=lambda n: torch.ones(n, 2)), "and top_indices 4 × 2 of float32; expected"),
        (pair(acts=lambda n: torch.ones(n, 2).long()), "top_acts 4 × 2 of int64"),
        (
            pair(indices=lambda n: torch.tensor([0, 10]).repeat(n, 1)),
            "from 0 to 10; with num_latents=10",
        ),
        (pair(indices=lambda n: torch.tensor([-1, 2]).repeat(n, 1)), "top_indices from -1 to 2"),
        (pair(indices=lambda n: torch.ones(n, 2).long()), "a latent twice in one row of top_indices"),
        (pair(acts=lambda n: torch.full((n, 2), torch.inf)), "NaN or infinite activations"),
        (pair(decode=lambda code: code), "mine: decode raised TypeError"),
        (pair(decode=lambda *code: code[0]), "decode returned 4 × 2 of float32; expected floats of 4 × 6"),
        (pair(decode=lambda *code: torch.zeros(4, D).long()), "decode returned 4 × 6 of int64"),
        (pair(decode=lambda *code: None), "decode returned None; expected floats of 4 × 6"),
        (
            pair(decode=lambda *code: torch.full((4, D), torch.nan)),
            "decode returned NaN or infinite",
        ),
    ],
)
def test_what_is_no_sae_is_refused_in_one_line(inner, says):
    with pytest.raises(SaeError, match=says) as caught:
        wrap(inner, d_in=D, name="mine")
    assert "\n" not in str(caught.value)


def test_a_slot_with_activation_zero_may_repeat_a_latent():
    acts = torch.tensor([[1.0, 0.0, 0.0]])
    twice = pair(lambda n: acts.repeat(n, 1), lambda n: torch.tensor([[4, 4, 99]]).repeat(n, 1))
    codes = wrap(twice, d_in=D).encode(X[:2])
    assert (codes.sizes_N.tolist(), codes.latents.tolist()) == ([1, 1], [4, 4])


def test_an_object_that_changes_its_mind_is_refused():
    later = wrap(pair(lambda n: torch.ones(n, 2 if n == 4 else 1), lambda n: torch.arange(2 if n == 4 else 1)
                      .repeat(n, 1)), d_in=D)  # fmt: skip
    with pytest.raises(SaeError, match=r"top_acts 9 × 1 .*; 10 latents and k=2 are expected, every time"):
        later.encode(X)


# ---- sae.target ----

MODULE = """
import torch

class Made:
    def __init__(self, width, scale=1.0, bad=False):
        self.num_latents, self.scale = width, scale
    def encode(self, x):
        return torch.relu(x[:, :1].repeat(1, self.num_latents)) * self.scale
    def decode(self, code):
        return code[:, :1].repeat(1, 6)

def make(width, scale=1.0):
    return Made(width, scale)

def placed(d_in, hookpoint, *, width=2):
    made = Made(width)
    made.said = (d_in, hookpoint)
    return made

def fails():
    raise RuntimeError("no\\nweights")

class Inner:
    nested = staticmethod(make)

number = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the working directory, which is not on the path yet; its name."""
    name = f"user_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    (tmp_path / f"{name}_broken.py").write_text("x = (")
    (tmp_path / f"{name}_lacking.py").write_text("import no_such_package_at_all")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(tmp_path))])
    return name


def made(target: str, **options):
    cfg = PythonSae(target=target, options=options)
    values = {"hookpoint": "layers.1", "model_sae_repo": None, "model_name": "m"}
    check(cfg, **values)
    return load(cfg, d_in=D, dtype=torch.float32, **values)


def test_a_target_is_called_with_its_options(module):
    sae = made(f"{module}:make", width=4, scale=2.0)
    assert sae.num_latents == 4
    codes = sae.encode(torch.full((1, D), 3.0))
    assert codes.acts.tolist() == [6.0] * 4
    assert sae.provenance() == {
        "source": "python", "target": f"{module}:make", "options": {"width": 4, "scale": 2.0}, "d_in": D,
        "num_latents": 4, "expansion_factor": 4 / D, "k": None,
    }  # fmt: skip
    assert made(f"{module}:Made", width=5).num_latents == 5
    assert made(f"{module}:Inner.nested", width=5).num_latents == 5


def test_width_and_hookpoint_are_given_to_a_target_that_names_them(module):
    assert made(f"{module}:placed").inner.said == (D, "layers.1")
    assert made(f"{module}:placed", hookpoint="mine").inner.said == (D, "mine")


def test_an_edited_module_is_run_again_in_the_same_process(module):
    made(f"{module}:make", width=4)
    path = Path(f"{module}.py")
    path.write_text(MODULE.replace("Made(width, scale)", "Made(width + 10, scale)"))
    assert made(f"{module}:make", width=4).num_latents == 14


@pytest.mark.parametrize(
    ("target", "options", "says"),
    [
        ("no_such_module_here:make", {}, "there is no module no_such_module_here in"),
        ("{}.sub:make", {}, "there is no module user_.*[.]sub in"),
        ("{}:mak", {"width": 1}, "has no mak: did you mean 'make'"),
        ("{}:number", {}, "is an int; expected a function"),
        ("{}:fails", {}, "raised RuntimeError: no weights$"),
        ("{}:make", {}, "raised TypeError: make.. missing 1 required"),
        ("{}:make", {"widht": 1}, "raised TypeError: make.. got an unexpected keyword argument 'widht'"),
        ("{}_broken:make", {}, "importing user_.*_broken raised SyntaxError"),
        ("{}_lacking:make", {}, "importing user_.*_lacking raised ModuleNotFoundError: No module named"),
    ],
)
def test_a_target_that_fails_is_one_line_that_names_it(module, target, options, says):
    with pytest.raises(SaeError, match=says) as caught:
        made(target.format(module), **options)
    assert str(caught.value).startswith(f"sae.target={target.format(module)}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("where", ["import", "encode", "decode"])
def test_code_that_exits_is_an_error_and_no_success(tmp_path, monkeypatch, where):
    """`sys.exit()` of a script would end the job with exit code 0 and no result."""

    def leave(*_):
        sys.exit(0)

    if where == "import":
        (tmp_path / "a_script.py").write_text("import sys\nsys.exit(0)\n")
        with pytest.raises(SaeError, match="importing a_script raised SystemExit: 0"):
            check(PythonSae(target="a_script:f"), hookpoint="h", model_sae_repo=None, model_name="m")
        return
    inner = Dense()
    setattr(inner, where, leave)
    with pytest.raises(SaeError, match=f"{where} raised SystemExit: 0"):
        wrap(inner, d_in=D, name="mine")


def test_a_reconstruction_that_float32_cannot_hold_is_refused():
    class Large(Dense):
        def decode(self, code):
            return super().decode(code).double() * 1e200

    with pytest.raises(SaeError, match="decode returned NaN or infinite"):
        wrap(Large(), d_in=D, name="mine")
