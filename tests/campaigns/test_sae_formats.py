"""SAE files of every format, other than they should be: an SAE whose codes are finite, or one line."""

import json
import pickle
import shutil
import struct
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from saescope.config import HookpointConfig, HubSae, SaeLensSae
from saescope.errors import SaeError
from saescope.model.hookpoints import resolve
from saescope.sae import check, load
from saescope.sae.base import Sae
from tests.campaigns.damage import Trace
from tests.campaigns.outcome import attempt, seeded
from tests.sae.formats.test_formats import FAMILIES, MODELS, D
from tests.sae.saelens.make import D_IN, make

LENS = ["standard", "gated", "jumprelu", "topk", "matching_pursuit", "jumprelu_transcoder"]
SOURCES = [*FAMILIES, *(f"SAELens {architecture}" for architecture in LENS)]


@cache
def place(model: str, hookpoint: str) -> tuple[Any, Any]:
    """A model without weights, and the hookpoint in it."""
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(AutoConfig.for_model(**MODELS[model]))
    return skeleton, resolve(HookpointConfig("custom", name=hookpoint), skeleton)


def read(source: str, folder: Path, **settings: Any) -> Sae:
    """The SAE as a job loads it, and its codes."""
    if source.startswith("SAELens"):
        transcodes = "transcoder" in source
        skeleton, at = place("neox", "blocks.2.hook_mlp_out" if transcodes else "layers.2")
        cfg: Any = SaeLensSae(release=str(folder), **settings)
        width = D_IN
    else:
        skeleton, at = place(FAMILIES[source].model, FAMILIES[source].hookpoint)
        cfg = HubSae(repo=str(folder), **settings)
        width = FAMILIES[source].d_in
    where = {"hookpoint": at.label, "model_sae_repo": None, "model_name": "m", "at": at, "model": skeleton}
    check(cfg, **where)
    sae = load(cfg, d_in=width, dtype=torch.float32, **where)
    x = torch.randn(5, sae.d_in)
    codes = sae.encode(x)
    assert ((codes.latents >= 0) & (codes.latents < sae.num_latents)).all()
    rebuilt = sae.reconstruct(x, codes)
    assert rebuilt.shape == (5, width)
    if not (torch.isfinite(codes.acts).all() and torch.isfinite(rebuilt).all()):
        raise SaeError("a job says this of codes that overflow")  # tests/extraction/test_nonfinite.py
    json.dumps(sae.provenance(), allow_nan=False)
    assert all(notice.isprintable() for notice in sae.warnings)
    return sae


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> dict[str, Path]:
    """A sound folder of every format, named as it is on the Hub."""
    folders = {}
    for source in SOURCES:
        root = tmp_path_factory.mktemp("sae")
        if source.startswith("SAELens"):
            folder = root / "s"
            metadata = {"hook_name": "blocks.2.hook_resid_post", "prepend_bos": False}
            if "transcoder" in source:
                metadata |= {"hook_name": "blocks.2.hook_mlp_in", "hook_name_out": "blocks.2.hook_mlp_out"}
                extra = {"d_out": D_IN, "apply_b_dec_to_input": False}
            else:
                extra = {"topk": {"k": 6}}.get(source.split()[1], {})
            make(source.split()[1], metadata=metadata, **extra).save_model(folder)
        else:
            folder = root / FAMILIES[source].repo
            folder.mkdir(parents=True)
            FAMILIES[source].write(folder)
        folders[source] = folder
    return folders


@pytest.fixture
def fresh(originals):
    """Makes a copy of a format's folder, always in the same place."""

    def copy(source: str) -> Path:
        shutil.rmtree("saes", ignore_errors=True)
        repo = "s" if source.startswith("SAELens") else FAMILIES[source].repo
        return Path(shutil.copytree(originals[source], Path.cwd() / "saes" / repo))

    return copy


