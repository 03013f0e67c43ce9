"""Model folders, tokenizers and modules that are not as expected."""

import copy
import dataclasses
import json
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from saescope.config import AppConfig, HookpointConfig, ModelConfig, ProbesConfig
from saescope.config.compose import compose
from saescope.jobs.pipeline import prepare
from saescope.model.capture import Capture
from saescope.model.hookpoints import resolve
from saescope.model.load import LanguageModel, load_model, load_skeleton, quiet_transformers
from saescope.text.windows import Windows, tokenize_probes
from tests.campaigns.outcome import attempt, seeded
from tests.model.architectures import ARCHITECTURES, EXPERTS

quiet_transformers()


def copied(model_folder: Path) -> Path:
    place = Path(tempfile.mkdtemp(dir=Path.cwd())) / "model"
    shutil.copytree(model_folder, place)
    return place


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.floats(),
    st.text(max_size=6),
    st.lists(st.integers(), max_size=2),
    st.sampled_from([0, -1, "gpt2", "bert", "nope", 3.5]),
)
config_keys = st.sampled_from(
    [
        "model_type",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "vocab_size",
        "max_position_embeddings",
        "hidden_act",
        "architectures",
        "dtype",
        "layer_norm_eps",
        "rotary_pct",
        "auto_map",
    ]
)


@seeded(80)
@given(st.dictionaries(config_keys, values, min_size=1, max_size=2))
def test_configs(model_folder, changed):
    folder = copied(model_folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changed))

    def start():
        skeleton = load_skeleton(ModelConfig(str(folder)))
        return resolve(HookpointConfig("resid", layer=0), skeleton)

    attempt("model configs", start)
    shutil.rmtree(folder)


COMPOSITE_OR_EXPERTS = {
    architecture.name: architecture
    for architecture in ARCHITECTURES
    if "vision" in architecture.note or EXPERTS.keys() & architecture.changed.keys()
}
counts = st.one_of(values, st.integers(-1, 9), st.sampled_from(["4", [4, 4], {"a": 1}, 1e9]))


@pytest.fixture(scope="module")
def configs() -> dict[str, dict]:
    """Configs of the architectures above, as their `config.json` has them."""
    configs = {name: architecture.config() for name, architecture in COMPOSITE_OR_EXPERTS.items()}
    for config in configs.values():
        config.get_text_config().vocab_size = 400
    return {name: json.loads(config.to_json_string(use_diff=False)) for name, config in configs.items()}


@pytest.fixture(scope="module")
def job(probes) -> AppConfig:
    return compose(
        "model=local", "model.name=x", "sae=neurons", "sae.k=4", "probes=folder", f"probes.path={probes}",
        "probes.ctx_len=32", "probes.max_tokens_per_task=200",
    )  # fmt: skip


@seeded(200)
@given(st.sampled_from(sorted(COMPOSITE_OR_EXPERTS)), st.data())
def test_composite_and_expert_configs(configs, job, tokenizer_folder, name, data):
    config = copy.deepcopy(configs[name])
    parts = [config, *(value for value in config.values() if isinstance(value, dict) and value)]
    for _ in range(data.draw(st.integers(1, 2))):
        part = data.draw(st.sampled_from(parts))
        key = data.draw(st.sampled_from(sorted(part)))
        if data.draw(st.booleans()) and isinstance(part[key], int):
            part[key] = data.draw(st.integers(-1, 9))
        elif data.draw(st.booleans()):
            part[key] = data.draw(counts)
        else:
            del part[key]
    folder = Path(tempfile.mkdtemp(dir=Path.cwd())) / "model"
    shutil.copytree(tokenizer_folder, folder)
    (folder / "config.json").write_text(json.dumps(config))
    kind = data.draw(st.sampled_from(["resid", "resid", "mlp", "attention"]))
    place = HookpointConfig(kind, layer=data.draw(st.integers(0, 2)))
    changed = dataclasses.replace(job, model=ModelConfig(str(folder)), hookpoint=place)
    attempt("composite and mixture-of-experts configs", lambda: prepare(changed))
    shutil.rmtree(folder.parent)


