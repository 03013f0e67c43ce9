"""Which hookpoints are covered, by what, and that every printed command composes to exactly that."""

import shlex

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from saescope.catalogue.command_line import load_command, train_command
from saescope.catalogue.plan import HookpointPlan, layers, make_plans
from saescope.catalogue.repositories import load_rows
from saescope.catalogue.shapes import Shape, shape, suite_names
from saescope.config import AppConfig, CoverageConfig, HookpointConfig, config_dir, from_mapping
from saescope.errors import ConfigError

R1_QWEN = "deepseek-r1-distill-qwen-1.5b"
PYTHIA = [name for name in suite_names() if name.startswith("pythia")]


def planned(*models: str, **values) -> list[HookpointPlan]:
    cfg = CoverageConfig(models=models, **values)
    return make_plans(cfg, [shape(m) for m in models], load_rows())


def composed(command: str) -> AppConfig:
    program, *overrides = shlex.split(command)
    assert program == "saescope"
    with initialize_config_dir(config_dir(), version_base="1.3"):
        values = OmegaConf.to_container(compose("config", overrides=overrides), resolve=True)
    return from_mapping(AppConfig, values)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("pythia-70m", [1, 3, 4]),
        ("pythia-160m", [3, 6, 9]),
        ("pythia-1b", [4, 8, 12]),
        ("pythia-12b", [9, 18, 27]),
    ],
)
def test_default_depths(model, expected):
    assert layers(CoverageConfig((model,)), shape(model)) == expected


def test_depth_means_what_it_means_in_a_run(model_folder):
    from transformers import AutoConfig, AutoModelForCausalLM

    from saescope.model.hookpoints import resolve

    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model_folder))
    for depth in (0.0, 0.1, 0.25, 0.3, 0.49, 0.5, 0.74, 0.75, 0.99, 1.0):
        (here,) = layers(CoverageConfig(("x",), depth=(depth,)), shape(str(model_folder)))
        assert here == resolve(HookpointConfig("resid", depth=depth), model).layer


def test_a_layer_named_twice_gives_one_plan():
    assert layers(CoverageConfig(("x",), depth=(0.5, 0.55)), shape("pythia-70m")) == [3]


def test_a_layer_the_model_does_not_have():
    with pytest.raises(ConfigError, match="layers=10: pythia-70m has layers 0–5"):
        planned("pythia-160m", "pythia-70m", layers=(3, 10))


def test_states():
    mlp = {w.layer: w for w in planned("pythia-410m", kind=("mlp",), layers=(10, 11, 12))}
    assert [mlp[n].state for n in (10, 11, 12)] == ["covered", "covered", "unverified"]
    assert mlp[12].unverified == ("folders",)
    assert (mlp[10].num_latents, mlp[10].k, mlp[10].expansion) == (65536, 32, 64)
    assert mlp[10].row.repo == "EleutherAI/sae-pythia-410m-65k"
    resid, attention = planned("pythia-160m", kind=("resid", "attention"), layers=(6,))
    assert (resid.state, resid.folder, resid.matches) == ("covered", "layers.6", True)
    assert resid.expansion == pytest.approx(32768 / 768)
    assert "Group-SAE/pythia_160m-topk" in resid.others
    assert (attention.state, attention.folder, attention.matches) == ("train", None, None)
    (nested,) = planned("pythia-410m", layers=(6,))
    assert (nested.folder, nested.matches, nested.k) == ("baseline/layers.6", False, 128)


def test_seen_goes_before_claimed():
    by_layer = {w.layer: w for w in planned("pythia-160m-deduped", layers=(7, 8))}
    assert by_layer[7].row.repo == "tim-lawson/sae-pythia-160m-deduped-x64-k32-control"
    assert by_layer[7].folder == "gpt_neox.layers.7"
    assert (by_layer[8].row.repo, by_layer[8].state) == ("ghidav/pythia-160m-deduped-resid-post", "covered")
    assert "EleutherAI/sae-pythia-160m-deduped-32k" in by_layer[8].others  # claimed only


def test_saes_of_the_deduplicated_model_are_not_those_of_the_other():
    both = planned("pythia-70m", "pythia-70m-deduped", layers=(3,))
    assert [w.row.repo for w in both] == [
        "EleutherAI/sae-pythia-70m-32k",
        "EleutherAI/sae-pythia-70m-deduped-32k",
    ]


def test_expansion_and_k_of_what_is_to_be_trained():
    (w,) = planned("pythia-1.4b", layers=(12,), expansion=8, k=64)
    assert (w.state, w.num_latents, w.k, w.expansion) == ("train", 8 * 2048, 64, 8)
    assert w.command == (
        "saescope model=pythia-1.4b hookpoint.layer=12 sae=train sae.expansion_factor=8 sae.k=64 corpus=pile"
    )