def test_all_are_read_as_they_are(fresh):
    for source in SOURCES:
        assert isinstance(
            attempt("SAE formats, sound", lambda source=source: read(source, fresh(source))), Sae
        ), source


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 200),
    st.floats(),
    st.text(max_size=12),
    st.lists(st.one_of(st.integers(-1, 5), st.text(max_size=3), st.none()), max_size=3),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
    st.sampled_from(
        [
            10**30,
            10**400,
            0,
            1,
            3,
            6,
            D,
            "relu",
            "topk",
            "jumprelu",
            "BatchTopKSAE",
            "GatedAutoEncoder",
            "AutoEncoder",
            "layers.2",
            "blocks.9.hook_resid_post",
            "hook_resid_post",
            "model.layers.1.output",
            "\ud800",
            "\x1b[31m",
            "日本",
            "none",
            "layer_norm",
            "expected_average_only_in",
            "covariance_whitening",
            "float16",
            "nope",
        ]
    ),
)


def other(content: Any, draw: Any) -> Any:
    """The config with one value replaced or left out, at any depth."""
    if not isinstance(content, dict) or not content or not draw(st.integers(0, 15)):
        return draw(values)
    key = draw(st.sampled_from(sorted(content)))
    if isinstance(content[key], dict) and draw(st.integers(0, 3)):
        return content | {key: other(content[key], draw)}
    if not draw(st.integers(0, 3)):
        return {name: value for name, value in content.items() if name != key}
    return content | {key: draw(values)}


@seeded(900)
@given(st.data(), st.sampled_from(SOURCES))
def test_config_values(fresh, data, source):
    folder = fresh(source)
    configs = sorted([*folder.glob("c*.json"), *folder.glob("*.yaml")])
    if not configs:  # its names are its config
        at = data.draw(
            st.sampled_from(["layer_9", "layer_", "width", "日本", "gemma-scope-2b-pt-nope", "embedding"])
        )
        folder = folder.rename(folder.parent / at)
    for config in configs[:1]:
        yaml_file = config.suffix == ".yaml"
        content = yaml.safe_load(config.read_text()) if yaml_file else json.loads(config.read_text())
        for _ in range(data.draw(st.integers(1, 2))):
            content = other(content, data.draw)
        text = yaml.safe_dump(content) if yaml_file else json.dumps(content)
        config.write_bytes(text.encode("utf-8", "surrogatepass"))
    attempt("SAE formats, config values", lambda: read(source, folder))


BYTES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            b"",
            b"null",
            b"3",
            b"[]",
            b"{}",
            b'"x"',
            b"{",
            b"[" * 5000,
            b'{"a":' * 5000,
            b"9" * 5000,
            b" " * 2**21,
            b"\xff\xfe{}",
            b"a: &a [*a]",
            b"!!python/object/apply:os.system [exit]",
            b"- " * 5000,
            b"? " * 3000,
            b"\x80\x02}q\x00.",
            b"PK\x03\x04" + b"\0" * 99,
            struct.pack("<Q", 2**63),
            struct.pack("<Q", 5000) + b"[" * 5000,
            b"\x93NUMPY\x01\x00",
            pickle.dumps({"a": 1}),
            pickle.dumps([Path("x")]),
        ]
    ),
)


@seeded(500)
@given(st.data(), st.sampled_from(SOURCES), BYTES)
def test_bytes(fresh, data, source, content):
    folder = fresh(source)
    file = data.draw(st.sampled_from(sorted(folder.iterdir())))
    file.write_bytes(content)
    attempt("SAE formats, bytes", lambda: read(source, folder))


@seeded(700)
@given(st.data(), st.sampled_from(SOURCES))
def test_damaged_files(fresh, data, source):
    folder = fresh(source)
    file = data.draw(st.sampled_from(sorted(folder.iterdir())))
    whole = file.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1) | st.integers(0, min(400, len(whole) - 1)))
    how = data.draw(
        st.sampled_from(["cut", "flip", "flip", "gone", "folder", "link", "pickle", "zipped pickle"])
    )
    trace = Path.cwd() / "trace"
    if how == "cut":
        file.write_bytes(whole[:at])
    elif how == "flip":
        file.write_bytes(whole[:at] + bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 :])
    else:
        file.unlink()
        if how == "folder":
            file.mkdir()
        elif how == "link":
            file.symlink_to(
                data.draw(st.sampled_from([file, Path("nowhere"), file.parent.parent, Path("/dev/null")]))
            )
        elif how == "pickle":
            file.write_bytes(pickle.dumps({"encoder.weight": Trace(trace)}))
        elif how == "zipped pickle":
            with zipfile.ZipFile(file, "w") as packed:
                packed.writestr("archive/data.pkl", pickle.dumps(Trace(trace)))
                packed.writestr("archive/version", "3")
    attempt("SAE formats, damaged files", lambda: read(source, folder))
    assert not trace.exists(), "a pickle was read with its code"


