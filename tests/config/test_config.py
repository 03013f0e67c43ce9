"""Every option of every group composes and converts; YAML and dataclasses name the same fields."""

import dataclasses
import typing
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from saescope.config import (
    AppConfig,
    CausalConfig,
    HookpointConfig,
    ModelConfig,
    SaeConfig,
    applicable,
    config_dir,
    from_mapping,
)
from saescope.config.compose import compose as composed
from saescope.config.convert import members
from saescope.errors import ConfigError

CONF = Path(config_dir())
OPTIONS = sorted(
    (p.parent.relative_to(CONF).as_posix(), p.stem) for p in CONF.glob("*/*.yaml") if p.parent.name != "hydra"
)
HUB = {
    "source": "hub", "repo": None, "revision": None, "k": None, "expansion_factor": None, "num_latents": None,
}  # fmt: skip
# what an option needs the user to give
GIVEN = {
    ("model", "local"): ["model.name=somewhere"],
    ("hookpoint", "custom"): ["hookpoint.name=layers.3"],
    ("probes", "folder"): ["probes.path=somewhere"],
    ("sae", "saelens"): ["sae.release=somewhere"],
    ("sae", "python"): ["sae.target=module:make"],
    ("probes", "manifest"): ["probes.path=somewhere"],
    ("corpus", "hf"): ["corpus.name=somewhere"],
    ("corpus", "local"): ["corpus.path=somewhere"],
}


_, SOURCES = members(SaeConfig)
_, METHODS = members(CausalConfig)


@pytest.mark.parametrize(("group", "option"), [o for o in OPTIONS if o[0] != "sweep"])
def test_every_option_composes(group, option):
    cfg = composed(f"{group}={option}", *GIVEN.get((group, option), []))
    assert isinstance(cfg, AppConfig)


@pytest.mark.parametrize(("group", "option"), [o for o in OPTIONS if o[0] not in ("experiment", "sweep")])
def test_every_option_names_every_field(group, option):
    values = OmegaConf.load(CONF / group / f"{option}.yaml")
    if "defaults" in values:  # an option with other values
        (base,) = values.pop("defaults")
        values = OmegaConf.merge(OmegaConf.load(CONF / group / f"{base}.yaml"), values)
    kind = typing.get_type_hints(AppConfig)[group]
    if group in ("sae", "causal"):
        kind = SOURCES[values.source] if group == "sae" else METHODS[values.method]
    named = set(values)
    fields = {f.name for f in dataclasses.fields(kind)}
    if group == "dynamic_k" and option != "mlp":  # a key without effect is refused, not ignored
        fields -= set(OmegaConf.load(CONF / "dynamic_k" / "mlp.yaml")) - named
    assert named == fields


@pytest.mark.parametrize("source", SOURCES)
def test_the_values_of_an_sae_in_conf_are_the_defaults_in_python(source):
    values = OmegaConf.load(CONF / "sae" / f"{source}.yaml")
    fields = [f for f in dataclasses.fields(SOURCES[source]) if f.default is not dataclasses.MISSING]
    assert {f.name: values[f.name] for f in fields} == {f.name: f.default for f in fields}


def test_every_option_says_its_command():
    for group, option in OPTIONS:
        text = (CONF / group / f"{option}.yaml").read_text()
        assert "saescope" in text.splitlines()[0] or group in ("experiment", "sweep"), (group, option)


def test_the_command_line_beats_the_group():
    assert composed("metrics=quick", "metrics.permutations=77").metrics.permutations == 77


def test_identity_ignores_what_does_not_change_numbers():
    a = composed()
    assert (
        a.scientific() == composed("tracking=disabled", "force=true", "runtime.batch_tokens=7").scientific()
    )
    assert a.scientific() != composed("seed=1").scientific()
    assert {"dynamic_k", "causal"}.isdisjoint(a.scientific())
    assert a.scientific() != composed("causal=ablate").scientific()
    assert a.scientific() != composed("dynamic_k=mlp").scientific()
    assert a.scientific() != composed("runtime.dtype=bfloat16").scientific()


@pytest.mark.parametrize(
    ("overrides", "group", "values"),
    [
        ([], "sae", HUB),
        (["sae.repo=x"], "model",
         {"name": "embedded", "deduped": False, "revision": None, "random_init": False,
          "trust_remote_code": False}),
        (["sae=neurons"], "sae", {"source": "neurons", "k": 32}),
        (["sae=pca"], "sae", {"source": "pca", "k": 32, "tokens": 1_000_000}),
        (["sae=directions", "sae.num_latents=9"], "sae",
         {"source": "directions", "k": 32, "expansion_factor": None, "num_latents": 9, "init_seed": 0,
          "tokens": 1_000_000}),
        (["sae=random", "sae.num_latents=100"], "sae", {"source": "random", "k": 32, "expansion_factor": None,
                                                        "num_latents": 100, "init_seed": 0}),
        (["sae=python", "sae.target=m:f", "+sae.options.a.b=[1,x]"], "sae",
         {"source": "python", "target": "m:f", "options": {"a": {"b": [1, "x"]}}}),
        (["hookpoint.layer=3"], "hookpoint", {"kind": "resid", "layer": 3, "depth": None, "name": None}),
        ([], "hookpoint", {"kind": "resid", "layer": None, "depth": 0.5, "name": None}),
        ([], "dynamic_k", {"target": "none"}),
        ([], "causal", {"method": "none"}),
    ],
)  # fmt: skip
def test_only_what_applies_is_written(overrides, group, values):
    written = composed(*overrides).as_dict()
    assert written[group] == values
    assert ("corpus" in written) == (written["sae"]["source"] in ("pca", "directions"))
    assert from_mapping(AppConfig, written).as_dict() == written


