"""SAE folders of any content: an SAE whose codes are finite, or one line."""

import json
import shutil
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from saescope.config import HubSae
from saescope.sae import load
from saescope.sae.base import Sae
from tests.campaigns.outcome import attempt, seeded

HEADERS = [
    b"", b"\0" * 7, struct.pack("<Q", 2**63), struct.pack("<Q", 10**9) + b"{}", struct.pack("<Q", 2) + b"{}",
    struct.pack("<Q", 2) + b"[]", struct.pack("<Q", 5000) + b"[" * 5000, b"PK\x03\x04" + b"\0" * 99,
    b"\x80\x02}q\x00.",
]  # fmt: skip
"""Not safetensors, or a header that claims more than is there; the last two are a zip and a pickle."""


def claiming(shape: list[int], dtype: str = "F32") -> bytes:
    """A header that claims a tensor of this shape, without data."""
    names = ("encoder.weight", "encoder.bias", "W_dec", "b_dec")
    header = json.dumps(
        {name: {"dtype": dtype, "shape": shape, "data_offsets": [0, 0]} for name in names}
    ).encode()
    return struct.pack("<Q", len(header)) + header


def read(folder: Path) -> Sae:
    sae = load(
        HubSae(repo=str(folder)),
        d_in=32, hookpoint="layers.2", model_sae_repo=None, model_name="m", dtype=torch.float32,
    )  # fmt: skip
    x = torch.randn(5, 32)
    codes = sae.encode(x)
    assert torch.isfinite(codes.acts).all()
    assert torch.isfinite(sae.reconstruct(x, codes)).all()
    assert int(codes.sizes_N.max()) <= (sae.k or 0)
    return sae


@pytest.fixture
def fresh(sae_folder):
    """Makes a folder with a sound SAE in it, the same place for every input."""
    place = Path.cwd() / "saes" / "layers.2"

    def make() -> Path:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(sae_folder / "layers.2", place)
        return place

    return make


values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-3, 300), st.floats(), st.text(max_size=8),
    st.lists(st.integers(), max_size=2), st.sampled_from(["topk", "groupmax", "none", 10**30, -1, 0]),
)  # fmt: skip
cfg_keys = st.sampled_from([
    "d_in", "k", "num_latents", "expansion_factor", "activation", "multi_topk", "normalize_decoder",
    "transcode", "skip_connection", "signed", "jumprelu", "normalize_activations", "unheard_of",
])  # fmt: skip


@seeded(300)
@given(st.dictionaries(cfg_keys, values, min_size=1, max_size=3), st.sets(cfg_keys, max_size=1))
def test_cfg_values(fresh, changed, removed):
    folder = fresh()
    cfg = {"d_in": 32, "k": 8, "num_latents": 0, "expansion_factor": 8, "activation": "topk"}
    cfg = {key: value for key, value in (cfg | changed).items() if key not in removed}
    (folder / "cfg.json").write_text(json.dumps(cfg))
    attempt("SAE cfg.json values", lambda: read(folder.parent))


@seeded(100)
@given(st.one_of(
    st.binary(max_size=60),
    st.text(max_size=40).map(str.encode),
    st.sampled_from([b"", b"null", b"3", b"[]", b'"x"', b"{"]),
    st.sampled_from([b"[" * 5000, b"{" * 5000, b"9" * 5000, b" " * 2**21]),
))  # fmt: skip
def test_cfg_bytes(fresh, data):
    folder = fresh()
    (folder / "cfg.json").write_bytes(data)
    assert isinstance(attempt("SAE cfg.json bytes", lambda: read(folder.parent)), str)


@seeded(150)
@given(
    st.sampled_from(["encoder.weight", "encoder.bias", "W_dec", "b_dec", "extra"]),
    st.sampled_from(
        ["drop", "nan", "inf", "transpose", "flat", "cut", "empty", "scalar", "int", "half", "bf16", "f64"]
    ),
    st.integers(0, 31),
)
def test_tensors(fresh, name, how, at):
    folder = fresh()
    path = folder / "sae.safetensors"
    weights = load_file(path)
    tensor = weights.pop(name, torch.zeros(3)).clone()
    if how in ("nan", "inf"):
        tensor.view(-1)[at % tensor.numel()] = float(how)
    changed = {
        "drop": None, "transpose": tensor.mT.contiguous() if tensor.ndim == 2 else tensor[None],
        "flat": tensor.reshape(-1), "cut": tensor[:-1].clone(), "empty": torch.zeros(0),
        "scalar": torch.tensor(1.0),
        "int": tensor.int(), "half": tensor.half(), "bf16": tensor.bfloat16(), "f64": tensor.double() * 1e300,
    }.get(how, tensor)  # fmt: skip
    if changed is not None:
        weights[name] = changed
    save_file(weights, path)
    found = attempt("SAE tensors", lambda: read(folder.parent))
    if how in ("half", "bf16") and name != "extra":
        assert isinstance(found, Sae)
    elif not (how == "flat" and name in ("encoder.bias", "b_dec")) and (how, name) != ("drop", "extra"):
        assert isinstance(found, str), f"{how} {name} was accepted"


@seeded(150)
@given(st.data())
def test_damaged_files(fresh, data):
    folder = fresh()
    path = folder / "sae.safetensors"
    whole = path.read_bytes()
    shapes = st.sampled_from([[256, 32], [2**62], [2**40, 2**40], [-1, 3], [0], []])
    path.write_bytes(
        data.draw(
            st.one_of(
                st.sampled_from(HEADERS),
                st.binary(max_size=80),
                st.builds(claiming, shapes, st.sampled_from(["F32", "F8_E4M3", "X", "C64", "BOOL"])),
                st.integers(0, len(whole) - 1).map(lambda n: whole[:n]),
                st.tuples(st.integers(0, 600), st.integers(0, 255)).map(
                    lambda at: whole[: at[0]] + bytes([at[1]]) + whole[at[0] + 1 :]
                ),
            )
        )
    )
    attempt("damaged SAE files", lambda: read(folder.parent))
