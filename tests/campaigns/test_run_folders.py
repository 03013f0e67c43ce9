"""Run folders of older versions, half-written and damaged, given to all that read them."""

import json
import logging
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saescope.cli import feature, report
from saescope.cli.main import main
from saescope.errors import ReportError, SaescopeError
from saescope.report.page import write_report
from saescope.runfolder.names import TABLES
from saescope.runfolder.run import Run, open_run, read_run
from saescope.runfolder.sweep import open_sweep
from tests.campaigns.conftest import TRIED
from tests.campaigns.damage import OLDER, Outside, change, harm, older
from tests.campaigns.outcome import attempt, one_line, seeded
from tests.conftest import write_probes


@pytest.fixture(scope="module")
def finished(model_folder, tmp_path_factory) -> Path:
    """A small run folder with every file a job can write, made by a job."""
    place = tmp_path_factory.mktemp("finished")
    probes = write_probes(place / "probes", documents=16, words=25)
    args = [
        "model=local",
        f"model.name={model_folder}",
        "sae=train",
        "sae.tokens=2000",
        "sae.batch_tokens=500",
        "sae.num_latents=48",
        "sae.k=4",
        "corpus=local",
        f"corpus.path={probes / 'letters.jsonl'}",
        "corpus.ctx_len=32",
        "hookpoint.layer=2",
        "probes=folder",
        f"probes.path={probes}",
        "probes.ctx_len=32",
        "metrics=quick",
        "metrics.min_count=3",
        "metrics.min_docs=2",
        "metrics.min_joint=2",
        "metrics.permutations=20",
        "metrics.bootstraps=20",
        "metrics.lm_tokens=60",
        "causal=ablate",
        "causal.draws=20",
        "causal.tokens=64",
        "causal.draw_tokens=64",
        "causal.attribution_tokens=64",
        "causal.bootstraps=20",
        "dynamic_k=sae",
        "dynamic_k.tokens=64",
        "dynamic_k.calibration_tokens=64",
        "dynamic_k.bootstraps=20",
        "tracking=disabled",
        "runtime.dtype=float32",
        "runtime.cache=off",
        f"hydra.run.dir={place / 'run'}",
    ]
    before = sys.argv
    try:
        sys.argv = ["saescope", *args]
        logging.getLogger().handlers.clear()
        assert main() == 0
    finally:
        sys.argv = before
    assert open_run(place / "run").ok
    for unread in ("sae", "figures", "report.html", "features.html", "saescope.log"):
        path = place / "run" / unread
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return place / "run"


@pytest.fixture
def fresh(finished):
    """Makes a copy of the run folder, and one beside it that nothing may change."""
    run, outside = Path.cwd() / "runs" / "läuft <b>", Outside(Path.cwd() / "outside")
    outside.make(finished)

    def make() -> tuple[Path, Outside]:
        shutil.rmtree(run.parent, ignore_errors=True)
        shutil.copytree(finished, run)
        return run, outside

    return make


def files_of(finished: Path) -> list[str]:
    return sorted(
        path.relative_to(finished).as_posix()
        for path in finished.rglob("*")
        if path.is_file() and path.suffix != ".log" and path.name != ".lock"
    )


def sound(run: Run) -> None:
    """What a notebook takes for granted of a run that opens."""
    for key, value in run.metrics.items():
        assert value is None or math.isfinite(value), key
    assert all(isinstance(text, str) for text in (*run.warnings, *run.tasks, *run.overrides, *run.beside))
    assert all(isinstance(why, str) for why in run.notes.values())
    assert run.si_fdr > 0
    assert run.error == "" or one_line(run.error)


def use(folder: Path, what: str) -> None:
    """Everything a notebook does with a run folder, each call a result or one line."""
    run = attempt(f"{what}: open_run", lambda: open_run(folder))
    sound(read_run(folder))
    if not isinstance(run, Run):
        return
    sound(run)
    for table in run.tables:
        taken_or_said(lambda table=table: run.table(table))
        if TABLES[table].endswith(".csv"):
            taken_or_said(lambda table=table: run.rows(table))
    taken_or_said(lambda: run.structure)
    taken_or_said(lambda: run.matched)
    assert len(open_sweep(folder).metrics) == 1


