"""Every family of SAE files × {folder, Hub}, random weights in the layout of the real repositories.

Codes and reconstructions equal the formulas of the publications, written out here in plain torch.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from saescope.config import HookpointConfig, HubSae
from saescope.errors import SaeError
from saescope.model.hookpoints import resolve
from saescope.sae import check, load
from tests.support.hub import serve

D, F, K, LAYERS = 32, 96, 6, 4
SIZES = {"vocab_size": 90, "hidden_size": D, "num_hidden_layers": LAYERS, "num_attention_heads": 4}
SIZES |= {"intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 12}
MODELS = {
    "neox": {"model_type": "gpt_neox", **SIZES},
    "gpt2": {"model_type": "gpt2", "vocab_size": 90, "n_embd": D, "n_layer": LAYERS, "n_head": 4},
    "gemma2": {"model_type": "gemma2", **SIZES},
    "gemma3": {"model_type": "gemma3_text", **SIZES},
    "qwen3": {"model_type": "qwen3", **SIZES},
}
Pair = tuple[torch.Tensor, torch.Tensor]


def loaded(repo: str, model: str, hookpoint: str, d_in: int = D, **values):
    """The SAE as a job loads it, on a model without weights."""
    cfg = AutoConfig.for_model(**MODELS[model])
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(cfg)
    at = resolve(HookpointConfig("custom", name=hookpoint), skeleton)
    where = {"hookpoint": at.label, "model_sae_repo": None, "model_name": "m", "at": at, "model": skeleton}
    check(HubSae(repo=repo, **values), **where)
    return load(HubSae(repo=repo, **values), d_in=d_in, dtype=torch.float32, **where)


def weights(seed: int, **shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    noise = torch.Generator().manual_seed(seed)
    made = {name: torch.randn(shape, generator=noise) * 0.3 for name, shape in shapes.items()}
    return {name: w.abs() if "threshold" in name else w for name, w in made.items()}


def ln(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`LN` of openai/sparse_autoencoder model.py; `standardize` of mlsae is the same."""
    mu = x.mean(-1, keepdim=True)
    std = (x - mu).std(-1, keepdim=True)
    return (x - mu) / (std + 1e-5), mu, std


def topk(pre: torch.Tensor, k: int = K) -> torch.Tensor:
    """The k largest, then ReLU (Gao et al. 2024, arXiv 2406.04093, equation 3)."""
    best = pre.topk(k, dim=-1)
    return torch.zeros_like(pre).scatter_(-1, best.indices, torch.relu(best.values))


