"""Rows of a sweep are what the jobs of this command did, whatever their folders hold."""

import subprocess
import sys
from dataclasses import replace

from saescope.runfolder.outcomes import (
    INTERRUPTED,
    JobOutcome,
    begin,
    end,
    read_outcomes,
    runs_of,
    write_outcome,
)
from tests.report.sweep_folders import write_failed, write_job

CONFIG = "sae: {source: train, k: 9}\n"


def outcome(folder, number=0, **more) -> JobOutcome:
    return JobOutcome(number, str(folder), (f"sae.k={number}",), CONFIG, **more)


def test_outcomes_come_back_in_the_order_of_the_jobs(tmp_path):
    jobs = [outcome(tmp_path / str(n), n) for n in (10, 9, 0)]
    for job in jobs:
        write_outcome(tmp_path / ".outcomes" / "x", job)
    ended = replace(jobs[0], state="failed", error="why", untouched=True)
    write_outcome(tmp_path / ".outcomes" / "x", ended)
    assert read_outcomes(tmp_path / ".outcomes" / "x") == [jobs[2], jobs[1], ended]
    assert read_outcomes(tmp_path / "nowhere") == []


BEGINS = (
    "import sys; from pathlib import Path; from saescope.runfolder.outcomes import begin; "
    "held = begin(Path(sys.argv[1])); print('begun', flush=True); sys.stdin.read()"
)


def test_outcomes_of_killed_commands_go_and_those_of_running_ones_stay(tmp_path):
    commands = tmp_path / ".outcomes"
    others = [
        subprocess.Popen(
            [sys.executable, "-c", BEGINS, str(commands / name)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for name in ("killed", "running")
    ]
    for other in others:
        assert other.stdout.readline() == b"begun\n"
    for name in ("killed", "running", "of a version without locks"):
        write_outcome(commands / name, outcome(tmp_path / "0"))
    others[0].kill()
    others[0].wait()
    held = begin(commands / "this")
    assert sorted(path.name for path in commands.iterdir()) == ["running", "running.lock", "this.lock"]
    assert held.is_locked
    write_outcome(commands / "this", outcome(tmp_path / "1"))
    end(commands / "this")
    assert sorted(path.name for path in commands.iterdir()) == ["running", "running.lock"]
    others[1].communicate()
    held = begin(commands / "last")
    end(commands / "last")
    assert not commands.exists()


def test_a_refused_job_is_a_row_beside_the_result_of_the_other_one(tmp_path):
    write_job(tmp_path / "0", k=16)
    runs, own = runs_of(tmp_path, [outcome(tmp_path / "0", state="failed", error="taken", untouched=True)])
    finished, refused = runs
    assert (finished.state, finished.overrides[0], finished.section("sae")["k"]) == ("ok", "sae.k=16", 16)
    assert (refused.state, refused.error, refused.overrides) == ("failed", "taken", ("sae.k=0",))
    assert refused.section("sae")["k"] == 9
    assert (refused.metrics, refused.provenance, refused.identity) == ({}, {}, "")
    assert own == {refused.path} == {tmp_path / "0 (refused)"}


def test_a_failed_job_shows_nothing_of_the_result_that_it_was_to_replace(tmp_path):
    write_job(tmp_path / "0", k=16)
    for state, error, row in (
        ("failed", "why", ("failed", "why")),
        ("running", "", ("unfinished", INTERRUPTED)),
    ):
        ((run,), own) = runs_of(tmp_path, [outcome(tmp_path / "0", state=state, error=error)])
        assert (run.state, run.error) == row
        assert run.overrides == ("sae.k=0",)
        assert run.section("sae")["k"] == 9
        assert (run.metrics, run.provenance) == ({}, {})
        assert own == {tmp_path / "0"}


def test_folders_that_are_not_searched_are_found_and_those_of_other_commands_are_not_ours(tmp_path):
    write_job(tmp_path / ".hidden" / "a", k=16)
    write_job(tmp_path / "wandb" / "b", k=32)
    write_failed(tmp_path / "old", "why", ["seed=1"])
    jobs = [outcome(tmp_path / place, n, state="ok") for n, place in enumerate((".hidden/a", "wandb/b"))]
    runs, own = runs_of(tmp_path, jobs)
    assert [run.path.relative_to(tmp_path).as_posix() for run in runs] == [".hidden/a", "old", "wandb/b"]
    assert [run.overrides for run in runs] == [("sae.k=0",), ("seed=1",), ("sae.k=1",)]
    assert own == {tmp_path / ".hidden" / "a", tmp_path / "wandb" / "b"}