HOW = [
    "drop",
    "nan",
    "inf",
    "transpose",
    "flat",
    "cut",
    "empty",
    "scalar",
    "int",
    "half",
    "bf16",
    "f64",
    "more axes",
    "bool",
    "complex",
    "no rows",
    "no columns",
    "object",
]


def changed(tensor: torch.Tensor, how: str) -> Any:
    matrix = tensor if tensor.ndim == 2 else tensor.reshape(1, -1)
    return {
        "drop": lambda: None,
        "nan": lambda: tensor * float("nan"),
        "inf": lambda: tensor / 0.0,
        "transpose": lambda: matrix.mT.contiguous(),
        "flat": lambda: tensor.reshape(-1),
        "cut": lambda: tensor[:-1].clone() if tensor.ndim else tensor,
        "empty": lambda: torch.zeros(0),
        "scalar": lambda: torch.tensor(1.0),
        "int": lambda: tensor.int(),
        "half": lambda: tensor.half(),
        "bf16": lambda: tensor.bfloat16(),
        "f64": lambda: tensor.double() * 1e300,
        "more axes": lambda: tensor[None, None].clone(),
        "bool": lambda: tensor > 0,
        "complex": lambda: tensor.to(torch.complex64),
        "no rows": lambda: matrix[:0].clone(),
        "no columns": lambda: matrix[:, :0].clone(),
        "object": lambda: "日本",
    }[how]()


@seeded(900)
@given(st.data(), st.sampled_from(SOURCES), st.sampled_from(HOW))
def test_tensors(fresh, data, source, how):
    folder = fresh(source)
    weights = [file for file in sorted(folder.iterdir()) if file.suffix in (".pt", ".npz", ".safetensors")]
    numbered = [
        file for file in weights if file.stem in ("1", "layer_1")
    ]  # of another layer than the hookpoint
    file = data.draw(st.sampled_from([file for file in weights if file not in numbered]))
    if file.suffix == ".pt":
        stored = torch.load(file, weights_only=True)
    elif file.suffix == ".npz":
        with np.load(file) as arrays:
            stored = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    else:
        stored = load_file(file)
    name = data.draw(st.sampled_from(sorted(stored)))
    value = stored[name]
    if isinstance(value, torch.Tensor):
        new = changed(value.float() if value.dtype.is_floating_point else value, how)
    else:  # OpenAI's activation and its state
        new = data.draw(values)
    if new is None:
        del stored[name]
    else:
        stored[name] = new
    if file.suffix == ".pt":
        torch.save(stored, file)
    elif file.suffix == ".npz":
        np.savez(file, **{key: as_numpy(tensor) for key, tensor in stored.items()})
    else:
        save_file({key: t.contiguous() for key, t in stored.items() if isinstance(t, torch.Tensor)}, file)
    sae = attempt("SAE formats, tensors", lambda: read(source, folder))
    if how in ("nan", "inf") and name in (
        "W_enc",
        "W_dec",
        "encoder.weight",
        "decoder.weight",
        "b_enc",
        "w_enc",
    ):
        assert isinstance(sae, str), f"{how} in {name} was accepted"


def as_numpy(value: Any) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        return (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    return np.array(value)


@seeded(300)
@given(
    st.sampled_from(SOURCES),
    st.fixed_dictionaries(
        {},
        optional={
            "k": st.sampled_from([1, 6, 7, 96, 97, 2**53]),
            "num_latents": st.sampled_from([1, 96, 97, 2**53]),
            "expansion_factor": st.sampled_from([1, 3, 4, 2**53]),
        },
    ),
)
def test_what_the_job_asks_of_it(fresh, source, settings):
    sae = attempt("SAE formats, settings", lambda: read(source, fresh(source), **settings))
    if isinstance(sae, Sae):
        assert sae.num_latents == settings.get("num_latents", 96)
        assert "k" not in settings or sae.k == settings["k"]