def jumprelu(pre: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    """z · H(z − θ), Rajamanoharan et al. 2024, arXiv 2407.14435, equation 2."""
    return torch.relu(pre) * (pre > threshold)


def rms(x: torch.Tensor, eps: float = 1e-6) -> torch.Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt()


@dataclass(frozen=True)
class Family:
    """One family: where its SAE lies in a repository, and what it computes."""

    repo: str
    """`owner/name/folder`."""
    hookpoint: str
    write: Callable[[Path], Callable[[torch.Tensor], Pair]]
    """Writes the files into a folder; returns the formula."""
    model: str = "neox"
    d_in: int = D
    reads: int = D
    k: int | None = None


def dictionary(dict_class: str, **trainer):
    """dictionary_learning/dictionary.py and its trainers; `config.json` as training.py writes it."""

    def write(folder: Path):
        linear = {"encoder.weight": (F, D), "decoder.weight": (D, F)}
        plain = {"W_enc": (D, F), "W_dec": (F, D), "b_enc": (F,), "b_dec": (D,)}
        gated = {"decoder_bias": (D,), "r_mag": (F,), "gate_bias": (F,), "mag_bias": (F,)}
        shapes = {
            "AutoEncoder": linear | {"encoder.bias": (F,), "bias": (D,)},
            "AutoEncoderNew": linear | {"encoder.bias": (F,), "decoder.bias": (D,)},
            "GatedAutoEncoder": linear | gated,
            "AutoEncoderTopK": linear | {"encoder.bias": (F,), "b_dec": (D,)},
            "BatchTopKSAE": linear | {"encoder.bias": (F,), "b_dec": (D,)},
            "MatryoshkaBatchTopKSAE": plain,
            "JumpReluAutoEncoder": plain | {"threshold": (F,)},
        }[dict_class]
        w = weights(1, **shapes)
        if "TopK" in dict_class:
            w |= {"k": torch.tensor(K, dtype=torch.int), "threshold": torch.tensor(0.4)}
        if dict_class.startswith("Matryoshka"):
            w["group_sizes"] = torch.tensor([F // 3, F // 3, F // 3])
        torch.save(w, folder / "ae.pt")
        described = {
            "dict_class": dict_class, "activation_dim": D, "dict_size": F, "layer": 2, "k": K,
            "lm_name": "EleutherAI/pythia-70m-deduped", "submodule_name": "resid_post_layer_2", **trainer,
        }  # fmt: skip
        (folder / "config.json").write_text(json.dumps({"trainer": described, "buffer": {"ctx_len": 128}}))

        def formula(x: torch.Tensor) -> Pair:
            if dict_class == "AutoEncoder":
                acts = torch.relu((x - w["bias"]) @ w["encoder.weight"].T + w["encoder.bias"])
                return acts, acts @ w["decoder.weight"].T + w["bias"]
            if dict_class == "AutoEncoderNew":
                acts = torch.relu(x @ w["encoder.weight"].T + w["encoder.bias"])
                return acts, acts @ w["decoder.weight"].T + w["decoder.bias"]
            if dict_class == "GatedAutoEncoder":
                pre = (x - w["decoder_bias"]) @ w["encoder.weight"].T
                acts = (pre + w["gate_bias"] > 0) * torch.relu(w["r_mag"].exp() * pre + w["mag_bias"])
                return acts, acts @ w["decoder.weight"].T + w["decoder_bias"]
            if "encoder.weight" in w:
                pre = (x - w["b_dec"]) @ w["encoder.weight"].T + w["encoder.bias"]
                decoder = w["decoder.weight"].T
            else:
                pre = (x if dict_class.startswith("Jump") else x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
                decoder = w["W_dec"]
            acts = topk(pre) if dict_class == "AutoEncoderTopK" else jumprelu(pre, w["threshold"])
            return acts, acts @ decoder + w["b_dec"]

        return formula

    return write


def mlsae(tfm: bool = False, **cfg):
    """tim-lawson/mlsae, mlsae/model/autoencoder.py; with `tfm` the language model's weights are there too."""

    def write(folder: Path):
        w = weights(2, **{"encoder.weight": (F, D), "decoder.weight": (D, F), "pre_encoder_bias": (D,)})
        stored = {f"autoencoder.{name}" if tfm else name: tensor for name, tensor in w.items()}
        stored["last_nonzero"] = torch.zeros(F, dtype=torch.long)
        if tfm:
            stored["transformer.model.gpt_neox.embed_in.weight"] = torch.zeros(90, D)
        described = {"n_inputs": D, "n_latents": F, "dead_steps_threshold": 10, "auxk": 256}
        if tfm:
            described = {"model_name": "EleutherAI/pythia-70m-deduped", "expansion_factor": 3, "layers": None}
        save_file(
            {name: tensor.contiguous() for name, tensor in stored.items()}, folder / "model.safetensors"
        )
        (folder / "config.json").write_text(json.dumps({**described, "k": K, "standardize": True, **cfg}))

        def formula(x: torch.Tensor) -> Pair:
            n, mu, std = ln(x) if cfg.get("standardize", True) else (x, 0.0, 1.0)
            acts = topk((n - w["pre_encoder_bias"]) @ w["encoder.weight"].T)
            return acts, (acts @ w["decoder.weight"].T + w["pre_encoder_bias"]) * std + mu

        return formula

    return write


def gemma_scope(width: int = D, before=lambda x: x, scale: float = 1.0):
    """The notebook of arXiv 2408.05147: mask = pre > threshold, acts = mask · ReLU(pre)."""

    def write(folder: Path):
        w = weights(3, W_enc=(width, F), W_dec=(F, width), b_enc=(F,), b_dec=(width,), threshold=(F,))
        np.savez(folder / "params.npz", **{name: tensor.numpy() for name, tensor in w.items()})

        def formula(x: torch.Tensor) -> Pair:
            acts = jumprelu(before(x) / scale @ w["W_enc"] + w["b_enc"], w["threshold"])
            return acts, (acts @ w["W_dec"] + w["b_dec"]) * scale

        return formula

    return write


def gemma_scope_2(tail_in: str, tail_out: str | None = None, width: int = D, config: bool = True):
    def write(folder: Path):
        shapes = {
            "w_enc": (width, F),
            "w_dec": (F, D if tail_out else width),
            "b_enc": (F,),
            "threshold": (F,),
        }
        shapes["b_dec"] = shapes["w_dec"][1:]
        if tail_out:
            shapes["affine_skip_connection"] = (D, D)
        w = weights(4, **shapes)
        save_file(w, folder / "params.safetensors")
        cfg = {"architecture": "jump_relu", "model_name": "google/gemma-3-270m-pt"}
        cfg["hf_hook_point_in"] = f"model.layers.1.{tail_in}"
        if tail_out:
            cfg |= {"hf_hook_point_out": f"model.layers.1.{tail_out}", "affine_connection": True}
        if config:
            (folder / "config.json").write_text(json.dumps(cfg))

        def formula(x: torch.Tensor) -> Pair:
            acts = jumprelu(x @ w["w_enc"] + w["b_enc"], w["threshold"])
            out = acts @ w["w_dec"] + w["b_dec"]
            return acts, out + x @ w["affine_skip_connection"] if tail_out else out

        return formula

    return write


def openai(activation: str = "TopK", tied: bool = False):
    """openai/sparse_autoencoder model.py: `Autoencoder.state_dict`, which names the activation."""

    def write(folder: Path):
        decoder = {"decoder.linear.weight": (F, D)} if tied else {"decoder.weight": (D, F)}
        for layer in (1, 2):
            w = weights(layer, **{"pre_bias": (D,), "latent_bias": (F,), "encoder.weight": (F, D), **decoder})
            stored = {**w, "stats_last_nonzero": torch.zeros(F, dtype=torch.long), "activation": activation}
            if activation == "TopK":
                stored["activation_state_dict"] = {"k": K, "postact_fn": "ReLU"}
            torch.save(stored, folder / f"{layer}.pt")

        def formula(x: torch.Tensor) -> Pair:
            n, mu, std = ln(x) if activation == "TopK" else (x, 0.0, 1.0)
            pre = (n - w["pre_bias"]) @ w["encoder.weight"].T + w["latent_bias"]
            acts = topk(pre) if activation == "TopK" else torch.relu(pre)
            back = w["decoder.linear.weight"] if tied else w["decoder.weight"].T
            return acts, (acts @ back + w["pre_bias"]) * std + mu

        return formula

    return write


def circuit_tracer(jump: bool = False, skip: bool = False, hook_in: str = "mlp.hook_in"):
    """circuit_tracer/transcoder/single_layer_transcoder.py; the repositories of mwhanna."""

    def write(folder: Path):
        shapes = {"W_enc": (F, D), "W_dec": (F, D), "b_enc": (F,), "b_dec": (D,)}
        shapes |= {"activation_function.threshold": (F,)} if jump else {}
        shapes |= {"W_skip": (D, D)} if skip else {}
        for layer in (1, 2):
            w = weights(10 + layer, **shapes)
            save_file(w, folder / f"layer_{layer}.safetensors")
        lines = ["model_name: Qwen/Qwen3-0.6B", f"feature_input_hook: {hook_in}"]
        (folder / "config.yaml").write_text("\n".join([*lines, "feature_output_hook: hook_mlp_out", ""]))

        def formula(x: torch.Tensor) -> Pair:
            pre = x @ w["W_enc"].T + w["b_enc"]
            acts = jumprelu(pre, w["activation_function.threshold"]) if jump else torch.relu(pre)
            out = acts @ w["W_dec"] + w["b_dec"]
            return acts, out + x @ w["W_skip"].T if skip else out

        return formula

    return write


def clt(folder: Path):
    """A layer of a cross-layer transcoder: its latents, and all its decoders added up (as sae_lens does)."""
    w = weights(20, W_enc_2=(F, D), b_enc_2=(F,), b_dec_2=(D,))
    decoders = weights(21, W_dec_2=(F, 2, D))
    save_file(w, folder / "W_enc_2.safetensors")
    save_file(decoders, folder / "W_dec_2.safetensors")
    (folder / "config.yaml").write_text(
        "model_name: google/gemma-2-2b\nfeature_input_hook: hook_resid_mid\n"
        "feature_output_hook: hook_mlp_out\n"
    )

    def formula(x: torch.Tensor) -> Pair:
        acts = torch.relu(x @ w["W_enc_2"].T + w["b_enc_2"])
        return acts, acts @ decoders["W_dec_2"].sum(1) + w["b_dec_2"]

    return formula


BENCH = "adamkarvonen/saebench/run/resid_post_layer_2"
SCOPE2 = "google/gemma-scope-2-270m-pt"
PRE, POST = "pre_feedforward_layernorm.output", "post_feedforward_layernorm.output"
FAMILIES = {
    "dl standard": Family(f"{BENCH}/trainer_0", "layers.2", dictionary("AutoEncoder")),
    "dl p-anneal": Family(
        f"{BENCH}/trainer_1", "layers.2", dictionary("AutoEncoder", trainer_class="PAnnealTrainer")
    ),
    "dl april update": Family(f"{BENCH}/trainer_2", "layers.2", dictionary("AutoEncoderNew")),
    "dl gated": Family(f"{BENCH}/trainer_3", "layers.2", dictionary("GatedAutoEncoder")),
    "dl topk": Family(f"{BENCH}/trainer_4", "layers.2", dictionary("AutoEncoderTopK"), k=K),
    "dl batch topk": Family(f"{BENCH}/trainer_5", "layers.2", dictionary("BatchTopKSAE")),
    "dl matryoshka": Family(f"{BENCH}/trainer_6", "layers.2", dictionary("MatryoshkaBatchTopKSAE")),
    "dl jumprelu": Family(f"{BENCH}/trainer_7", "layers.2", dictionary("JumpReluAutoEncoder")),
    "mlsae": Family("tim-lawson/mlsae-pythia-70m-deduped-x64-k32", "layers.1", mlsae(), k=K),
    "mlsae tfm": Family(
        "tim-lawson/mlsae-pythia-70m-deduped-x64-k32-tfm", "blocks.3.hook_resid_post", mlsae(tfm=True), k=K
    ),
    "mlsae plain": Family("tim-lawson/mlsae-plain", "layers.0", mlsae(standardize=False), k=K),
    "gemma scope resid": Family(
        "google/gemma-scope-2b-pt-res/layer_2/width_16k/average_l0_71", "layers.2", gemma_scope(), "gemma2"
    ),
    "gemma scope mlp": Family(
        "google/gemma-scope-2b-pt-mlp/layer_2/width_16k/average_l0_71", "blocks.2.hook_mlp_out",
        gemma_scope(), "gemma2",
    ),
    "gemma scope attention": Family(
        "google/gemma-scope-9b-pt-att/layer_2/width_16k/average_l0_71", "blocks.2.attn.hook_z",
        gemma_scope(48), "gemma2", 48, 48,
    ),
    "gemma scope embedding": Family(
        "google/gemma-scope-2b-pt-res/embedding/width_4k/average_l0_6", "hook_embed",
        gemma_scope(scale=D**0.5), "gemma2",
    ),
    "gemma scope transcoder": Family(
        "google/gemma-scope-2b-pt-transcoders/layer_2/width_16k/average_l0_76", "blocks.2.hook_mlp_out",
        gemma_scope(before=rms), "gemma2",
    ),
    "gemma scope 2 resid": Family(
        f"{SCOPE2}/resid_post/layer_1_width_16k_l0_big", "layers.1", gemma_scope_2("output"), "gemma3"
    ),
    "gemma scope 2 attention": Family(
        f"{SCOPE2}/attn_out/layer_1_width_16k_l0_big", "blocks.1.attn.hook_z",
        gemma_scope_2("self_attn.o_proj.input", width=48), "gemma3", 48, 48,
    ),
    "gemma scope 2 mlp, no config": Family(
        f"{SCOPE2}/mlp_out/layer_1_width_16k_l0_big", "blocks.1.hook_mlp_out",
        gemma_scope_2(POST, config=False), "gemma3",
    ),
    "gemma scope 2 transcoder": Family(
        f"{SCOPE2}/transcoder/layer_1_width_16k_l0_big_affine", "blocks.1.hook_mlp_out",
        gemma_scope_2(PRE, POST), "gemma3",
    ),
    "openai v5": Family(
        "me/openai/resid_post_mlp_v5_32k/autoencoders", "h.2", openai(), "gpt2", k=K
    ),
    "openai v5 mid": Family(
        "me/openai/resid_post_attn_v5_32k/autoencoders", "blocks.2.hook_resid_mid", openai(), "gpt2", k=K
    ),
    "openai v1, tied": Family(
        "me/openai/resid_delta_mlp/autoencoders", "h.2.mlp", openai("ReLU", tied=True), "gpt2"
    ),
    "qwen3 transcoders": Family("mwhanna/qwen3-0.6b", "layers.2.mlp", circuit_tracer(), "qwen3"),
    "jumprelu skip transcoders": Family(
        "mwhanna/skip", "layers.2.mlp", circuit_tracer(jump=True, skip=True), "qwen3"
    ),
    "clt layer": Family("mntss/clt-gemma-2-2b", "blocks.2.hook_mlp_out", clt, "gemma2"),
}  # fmt: skip
TRANSCODERS = ("transcoder", "clt")

SCRIPT = """
import json, sys, torch
from tests.sae.formats.test_formats import computed
print(json.dumps([computed(*request) for request in json.loads(sys.argv[1])]))
"""


def inputs(width: int) -> torch.Tensor:
    return torch.randn(40, width, generator=torch.Generator().manual_seed(5)) * 1.5 + 0.3


def computed(repo: str, name: str) -> dict:
    """Codes and reconstruction of a family's SAE in `repo`, and what is said of it."""
    family = FAMILIES[name]
    sae = loaded(repo, family.model, family.hookpoint, family.d_in)
    x = inputs(family.reads)
    codes = sae.encode(x)
    acts = torch.zeros(len(x), sae.num_latents)
    acts[torch.repeat_interleave(torch.arange(len(x)), codes.sizes_N), codes.latents] = codes.acts
    return {
        "acts": acts.tolist(),
        "out": sae.reconstruct(x, codes).tolist(),
        "warnings": sae.warnings,
        "transcodes": sae.transcodes,
        **sae.provenance(),
    }


def check_family(name: str, answer: dict, formula: Callable[[torch.Tensor], Pair]) -> None:
    family = FAMILIES[name]
    acts, out = formula(inputs(family.reads))
    assert 0 < (acts != 0).float().mean() < 1, "neither dead nor dense: the comparison says something"
    torch.testing.assert_close(torch.tensor(answer["acts"]), acts, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(torch.tensor(answer["out"]), out, atol=5e-6, rtol=1e-6)
    assert (answer["k"], answer["num_latents"], answer["d_in"]) == (family.k, F, family.reads)
    assert answer["transcodes"] is any(word in name for word in TRANSCODERS)
    assert bool(answer["warnings"]) is (name == "clt layer"), answer["warnings"]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_folder(tmp_path, name):
    folder = tmp_path / FAMILIES[name].repo
    folder.mkdir(parents=True)
    formula = FAMILIES[name].write(folder)
    answer = computed(str(folder), name)
    check_family(name, answer, formula)
    assert answer["repo"] == str(folder)


@pytest.mark.slow
def test_the_hub(tmp_path):
    """All of them through the genuine client; only the files of the SAE are downloaded."""
    formulas, repos = {}, {}
    for name, family in FAMILIES.items():
        owner, repository, *inside = family.repo.split("/")
        root = tmp_path / "hub" / owner / repository
        repos[f"{owner}/{repository}"] = root
        folder = root.joinpath(*inside)
        folder.mkdir(parents=True, exist_ok=True)
        formulas[name] = family.write(folder)
        (folder / "feature_stats.json").write_text("{}")
    requests = [(FAMILIES[name].repo, name) for name in FAMILIES]
    with serve(repos) as (endpoint, seen):
        env = {
            "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, json.dumps(requests)],
            env=os.environ | env,
            cwd=Path(__file__).parents[3],
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    for name, answer in zip(FAMILIES, json.loads(done.stdout.splitlines()[-1]), strict=True):
        check_family(name, answer, formulas[name])
    assert {path.rpartition("/")[2] for path in seen.files("me/openai")} == {"2.pt"}
    assert not any("feature_stats" in path for method, path in seen if method == "GET")


@pytest.fixture
def written(tmp_path):
    """Writes a family's files into a folder of this name."""

    def write(name: str, folder: str = "sae") -> Path:
        path = tmp_path / folder
        path.mkdir(parents=True)
        FAMILIES[name].write(path)
        return path

    return write


def refusal(repo, model="neox", hookpoint="layers.2", **values) -> str:
    with pytest.raises(SaeError) as info:
        loaded(str(repo), model, hookpoint, **values)
    assert "\n" not in str(info.value)
    return str(info.value)


@pytest.mark.parametrize("layer", range(LAYERS))
def test_mlsae_is_one_sae_for_the_outputs_of_all_blocks(written, layer):
    folder = written("mlsae")
    assert loaded(str(folder), "neox", f"layers.{layer}").warnings == ()
    for elsewhere in (f"layers.{layer}.mlp", f"layers.{layer}.attention", "embed_in"):
        assert refusal(folder, hookpoint=elsewhere).endswith("use hookpoint=resid")


def test_mlsae_of_one_layer_and_of_a_tuned_lens(written):
    folder = written("mlsae", "sae-pythia-70m-deduped-x64-k32-layers-3")
    assert loaded(str(folder), "neox", "layers.3").num_latents == F
    assert "trained on the outputs of layers 3, but the hookpoint chosen is layers.2" in refusal(folder)
    assert "tuned lens" in refusal(written("mlsae", "mlsae-pythia-70m-deduped-x64-k32-lens"))


@pytest.mark.parametrize(
    ("name", "hookpoint", "advice"),
    [
        ("dl standard", "layers.1", "blocks.2.hook_resid_post"),
        ("gemma scope mlp", "layers.2.mlp", "blocks.2.hook_mlp_out"),
        ("gemma scope resid", "blocks.2.hook_resid_mid", "blocks.2.hook_resid_post"),
        ("gemma scope transcoder", "layers.2.mlp", "blocks.2.hook_mlp_out"),
        ("gemma scope 2 transcoder", "layers.1", "blocks.1.hook_mlp_out"),
        ("openai v5 mid", "h.2", "blocks.2.hook_resid_mid"),
        ("openai v5", "blocks.2.hook_resid_mid", "blocks.2.hook_resid_post"),
        ("qwen3 transcoders", "layers.2", "blocks.2.hook_mlp_out"),
    ],
)
def test_another_hookpoint_names_the_one_to_use(written, name, hookpoint, advice):
    family = FAMILIES[name]
    folder = written(name, family.repo)
    assert refusal(folder, family.model, hookpoint).endswith(f"use hookpoint=custom hookpoint.name={advice}")


def test_a_folder_without_a_telling_name_is_a_warning(written):
    sae = loaded(str(written("gemma scope resid")), "gemma2", "layers.2")
    assert any("does not say which hookpoint" in warning for warning in sae.warnings)


def test_a_single_file(written):
    folder = written("openai v5", "resid_post_mlp_v5_32k/autoencoders")
    assert loaded(str(folder / "2.pt"), "gpt2", "h.2").k == K
    assert "hookpoint.name=blocks.1.hook_resid_post" in refusal(folder / "1.pt", "gpt2", "h.2")
    assert "has no 3.pt for h.3; it has 1.pt, 2.pt" in refusal(folder, "gpt2", "h.3")


def test_another_k_reads_the_same_sae(written):
    sae = loaded(str(written("mlsae")), "neox", "layers.2", k=2)
    assert (sae.k, sae.provenance()["trained_k"]) == (2, K)
    assert sae.encode(inputs(D)).sizes_N.max() == 2


def test_standardised_tokens_are_rebuilt_by_reconstruct_only(written):
    sae = loaded(str(written("mlsae")), "neox", "layers.2")
    with pytest.raises(SaeError, match="use reconstruct"):
        sae.decode(sae.encode(inputs(D)))


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("dl standard", {"k": 5}, ["sae.k=5", "no k", "leave sae.k out"]),
        ("gemma scope resid", {"k": 5}, ["sae.k=5", "jumprelu"]),
        ("openai v1, tied", {"k": 5}, ["sae.k=5", "relu"]),
        ("mlsae", {"num_latents": 5}, ["sae.num_latents=5", f"has {F}"]),
        ("gemma scope resid", {"expansion_factor": 8}, ["sae.expansion_factor=8", "3 × 32"]),
        ("mlsae", {"d_in": 64}, ["reads width 32", "has width 64"]),
        ("gemma scope resid", {"d_in": 64}, ["reads width 32", "has width 64"]),
        ("mlsae", {"k": 1000}, ["choose sae.k from 1 to 96"]),
    ],
)
def test_what_does_not_fit_is_refused(written, name, values, words):
    family = FAMILIES[name]
    message = refusal(written(name), family.model, family.hookpoint, **values)
    for word in words:
        assert word in message


def test_damaged_weights(written):
    for name, file in (
        ("mlsae", "model.safetensors"),
        ("gemma scope resid", "params.npz"),
        ("openai v5", "2.pt"),
    ):
        family = FAMILIES[name]
        path = written(name, name) / file
        path.write_bytes(path.read_bytes()[:200])
        assert "cannot be read" in refusal(path.parent, family.model, family.hookpoint)
    folder = written("gemma scope resid", "nan")
    with np.load(folder / "params.npz") as arrays:
        stored = dict(arrays)
    stored["b_enc"][3] = np.nan
    np.savez(folder / "params.npz", **stored)
    assert "NaN or infinite weights in b_enc" in refusal(folder, "gemma2")
    np.savez(folder / "params.npz", **stored | {"b_enc": stored["b_enc"][:5]})
    assert "b_enc is 5, 96 belongs to an encoder of 96 latents" in refusal(folder, "gemma2")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"ae.pt": b"", "config.json": {"trainer": {"dict_class": "CrossCoder"}}},
         ["dict_class CrossCoder", "a crosscoder codes"]),
        ({"model.safetensors": b"", "config.json": {"model_type": "llama"}}, ["of a language model (llama)"]),
        ({"model.safetensors": b"", "config.json": {"activation_dim": 8, "dict_size": 9, "num_layers": 2}},
         ["of a crosscoder"]),
        ({"cc_weights.pt": b"", "cfg.json": {}}, ["holds a crosscoder", "not supported"]),
        ({"crosscoder/model.bin": b""}, ["holds a crosscoder"]),
        ({"W_enc_0.safetensors": b"", "W_dec_0.safetensors": b""}, ["cross-layer transcoder", "config.yaml"]),
        ({"clt/width_16k/params_layer_0.safetensors": b""}, ["cross-layer transcoder", "not supported"]),
        ({"layer3.sae.pt": b""}, ["Qwen-Scope", "sae=saelens"]),
        ({"x/cfg.json": {}, "x/sae_weights.safetensors": b""}, ["SAELens format", "sae.id=x"]),
        ({"README.md": b"", "notes/a.txt": b""}, [
            "holds no SAE in a known format", "sparsify (cfg.json, sae.safetensors)",
            "dictionary_learning (ae.pt, config.json)", "mlsae (config.json, model.safetensors)",
            "Gemma Scope (params.npz)", "its files: README.md, notes/a.txt",
        ]),
        ({}, ["its files: none"]),
    ],
)  # fmt: skip
def test_what_is_not_read_is_named(tmp_path, files, words):
    (tmp_path / "repo").mkdir()
    for name, content in files.items():
        path = tmp_path / "repo" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    message = refusal(tmp_path / "repo")
    for word in words:
        assert word in message, message


