"""Kills while jobs share work: one pass for several hookpoints, SAEs side by side, two sweeps on one cache.

Every kill falls on a file operation (tests/faults/killed_at.py). The same command again finishes with what
an undisturbed sweep finds, nothing half-written has its final name, and what the dead left is taken away.
"""

import math
import signal
import time
from pathlib import Path

import pandas as pd
import pytest

from saescope.files import read_json
from tests.faults.disks import disk, remounted
from tests.faults.killed_at import Job, Moment, wait_for
from tests.faults.test_faults import check_whole

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

SMALL = [
    "metrics=quick", "metrics.permutations=20", "metrics.bootstraps=20", "metrics.word_draws=0",
    "metrics.null_tokens=0", "metrics.lm_tokens=200", "probes.max_tokens_per_task=1000",
    "runtime.dtype=float32", "runtime.cache=cache", "tracking=disabled",
]  # fmt: skip
LAYERS = [*SMALL, "sae=neurons", "sae.k=8"]
LAYERS_SWEPT = [*LAYERS, "hookpoint.layer=[1,2,3]"]
TOGETHER = [
    *SMALL, "-m", "hydra/launcher=together", "sae=train", "sae.expansion_factor=2,4,3", "sae.k=8",
    "sae.tokens=12000", "sae.batch_tokens=1024", "sae.save_every=3", "corpus.holdout_tokens=1024",
    "hookpoint.layer=1",
]  # fmt: skip
TRAINED = [
    *SMALL, "sae=train", "sae.expansion_factor=2", "sae.k=8", "sae.tokens=12000", "sae.batch_tokens=1024",
    "sae.save_every=3", "corpus.holdout_tokens=1024", "hookpoint.layer=1",
]  # fmt: skip

SHARD = r"shard-0000\d\.safetensors"


def finish(folder: Path, *words: str) -> None:
    job = Job(folder, [*words])
    assert job.ended() == 0, job.said()


def killed(folder: Path, *words: str, moment: Moment) -> None:
    """Start the command and let it die at this moment."""
    job = Job(folder, [*words], moment)
    assert job.ended() == -signal.SIGKILL, f"{moment} did not come: {job.said()}"
    check_whole(folder)


def results(sweep: Path, jobs: int = 3) -> list[dict]:
    """Everything the jobs of a sweep found, without what it cost."""
    return [
        {
            "metrics": {
                k: v for k, v in read_json(run / "metrics.json").items() if not k.startswith("cost/")
            },
            "features": pd.read_parquet(run / "features.parquet").to_csv(),
            "edges": pd.read_parquet(run / "edges.parquet").to_csv(),
            "weights": [file.read_bytes() for file in sorted(run.rglob("sae.safetensors"))],
            "history": [file.read_text() for file in run.glob("history.csv")],
        }
        for run in (sweep / str(number) for number in range(jobs))
    ]


def numbers(run: dict) -> dict[str, float]:
    return {key: math.nan if value is None else value for key, value in run["metrics"].items()}


def left_by_the_dead(folder: Path) -> list[Path]:
    """Unfinished files, which may be as large as what they were for."""
    return [*folder.rglob(".*.part*"), *folder.rglob("sae/.*")]


def undisturbed(tmp_path_factory, name: str, *words: str) -> list[dict]:
    folder = tmp_path_factory.mktemp(name)
    finish(folder, *words, "hydra.sweep.dir=sweep")
    return results(folder / "sweep")


@pytest.fixture(scope="module")
def of_layers(tmp_path_factory):
    return undisturbed(tmp_path_factory, "layers", *LAYERS_SWEPT)


@pytest.fixture(scope="module")
def of_trainings(tmp_path_factory):
    return undisturbed(tmp_path_factory, "together", *TOGETHER)


IN_THE_PASS = {
    "hookpoint.layer=[1,2,3]": [
        Moment("os.truncate", SHARD, 2),  # the first shard of the second hookpoint
        Moment("open", rf"\.{SHARD}", 5),  # being written
        Moment("os.rename", SHARD, 2),  # one hookpoint has its shard, two do not
        Moment("os.rename", SHARD, 6, after=0.02),
        Moment("os.rename", r"losses-\w+\.safetensors"),
        Moment("os.rename", r"1/metrics\.json"),  # the second job of three
    ],
    "-m hookpoint.layer=1,2,3": [
        Moment("os.rename", SHARD, 4, after=0.005),
        Moment("os.truncate", r"losses-"),
        Moment("os.rename", r"2/features\.parquet"),
    ],
}
IN_TRAINING = [
    Moment("os.rename", r"train\.i32"),
    Moment("os.rename", SHARD, 2),
    Moment("os.rename", r"checkpoint\.pt"),  # the first of all
    Moment("os.rename", r"checkpoint\.pt", 3),  # two of three SAEs are saved
    Moment("os.rename", r"checkpoint\.pt", 3, after=0.01),  # between checkpoints
    Moment("os.rename", r"history\.csv", 2),
    Moment("os.rename", r"0/sae/.*safetensors"),  # trained, not yet in the run folder
    Moment("os.rename", r"0/metrics\.json"),
    Moment("os.rename", r"2/sae/.*safetensors"),
]


