"""SAEs trained side by side: the bits of SAEs trained alone, each with its own checkpoint and curves."""

import os
import signal
from pathlib import Path

import pytest
import torch

from saescope.errors import SaeError
from saescope.training import Recipe, checkpoint, fit
from saescope.training.side_by_side import Companion
from tests.training.test_fit import RECIPES as ALL
from tests.training.test_fit import STEPS, Killed, a_module, batches, killer

RECIPES = {name: recipe for name, recipe in ALL.items() if not recipe.transcode}


class Counted:
    """Batches that count how often each was computed."""

    def __init__(self):
        self.inner, self.read = batches(), []
        self.batch_tokens = self.inner.batch_tokens

    def __len__(self):
        return len(self.inner)

    def iter_from(self, step, rank=0, world=1):
        for at, batch in enumerate(self.inner.iter_from(step, rank, world), step):
            self.read.append(at)
            yield batch


def alone(name: str, tmp_path: Path):
    metrics = []
    coder = fit(
        a_module(RECIPES[name]),
        batches(),
        checkpoint_path=tmp_path / f"{name}.alone",
        on_step=metrics.append,
    )
    return coder, metrics


def equal(one, other) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def test_bit_equal_to_training_alone(tmp_path):
    source, metrics = Counted(), {name: [] for name in RECIPES}
    lead, *others = RECIPES
    companions = [
        Companion(a_module(RECIPES[name]), tmp_path / f"{name}.ckpt", metrics[name].append) for name in others
    ]
    coders = {
        lead: fit(
            a_module(RECIPES[lead]),
            source,
            checkpoint_path=tmp_path / f"{lead}.ckpt",
            on_step=metrics[lead].append,
            companions=companions,
        )
    }
    assert source.read == list(range(STEPS)), "every batch was computed once for all"
    for name in others:  # their own jobs find them finished and train nothing
        unread = Counted()
        coders[name] = fit(a_module(RECIPES[name]), unread, checkpoint_path=tmp_path / f"{name}.ckpt")
        assert unread.read == []
    for name in RECIPES:
        coder, curves = alone(name, tmp_path)
        assert equal(coders[name], coder)
        assert metrics[name] == curves


def test_killed_and_resumed_side_by_side(tmp_path):
    def run(on_step=None):
        companion = Companion(a_module(RECIPES["adam"]), tmp_path / "adam.ckpt")
        return fit(
            a_module(RECIPES["signum"]),
            batches(),
            checkpoint_path=tmp_path / "signum.ckpt",
            save_every=4,
            on_step=on_step,
            companions=[companion],
        )

    with pytest.raises(Killed):
        run(killer(7))
    steps = [checkpoint.read(tmp_path / f"{name}.ckpt")["step"] for name in ("signum", "adam")]
    assert steps == [4, 4]
    assert equal(run(), alone("signum", tmp_path)[0])
    finished = fit(a_module(RECIPES["adam"]), batches(), checkpoint_path=tmp_path / "adam.ckpt")
    assert equal(finished, alone("adam", tmp_path)[0])


def killed_at_step_seven(name, folder):
    """A training alone whose last checkpoint is that of step 4."""
    with pytest.raises(Killed):
        fit(
            a_module(RECIPES[name]),
            batches(),
            checkpoint_path=folder / f"{name}.ckpt",
            save_every=4,
            on_step=killer(7),
        )


def test_a_companion_that_is_ahead_is_joined_at_its_step(tmp_path):
    """A kill may come when the companion is saved and the first SAE is not yet."""
    curves = []
    killed_at_step_seven("adam", tmp_path)
    source = Counted()
    coder = fit(
        a_module(RECIPES["signum"]),
        source,
        checkpoint_path=tmp_path / "signum.ckpt",
        companions=[Companion(a_module(RECIPES["adam"]), tmp_path / "adam.ckpt", curves.append)],
    )
    assert source.read == list(range(STEPS))
    expected, metrics = alone("adam", tmp_path)
    assert curves == metrics[4:]
    assert equal(fit(a_module(RECIPES["adam"]), batches(), checkpoint_path=tmp_path / "adam.ckpt"), expected)
    assert equal(coder, alone("signum", tmp_path)[0])


def test_a_companion_that_is_behind_is_left_alone(tmp_path):
    killed_at_step_seven("signum", tmp_path)
    companion = Companion(a_module(RECIPES["adam"]), tmp_path / "adam.ckpt")
    coder = fit(
        a_module(RECIPES["signum"]),
        batches(),
        checkpoint_path=tmp_path / "signum.ckpt",
        companions=[companion],
    )
    assert not (tmp_path / "adam.ckpt").exists()
    assert equal(coder, alone("signum", tmp_path)[0])


def test_a_companion_whose_loss_is_not_finite_leaves(tmp_path, caplog):
    wild = Recipe(k=4, optimizer="adam", lr=1e30, lr_warmup_steps=0, normalize_decoder=False)
    companion = Companion(a_module(wild), tmp_path / "wild" / "wild.ckpt")
    coder = fit(
        a_module(RECIPES["signum"]),
        batches(),
        checkpoint_path=tmp_path / "signum.ckpt",
        companions=[companion],
    )
    assert "the loss is" in caplog.text
    assert not (tmp_path / "wild" / "wild.ckpt").exists()
    assert equal(coder, alone("signum", tmp_path)[0])
    with pytest.raises(SaeError, match="the loss is"):
        fit(a_module(wild), batches(), checkpoint_path=tmp_path / "wild" / "wild.ckpt")


def test_sigterm_saves_all(tmp_path):
    def stop(metrics):
        if metrics["step"] == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with pytest.raises(SystemExit):
            fit(
                a_module(RECIPES["signum"]),
                batches(),
                checkpoint_path=tmp_path / "signum.ckpt",
                on_step=stop,
                companions=[Companion(a_module(RECIPES["adam"]), tmp_path / "adam.ckpt")],
            )
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    steps = [checkpoint.read(tmp_path / f"{name}.ckpt")["step"] for name in ("signum", "adam")]
    assert steps == [6, 6]
