"""What a person sees at the end of a run and of a sweep, from the folders alone."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from saescope.cli.console import PLAIN, print_job, print_run, print_sweep
from saescope.cli.sweep_table import print_table
from saescope.runfolder.run import Run, read_run
from saescope.runfolder.status import write_status
from saescope.runfolder.sweep import find_runs
from tests.report.report_folder import write_run
from tests.report.sweep_folders import write_failed, write_job


def test_jobs_at_any_depth_are_rows_and_failed_ones_are_returned(tmp_path, capsys):
    for at in range(11):
        write_job(tmp_path / "a" / str(at), k=8 + at)
    write_failed(tmp_path / "b" / "0", "no\nroom", ["sae.k=9", "seed=1"])
    write_failed(tmp_path / "b" / "1", "", ["sae.k=10"], state="running")
    write_status(tmp_path / "b" / "2", "ok")  # its metrics are gone
    wrong = print_sweep(tmp_path)
    said = capsys.readouterr().out
    assert "14 jobs" in said
    rows = said.split("modularity")[-1].splitlines()
    cells = [line.split()[0] for line in rows if line.startswith(("a/", "b/"))]
    assert cells == [*(f"a/{at}" for at in range(11)), "b/0", "b/1", "b/2"]
    assert wrong == [
        "job b/0 (sae.k=9 seed=1): no room",
        "job b/1 (sae.k=10): did not finish: still running, or killed",
        "job b/2 (): metrics.json is missing or empty",
    ]
    assert all(f"failed: {line}" in said for line in wrong)


def test_settings_that_all_jobs_share_are_left_out(tmp_path, capsys):
    for k in (16, 32):
        write_job(tmp_path / str(k), k=k)
    assert print_sweep(tmp_path) == []
    said = capsys.readouterr().out
    assert said.startswith("2 jobs, all ok\n")
    assert "all jobs: sae.expansion_factor=8 hookpoint.depth=0.5 sae.init_seed=0\n" in said
    assert said.count("expansion_factor") == 1
    assert [line.split()[:2] for line in said.splitlines()[-3:-1]] == [["16", "16"], ["32", "32"]]


def table_at(width: int, jobs: list[Run], folder: Path) -> list[str]:
    """Lines of the table on a terminal of this width, what all jobs share included."""
    console = Console(file=io.StringIO(), width=width, soft_wrap=True, **PLAIN)
    print_table(jobs, folder, console, width)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [60, 80, 100, 140, 180])
def test_the_value_that_differs_is_whole_at_every_width(tmp_path, width):
    axes = [("false", 8, "resid"), ("true", 8, "resid"), ("false", 16, "mlp"), ("true", 16, "mlp")]
    for at, (random_init, expansion, place) in enumerate(axes):
        write_job(tmp_path / str(at), k=32 + at)
        write_status(
            tmp_path / str(at),
            "ok",
            overrides=[
                f"model.random_init={random_init}",
                f"+sae.expansion_factor={expansion}",
                f"hookpoint={place}",
                "sae.tokens=20000",
                "metrics=quick",
            ],
        )
    lines = table_at(width, list(map(read_run, find_runs([tmp_path]))), tmp_path)
    assert lines[0] == "4 jobs, all ok"
    assert lines[1] == "all jobs: sae.tokens=20000 metrics=quick"
    rows = [line.split() for line in lines if line[:1] in "0123" and line.split()[1:2]]
    assert [tuple(row[1:4]) for row in rows if row[1] in ("true", "false")] == [
        (random_init, str(expansion), place) for random_init, expansion, place in axes
    ]
    header = " ".join(" ".join(lines[2:]).split("─")[0].split())
    for name in ("random_init", "expansion_factor", "hookpoint"):
        assert name in header or width == 60
    assert not any("…" in line for line in lines)
    table = [line for line in lines if line[:1] in "0123" or "─" in line]
    assert max(map(len, table)) <= width
    metrics = ["sae/fvu", "si/excess", "q/excess"] if width == 80 else []
    for key in metrics:
        assert key.split("/")[1] in header
    if width >= 100:
        assert "modularity" in header


@pytest.mark.parametrize("width", [80, 100, 140])
def test_long_values_and_equal_ends_of_names(tmp_path, width):
    names = [f"/data/models/of/a/long/path/that/fills/the/line/{end}/hf" for end in ("first", "second")]
    for at, name in enumerate(names):
        write_job(tmp_path / str(at))
        overrides = [f"model.name={name}", f"hookpoint.name=layers.{at}", "sae.k=4"]
        write_status(tmp_path / str(at), "ok", overrides=overrides)
    jobs = list(map(read_run, find_runs([tmp_path])))
    lines = table_at(width, jobs, tmp_path)
    text = "".join(lines)
    assert "model.name" in text
    assert "hookpoint.name" in text
    for end in ("layers.0", "layers.1"):
        assert any(end in line for line in lines)
    start = len(lines) - next(at for at, line in enumerate(reversed(lines)) if "─" in line)
    column = lines[start - 2].index("model.name") if "model.name" in lines[start - 2] else 4
    folded = "".join(line[column:].split(" ")[0] for line in lines[start:])
    for name in names:
        assert name in folded, folded
    assert max(len(line) for line in lines[1:] if not line.startswith(("all jobs", "no room"))) <= width


def test_metrics_that_do_not_differ_are_said_once(tmp_path):
    for at in range(3):
        write_job(tmp_path / str(at), k=16, expansion=8 + at)
    write_failed(tmp_path / "3", "no room", ["sae.k=16"])
    lines = table_at(140, list(map(read_run, find_runs([tmp_path]))), tmp_path)
    assert lines[0] == "4 jobs"
    assert "all jobs that ended: " in "".join(lines[:4])
    assert "sae/l0 16, lm/ce_score 0.94, features/supported 80, " in "".join(lines[:6])
    header = " ".join(lines)
    assert "state" in header
    assert "failed" in lines[-1]


def test_a_job_of_a_sweep_is_one_line(tmp_path, capsys):
    write_job(tmp_path / "1", si=0.2)
    print_job("job 2 of 6", 95, tmp_path / "1")
    print_job("job 3 of 6", 1, tmp_path / "1", tmp_path / "first")
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("job 2 of 6 ok: si/mutual_info ")
    assert first.endswith(f"; 2 min; {tmp_path / '1'}")
    assert f"this very config had a finished result in {tmp_path / 'first'}" in second


def test_a_sweep_without_jobs_has_an_empty_table(tmp_path, capsys):
    assert print_sweep(tmp_path) == []
    assert "0 jobs" in capsys.readouterr().out


def test_brackets_and_colons_are_printed_as_they_are(tmp_path, capsys):
    for k in (16, 32):
        write_job(tmp_path / "[bold]x[/bold] :smile:" / str(k), k=k)
    write_failed(tmp_path / "b" / "[/red]", "no [red] file", ["model.name=/x/[a]:smile:"])
    print_sweep(tmp_path / "[bold]x[/bold] :smile:")
    print_sweep(tmp_path)
    print_run(write_run(tmp_path / "[link=x]y"), reused_from=tmp_path / "[i]z")
    said = capsys.readouterr().out
    for text in ("[bold]x[/bold] :smile:", "no [red] file", "/x/[a]:smile:", "[/red]", "[link=x]y", "[i]z"):
        assert text in said


def test_a_run(tmp_path, capsys):
    print_run(write_run(tmp_path / "run"), reused_from=tmp_path / "first")
    said = capsys.readouterr().out
    assert "0.187" in said
    assert "83 % of the 912 supported latents" in said
    assert f"had a finished result in {tmp_path / 'first'}" in said
    assert "upload with: wandb sync" in said
    assert f"report:  {tmp_path / 'run' / 'report.html'}" in said