def test_a_training_is_written_whole():
    written = composed("sae=train", "sae.k=16", "corpus.ctx_len=128").as_dict()
    assert set(written["sae"]) == {f.name for f in dataclasses.fields(SOURCES["train"])}
    assert (written["sae"]["k"], written["sae"]["expansion_factor"]) == (16, 8)
    assert written["corpus"]["ctx_len"] == 128
    assert composed("sae=train", "sae.finetune=x").as_dict()["sae"]["expansion_factor"] is None


@pytest.mark.parametrize(
    ("option", "freeze"),
    [("frozen_decoder", "decoder"), ("frozen_encoder", "encoder"), ("soft_frozen_decoder", "soft")],
)
def test_frozen_controls_are_trainings(option, freeze):
    assert composed(f"sae={option}", "sae.k=9") == composed("sae=train", f"sae.freeze={freeze}", "sae.k=9")


def test_settings_that_came_later_leave_older_trainings_their_identity():
    """The keys that decided a training before there were frozen weights and transcoders."""
    assert set(composed("sae=train").scientific()["sae"]) == {
        "source", "k", "activation", "multi_topk", "normalize_decoder", "optimizer", "lr", "lr_warmup_steps",
        "auxk_alpha", "dead_feature_threshold", "k_decay_steps", "grad_acc_steps", "micro_acc_steps",
        "init_seed", "expansion_factor", "num_latents", "finetune", "revision", "data_seed", "tokens",
        "batch_tokens", "encoder_dtype",
    }  # fmt: skip
    others = [f"sae.freeze={freeze}" for freeze in ("none", "decoder", "encoder", "soft")]
    sciences = [composed("sae=train", other).scientific() for other in [*others, "sae.transcode=true"]]
    assert all(a != b for at, a in enumerate(sciences) for b in sciences[:at])
    skips = [
        composed("sae=train", "sae.transcode=true", f"sae.skip_connection={s}") for s in ("true", "false")
    ]
    assert skips[0].scientific() != skips[1].scientific()
    assert composed("sae=train", "sae.freeze=soft").as_dict()["sae"]["freeze"] == "soft"


def test_the_config_of_an_older_version_is_read_as_what_applied():
    """In its `config.yaml` every SAE had the keys of every source."""
    old = {key: 0 for kind in SOURCES.values() for key in (f.name for f in dataclasses.fields(kind))}
    for later in ("normalize_decoder", "freeze", "transcode", "skip_connection"):
        del old[later]
    hub = applicable({"sae": {**old, **HUB}, "corpus": {"source": "embedded"}, "seed": 1,
                      "hookpoint": {"layer": 3, "depth": 0.5}})  # fmt: skip
    assert hub == {"sae": HUB, "seed": 1, "hookpoint": {"layer": 3, "depth": None}}
    train = applicable(
        {"sae": {**old, "source": "train", "num_latents": None}, "corpus": {"source": "embedded"}}
    )
    assert set(train["sae"]) == {f.name for f in dataclasses.fields(SOURCES["train"])}
    assert train["sae"]["normalize_decoder"] is True
    assert (train["sae"]["freeze"], train["sae"]["transcode"]) == ("none", False)
    assert train["corpus"] == {"source": "embedded"}
    for damaged in (
        {},
        {"sae": None},
        {"sae": [], "hookpoint": 3},
        {"sae": {"source": ["hub"]}},
        {"seed": 1},
    ):
        assert applicable(damaged) == damaged


