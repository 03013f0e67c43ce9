"""`sae=python` targets that raise, or return what is no SAE, at once or only later: codes, or one line."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from saescope.config import PythonSae
from saescope.errors import SaescopeError
from saescope.sae import check, load
from saescope.sae.base import Sae
from tests.campaigns.outcome import attempt, seeded

D, F, K = 6, 10, 3
NOISE = torch.Generator().manual_seed(1)
W_ENC, W_DEC = torch.randn(D, F, generator=NOISE), torch.randn(F, D, generator=NOISE)


class Hostile:
    """Every question raises."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}\n\x1b[31m\ud800 for you")


class Silent(Exception):
    """Its own text raises."""

    def __str__(self) -> str:
        raise ValueError("no text")


def exits(*_: Any) -> Any:
    sys.exit(0)


def raises(error: Exception) -> Callable[..., Any]:
    def raising(*_: Any) -> Any:
        raise error

    return raising


def generator(*_: Any) -> Any:
    yield torch.zeros(1)


ERRORS: dict[str, Callable[..., Any]] = {
    "raises": raises(RuntimeError("two\nlines \x1b[31m \ud800 " + "x" * 9000)),
    "raises without words": raises(Exception()),
    "raises what has no text": raises(Silent()),
    "raises an assertion": raises(AssertionError()),
    "stops": raises(StopIteration()),
    "exits": exits,
    "recurses": lambda *a: ERRORS["recurses"](*a),
    "asks for 300 TB": lambda *a: torch.empty(10**14),
    "asks numpy for 700 TB": lambda *a: np.empty(10**14),
    "asks for a negative size": lambda *a: torch.empty(-1),
    "is a generator": generator,
    "is None": lambda *a: None,
    "is text": lambda *a: "日本",
    "is a list": lambda *a: [1.0, 2.0],
    "is hostile": lambda *a: Hostile(),
    "is an array of objects": lambda *a: np.array([[None] * F]),
    "is an array of text": lambda *a: np.array([["x"] * F]),
    "is a dictionary": lambda *a: {"acts": torch.zeros(1, F)},
}


def dense(x: torch.Tensor) -> torch.Tensor:
    return torch.relu(x @ W_ENC)


def top(x: torch.Tensor) -> Any:
    return dense(x).topk(K)


def changed(change: Callable[[torch.Tensor], Any]) -> Callable[[torch.Tensor], Any]:
    return lambda x: change(dense(x))


def pair(change: Callable[[torch.Tensor, torch.Tensor], Any]) -> Callable[[torch.Tensor], Any]:
    return lambda x: change(*top(x))


