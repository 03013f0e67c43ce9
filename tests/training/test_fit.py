"""Resume, failures, saving, processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from saescope.errors import SaeError
from saescope.sae.coder import SparseCoder
from saescope.training import MemoryBatches, Recipe, SaeTraining, checkpoint, fit, new_coder, save_coder

D, F, N, STEPS = 16, 128, 64, 12
RECIPES = {
    "signum": Recipe(k=4, auxk_alpha=0.1, dead_feature_threshold=200),
    "adam": Recipe(k=4, optimizer="adam", lr_warmup_steps=3),
    "muon": Recipe(k=4, optimizer="muon", lr_warmup_steps=3),
    "decay": Recipe(k=4, k_decay_steps=10, grad_acc_steps=2),
    "frozen decoder": Recipe(k=4, freeze="decoder"),
    "frozen encoder": Recipe(k=4, freeze="encoder", auxk_alpha=0.1, dead_feature_threshold=200),
    "soft-frozen": Recipe(k=4, freeze="soft", grad_acc_steps=2),
    "soft-frozen, muon": Recipe(k=4, freeze="soft", optimizer="muon", lr_warmup_steps=3),
    "transcoder": Recipe(k=4, transcode=True, skip_connection=True),
}


def batches(steps: int = STEPS, width: int = D) -> MemoryBatches:
    torch.manual_seed(5)
    return MemoryBatches(torch.randn(steps * N, width) @ torch.randn(width, width), N)


def batches_of(recipe: Recipe) -> MemoryBatches:
    return batches(width=2 * D if recipe.transcode else D)


def a_module(recipe: Recipe, steps: int = STEPS) -> SaeTraining:
    return SaeTraining(new_coder(D, F, recipe), recipe, total_steps=steps)


class Killed(Exception):
    pass


def killer(step: int) -> Any:
    def on_step(metrics: dict[str, float]) -> None:
        if metrics["step"] == step:
            raise Killed

    return on_step


@pytest.mark.parametrize("name", RECIPES)
def test_resume_is_bit_equal(name, tmp_path: Path) -> None:
    recipe = RECIPES[name]
    rows = batches_of(recipe)
    whole = fit(a_module(recipe), rows, checkpoint_path=tmp_path / "whole.ckpt")
    path = tmp_path / "killed.ckpt"
    with pytest.raises(Killed):
        fit(a_module(recipe), rows, checkpoint_path=path, save_every=4, on_step=killer(7))
    assert checkpoint.read(path)["step"] == 4
    seen: list[float] = []
    torch.manual_seed(99)
    resumed = fit(
        a_module(recipe),
        rows,
        checkpoint_path=path,
        save_every=4,
        on_step=lambda m: seen.append(m["step"]),
    )
    assert seen == list(range(5, STEPS + 1))
    for key, weight in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], weight), key
    end, other = checkpoint.read(tmp_path / "whole.ckpt"), checkpoint.read(path)
    assert torch.equal(end["tokens_since_fired_F"], other["tokens_since_fired_F"])
    assert end["tokens_seen"] == other["tokens_seen"] == STEPS * N


def test_a_finished_training_is_not_trained_again(tmp_path: Path) -> None:
    recipe, path = RECIPES["signum"], tmp_path / "c.ckpt"
    first = fit(a_module(recipe), batches(), checkpoint_path=path)
    again = fit(a_module(recipe), batches(), checkpoint_path=path, on_step=killer(1))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert list(tmp_path.iterdir()) == [path]


def test_a_longer_training_continues_a_finished_one(tmp_path: Path) -> None:
    recipe, path = RECIPES["signum"], tmp_path / "c.ckpt"
    fit(a_module(recipe, 8), batches(), checkpoint_path=path)
    longer = fit(a_module(recipe), batches(), checkpoint_path=path)
    whole = fit(a_module(recipe), batches(), checkpoint_path=tmp_path / "w.ckpt")
    assert all(torch.equal(a, b) for a, b in zip(longer.parameters(), whole.parameters(), strict=True))


def test_metrics_and_loss_falls(tmp_path: Path) -> None:
    seen: list[dict[str, float]] = []
    fit(
        a_module(RECIPES["signum"], 60), batches(60), checkpoint_path=tmp_path / "c.ckpt", on_step=seen.append
    )
    assert {"loss", "fvu", "auxk", "l0", "dead_frac", "lr", "tokens_seen"} <= set(seen[0])
    assert seen[-1]["fvu"] < 0.8 * seen[0]["fvu"]
    assert 0 < seen[-1]["l0"] <= 4
    assert seen[-1]["tokens_seen"] == 60 * N


OPTIMIZERS = {"signum": {}, "adam": {"lr_warmup_steps": 3, "lr": 3e-3}, "muon": {"lr_warmup_steps": 3}}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("frozen", ["W_dec", "encoder.weight"])
def test_frozen_weights_are_the_initial_bits_and_the_others_learn(frozen, optimizer, tmp_path: Path) -> None:
    freeze = "decoder" if frozen == "W_dec" else "encoder"
    recipe = Recipe(k=4, freeze=freeze, optimizer=optimizer, multi_topk=True, **OPTIMIZERS[optimizer])
    initial = {name: weight.clone() for name, weight in new_coder(D, F, recipe).state_dict().items()}
    fvus: list[float] = []
    path = tmp_path / "c.ckpt"
    trained = fit(
        a_module(recipe, 60), batches(60), checkpoint_path=path, on_step=lambda m: fvus.append(m["fvu"])
    )
    for name, weight in trained.state_dict().items():
        assert torch.equal(weight, initial[name]) == (name == frozen), name
    assert sum(fvus[-10:]) / 10 < sum(fvus[:3]) / 3
    assert not any(parameter.requires_grad for parameter in trained.parameters())
    norms = torch.linalg.vector_norm(initial["W_dec"], dim=1)
    torch.testing.assert_close(norms, torch.ones(F))
    free = fit(
        a_module(Recipe(k=4, optimizer=optimizer, multi_topk=True, **OPTIMIZERS[optimizer]), 60),
        batches(60),
        checkpoint_path=tmp_path / "free.ckpt",
    )
    assert not torch.equal(free.state_dict()[frozen], initial[frozen])
    with pytest.raises(SaeError, match="other settings"):
        fit(a_module(Recipe(k=4), 60), batches(60), checkpoint_path=path)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_soft_frozen_decoder_rows_stay_within_their_cones(optimizer, tmp_path: Path) -> None:
    """Also the averaged weights of the schedule-free optimiser, which are the ones that are used."""
    settings = {"optimizer": optimizer, **OPTIMIZERS[optimizer], "lr": 3e-2}
    cosines = {}
    for freeze in ("none", "soft"):
        recipe = Recipe(k=4, freeze=freeze, **settings)
        initial = new_coder(D, F, recipe)
        module = a_module(recipe, 60)
        trained = fit(module, batches(60), checkpoint_path=tmp_path / f"{freeze}.ckpt")
        cosines[freeze] = torch.cosine_similarity(trained.W_dec, initial.W_dec)
        while_training = torch.cosine_similarity(module.coder.W_dec, initial.W_dec)
        assert (while_training.min() > 0.7999) == (freeze == "soft")
        assert not torch.equal(trained.encoder.weight, initial.encoder.weight)
    assert cosines["none"].min() < 0.7
    assert cosines["soft"].min() > 0.7999
    assert cosines["soft"].median() < 0.98


def test_nothing_is_computed_for_auxk_where_the_decoder_alone_would_learn_from_it(tmp_path: Path) -> None:
    seen: list[float] = []
    recipe = Recipe(k=1, freeze="decoder", auxk_alpha=0.1, dead_feature_threshold=N)
    fit(
        a_module(recipe),
        batches(),
        checkpoint_path=tmp_path / "c.ckpt",
        on_step=lambda m: seen.append(m["auxk"]),
    )
    assert seen == [0.0] * STEPS


def test_fine_tuning_keeps_the_bias(tmp_path: Path) -> None:
    recipe = Recipe(k=4, optimizer="adam", lr=1e-12, normalize_decoder=False)
    coder = new_coder(D, F, recipe)
    coder.b_dec.data.fill_(3.0)
    module = SaeTraining(coder, recipe, total_steps=2, finetune=True)
    tuned = fit(module, batches(), checkpoint_path=tmp_path / "c.ckpt")
    torch.testing.assert_close(tuned.b_dec, torch.full((D,), 3.0))


def test_saved_folder_is_sparsify_s(tmp_path: Path) -> None:
    coder = fit(a_module(RECIPES["signum"]), batches(), checkpoint_path=tmp_path / "c.ckpt")
    folder = tmp_path / "sae" / "layers.1"
    save_coder(coder, folder)
    save_coder(coder, folder)
    assert sorted(p.name for p in folder.iterdir()) == ["cfg.json", "sae.safetensors"]
    assert [p.name for p in folder.parent.iterdir()] == ["layers.1"]
    loaded = [
        SparseCoder.load_from_disk(folder),
        SparseCoder.load_many(str(folder.parent), local=True)["layers.1"],
    ]
    for other in loaded:
        assert all(torch.equal(a, b) for a, b in zip(coder.parameters(), other.parameters(), strict=True))
        assert other.cfg.k == 4
        assert other.num_latents == F


@pytest.mark.parametrize("recipe", [RECIPES["signum"], RECIPES["adam"]], ids=["signum", "adam"])
def test_nan_loss_is_one_line_and_the_checkpoint_stays(recipe, tmp_path: Path) -> None:
    bad = batches()
    bad._rows_TD[9 * N] = float("nan")
    path = tmp_path / "c.ckpt"
    with pytest.raises(
        SaeError, match=r"loss is nan at step 9; the last good checkpoint is .*c.ckpt \(step 8\)"
    ) as e:
        fit(a_module(recipe), bad, checkpoint_path=path, save_every=4)
    assert "\n" not in str(e.value)
    assert all(torch.isfinite(p).all() for p in checkpoint.averaged_coder(checkpoint.read(path)).parameters())


def test_too_few_batches(tmp_path: Path) -> None:
    with pytest.raises(SaeError, match="5 full batches, but 12"):
        fit(a_module(RECIPES["signum"]), batches(5), checkpoint_path=tmp_path / "c.ckpt")


def test_another_recipe_s_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.ckpt"
    fit(a_module(RECIPES["signum"]), batches(), checkpoint_path=path)
    with pytest.raises(SaeError, match="other settings"):
        fit(a_module(RECIPES["adam"]), batches(), checkpoint_path=path)


def test_damaged_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "c.ckpt"
    path.write_bytes(b"half a checkpoint")
    with pytest.raises(SaeError, match="delete it"):
        fit(a_module(RECIPES["signum"]), batches(), checkpoint_path=path)


def test_full_disk_keeps_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.ckpt"
    save = torch.save

    def full(state: Any, file: Any) -> None:
        if state["step"] >= 8:
            Path(file).write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save(state, file)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(
        SaeError, match=r"step 8 cannot be written .*No space left.*before it is intact"
    ) as error:
        fit(a_module(RECIPES["signum"]), batches(), checkpoint_path=path, save_every=4)
    assert "\n" not in str(error.value)
    assert checkpoint.read(path)["step"] == 4
    assert list(tmp_path.iterdir()) == [path]


SCRIPT = """
import sys, time, torch
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.training.test_fit import RECIPES, a_module, batches
from saescope.training import fit
def on_step(metrics):
    print(metrics["step"], flush=True)
    time.sleep(0.1)