def test_identity_follows_from_what_applies():
    layer = composed("hookpoint.layer=3")
    assert layer.scientific() == composed("hookpoint.layer=3", "hookpoint.depth=0.25").scientific()
    assert layer.scientific() == composed("hookpoint.layer=3", "corpus.ctx_len=64").scientific()
    assert composed("sae=neurons").scientific() == composed("sae=neurons", "model.sae_repo=x").scientific()
    assert composed("sae=train").scientific() == composed("sae=train", "sae.save_every=7").scientific()
    assert composed("sae=train").scientific() != composed("sae=train", "sae.data_seed=7").scientific()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": "hub", "k": "8"}, "'sae.k' must be a whole number"),
        ({"source": "hub", "k": 8.5}, "'sae.k' must be a whole number"),
        ({"source": "hub", "k": True}, "'sae.k' must be a whole number"),
        ({"source": "hub", "kk": 8}, "unknown key 'sae.kk': did you mean 'k'"),
        ({}, "'sae.source' is missing"),
        ({"source": "hubb"}, "sae.source=hubb is not known: did you mean 'hub'"),
        ({"source": 3}, "'sae.source' must be text"),
        ({"source": "neurons", "k": None}, "'sae.k' must be a whole number"),
        ({"source": "random", "expansion_factor": None}, "needs a width"),
        ({"source": "train", "expansion_factor": None}, "needs a width"),
        ({"source": "train", "k": 0}, "sae.k=0 is too small"),
        (
            {"source": "train", "freeze": "all"},
            "sae.freeze=all is not known: valid: none, decoder, encoder, soft",
        ),
        ({"source": "train", "skip_connection": True}, "needs sae.transcode=true"),
        ({"source": "train", "transcode": True, "freeze": "soft"}, "choose sae.freeze=encoder"),
        ({"source": "pca", "k": None}, "'sae.k' must be a whole number"),
        ({"source": "pca", "expansion_factor": 8}, "sae.expansion_factor is for sae="),
        ({"source": "pca", "tokens": 0}, "sae.tokens=0 is too small"),
        ({"source": "directions", "expansion_factor": None}, "needs a width"),
        (
            {"source": "train", "optimizer": "sigum"},
            "sae.optimizer=sigum is not known: did",
        ),
        ({"source": "train", "lr": 0}, "sae.lr=0.0 must be above 0"),
        ({"source": "train", "revision": "main"}, "sae.revision=main is that of sae.finetune"),
        ({"source": "saelens"}, "'sae.release' is missing"),
        ({"source": "saelens", "release": ""}, "needs sae.release, such as"),
        (
            {"source": "saelens", "release": "r", "repo": "x"},
            "sae.repo is for sae=hub, not for sae=saelens, which takes release, id, k",
        ),
        ({"source": "saelens", "release": "r", "revision": "main"}, "sae.revision is for sae=hub or train"),
        ({"source": "hub", "release": "r"}, "sae.release is for sae=saelens, not for sae=hub"),
        ({"source": "hub", "tokens": 1}, "sae.tokens is for sae=train or pca or directions, not for sae=hub"),
        (
            {"source": "python", "target": "my.module.make"},
            "give MODULE:FUNCTION, such as",
        ),
        ({"source": "python", "target": "m:f", "options": [1]}, "'sae.options' must be names and values"),
        ({"source": "python", "target": "m:f", "options": {3: 1}}, "'sae.options' must have texts as names"),
        (
            {"source": "python", "target": "m:f", "options": {"a": float("nan")}},
            "must be a finite",
        ),
        ({"source": "python", "target": "m:f", "options": {"a": {1}}}, "'sae.options.a' must be text"),
    ],
)
def test_wrong_values(values, message):
    with pytest.raises(ConfigError, match=message):
        from_mapping(SaeConfig, values, "sae.")


def test_a_hookpoint_of_its_own_name_takes_no_layer_and_no_depth():
    for place in ({"layer": 1}, {"depth": 0.5}):
        with pytest.raises(
            ConfigError, match=f"takes hookpoint.name only; leave hookpoint.{next(iter(place))}"
        ):
            HookpointConfig("custom", name="layers.1", **place)


def test_what_a_job_reads_beside_its_probes():
    assert composed().inputs() == {"model": "embedded", "sae": "embedded"}
    assert composed("sae.repo=x").inputs() == {"model": "embedded", "sae": "x"}
    assert composed("sae=random").inputs() == {"model": "embedded"}
    train = composed("sae=train", "corpus=local", "corpus.path=texts", "sae.finetune=y")
    assert train.inputs() == {"model": "embedded", "corpus": "texts", "finetune": "y"}
    pca = composed("sae=pca", "corpus=local", "corpus.path=texts")
    assert pca.inputs() == {"model": "embedded", "corpus": "texts"}


def test_integral_float_is_a_whole_number():
    assert from_mapping(SaeConfig, {"source": "hub", "k": 8.0}).k == 8


def test_deduped_is_for_pythia():
    assert ModelConfig("EleutherAI/pythia-70m", deduped=True).repo == "EleutherAI/pythia-70m-deduped"
    with pytest.raises(ConfigError, match="Pythia"):
        ModelConfig("openai-community/gpt2", deduped=True)


def test_the_statistics_have_the_defaults_of_the_config():
    """`stats/` imports nothing of ours, so its defaults stand twice: here they are held together."""
    from saescope.config import MetricsConfig
    from saescope.stats import ModularitySettings, SpecializationSettings

    config = MetricsConfig()
    names = {"fdr": "edge_fdr"}
    for field in dataclasses.fields(ModularitySettings):
        if field.name not in ("seed", "naive", "words"):
            assert field.default == getattr(config, names.get(field.name, field.name)), field.name
    settings = SpecializationSettings()
    assert (settings.permutations, settings.bootstraps) == (config.permutations, config.bootstraps)
    assert settings.fdr == config.si_fdr