TENSORS: dict[str, Callable[[torch.Tensor], Any]] = {
    "half": torch.Tensor.half,
    "bfloat16": torch.Tensor.bfloat16,
    "float8": lambda t: t.clamp(-400, 400).to(torch.float8_e4m3fn),
    "double, beyond float32": lambda t: t.double() * 1e200,
    "integers": torch.Tensor.int,
    "booleans": torch.Tensor.bool,
    "complex": lambda t: t.to(torch.complex64),
    "NaN": lambda t: t * float("nan"),
    "one infinity": lambda t: t.clone().index_fill(1, torch.tensor([0]), float("inf")),
    "transposed": lambda t: t.T,
    "flat": torch.Tensor.flatten,
    "one more axis": lambda t: t[None],
    "a single number": torch.Tensor.sum,
    "no rows": lambda t: t[:0],
    "no columns": lambda t: t[:, :0],
    "a column more": lambda t: torch.cat([t, t[:, :1]], 1),
    "a row more": lambda t: torch.cat([t, t[:1]]),
    "a row for all": lambda t: t.mean(0),
    "expanded": lambda t: t[:1].expand(len(t), -1),
    "sparse": torch.Tensor.to_sparse,
    "compressed rows": torch.Tensor.to_sparse_csr,
    "on no device": lambda t: t.to("meta"),
    "nested": lambda t: torch.nested.nested_tensor(list(t)),
    "quantised": lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8),
    "numpy": lambda t: t.numpy(),
    "numpy longdouble": lambda t: t.numpy().astype(np.longdouble),
    "numpy big-endian": lambda t: t.numpy().astype(">f4"),
    "numpy read-only": lambda t: np.broadcast_to(t.numpy()[:1], tuple(t.shape)),
    "numpy masked": lambda t: np.ma.masked_less(t.numpy(), 0.5),
    "with gradient": lambda t: t.clone().requires_grad_(),
    "a parameter": nn.Parameter,
    "in a tuple": lambda t: (t,),
    "three": lambda t: (t, t, t),
    "negative": torch.Tensor.neg,
    "conjugate": lambda t: t.to(torch.complex64).conj().real,
}
ENCODES: dict[str, Callable[[torch.Tensor], Any]] = {
    "dense": dense,
    "sparse pair": top,
    "attributes": pair(lambda a, i: SimpleNamespace(top_acts=a, top_indices=i)),
    "works in place": lambda x: dense(x.mul_(float("nan")).nan_to_num_()),
    "indices twice": pair(lambda a, i: (a, i[:, :1].expand_as(i))),
    "indices beyond": pair(lambda a, i: (a, i + F)),
    "negative indices": pair(lambda a, i: (a, i - F)),
    "indices of floats": pair(lambda a, i: (a, i.float())),
    "indices of bytes": pair(lambda a, i: (a, i.to(torch.uint8))),
    "indices of uint64": pair(lambda a, i: (a, i.numpy().astype(np.uint64) + 2**63)),
    "indices on no device": pair(lambda a, i: (a, i.to("meta"))),
    "swapped": pair(lambda a, i: (i, a)),
    "fewer indices": pair(lambda a, i: (a, i[:, :1])),
    "indices as lists": pair(lambda a, i: (a, i.tolist())),
    "attributes that raise": lambda x: Hostile(),
    "k varies": lambda x: dense(x).topk(1 + len(x) % 3),
    "forms vary": lambda x: dense(x) if len(x) == 4 else top(x),
    "ten million wide": lambda x: x.new_zeros(1, 1).expand(len(x), 10**7),
    **{f"dense, {name}": changed(change) for name, change in TENSORS.items()},
    **{f"pair, {name}": pair(lambda a, i, change=change: (change(a), i)) for name, change in TENSORS.items()},
    **{
        f"indices, {name}": pair(lambda a, i, change=change: (a, change(i)))
        for name, change in TENSORS.items()
    },
    **{f"encode {name}": lambda x, call=call: call(x) for name, call in ERRORS.items()},
}


def decoded(*codes: torch.Tensor) -> torch.Tensor:
    if len(codes) == 1:
        return codes[0] @ W_DEC
    return (W_DEC[codes[1]] * codes[0][..., None]).sum(1)


DECODES: dict[str, Callable[..., Any]] = {
    "decodes": decoded,
    **{name: lambda *c, change=change: change(decoded(*c)) for name, change in TENSORS.items()},
    **{f"decode {name}": call for name, call in ERRORS.items()},
    "of the width of the code": lambda *c: c[0],
    "takes nothing": lambda: None,
}
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "none": {},
    "right": {"num_latents": F, "d_in": D},
    "as arrays": {"num_latents": np.array(F), "d_in": torch.tensor(D)},
    "of another width": {"d_in": D + 1},
    "more latents": {"num_latents": F + 1},
    "fewer latents": {"num_latents": 1},
    "very many latents": {"num_latents": 10**15},
    "beyond any number": {"num_latents": 10**400},
    "no latent": {"num_latents": 0},
    "half a latent": {"num_latents": 2.5},
    "text": {"num_latents": "\x1b[31m10"},
    "true": {"num_latents": True},
    "an empty array": {"num_latents": np.zeros(0)},
    "a long array": {"num_latents": np.zeros(5000)},
    "on no device": {"num_latents": torch.zeros((), device="meta")},
    "no device": {"device": "nonsense"},
    "a device that is not there": {"device": "cuda:77"},
    "device meta": {"device": "meta"},
    "a device of numbers": {"device": 3},
    "a device that is an object": {"device": Hostile()},
}
LATER = st.sampled_from([0, 0, 0, 1, 2])
"""Calls that go well before the first that does not."""