fit(a_module(RECIPES["signum"], 200), batches(200), checkpoint_path=Path("c.ckpt"), on_step=on_step)
"""


def test_sigterm_saves_first(tmp_path: Path) -> None:
    script = SCRIPT.format(root=str(Path(__file__).parents[2]))
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    for line in process.stdout:
        if line.strip() == "3":
            break
    os.kill(process.pid, signal.SIGTERM)
    rest = process.stdout.read().split()
    assert process.wait(timeout=30) == -signal.SIGTERM
    last = int(rest[-1]) if rest else 3
    assert checkpoint.read(tmp_path / "c.ckpt")["step"] == last
    assert last < 10


class Losses:
    """Writes the losses of the first process; sent to it by pickle."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __call__(self, metrics: dict[str, float]) -> None:
        with self.file.open("a") as out:
            out.write(f"{metrics['loss']!r}\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"freeze": "soft"},
        {"freeze": "encoder"},
        # a new transcoder predicts the mean, so its first gradient of b_dec is 0 but for rounding:
        # signum takes the sign of that, while Adam's first step has learning rate 0
        {"transcode": True, "optimizer": "adam", "lr_warmup_steps": 3},
    ],
    ids=str,
)
def test_two_processes_give_the_losses_of_one(kind, tmp_path: Path) -> None:
    recipe = Recipe(k=4, auxk_alpha=0.1, dead_feature_threshold=200, micro_acc_steps=2, **kind)
    results = []
    for devices in (1, 2):
        file = tmp_path / f"{devices}.txt"
        coder = fit(
            a_module(recipe),
            batches_of(recipe),
            checkpoint_path=tmp_path / f"{devices}.ckpt",
            devices=devices,
            on_step=Losses(file),
        )
        results.append((torch.tensor([float(v) for v in file.read_text().split()]), coder))
    (one, _), (two, coder) = results
    assert len(one) == len(two) == STEPS
    torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-5)
    assert isinstance(coder, SparseCoder)


@pytest.mark.slow
def test_nan_in_two_processes_is_one_line(tmp_path: Path) -> None:
    bad = batches()
    bad._rows_TD[9 * N] = float("nan")
    with pytest.raises(
        SaeError, match=r"loss is nan at step 9; the last good checkpoint is .*\(step 8\)"
    ) as e:
        fit(a_module(RECIPES["signum"]), bad, checkpoint_path=tmp_path / "c.ckpt", save_every=4, devices=2)
    assert "\n" not in str(e.value)
