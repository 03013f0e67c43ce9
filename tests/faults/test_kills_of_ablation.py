"""Kills in the causal ablation: what is done stays done, and the result is that of an undisturbed run.

As in test_shared_work.py every kill falls on a stated file operation.
"""

import shutil

import pytest
from safetensors.numpy import load_file, save_file

from saescope.overlap.sae_file import ASSETS
from tests.faults.killed_at import Job, Moment
from tests.faults.test_faults import check_whole
from tests.faults.test_kills_of_files import RUN, everything, undisturbed
from tests.faults.test_shared_work import finish, killed, left_by_the_dead

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

ABLATED = [
    *RUN, "causal=ablate", "causal.to=mean", "causal.tokens=256", "causal.draw_tokens=128", "causal.draws=20",
    "causal.ablated_draws=1", "causal.bootstraps=20", "causal.attribution_tokens=256",
    "runtime.batch_tokens=256", "causal.layers=[2]",
]  # fmt: skip
"""Seven passes of four batches: latents by themselves, sets, draws, communities, two layers, both at once."""


@pytest.fixture(scope="module")
def of_ablation(tmp_path_factory, cache):
    return undisturbed(tmp_path_factory, cache, "ablated", *ABLATED)


IN_THE_ABLATION = [
    Moment("os.rename", "partial-check"),  # nothing is saved
    Moment("os.rename", "partial-check", 2),
    Moment("os.rename", "partial-check", 3),  # the last batch of the pass is done, not saved
    Moment("os.rename", "partial-sets"),
    Moment("os.rename", "partial-sets", 2),
    Moment("open", r"\.partial-sets", 4),  # the next one is being written
    Moment("open", r"\.partial-draws"),  # between passes
    Moment("os.rename", "partial-draws", 3),
    Moment("os.rename", "partial-modules"),
    Moment("os.rename", "partial-modules", 4),
    Moment("os.rename", r"partial-layer layers\.1", 2),
    Moment("os.rename", r"partial-layer layers\.2", 4),
    Moment("os.rename", r"partial-layers together", 3),
    Moment("open", r"\.causal\.parquet"),
    Moment("os.rename", r"causal\.parquet"),
    Moment("os.rename", r"causal_modules\.parquet"),
    Moment("os.rename", r"causal_layers\.parquet"),
]


def test_killed_in_the_ablation(of_ablation, cache, tmp_path):
    command = [*ABLATED, cache, "hydra.run.dir=run"]
    for moment in IN_THE_ABLATION:
        killed(tmp_path, *command, moment=moment)
    job = Job(tmp_path, command, Moment("os.rename", "partial-"))  # no pass has anything left to do
    assert job.ended() == 0, job.said()
    check_whole(tmp_path)
    assert everything(tmp_path / "run") == of_ablation
    assert not left_by_the_dead(tmp_path)
    assert not [*(tmp_path / "run").glob(".partial*")]


def test_sums_of_the_sae_before_an_edit_are_not_taken_for_those_of_the_edited_one(cache, tmp_path):
    """Half the decoder: the latents that fire and the sets are the same, what taking them out does is not."""
    saes = tmp_path / "saes"
    shutil.copytree(ASSETS, saes)
    others = ("sae=", "sae.k=", "hookpoint.", "causal.layers=")
    command = [word for word in ABLATED if not word.startswith(others)]
    command += ["sae=hub", f"sae.repo={saes}", "hookpoint.layer=3", cache]
    killed(tmp_path, *command, "hydra.run.dir=run", moment=Moment("os.rename", "partial-sets", 2))
    file = saes / "layers.3" / "sae.safetensors"
    weights = load_file(file)
    save_file({**weights, "W_dec": weights["W_dec"] / 2}, file)
    for folder in ("run", "undisturbed"):
        finish(tmp_path, *command, f"hydra.run.dir={folder}", "force=true")
    assert everything(tmp_path / "run") == everything(tmp_path / "undisturbed")
