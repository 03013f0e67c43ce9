"""A killed pass goes on where it stopped, and only with the same sets and settings."""

import dataclasses

import numpy as np
import pytest

from saescope.causal import passes
from saescope.causal.ablation import Ablation
from saescope.causal.passes import measure
from saescope.causal.removal import LatentSet
from saescope.config import Ablate, RandomSae, app
from saescope.runfolder.partial import read_partial, remove_partials
from tests.dynamic_k.job import config, sae_of, setup_of


@pytest.fixture(scope="module")
def world(model_folder, probes):
    cfg = config(model_folder, probes, sae=RandomSae(k=6, num_latents=48), layer=1)
    cfg = dataclasses.replace(cfg, causal=Ablate())
    setup = setup_of(cfg, batch_tokens=128)
    everyone = np.ones(len(setup.windows.task_D), dtype=bool)
    return cfg, Ablation(setup, sae_of(cfg, setup), everyone, 600)


SETS = [LatentSet("a", np.arange(6)), LatentSet("b", np.arange(6, 20))]


def test_resumed_sums_are_those_of_one_pass(world, tmp_path, monkeypatch):
    cfg, ablation = world
    monkeypatch.setattr(passes, "SAVE_EVERY_S", -1.0)
    whole = measure(ablation, SETS, "sets", cfg, None)
    assert list(tmp_path.glob("*")) == []
    each_batch, run_from = ablation.each_batch, []

    def killed(sets, meter, start=0):
        for number, part in enumerate(each_batch(sets, meter, start)):
            if number == 2:
                raise KeyboardInterrupt
            yield part

    def watched(sets, meter, start=0):
        run_from.append(start)
        return each_batch(sets, meter, start)

    monkeypatch.setattr(ablation, "each_batch", killed)
    with pytest.raises(KeyboardInterrupt):
        measure(ablation, SETS, "sets", cfg, tmp_path)
    monkeypatch.setattr(ablation, "each_batch", watched)
    resumed = measure(ablation, SETS, "sets", cfg, tmp_path)
    for name in ("ce_GD", "kl_GD", "norm_GD", "firings_GD", "tokens_D"):
        np.testing.assert_array_equal(getattr(resumed, name), getattr(whole, name))
    again = measure(ablation, SETS, "sets", cfg, tmp_path)  # all of it is there
    np.testing.assert_array_equal(again.kl_GD, whole.kl_GD)
    measure(ablation, SETS[:1], "sets", cfg, tmp_path)
    measure(ablation, SETS, "other", cfg, tmp_path)
    measure(ablation, SETS, "other", cfg, tmp_path)
    monkeypatch.setattr(app, "METHOD_VERSION", 0)
    measure(ablation, SETS, "other", cfg, tmp_path)  # sums of another method
    assert run_from == [2, len(ablation.cut), 0, 0, len(ablation.cut), 0]
    remove_partials(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_sums_that_cannot_be_saved_cost_a_warning_a_pass(world, tmp_path, monkeypatch, caplog):
    cfg, ablation = world
    monkeypatch.setattr(passes, "SAVE_EVERY_S", -1.0)
    (tmp_path / "file").write_text("a file where the folder should be")
    effects = measure(ablation, SETS, "sets", cfg, tmp_path / "file")
    assert effects.tokens_D.sum() > 0
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "could not be saved" in warning
    assert str(tmp_path / "file") in warning


def test_a_damaged_file_is_no_start(tmp_path):
    (tmp_path / ".partial-sets.npz").write_bytes(b"PK\x03\x04 no archive")
    assert read_partial(tmp_path, "sets", "x") is None
    assert read_partial(tmp_path, "missing", "x") is None
