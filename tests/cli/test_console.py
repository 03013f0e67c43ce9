"""What a person sees at the end of a run and of a sweep, from the folders alone."""

from saescope.cli.console import print_run, print_sweep
from saescope.runfolder.status import write_status
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
    cells = [line.split()[1] for line in said.splitlines() if line.startswith("│")]
    assert [cell for cell in cells if cell != "│"] == [*(f"a/{at}" for at in range(11)), "b/0", "b/1", "b/2"]
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
    assert "sae.k=16" in said
    assert "sae.expansion_factor" not in said


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
