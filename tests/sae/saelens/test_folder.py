"""`sae.release=FOLDER`: what fits is read, what does not is refused in one line that says how."""

import json
import logging
import pickle
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from saescope.cli.main import main
from saescope.errors import SaeError
from tests.sae.saelens.make import D_IN, D_SAE, METADATA, dense, make, ours, saved

pytestmark = pytest.mark.filterwarnings(r"ignore:\s*This SAE has non-empty")


def refusal(*args, **kwargs) -> str:
    with pytest.raises(SaeError) as info:
        ours(*args, **kwargs)
    assert "\n" not in str(info.value)
    return str(info.value)


@pytest.mark.parametrize(
    ("hook", "asked"),
    [
        ("blocks.2.hook_resid_post", {"layer": 2}),
        ("blocks.2.hook_resid_post", {"hookpoint": "gpt_neox.layers.2"}),
        ("gpt_neox.layers.2", {"hookpoint": "blocks.2.hook_resid_post"}),
        ("blocks.3.hook_resid_pre", {"hookpoint": "blocks.3.hook_resid_pre"}),
        ("blocks.3.hook_resid_pre", {"layer": 2}),  # the input of block 3 is the output of block 2
        ("blocks.2.hook_resid_post", {"hookpoint": "blocks.3.hook_resid_pre"}),
        ("blocks.1.hook_mlp_out", {"hookpoint": "layers.1.mlp"}),
        ("blocks.1.hook_attn_out", {"hookpoint": "layers.1.attention"}),
    ],
)
def test_its_own_hookpoint_in_any_spelling(tmp_path, model_folder, hook, asked):
    sae = ours(
        saved(tmp_path / "s", make("standard", metadata={**METADATA, "hook_name": hook})),
        model_folder,
        **asked,
    )
    assert sae.provenance()["hook_name"] == hook
    assert sae.warnings == ()


@pytest.mark.parametrize(
    ("hook", "asked"),
    [
        ("blocks.2.hook_resid_post", {"layer": 1}),
        ("blocks.2.hook_resid_pre", {"layer": 2}),
        ("blocks.2.hook_mlp_out", {"layer": 2}),
        ("blocks.2.hook_attn_out", {"hookpoint": "layers.2.mlp"}),
    ],
)
def test_another_hookpoint_names_the_one_to_use(tmp_path, model_folder, hook, asked):
    release = saved(tmp_path / "s", make("standard", metadata={**METADATA, "hook_name": hook}))
    message = refusal(release, model_folder, **asked)
    assert f"reads {hook}, but the hookpoint chosen is layers." in message
    assert message.endswith(f"use hookpoint=custom hookpoint.name={hook}")
    ours(release, model_folder, hookpoint=hook)