def target(encode: str, decode: str, attributes: str, later: int, module: bool) -> type:
    """A class of SAEs that do this."""
    sparse = not encode.startswith("dense") and encode not in ("works in place", "ten million wide")
    good = top if sparse else dense

    class Target(nn.Module if module else object):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.left = {"encode": later, "decode": later}
            if sparse:
                self.num_latents = F
            for name, value in ATTRIBUTES[attributes].items():
                object.__setattr__(self, name, value)

        def _fine(self, what: str) -> bool:
            self.left[what] -= 1
            return self.left[what] >= 0

        def encode(self, x: torch.Tensor) -> Any:
            return good(x) if self._fine("encode") else ENCODES[encode](x)

        def decode(self, *codes: torch.Tensor) -> Any:
            return decoded(*codes) if self._fine("decode") else DECODES[decode](*codes)

    return Target


def measured(cfg: PythonSae) -> Sae:
    """The SAE as a job uses it: loaded, and every code and reconstruction of two batches."""
    check(cfg, hookpoint="layers.2", model_sae_repo=None, model_name="m")
    sae = load(cfg, d_in=D, hookpoint="layers.2", model_sae_repo=None, model_name="m", dtype=torch.float32)
    for rows in (5, 40):
        x = torch.randn(rows, D)
        before = x.clone()
        codes = sae.encode(x)
        assert torch.equal(x, before), "the activations were changed"
        assert len(codes.sizes_N) == rows
        assert len(codes.latents) == len(codes.acts) == int(codes.sizes_N.sum())
        assert torch.isfinite(codes.acts).all()
        assert (codes.acts != 0).all()
        assert ((codes.latents >= 0) & (codes.latents < sae.num_latents)).all()
        rebuilt = sae.reconstruct(x, codes)
        assert rebuilt.shape == (rows, D)
        assert torch.isfinite(rebuilt).all()
        sae.provenance()
    return sae


HERE = sys.modules[__name__]


@pytest.fixture(autouse=True)
def _no_trace():
    yield
    for name in [name for name in sys.modules if name.startswith("user_code")]:
        del sys.modules[name]
    if hasattr(HERE, "Given"):
        del HERE.Given


@seeded(900)
@given(
    st.sampled_from(sorted(ENCODES)),
    st.one_of(st.just("decodes"), st.sampled_from(sorted(DECODES))),
    st.one_of(st.just("none"), st.sampled_from(sorted(ATTRIBUTES))),
    LATER,
    st.booleans(),
)
def test_objects(encode, decode, attributes, later, module):
    HERE.Given = target(encode, decode, attributes, later, module)
    sae = attempt("sae=python objects", lambda: measured(PythonSae(target=f"{__name__}:Given")))
    if encode in ("dense", "sparse pair") and (decode, attributes) == ("decodes", "none"):
        assert isinstance(sae, Sae)


@pytest.mark.parametrize("name", sorted({*ENCODES, *DECODES, *ATTRIBUTES}))
def test_each_alone(name):
    """Every one of them once, the rest as it should be."""
    words = {
        "encode": name if name in ENCODES else "sparse pair",
        "decode": name if name in DECODES else "decodes",
        "attributes": name if name in ATTRIBUTES else "none",
    }
    HERE.Given = target(**words, later=0, module=False)
    attempt("sae=python objects", lambda: measured(PythonSae(target=f"{__name__}:Given")))