@pytest.mark.parametrize("sweep", IN_THE_PASS)
def test_killed_in_the_pass_for_several_hookpoints(of_layers, tmp_path, sweep):
    command = [*LAYERS, *sweep.split(), "hydra.sweep.dir=sweep"]
    for moment in IN_THE_PASS[sweep]:
        killed(tmp_path, *command, moment=moment)
    finish(tmp_path, *command)
    check_whole(tmp_path)
    assert results(tmp_path / "sweep") == of_layers
    assert not left_by_the_dead(tmp_path)


def test_killed_while_saes_train_side_by_side(of_trainings, tmp_path):
    command = [*TOGETHER, "hydra.sweep.dir=sweep"]
    for moment in IN_TRAINING:
        killed(tmp_path, *command, moment=moment)
    finish(tmp_path, *command)
    check_whole(tmp_path)
    assert results(tmp_path / "sweep") == of_trainings
    assert not left_by_the_dead(tmp_path)


@pytest.mark.parametrize(
    ("words", "moment", "waits"),
    [
        # stands with shards of all three hookpoints; with the lock of the whole cache; with three trainings
        (LAYERS_SWEPT, Moment("open", rf"\.{SHARD}", 3), "another process"),
        (LAYERS_SWEPT, Moment("os.truncate", SHARD), "model embedded"),
        (TOGETHER, Moment("os.rename", r"checkpoint\.pt", 4), "another process trains this very SAE"),
    ],
    ids=["shards", "the whole cache", "trainings"],
)
def test_two_sweeps_on_one_cache_and_one_is_killed(request, tmp_path, words, moment, waits):
    """The other one takes over the locks of the dead; then the dead one's command finishes too."""
    expected = request.getfixturevalue("of_trainings" if words is TOGETHER else "of_layers")
    mark = tmp_path / "stands"
    first = Job(tmp_path, [*words, "hydra.sweep.dir=first"], moment._replace(mark=mark))
    wait_for(mark.is_file, first)
    second = Job(tmp_path, [*words, "hydra.sweep.dir=second"])
    log = tmp_path / "second" / "0" / "saescope.log"
    wait_for(lambda: log.is_file() and waits in log.read_text(), second)
    time.sleep(0.3)
    first.process.kill()
    assert first.ended() == -signal.SIGKILL
    assert second.ended() == 0, second.said()
    check_whole(tmp_path)
    assert results(tmp_path / "second") == expected
    finish(tmp_path, *words, "hydra.sweep.dir=first")
    assert results(tmp_path / "first") == expected
    assert not left_by_the_dead(tmp_path)


@pytest.mark.parametrize("size", ["1m", "5m", "9m"])
@pytest.mark.parametrize("kind", ["layers", "trainings"])
def test_a_full_disk(request, tmp_path, kind, size):
    """Too small for the activations of all hookpoints, for checkpoints, for results; then room is made."""
    expected = request.getfixturevalue(f"of_{kind}")
    words = [*(LAYERS_SWEPT if kind == "layers" else TOGETHER), "hydra.sweep.dir=sweep"]
    with disk(tmp_path / "small", f"size={size}") as place:
        job = Job(place, words)
        code = job.ended()
        assert "Traceback" not in job.said(), job.said()
        check_whole(place)
        if code:
            assert "saescope: " in job.said(), job.said()
            remounted(place, "size=400m")
            finish(place, *words)
        for run, wanted in zip(results(place / "sweep"), expected, strict=True):
            # what does not fit is computed in other batches, which changes last bits
            assert numbers(run) == pytest.approx(numbers(wanted), rel=1e-6, abs=1e-9, nan_ok=True)
            assert run["weights"] == wanted["weights"]


@pytest.mark.parametrize(
    ("kind", "fixed"), [("layers", "cache"), ("trainings", "outputs"), ("trainings", "cache")]
)
def test_a_read_only_folder(tmp_path, kind, fixed):
    with disk(tmp_path / fixed, "ro"):
        job = Job(tmp_path, [*(LAYERS_SWEPT if kind == "layers" else TOGETHER), "hydra.sweep.dir=sweep"])
        assert job.ended() == 1
        assert "Traceback" not in job.said()
        assert "ead-only" in job.said()