@pytest.mark.parametrize("reshape", ["hook_z", "none"])
def test_attention_saes_read_the_heads_side_by_side(tmp_path, model_folder, reshape):
    """`hook_z`, heads concatenated, is the input of the attention's output projection."""
    hook = "blocks.2.attn.hook_z"
    inner = make("jumprelu", metadata={**METADATA, "hook_name": hook}, reshape_activations=reshape)
    release = saved(tmp_path / "s", inner)
    sae = ours(release, model_folder, hookpoint=hook)
    x = torch.randn(50, D_IN)
    w = inner.state_dict()
    with torch.no_grad():
        pre = (x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
        acts = torch.relu(pre) * (pre > w["threshold"])
        codes = sae.encode(x)
        torch.testing.assert_close(dense(codes, D_SAE), acts, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(sae.decode(codes), acts @ w["W_dec"] + w["b_dec"], atol=1e-5, rtol=1e-6)
    with pytest.raises(SaeError, match=f"use hookpoint=custom hookpoint.name={hook}"):
        ours(release, model_folder, hookpoint="layers.2.attention")
    twin = pickle.loads(pickle.dumps(sae))
    assert torch.equal(twin.decode(twin.encode(x)), sae.decode(sae.encode(x)))


def sequential(model_folder, tmp_path):
    """The model's config with attention and MLP one after the other."""
    cfg = json.loads((model_folder / "config.json").read_text()) | {"use_parallel_residual": False}
    (tmp_path / "sequential").mkdir()
    (tmp_path / "sequential" / "config.json").write_text(json.dumps(cfg))
    return tmp_path / "sequential"


@pytest.mark.parametrize(
    "elsewhere", ["layers.0", "layers.1", "blocks.1.hook_resid_pre", "blocks.0.hook_resid_mid"]
)
def test_the_middle_of_a_block_is_neither_its_input_nor_its_output(tmp_path, model_folder, elsewhere):
    hook = "blocks.1.hook_resid_mid"
    release = saved(tmp_path / "s", make("standard", metadata={**METADATA, "hook_name": hook}))
    folder = sequential(model_folder, tmp_path)
    assert ours(release, folder, hookpoint=hook).warnings == ()
    message = refusal(release, folder, hookpoint=elsewhere)
    assert message.endswith(f"use hookpoint=custom hookpoint.name={hook}")
    assert "has no resid_mid" in refusal(release, model_folder, hookpoint=elsewhere.replace("_mid", "_post"))


@pytest.mark.parametrize("hook", ["blocks.2.ln2.hook_normalized", "blocks.9.hook_resid_post"])
def test_a_hookpoint_this_model_does_not_have(tmp_path, model_folder, hook):
    release = saved(tmp_path / "s", make("standard", metadata={**METADATA, "hook_name": hook}))
    assert f"reads {hook}, which is no hookpoint of this model" in refusal(release, model_folder)


def edited(folder, **changes) -> str:
    """A saved SAE whose cfg.json says something else."""
    saved(folder, make("standard"))
    cfg = json.loads((folder / "cfg.json").read_text())
    cfg["metadata"] |= changes.pop("metadata", {})
    (folder / "cfg.json").write_text(json.dumps(cfg | changes))
    return str(folder)


@pytest.mark.parametrize(
    ("changes", "values", "words"),
    [
        ({"d_in": 64}, {}, ["reads width 64 at blocks.2.hook_resid_post", "layers.2 has width 32"]),
        ({"metadata": {"hook_head_index": 3}}, {}, ["hook_head_index 3", "not supported"]),
        ({"architecture": "transcoder"}, {}, ["transcoder", "has no d_out"]),
        ({"architecture": "temporal"}, {}, ["architecture temporal"]),
        ({"architecture": "batchtopk"}, {}, ["training state", "save_inference_model"]),
        ({"architecture": "wavelet"}, {}, ["architecture wavelet", "no such"]),
        ({}, {"k": 5}, ["sae.k=5", "architecture standard", "no k", "leave sae.k out"]),
        ({}, {"num_latents": 5}, ["sae.num_latents=5", f"has {D_SAE}"]),
        ({}, {"expansion_factor": 8}, ["sae.expansion_factor=8", "3 × 32"]),
        ({"normalize_activations": "expected_average_only_in"}, {}, ["activation_scaler.json", "not beside"]),
        ({"normalize_activations": "covariance_whitening"}, {}, ["activation_whitening.safetensors"]),
        ({"normalize_activations": "by_magic"}, {}, ["cannot load", "normalize_activations"]),
        ({"d_sae": 50}, {}, ["cannot load", "size mismatch"]),
        ({"d_sae": None}, {}, ["has no d_sae"]),
        ({"architecture": None}, {}, ["architecture None", "no such"]),
        ({"metadata": {"sae_lens_version": "new"}}, {}, ["not one sae_lens understands"]),
    ],
)
def test_refused(tmp_path, model_folder, changes, values, words):
    message = refusal(edited(tmp_path / "s", **changes), model_folder, **values)
    for word in words:
        assert word in message, message


def test_k_above_the_number_of_latents(tmp_path, model_folder):
    release = saved(tmp_path / "s", make("topk", k=7))
    assert f"choose sae.k from 1 to {D_SAE}" in refusal(release, model_folder, k=1000)


@pytest.mark.parametrize("damage", ["truncate", "remove", "json", "list"])
def test_damaged_files(tmp_path, model_folder, damage):
    folder = tmp_path / "s"
    saved(folder, make("standard"))
    weights = folder / "sae_weights.safetensors"
    if damage == "truncate":
        weights.write_bytes(weights.read_bytes()[:100])
    elif damage == "remove":
        weights.unlink()
    else:
        (folder / "cfg.json").write_text("{" if damage == "json" else "[]")
    assert str(folder) in refusal(str(folder), model_folder)


def test_sparsify_folders_never_go_through_sae_lens(sae_folder, model_folder):
    one = refusal(str(sae_folder / "layers.2"), model_folder)
    assert "sparsify layout" in one
    assert one.endswith(f"use sae=hub sae.repo={sae_folder / 'layers.2'}")
    assert refusal(str(sae_folder), model_folder).endswith(f"use sae=hub sae.repo={sae_folder}")
    assert "sae=hub" in refusal(str(sae_folder), model_folder, id="layers.2")


def test_a_sparsify_config_beside_weights_of_another_name(sae_folder, model_folder, tmp_path):
    folder = tmp_path / "s"
    folder.mkdir()
    (folder / "cfg.json").write_bytes((sae_folder / "layers.2" / "cfg.json").read_bytes())
    assert f"use sae=hub sae.repo={folder}" in refusal(str(folder), model_folder)


def test_a_folder_of_folders_is_chosen_from_by_id(tmp_path, model_folder):
    saved(tmp_path / "all" / "blocks.2.hook_resid_post", make("standard"))
    saved(tmp_path / "all" / "deep" / "other", make("standard"))
    release = str(tmp_path / "all")
    message = refusal(release, model_folder)
    assert message.endswith("with sae.id: blocks.2.hook_resid_post, deep/other")
    assert ours(release, model_folder, id="blocks.2.hook_resid_post").num_latents == D_SAE
    assert "blocks.2.hook_resid_post, deep/other" in refusal(release, model_folder, id="blocks.1")


def test_no_such_folder_and_an_empty_one(tmp_path, model_folder):
    assert "no such folder" in refusal("./nowhere", model_folder)
    assert "looked for SAELens (cfg.json, sae_weights.safetensors), sparsify" in refusal(
        str(tmp_path), model_folder
    )


def test_the_scale_of_a_checkpoint_is_folded_in(tmp_path, model_folder):
    inner = make("jumprelu", normalize_activations="expected_average_only_in")
    release = saved(tmp_path / "s", inner)
    (tmp_path / "s" / "activation_scaler.json").write_text('{"scaling_factor": 2.5}')
    sae = ours(release, model_folder)
    x = torch.randn(50, D_IN)
    with torch.no_grad():
        scaled = inner.encode(x * 2.5)
        torch.testing.assert_close(dense(sae.encode(x), D_SAE), scaled, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            sae.decode(sae.encode(x)), inner.decode(scaled) / 2.5, atol=1e-5, rtol=1e-5
        )
    assert sae.provenance()["normalize_activations"] == "expected_average_only_in"


def test_the_whitening_of_a_checkpoint_is_folded_in(tmp_path, model_folder):
    inner = make("standard", normalize_activations="covariance_whitening")
    release = saved(tmp_path / "s", inner)
    matrix = torch.randn(D_IN, D_IN) * 0.1 + torch.eye(D_IN)
    mean, inverse = torch.randn(D_IN), torch.linalg.inv(matrix).contiguous()
    save_file(
        {"mean": mean, "matrix": matrix, "inverse_matrix": inverse},
        tmp_path / "s" / "activation_whitening.safetensors",
    )
    sae = ours(release, model_folder)
    x = torch.randn(50, D_IN)
    with torch.no_grad():
        white = inner.encode((x - mean) @ matrix)
        torch.testing.assert_close(dense(sae.encode(x), D_SAE), white, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(
            sae.decode(sae.encode(x)), inner.decode(white) @ inverse + mean, atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize(
    ("metadata", "model_name", "words"),
    [
        ({}, "", ["does not say which hookpoint", "does not say how TransformerLens processed"]),
        ({**METADATA, "model_from_pretrained_kwargs": {"center_writing_weights": True}}, "", ["put back"]),
        ({**METADATA, "model_from_pretrained_kwargs": {"revision": "step1000"}}, "", ["revision=step1000"]),
        ({**METADATA, "seqpos_slice": [5, None]}, "", ["positions [5, None]"]),
        ({**METADATA, "seqpos_slice": [None]}, "", []),
        ({**METADATA, "model_name": "gpt2-small"}, "openai-community/gpt2", []),
        ({**METADATA, "model_name": "pythia-70m"}, "EleutherAI/pythia-70m", []),
        (
            {**METADATA, "model_name": "pythia-70m-deduped"},
            "EleutherAI/pythia-70m",
            ["trained on pythia-70m-deduped"],
        ),
        ({**METADATA, "model_name": "pythia-70m-deduped"}, "", []),  # a folder's name says nothing
        (
            {**METADATA, "model_class_name": "AutoModelForCausalLM", "model_from_pretrained_kwargs": {}},
            "",
            [],
        ),
    ],
)
def test_notices(tmp_path, model_folder, metadata, model_name, words):
    release = saved(tmp_path / "s", make("standard", metadata=metadata))
    notices = ours(release, model_folder, model_name=model_name).warnings
    assert len(notices) == len(words), notices
    for notice, word in zip(notices, words, strict=True):
        assert word in notice


def test_old_config_of_sae_lens_3(tmp_path, model_folder):
    inner = make("standard")
    release = saved(tmp_path / "s", inner)
    old = {
        "d_in": D_IN,
        "d_sae": D_SAE,
        "dtype": "torch.float32",
        "device": "cuda",
        "model_name": "m",
        "hook_point": "blocks.2.hook_resid_post",
        "hook_point_layer": 2,
        "activation_fn_str": "topk",
        "activation_fn_kwargs": {"k": 9},
        "normalize_activations": False,
        "context_size": 128,
    }
    (tmp_path / "s" / "cfg.json").write_text(json.dumps(old))
    sae = ours(release, model_folder)
    theirs = make("topk", k=9)
    x = torch.randn(40, D_IN)
    with torch.no_grad():
        torch.testing.assert_close(dense(sae.encode(x), D_SAE), theirs.encode(x), atol=1e-6, rtol=1e-6)
    assert sae.k == 9
    assert sae.prepend_bos is None  # sae_lens would assume true
    assert any("how TransformerLens processed" in notice for notice in sae.warnings)


@pytest.mark.parametrize(
    "old",
    [
        {"activation_fn_str": "tanh-relu"},
        {"activation_fn": "topk"},
        {"activation_fn": "topk", "activation_fn_kwargs": {}},
    ],
)
def test_an_activation_sae_lens_no_longer_has(tmp_path, model_folder, old):
    release = saved(tmp_path / "s", make("standard"))
    old |= {"d_in": D_IN, "d_sae": D_SAE, "dtype": "float32", "hook_name": "blocks.2.hook_resid_post"}
    (tmp_path / "s" / "cfg.json").write_text(json.dumps(old))
    assert "which sae_lens would read as ReLU" in refusal(release, model_folder)


def test_provenance(tmp_path, model_folder):
    release = saved(tmp_path / "s", make("gated"))
    provenance = ours(release, model_folder).provenance()
    wanted = {
        "source": "saelens",
        "release": release,
        "id": None,
        "architecture": "gated",
        "hook_name": "blocks.2.hook_resid_post",
        "dtype": "float32",
        "d_in": D_IN,
        "num_latents": D_SAE,
        "expansion_factor": 3.0,
        "k": None,
    }
    assert {key: provenance[key] for key in wanted} == wanted
    assert set(provenance["versions"]) == {"sae-lens", "transformer-lens"}
    assert provenance["versions"]["sae-lens"].startswith("6.")
    json.dumps(provenance)


@pytest.mark.slow
def test_sae_lens_is_imported_only_when_asked_for():
    code = (
        "import sys, saescope.jobs.pipeline, saescope.sae.saelens.load\n"
        "assert not {'sae_lens', 'transformer_lens'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_sae_lens_the_error_says_how_to_install_it(model_folder):
    code = (
        "import sys; sys.modules['sae_lens'] = None  # as if it were not installed\n"
        "from saescope.cli.main import main\n"
        "sys.argv = ['saescope', 'sae=saelens', 'sae.release=gpt2-small-res-jb', 'sae.id=x',\n"
        "            'tracking=disabled', 'probes.max_tokens_per_task=500']\n"
        "sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert "sae=saelens needs the package sae_lens" in done.stderr
    assert "pip install 'saescope[saelens]'" in done.stderr
    assert "pip install -c constraints.txt -e '.[saelens]'" in done.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["sae.release=gpt2-small-res-jb", "sae.id=blocks.88.hook_resid_pre"], "nearest first"),
        (["sae.release=no-such-release", "sae.id=x"], "no release of sae_lens"),
        (["sae.release=./nowhere"], "no such folder"),
        (["sae.release=saved"], "use hookpoint=custom hookpoint.name=blocks.2.hook_resid_post"),
        (["sae.release=saved", "hookpoint.layer=2", "sae.num_latents=5"], f"has {D_SAE}; leave it out"),
    ],
)
def test_errors_come_before_the_model_is_loaded(tmp_path, model_folder, monkeypatch, capfd, args, words):
    """The model's folder has a config and no weights: to load it would be another error."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_bytes((model_folder / "config.json").read_bytes())
    saved(tmp_path / "saved", make("standard"))
    common = ["model=local", "model.name=model", "sae=saelens", "hookpoint.layer=1", "tracking=disabled"]
    monkeypatch.setattr(sys, "argv", ["saescope", *common, *args])
    logging.getLogger().handlers.clear()
    assert main() == 1
    err = capfd.readouterr().err
    assert words in err
    assert err.count("\n") == 1
