"""Kills while the files of a run are written.

As in test_shared_work.py every kill falls on a stated file operation. What is measured is not measured twice.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from saescope.files import read_json
from tests.faults.killed_at import Moment
from tests.faults.test_faults import check_whole
from tests.faults.test_shared_work import SMALL, finish, killed, left_by_the_dead

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

RUN = [*SMALL, "sae=neurons", "sae.k=8", "hookpoint.layer=1"]


def everything(run: Path) -> dict:
    """All that a run folder holds, without what it cost and how it looks."""
    metrics = read_json(run / "metrics.json")
    with np.load(run / "latents.npz") as file:
        latents = {name: file[name].tobytes() for name in file.files}
    return {
        "metrics": {key: value for key, value in metrics.items() if not key.startswith("cost/")},
        "latents": latents,
        "notes": read_json(run / "status.json")["notes"],
        "warnings": read_json(run / "status.json")["warnings"],
        **{path.name: pd.read_parquet(path).to_csv() for path in run.glob("*.parquet")},
        **{path.name: path.read_text() for path in (run / "figures").glob("*.svg")},
        **{name: (run / name).read_text() for name in ("matched.json", "histograms.json", "features.html")},
    }


def times_measured(run: Path) -> int:
    """Over all commands that worked in the folder."""
    return (run / "saescope.log").read_text().count("statistics: SI with")


def undisturbed(tmp_path_factory, cache: str, name: str, *words: str) -> dict:
    folder = tmp_path_factory.mktemp(name)
    finish(folder, *words, cache, "hydra.run.dir=run")
    return everything(folder / "run")


@pytest.fixture(scope="module")
def of_run(tmp_path_factory, cache):
    return undisturbed(tmp_path_factory, cache, "plain", *RUN)


BEFORE_ALL_DATA = [
    Moment("os.rename", r"edges_within_token\.parquet"),
    Moment("open", r"\.latents\.npz"),
    Moment("os.rename", r"latents\.npz"),
    Moment("os.rename", r"resamples\.parquet"),
    Moment("os.rename", r"run/matched\.json"),
    Moment("os.rename", r"run/metrics\.json"),
]
PAGES = [
    Moment("open", r"\.features\.html"),
    Moment("os.rename", r"features\.html"),
    Moment("os.rename", r"figures/si\.svg"),
    Moment("open", r"\.report\.html"),
    Moment("os.rename", r"report\.html"),
    Moment("os.rename", r"run/status\.json", 2),  # of a command that finds the data: the one that says ok
    Moment("os.rename", r"\.finished"),
]


def test_killed_while_the_files_of_a_run_are_written(of_run, cache, tmp_path):
    command, run = [*RUN, cache, "hydra.run.dir=run"], tmp_path / "run"
    for moment in BEFORE_ALL_DATA:
        killed(tmp_path, *command, moment=moment)
    for moment in PAGES:
        killed(tmp_path, *command, moment=moment)
        assert times_measured(run) == len(BEFORE_ALL_DATA) + 1
    finish(tmp_path, *command)
    check_whole(tmp_path)
    assert everything(run) == of_run
    assert times_measured(run) == len(BEFORE_ALL_DATA) + 1
    assert not left_by_the_dead(tmp_path)