@seeded(40)
@given(
    st.sampled_from(["config.json", "tokenizer.json", "model.safetensors", "tokenizer_config.json"]),
    st.data(),
)
def test_damaged_files(model_folder, file, data):
    folder = copied(model_folder)
    whole = (folder / file).read_bytes()
    cut = st.integers(0, len(whole) - 2).map(lambda n: whole[:n])
    (folder / file).write_bytes(
        data.draw(st.one_of(cut, st.binary(max_size=30), st.just(b"[]"), st.just(b"{}")))
    )

    def start():
        load_skeleton(ModelConfig(str(folder)))
        return load_model(ModelConfig(str(folder)), torch.float32, 0)

    attempt("damaged model files", start)
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    "name", ["gpt_neox.layers.1.mlp.dense_h_to_4h.weight", "embed_out.weight", "lm_head.weight"]
)
def test_missing_weights(model_folder, name):
    folder = copied(model_folder)
    weights = load_file(folder / "model.safetensors")
    if weights.pop(name, None) is not None:
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        said = attempt("missing weights", lambda: load_model(ModelConfig(str(folder)), torch.float32, 0))
        assert isinstance(said, str)
        assert "lack" in said


TOKENIZERS = {
    "without eos": ["eos_token"],
    "without bos": ["bos_token"],
    "without any": ["eos_token", "bos_token", "unk_token"],
}


@pytest.mark.parametrize("lacking", TOKENIZERS.values(), ids=TOKENIZERS.keys())
@pytest.mark.parametrize("prepend_bos", [None, True, False])
def test_tokenizers(tokenizer_folder, probes, lacking, prepend_bos):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    for name in lacking:
        setattr(tokenizer, name, None)
    cfg = ProbesConfig("folder", path=str(probes), ctx_len=32, prepend_bos=prepend_bos)
    found = attempt("tokenizers", lambda: tokenize_probes(cfg, tokenizer))
    assert isinstance(found, str) == (prepend_bos is True and "bos_token" in lacking)
    if isinstance(found, Windows):
        assert found.pad_id >= 0


class Returns(nn.Module):
    """Gives whatever `make` makes of its input."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, hidden_states, *args, **kwargs):
        return self.make(hidden_states)


OUTPUTS = {
    "tensor": lambda x: x,
    "tuple": lambda x: (x, None),
    "list": lambda x: [x],
    "empty tuple": lambda x: (),
    "none": lambda x: None,
    "dict": lambda x: {"hidden_states": x},
    "tuple of none": lambda x: (None, x),
    "nested": lambda x: ((x,),),
    "rank 2": lambda x: x[0],
    "rank 4": lambda x: x[None],
    "scalar": lambda x: x.sum(),
    "integers": lambda x: x.long(),
    "complex": lambda x: x.to(torch.complex64),
    "flattened": lambda x: x.flatten(0, 1),
    "transposed": lambda x: x.transpose(0, 1),
    "no width": lambda x: x[..., :0],
    "string": lambda x: "x",
    "half": lambda x: x.half(),
}
FINE = {"tensor", "tuple", "list", "half", "rank 2", "flattened"}


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("kind", ["mlp", "attention", "resid"])
def test_hookpoint_outputs(model_folder, name, kind):
    lm: LanguageModel = load_model(ModelConfig(str(model_folder)), torch.float32, 0)
    hookpoint = resolve(HookpointConfig(kind, layer=1), lm.model)
    parent, _, last = hookpoint.name.rpartition(".")
    setattr(lm.model.base_model.get_submodule(parent), last, Returns(OUTPUTS[name]))
    found = attempt("hookpoint outputs", lambda: Capture(lm.model, hookpoint).width())
    assert (found == 32) if name in FINE else isinstance(found, str)
