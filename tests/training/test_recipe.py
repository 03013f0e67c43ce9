"""Defaults, validation and optimisers are sparsify's."""

import pytest
import torch
from schedulefree import ScheduleFreeWrapper
from sparsify import SparseCoderConfig
from sparsify.config import TrainConfig
from sparsify.sign_sgd import SignSGD

from saescope.errors import ConfigError, SaeError
from saescope.training import Recipe, SaeTraining, new_coder
from saescope.training.recipe import build_optimizers, learning_rate
from saescope.training.signum import ScheduleFreeSignum, average


def test_defaults_are_sparsify_s() -> None:
    recipe = Recipe()
    theirs = TrainConfig(SparseCoderConfig())
    shared = set(vars(recipe)) & set(vars(theirs))
    assert {"optimizer", "lr", "auxk_alpha", "k_decay_steps"} < shared
    for name in shared:
        assert getattr(recipe, name) == getattr(theirs, name), name
    for name in ("k", "activation", "multi_topk", "normalize_decoder", "transcode", "skip_connection"):
        assert getattr(recipe, name) == getattr(theirs.sae, name), name


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"optimizer": "sigum"}, "did you mean 'signum'"),
        ({"activation": "relu"}, "topk, groupmax"),
        ({"k": 0}, "k=0"),
        ({"lr": -1.0}, "lr=-1.0"),
        ({"micro_acc_steps": 0}, "micro_acc_steps=0"),
        ({"activation": "groupmax", "k_decay_steps": 5}, "groupmax"),
        ({"freeze": "decoders"}, "did you mean 'decoder'"),
        ({"skip_connection": True}, "skip_connection=true needs transcode=true"),
    ],
)
def test_impossible_recipes(kwargs, says) -> None:
    with pytest.raises(ConfigError, match=says):
        Recipe(**kwargs)


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        (Recipe(k=65), "k=65 is larger than the 64 latents"),
        (Recipe(k=7, activation="groupmax"), "7 does not divide 64"),
        (Recipe(k=17, multi_topk=True), "68 latents"),
    ],
)
def test_recipes_that_do_not_fit(recipe, says) -> None:
    with pytest.raises(SaeError, match=says) as caught:
        new_coder(8, 64, recipe)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("freeze", ["decoder", "soft"])
def test_a_new_transcoder_has_no_decoder_directions_to_freeze(freeze) -> None:
    recipe = Recipe(k=2, transcode=True, freeze=freeze)
    with pytest.raises(ConfigError, match=f"freeze={freeze} needs .* decoder is 0; choose freeze=encoder"):
        new_coder(8, 64, recipe)
    existing = new_coder(8, 64, Recipe(k=2, transcode=True))
    assert SaeTraining(existing, recipe, total_steps=1, finetune=True).recipe.freeze == freeze


def test_settings_that_came_later_leave_older_trainings_their_identity() -> None:
    """What a checkpoint says of its recipe, from before there were frozen weights and transcoders."""
    assert Recipe(k=4, lr=0.5).identity == (
        "Recipe(k=4, activation='topk', multi_topk=False, normalize_decoder=True, optimizer='signum', "
        "lr=0.5, lr_warmup_steps=1000, auxk_alpha=0.0, dead_feature_threshold=10000000, k_decay_steps=0, "
        "grad_acc_steps=1, micro_acc_steps=1, init_seed=0)"
    )
    others = [Recipe(freeze=freeze) for freeze in ("none", "decoder", "encoder", "soft")]
    others += [Recipe(transcode=True), Recipe(transcode=True, skip_connection=True)]
    assert len({recipe.identity for recipe in others}) == len(others)


@pytest.mark.parametrize(
    ("start", "recipe", "says"),
    [
        (
            Recipe(k=2, transcode=True),
            Recipe(k=2),
            "are a transcoder; set transcode=true skip_connection=false",
        ),
        (Recipe(k=2), Recipe(k=2, transcode=True), "are an SAE; set transcode=false"),
        (
            Recipe(k=2, transcode=True, skip_connection=True),
            Recipe(k=2, transcode=True),
            "are a transcoder with a skip connection; set transcode=true skip_connection=true",
        ),
    ],
)
def test_weights_of_another_kind_are_refused(start, recipe, says) -> None:
    with pytest.raises(SaeError, match=says):
        SaeTraining(new_coder(8, 64, start), recipe, total_steps=1)


def test_a_skip_connection_beside_an_autoencoder_is_refused() -> None:
    coder = new_coder(8, 64, Recipe(k=2, transcode=True, skip_connection=True))
    coder.cfg.transcode = False
    with pytest.raises(SaeError, match="no transcoder cannot be trained"):
        SaeTraining(coder, Recipe(k=2), total_steps=1)


def test_one_pass_signum_is_bit_equal_to_the_wrapper() -> None:
    torch.manual_seed(0)
    start = [torch.randn(300, 257), torch.randn(300), torch.randn(7)]
    mine = [torch.nn.Parameter(p.clone()) for p in start]
    other = [torch.nn.Parameter(p.clone()) for p in start]
    ours = ScheduleFreeSignum(mine, lr=3e-3)
    theirs = ScheduleFreeWrapper(SignSGD(other, lr=3e-3), momentum=0.95)
    theirs.train()
    for _ in range(12):
        for a, b in zip(mine, other, strict=True):
            a.grad = torch.randn_like(a)
            a.grad[::3] = 0
            b.grad = a.grad.clone()
        ours.step()
        theirs.step()
        assert all(torch.equal(a, b) for a, b in zip(mine, other, strict=True))
    left, right = ours.state_dict(), theirs.state_dict()
    assert left["param_groups"] == right["param_groups"]
    assert all(torch.equal(left["state"][n]["z"], right["state"][n]["z"]) for n in range(3))
    theirs.eval()
    assert all(torch.equal(average(a, ours.state[a]), b) for a, b in zip(mine, other, strict=True))


@pytest.mark.parametrize(
    ("name", "latents", "lr"), [("signum", 4096, 1e-2), ("adam", 65536, 1e-4), ("muon", 64, 2e-3)]
)
def test_learning_rates_by_number_of_latents(name, latents, lr) -> None:
    assert learning_rate(Recipe(optimizer=name), latents) == pytest.approx(lr)


def test_muon_gets_the_matrices_and_adam_the_vectors() -> None:
    coder = new_coder(8, 64, Recipe(k=2))
    (muon, adam), schedules = build_optimizers(coder, Recipe(k=2, optimizer="muon"), 10)
    assert {p.ndim for p in muon.param_groups[0]["params"]} == {2}
    assert {p.ndim for p in adam.param_groups[0]["params"]} == {1}
    assert len(schedules) == 2


def test_k_decays_from_ten_times_the_width() -> None:
    recipe = Recipe(k=4, k_decay_steps=10)
    assert [recipe.k_at(s, 8, 64) for s in (0, 5, 10, 11)] == [64, 34, 4, 4]