CONSTRUCTORS = {
    **ERRORS,
    "no decode": lambda *a: SimpleNamespace(encode=dense),
    "no encode": lambda *a: SimpleNamespace(decode=decoded),
    "encode is no function": lambda *a: SimpleNamespace(encode=3, decode=decoded),
    "a class, not its object": lambda *a: target("dense", "decodes", "none", 0, False),
    "a tensor": lambda *a: torch.zeros(3, 3),
    "a bare module": lambda *a: nn.Linear(D, F),
    "itself": lambda *a: CONSTRUCTORS,
}


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_constructors(name):
    HERE.Given = lambda **options: CONSTRUCTORS[name]()
    refused = attempt("sae=python constructors", lambda: measured(PythonSae(target=f"{__name__}:Given")))
    assert isinstance(refused, str), name


def good(**_: Any) -> Any:
    """An SAE as it should be."""
    return target("sparse pair", "decodes", "none", 0, False)()


SOURCES = [
    *["from tests.campaigns.test_python_targets import good as f"] * 9,
    "from tests.campaigns.test_python_targets import good\nclass f:\n  g = h = staticmethod(good)",
    "",
    "raise RuntimeError('two\\nlines')",
    "import sys; sys.exit(0)",
    "raise SystemExit",
    "1/0",
    "def f(:",
    "\0",
    "import nothing_of_this_name",
    "from user_code import f",
    "f = 3",
    "f = None",
    "def f(): pass",
    "def f(x): return x",
    "def f(*, d_in, hookpoint): raise KeyError(d_in)",
    "class f: pass",
    "f = print",
    "def __getattr__(name): raise RuntimeError(name)",
    "def f(**options): return options",
    "class f:\n  def __new__(cls): return 7",
    "import numpy; f = numpy.zeros",
    "f = lambda: f",
    "raise BaseException('日本')",
    "# -*- coding: nonsense -*-",
    "f = type('x', (), {'__call__': 3})()",
    "class Meta(type):\n  def __call__(cls, **k): raise ValueError('no')\nclass f(metaclass=Meta): pass",
    "from dataclasses import dataclass\n@dataclass\nclass f:\n  x: int",
]
TARGETS = [
    "user_code:f",
    "user_code:f.g.h",
    "user_code:__name__",
    "user_code:__builtins__",
    "user_code:",
    ":f",
    "user_code",
    "user_code:f:g",
    "user_code.f:f",
    ".user_code:f",
    "..:f",
    "os:system.x",
    "日本:f",
    "user code:f",
    "user_code:f g",
    "user_code:日本",
    "sys:exit",
    "builtins:exit",
    "os:abort.x",
    "user_code:f()",
    "a" * 300 + ":f",
    "user_code:" + "f." * 99,
    "~/x:f",
    "/tmp/x.py:f",
    "user_code.py:f",
]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"d_in": 3},
    {"hookpoint": None},
    {"what": 1},
    {"function": 1},
    {"self": 1},
    {"cls": 1},
    {"日本": "x"},
    {"a b": []},
    {"x": {"y": [1, None]}},
    {"make": 2},
    {"": 1},
    {"args": [1]},
    {"label": "x"},
]


@seeded(500)
@given(st.sampled_from(SOURCES), st.sampled_from(TARGETS) | st.just(TARGETS[0]), st.sampled_from(OPTIONS))
def test_sources(source, name, options):
    for module in [module for module in sys.modules if module.startswith("user_code")]:
        del sys.modules[module]
    Path("user_code.py").write_text(source)
    from saescope.config import target as importing

    importing._imported.clear()
    importing.importlib.invalidate_caches()

    def whole() -> Sae:
        return measured(PythonSae(target=name, options=options))

    attempt("sae=python modules", whole)


def test_options_reach_the_function_whatever_their_names():
    got: dict[str, Any] = {}

    def make(**options: Any) -> Any:
        got.update(options)
        return target("dense", "decodes", "none", 0, False)()

    HERE.Given = make
    names = {"what": 1, "function": 2, "self": 3, "make": 4}
    measured(PythonSae(target=f"{__name__}:Given", options=names))
    assert got == names


def test_refusals_name_the_target():
    HERE.Given = raises(KeyError("x"))
    with pytest.raises(SaescopeError, match=r"sae\.target=.*:Given"):
        measured(PythonSae(target=f"{__name__}:Given"))