def taken_or_said(call: Callable[[], Any]) -> None:
    """A part of the folder: read, or refused in one line."""
    try:
        call()
    except SaescopeError as error:
        one_line(str(error))


def called(command: Any, name: str, args: list[str], what: str, capsys: Any) -> bool:
    """Whether a command did what it is for; otherwise it has said why in one line."""
    before, sys.argv = sys.argv, [name, *args]
    capsys.readouterr()
    try:
        code = command()
    finally:
        sys.argv = before
    out, err = capsys.readouterr()
    TRIED[what, "accepted" if code == 0 else "refused"] += 1
    assert code in (0, 1)
    assert "Traceback" not in err
    if code:
        (said,) = [line for line in err.splitlines() if line.startswith(f"{name}: ")]
        one_line(said)
    for line in out.splitlines():
        assert line.isprintable(), repr(line)
    return code == 0


def look(folder: Path, what: str, latent: int, capsys: Any) -> None:
    """The two commands on the folder."""
    called(feature.main, "saescope-feature", [str(folder), str(latent)], f"{what}: saescope-feature", capsys)
    args = [str(folder.parent), "--out", "table"]
    if called(report.main, "saescope-report", args, f"{what}: saescope-report", capsys):
        assert Path("table/sweep.html").stat().st_size > 10_000
        assert "stay out" not in Path("table/sweep.html").read_text()


def page(folder: Path, what: str) -> None:
    """The page of the run, written anew."""

    def written() -> Path:
        try:
            return write_report(folder)
        except OSError as error:  # a folder where a file belongs: the job says it in one line
            raise ReportError(f"{error}") from error

    path = attempt(f"{what}: page", written)
    if isinstance(path, Path):
        assert path.stat().st_size > 10_000
        assert "stay out" not in path.read_text()


@pytest.fixture
def harmless(fresh):
    """Whatever is read, no code runs and nothing is written outside."""
    yield
    outside = Outside(Path.cwd() / "outside")
    assert not outside.trace.exists(), "a pickle was read with its code"


HARMED, CHANGED = "damaged run folders", "run folders that say something else"


@seeded(250)
@given(st.data())
def test_damaged_files_opened(fresh, finished, harmless, data):
    run, outside = fresh()
    harm(run, data.draw(st.sampled_from(files_of(finished))), outside, data.draw)
    use(run, HARMED)


@seeded(250)
@given(st.data())
def test_other_content_opened(fresh, finished, harmless, data):
    run, outside = fresh()
    change(run, data.draw(st.sampled_from(files_of(finished))), outside, data.draw)
    use(run, CHANGED)


@seeded(30)
@given(st.data(), st.sampled_from([0, 1, 7, 47, 48, -1, 10**30]))
def test_damaged_files_shown(fresh, finished, harmless, capsys, data, latent):
    run, outside = fresh()
    before = outside.contents()
    harm(run, data.draw(st.sampled_from(files_of(finished))), outside, data.draw)
    look(run, HARMED, latent, capsys)
    assert outside.contents() == before


@seeded(50)
@given(st.data(), st.integers(0, 47))
def test_other_content_shown(fresh, finished, harmless, capsys, data, latent):
    run, outside = fresh()
    change(run, data.draw(st.sampled_from(files_of(finished))), outside, data.draw)
    look(run, CHANGED, latent, capsys)


@seeded(15)
@given(st.data())
def test_pages_of_damaged_files(fresh, finished, harmless, data):
    run, outside = fresh()
    before = outside.contents()
    written = ["figures", "report.html", "features.html"]
    harm(run, data.draw(st.sampled_from([*files_of(finished), *written * 3])), outside, data.draw)
    page(run, HARMED)
    assert outside.contents() == before


@seeded(30)
@given(st.data())
def test_pages_of_other_content(fresh, finished, harmless, data):
    run, outside = fresh()
    change(run, data.draw(st.sampled_from(files_of(finished))), outside, data.draw)
    page(run, CHANGED)


@pytest.mark.parametrize("version", OLDER)
def test_older_versions(fresh, harmless, capsys, version):
    run, _ = fresh()
    older(run, version)
    what = "run folders of older versions"
    use(run, what)
    look(run, what, 1, capsys)
    page(run, what)
    opened = open_run(run)
    assert opened.metrics["features/num_latents"] == 48
    assert opened.metrics == json.loads((run / "metrics.json").read_text())