def test_every_command_composes_to_what_the_row_says(model_folder):
    rows = planned(*PYTHIA, "gpt2", "smollm2-135m", depth=(0.5,))
    rows += planned("pythia-410m", "embedded", str(model_folder), kind=("mlp", "attention"), depth=(0.5,))
    rows += planned("pythia-70m-deduped", "pythia-160m-deduped", layers=(3,))
    assert {w.state for w in rows} == {"covered", "unverified", "train"}
    for w in rows:
        cfg = composed(w.command)
        assert (cfg.hookpoint.kind, cfg.hookpoint.layer) == (w.kind, w.layer)
        assert shape(cfg.model.repo).name == w.shape.name
        if w.row is None:
            assert cfg.sae.source == "train"
            assert (cfg.sae.expansion_factor, cfg.sae.k) == (32, 32)
            assert (cfg.corpus.source == "embedded") == (w.shape.name == "embedded")
        elif w.row.format == "sparsify":
            folder = f"{w.row.repo}/{w.folder}"
            assert (cfg.sae.source, folder.startswith(cfg.sae.repo)) == ("hub", True)
            assert "/" not in folder.removeprefix(f"{cfg.sae.repo}/")
        else:
            assert (cfg.sae.source, cfg.sae.release) == ("saelens", w.row.release)


def test_command_for_a_dictionary_learning_repository():
    """Its SAEs are not found by the name of a hookpoint: the command gives the folder."""
    (row,) = (
        r for r in load_rows() if r.repo == "adamkarvonen/saebench_pythia-160m-deduped_width-2pow12_date-0108"
    )
    assert row.readable
    command = load_command(shape("pythia-160m-deduped"), 8, "resid", row)
    assert f"sae.repo={row.repo}/TopK_pythia-160m-deduped__0108/resid_post_layer_8/trainer_2" in command


def test_command_for_a_repository_in_saelens_layout():
    (row,) = [r for r in load_rows() if r.release == "ghidav/pythia-160m-deduped-resid-post"]
    command = load_command(shape("pythia-160m-deduped"), 3, "resid", row)
    assert command == (
        "saescope model=pythia-160m model.deduped=true hookpoint.layer=3 "
        "sae=saelens sae.release=ghidav/pythia-160m-deduped-resid-post sae.id=L3"
    )
    assert composed(command).sae.source == "saelens"


ODD = [
    "my model",
    "it's",
    'a "b"',
    "a,b",
    "[x]",
    "{x}",
    "a=b",
    "über",
    "$HOME",
    "a\\b",
    "a\\",
    "7",
    "null",
    "a~x",
    "a:b",
    "#1",
    "/a folder/x",
    'a\\"b',
]


@pytest.mark.parametrize("name", ODD)
def test_odd_folder_names_survive_the_shell_and_the_grammar(name):
    odd = Shape(name, 4, 32, (("model", "local"), ("model.name", name)))
    assert composed(train_command(odd, 2, "mlp", 8, 16)).model.name == name


def test_group_sae_has_k_128_and_an_fvu_to_compare_with():
    (plan,) = planned("pythia-410m", layers=(6,))
    assert (plan.k, plan.fvu) == (128, pytest.approx(0.14, abs=0.001))
    # its repository has the same folders below cluster/
    assert plan.command.endswith(" sae.repo=Group-SAE/pythia_410m-topk/baseline")


@pytest.mark.parametrize(
    ("model", "kind", "layer", "repo", "latents", "k"),
    [
        ("smollm2-135m", "mlp", 15, "EleutherAI/sae-SmolLM2-135M-64x", 36864, 32),
        ("meta-llama/Llama-3.2-1B", "mlp", 8, "EleutherAI/sae-Llama-3.2-1B-131k", 131072, 32),
        ("llama-3-8b", "resid", 12, "EleutherAI/sae-llama-3-8b-32x", 131072, 192),
        (R1_QWEN, "mlp", 14, "EleutherAI/sae-DeepSeek-R1-Distill-Qwen-1.5B-65k", 65536, 32),
    ],
)  # fmt: skip
def test_saes_of_models_other_than_pythia(model, kind, layer, repo, latents, k):
    (plan,) = planned(model, kind=(kind,), layers=(layer,))
    assert (plan.state, plan.row.repo, plan.num_latents, plan.k) == ("covered", repo, latents, k)
    cfg = composed(plan.command)
    assert (cfg.sae.source, cfg.sae.repo, cfg.hookpoint.kind, cfg.hookpoint.layer) == (
        "hub",
        repo,
        kind,
        layer,
    )
    assert cfg.model.sae_repo == repo


@pytest.mark.slow
def test_every_command_of_a_recorded_sae_is_accepted():
    places = [(row, kind) for row in load_rows() if row.model and row.readable for kind in row.folders]
    assert len(places) > 30
    for row, kind in places:
        layer = min(row.layers)
        cfg = composed(load_command(shape(row.model), layer, kind, row))
        assert (cfg.hookpoint.kind, cfg.hookpoint.layer) == (kind, layer)
        folder = f"{row.repo}/{row.folder(layer, kind)}"
        match row.format:
            case "sparsify":
                assert cfg.sae.repo == folder.rpartition("/")[0]
            case "dictionary_learning":
                assert cfg.sae.repo == folder
            case _:
                assert (cfg.sae.release, cfg.sae.id) == (row.release, row.ids[kind].format(layer=layer))