def test_a_repository_of_many_asks_for_the_folder_itself(tmp_path):
    family = FAMILIES["dl standard"]
    folder = tmp_path / "repo" / "resid_post_layer_2" / "trainer_0"
    folder.mkdir(parents=True)
    family.write(folder)
    message = refusal(tmp_path / "repo")
    assert message.endswith(f"such as sae.repo={tmp_path}/repo/resid_post_layer_2/trainer_0")


def test_a_language_model_above_its_saes_is_no_sae(written, tmp_path):
    written("dl standard", "run/resid_post_layer_2")
    (tmp_path / "run" / "config.json").write_text(json.dumps({"model_type": "gpt_neox"}))
    (tmp_path / "run" / "model.safetensors").touch()
    message = refusal(tmp_path / "run")
    assert "has no SAE for layers.2; it has, nearest first: resid_post_layer_2; give the folder" in message


@pytest.mark.parametrize(
    ("name", "file", "changed", "words"),
    [
        ("mlsae", "model.safetensors", {"encoder.weight": torch.zeros(())}, "no matrix"),
        ("dl batch topk", "ae.pt", {"encoder.weight": torch.zeros(F)}, "no matrix"),
        ("gemma scope 2 resid", "params.safetensors", {"w_enc": torch.zeros(D, 0)}, "no matrix"),
        ("clt layer", "W_dec_2.safetensors", {"W_dec_2": torch.zeros(F)}, "has 1 axes"),
        ("openai v5", "2.pt", {"activation_state_dict": "ReLU"}, "supported: ReLU, and TopK"),
    ],
)
def test_what_is_no_weight_is_refused_in_one_line(tmp_path, name, file, changed, words):
    folder = tmp_path / FAMILIES[name].repo
    folder.mkdir(parents=True)
    FAMILIES[name].write(folder)
    if file.endswith(".pt"):
        torch.save(torch.load(folder / file, weights_only=True) | changed, folder / file)
    else:
        save_file(load_file(folder / file) | changed, folder / file)
    with pytest.raises(SaeError, match=words):
        loaded(str(folder), FAMILIES[name].model, FAMILIES[name].hookpoint, FAMILIES[name].d_in)


def test_a_hook_point_that_is_no_name_is_refused(tmp_path):
    family = FAMILIES["gemma scope 2 resid"]
    folder = tmp_path / family.repo
    folder.mkdir(parents=True)
    family.write(folder)
    (folder / "config.json").write_text(json.dumps({"hf_hook_point_in": [1]}))
    with pytest.raises(SaeError, match="says it reads or predicts"):
        loaded(str(folder), family.model, family.hookpoint)
