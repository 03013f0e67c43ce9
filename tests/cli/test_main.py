"""The command as users type it: errors in one line, a whole run, a sweep, reuse."""

import errno
import json
import logging
import re
import shutil
import subprocess
import sys
from pathlib import Path

import hydra
import pandas as pd
import pytest
import wandb
import yaml

from saescope.cli.main import main
from saescope.errors import ReportError, SaescopeError
from saescope.jobs.job import Context, failed
from saescope.runfolder.sweep import open_sweep
from saescope.tracking.facts import config_of, facts, without_null
from saescope.version import __version__
from tests.support.wandb_log import load, logs, nulls
from tests.test_metrics import keys_of_a_run

QUICK = ["metrics=quick", "metrics.lm_tokens=600", "probes.ctx_len=64", "hookpoint.layer=2"]


@pytest.fixture
def saescope(monkeypatch, capfd):
    """Runs `saescope ARGS` in this process; returns exit code, stdout, stderr."""

    def run(*args: str):
        monkeypatch.setattr(sys, "argv", ["saescope", *args])
        logging.getLogger().handlers.clear()  # an earlier job's handlers hold a closed stdout
        code = main()
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture
def here(model_folder, sae_folder, probes) -> list[str]:
    """Overrides that point at the tiny model, its SAEs and the small probes."""
    return [
        "model=local",
        f"model.name={model_folder}",
        f"sae.repo={sae_folder}",
        "probes=folder",
        f"probes.path={probes}",
        *QUICK,
    ]


def test_help_is_fast_and_free_of_torch():
    code = (
        "import sys, time; start = time.perf_counter(); sys.argv = ['saescope', '--help']\n"
        "from saescope.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'lightning', 'wandb', 'sparsify', 'sae_lens', 'pandas'}\n"
        "heavy &= set(sys.modules)\n"
        "print('HEAVY', sorted(heavy), time.perf_counter() - start)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "saescope -m sae.k=4,8,16" in out
    last = out.splitlines()[-1]
    assert last.startswith("HEAVY [] ")
    assert float(last.split()[-1]) < 2.0


def test_bare_help_is_what_hydra_prints(capsys, monkeypatch):
    """`--help` alone is answered without Hydra's help; with an override Hydra answers."""
    monkeypatch.setattr(sys, "argv", ["saescope", "--help"])
    assert main() == 0
    ours = capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["saescope", "--help", "seed=0"])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().out == ours


def test_cfg_job_prints_the_config_without_torch():
    code = (
        "import sys; sys.argv = ['saescope', '--cfg', 'job']\n"
        "from saescope.cli.main import main\n"
        "assert main() == 0\n"
        "assert 'torch' not in sys.modules\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert yaml.safe_load(out)["sae"]["source"] == "hub"


def broken_probes(folder: Path, content: bytes) -> str:
    folder.mkdir()
    (folder / "a.jsonl").write_text('{"text": "fine"}\n')
    (folder / "b.jsonl").write_bytes(content)
    return str(folder)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["model=nope"], ["model=nope", "embedded", "pythia-70m"]),
        (["model=pythia-70"], ["did you mean 'pythia-70m'"]),
        (["sae=nope"], ["hub", "neurons", "random"]),
        (["sae.kk=3"], ["sae.kk", "did you mean 'k'", "expansion_factor"]),
        (["+sae.kk=3"], ["sae.kk", "did you mean 'k'", "expansion_factor"]),
        (["modle=embedded"], ["did you mean 'model'"]),
        (["hookpoint.layer=99"], ["layers 0–"]),
        (["model=pythia-70m", "hookpoint.layer=10"], ["hookpoint.layer=10", "layers 0–5"]),
        (
            ["model=pythia-70m", "sae.repo=EleutherAI/sae-pythia-70m-32x", "hookpoint.layer=3"],
            ["no Hub repository EleutherAI/sae-pythia-70m-32x", "known for", "EleutherAI/sae-pythia-70m-32k"],
        ),
        (["hookpoint.layer=-1"], ["hookpoint.layer=-1", "0 or more"]),
        (["hookpoint.depth=1.5"], ["between 0 and 1"]),
        (["hookpoint=custom", "hookpoint.name=layers.2.mpl"], ["did you mean 'layers.2.mlp'"]),
        (["sae.k=0"], ["sae.k=0", "1 or more"]),
        (["sae.k=lots"], ["whole number"]),
        (["probes.path=missing"], ["probes=folder"]),
        (["probes=folder", "probes.path=missing"], ["missing", "no such folder"]),
        (["probes=folder"], ["probes.path"]),
        (["probes.ctx_len=100000"], ["exceeds the model's context"]),
        (["model=local"], ["'model.name' must be given"]),
        (["hookpoint=custom"], ["hookpoint=custom needs hookpoint.name"]),
        (["model.name=/x/epoch=3"], ["model.name=/x/epoch=3", "'model.name=\"/x/epoch=3\"'"]),
        (["-m", "hydra/sweeper=optuna", "seed=1,2"], ["pip install hydra-optuna-sweeper"]),
        (
            ["-m", "seed=1,2", "sae.tokens=5"],
            ["sae.tokens is for sae=train or pca or directions, not for sae=hub"],
        ),
        (["model=local", "model.name=/no/such/folder"], ["/no/such/folder", "does not exist"]),
        (["runtime.device=cuda"], ["available: cpu"]),
        (["tracking=wandbb"], ["offline", "disabled"]),
        (["metrics.unit=word"], ["token, chunk, document"]),
    ],
)
def test_user_errors_are_one_line(saescope, args, words):
    if args == ["runtime.device=cuda"]:
        import torch

        if torch.cuda.is_available():
            pytest.skip("this machine has CUDA")
    code, _, err = saescope(*args, "tracking=disabled") if "tracking=wandbb" not in args else saescope(*args)
    assert code == 1
    assert err.count("\n") == 1, err
    for word in words:
        assert word in err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["b.jsonl", "holds no document"]),
        (b'{"text": "x"}\n{"text": \n', ["b.jsonl line 2", "no JSON"]),
        (b'{"txt": "x"}\n', ["b.jsonl line 1", "no text under 'text'", "did you mean 'txt'"]),
        (b'{"text": "\xff\xfe"}\n', ["b.jsonl line 1", "UTF-8"]),
    ],
)
def test_broken_probe_files_are_one_line(saescope, tmp_path, content, words):
    folder = broken_probes(tmp_path / "broken", content)
    code, _, err = saescope("probes=folder", f"probes.path={folder}", "tracking=disabled")
    assert code == 1
    assert err.count("\n") == 1, err
    assert all(word in err for word in words), err


def test_one_task_only(saescope, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a.txt").write_text("words\n\nmore words\n")
    code, _, err = saescope("probes=folder", f"probes.path={tmp_path / 'one'}", "tracking=disabled")
    assert (code, err.count("\n")) == (1, 1)
    assert "at least two" in err


FILES = [
    "config.yaml",
    "metrics.json",
    "features.parquet",
    "edges.parquet",
    "examples.parquet",
    "matched.json",
    "report.html",
    "tracking.json",
    "status.json",
]


def test_a_run_writes_everything_and_wandb_holds_it(saescope, here, tmp_path):
    code, out, err = saescope(*here, "hydra.run.dir=run", "tracking=offline")
    assert (code, err) == (0, "")
    run = tmp_path / "run"
    assert all((run / name).is_file() for name in FILES)
    assert not list(run.glob(".*tmp*"))
    metrics = json.loads((run / "metrics.json").read_text())
    status = json.loads((run / "status.json").read_text())
    tasks = {key.split("/")[1] for key in metrics if key.startswith("task/")}
    assert set(metrics) == keys_of_a_run(tasks)
    assert tasks == {"letters", "numbers", "shouts"}
    assert {key for key, value in metrics.items() if value is None} == set(status["notes"])
    features = pd.read_parquet(run / "features.parquet")
    assert len(features) == 256
    live = features[features.supported]
    assert live.si.mean() == pytest.approx(metrics["si/mean"])
    assert features.loc[~features.alive, ["si", "si_naive"]].isna().all().all()
    matched = json.loads((run / "matched.json").read_text())
    assert matched["si_firings"] == 50
    assert bool(matched["q"]) != bool(matched["q_lacks"])
    edges = pd.read_parquet(run / "edges.parquet")
    assert len(edges) == metrics["q/n_edges"] > 0
    assert ((edges.source < edges.target) & (edges.pmi > 0)).all()
    examples = pd.read_parquet(run / "examples.parquet")
    assert len(examples) > 0
    assert (examples.groupby("latent").activation.apply(lambda a: a.is_monotonic_decreasing)).all()
    assert f"report:  {run / 'report.html'}" in out

    wandb.teardown()
    (log,) = logs(run)
    logged = load(log)
    ours = {
        k: v for k, v in logged["summary"].items() if not k.startswith(("_", "hist/", "tables/", "pages/"))
    }
    assert ours == {key: value for key, value in metrics.items() if value is not None}
    assert nulls(logged["summary"]) == nulls(logged["config"]) == []
    config = yaml.safe_load((run / "config.yaml").read_text())
    resolved = json.loads((run / "provenance.json").read_text())
    expected = config_of(config, resolved) | {"resolved": without_null(resolved)} | facts(config, resolved)
    assert {k: v for k, v in logged["config"].items() if k != "_wandb"} == expected
    assert logged["config"]["num_latents"] == 256
    pinned = logged["config"]["_wandb"]["pinned_keys"]
    assert pinned
    assert set(pinned) <= set(logged["config"])
    assert logged["exit_code"] == 0
    (artifact,) = [a for a in logged["artifacts"] if a["type"] == "feature_table"]
    assert set(artifact["paths"]) == {
        "features.parquet", "edges.parquet", "edges_within_token.parquet", "examples.parquet",
    }  # fmt: skip
    assert all(Path(p).is_relative_to(run) and Path(p).is_file() for p in artifact["paths"].values())
    tracking = json.loads((run / "tracking.json").read_text())
    assert tracking["id"] == logged["run"]["id"]
    assert tracking["sync"] in out


def test_the_same_config_again_finds_the_finished_result(saescope, here, tmp_path):
    args = [*here, "tracking=disabled", "metrics.lm_tokens=0"]
    assert saescope(*args, "hydra.run.dir=first")[0] == 0
    metrics = (tmp_path / "first" / "metrics.json").read_bytes()
    code, out, _ = saescope(*args, "hydra.run.dir=second", "runtime.batch_tokens=500")
    assert code == 0
    assert "finished result" in out
    assert "extracted" not in out
    assert (tmp_path / "second" / "metrics.json").read_bytes() == metrics
    assert json.loads((tmp_path / "second" / "status.json").read_text())["state"] == "ok"
    assert json.loads(metrics)["lm/ce"] is None
    _, out, _ = saescope(*args, "hydra.run.dir=third", "force=true")
    assert "extracted" in out
    _, out, _ = saescope(*args, "hydra.run.dir=fourth", "seed=1")
    assert "extracted" in out


def test_a_finished_folder_is_not_overwritten(saescope, here, tmp_path):
    args = [*here, "tracking=disabled", "metrics.lm_tokens=0", "hydra.run.dir=run"]
    assert saescope(*args)[0] == 0
    before = contents(tmp_path / "run")
    assert {"saescope.log", ".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml"} <= set(before)
    for refused, words in (("sae.k=2", "finished result of another config"), ("sae.k=lots", "whole number")):
        code, _, err = saescope(*args, refused)
        assert (code, err.count("\n")) == (1, 1)
        assert words in err
        assert contents(tmp_path / "run") == before
    assert saescope(*args, "sae.k=2", "force=true")[0] == 0
    after = contents(tmp_path / "run")
    assert all(
        after[name] != before[name] for name in ("metrics.json", ".hydra/overrides.yaml", "saescope.log")
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_refused_jobs_of_a_sweep_are_rows_beside_the_finished_ones(saescope, here, tmp_path):
    args = ["-m", *here, "tracking=disabled", "metrics.lm_tokens=0", "hydra.sweep.dir=out"]
    assert saescope(*args, "sae.k=2,4")[0] == 0
    before = [contents(tmp_path / "out" / job) for job in "01"]
    code, out, err = saescope(*args, "sae.k=4,8")
    assert (code, err.count("\n")) == (1, 2)
    assert [contents(tmp_path / "out" / job) for job in "01"] == before
    table = pd.read_csv(tmp_path / "out" / "sweep.csv")
    assert table["job"].tolist() == ["0", "1", "0 (refused)", "1 (refused)"]
    assert table["state"].tolist() == ["ok", "ok", "failed", "failed"]
    assert table["sae.k"].tolist() == [2, 4, 4, 8]
    assert [text.split()[-1] for text in table["overrides"]] == ["sae.k=2", "sae.k=4", "sae.k=4", "sae.k=8"]
    assert table["sae/l0"].isna().tolist() == [False, False, True, True]
    assert table["error"].str.contains("finished result of another config").tolist()[2:] == [True, True]
    assert "failed: job 1 (refused) (sae.k=8)" in out
    assert not (tmp_path / "out" / ".outcomes").exists()
    assert saescope(*args, "sae.k=2,4")[0] == 0  # nothing of the refused command is left
    assert pd.read_csv(tmp_path / "out" / "sweep.csv")["job"].tolist() == [0, 1]


def test_failures_of_an_earlier_command_are_rows_and_no_exit_code(saescope, here, tmp_path):
    args = ["-m", *here, "tracking=disabled", "metrics.lm_tokens=0", "hydra.sweep.dir=out"]
    assert saescope(*args, "sae.k=2,1000")[0] == 1
    code, out, _ = saescope(*args, "sae.k=2")
    assert code == 0
    assert pd.read_csv(tmp_path / "out" / "sweep.csv")["state"].tolist() == ["ok", "failed"]
    assert "failed: job" not in out


def test_a_job_whose_config_cannot_be_resolved_fails_alone(saescope, here, tmp_path):
    args = [*here, "tracking=disabled", "metrics.lm_tokens=0", "hydra.sweep.dir=out"]
    code, _, err = saescope("-m", *args, "sae.k=${oc.env:SAESCOPE_NO_SUCH},2")
    assert (code, err.count("\n")) == (1, 1)
    assert "SAESCOPE_NO_SUCH" in err
    table = pd.read_csv(tmp_path / "out" / "sweep.csv")
    assert table["state"].tolist() == ["failed", "ok"]
    assert "SAESCOPE_NO_SUCH" in table["error"][0]


def test_a_job_whose_folder_cannot_be_had_fails_alone(saescope, here, tmp_path, monkeypatch):
    monkeypatch.setenv("FOLDER_4", "four")
    monkeypatch.setenv("FOLDER_8", "eight")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "eight").write_text("in the way")
    args = [*here, "tracking=disabled", "metrics.lm_tokens=0", "hydra.sweep.dir=out"]
    code, _, err = saescope("-m", *args, 'hydra.sweep.subdir="${oc.env:FOLDER_${sae.k}}"', "sae.k=2,4,8")
    assert (code, err.count("\n")) == (1, 2), err
    table = pd.read_csv(tmp_path / "out" / "sweep.csv")
    assert table["job"].tolist() == ["0", "2", "four"]
    assert table["state"].tolist() == ["failed", "failed", "ok"]
    assert table["sae.k"].tolist() == [2, 8, 4]
    assert "FOLDER_2" in table["error"][0]
    assert "eight" in table["error"][1]


def test_a_folder_pattern_of_a_file_fails_the_job_that_has_no_value(saescope, here, tmp_path, monkeypatch):
    monkeypatch.setenv("FOLDER_4", "four")
    (tmp_path / "conf" / "sweep").mkdir(parents=True)
    (tmp_path / "conf" / "sweep" / "mine.yaml").write_text(
        "# @package _global_\nhydra:\n  sweep:\n    subdir: ${oc.env:FOLDER_${sae.k}}\n"
        "  sweeper:\n    params:\n      sae.k: 2,4\n"
    )
    args = [*here, "tracking=disabled", "metrics.lm_tokens=0", "hydra.sweep.dir=out"]
    code, _, err = saescope("-m", "--config-dir", "conf", "sweep=mine", *args)
    assert (code, err.count("\n")) == (1, 1), err
    assert "FOLDER_2" in err
    table = pd.read_csv(tmp_path / "out" / "sweep.csv")
    assert table["job"].tolist() == ["0", "four"]
    assert table["state"].tolist() == ["failed", "ok"]


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param("k${sae.k}/deep/er", marks=pytest.mark.slow),
        "sae/.hidden/${hydra.job.num}",
        pytest.param("wandb/${sae.k}", marks=pytest.mark.slow),
    ],
)
def test_jobs_are_found_wherever_their_folders_are(saescope, here, tmp_path, pattern):
    args = [*here, "metrics.lm_tokens=0", "hydra.sweep.dir=out", f"hydra.sweep.subdir={pattern}"]
    code, _, err = saescope("-m", *args, "sae.k=2,4", "tracking=offline")
    wandb.teardown()
    assert (code, err) == (0, "")
    table = pd.read_csv(tmp_path / "out" / "sweep.csv")
    assert table["state"].tolist() == ["ok", "ok"]
    assert all((tmp_path / "out" / job / "metrics.json").is_file() for job in table["job"])
    assert (tmp_path / "out" / "sync.sh").read_text().count("\nupload ") == 3


@pytest.mark.parametrize("place", ["../elsewhere", pytest.param("{tmp}/elsewhere", marks=pytest.mark.slow)])
def test_jobs_outside_the_sweep_s_folder_are_uploaded_too(saescope, here, tmp_path, place):
    """Finished and failed ones."""
    pattern = place.format(tmp=tmp_path) + "/${sae.k}"
    args = [*here, "metrics.lm_tokens=0", "hydra.sweep.dir=out", f"hydra.sweep.subdir={pattern}"]
    assert saescope("-m", *args, "sae.k=2,1000", "tracking=offline")[0] == 1
    wandb.teardown()
    outside = logs(tmp_path / "elsewhere")
    assert len(outside) == 2
    uploads = [line.split()[1] for line in (tmp_path / "out" / "sync.sh").read_text().splitlines()
               if line.startswith("upload ")]  # fmt: skip
    assert {str(log.parent) for log in outside} < set(uploads)
    assert len(uploads) == 3
    # found again, in a sweep folder that has no log of it but the report's
    again = [arg for arg in args if not arg.startswith("hydra.sweep.subdir")]
    group = load(outside[0])["run"]["group"]
    more = ["sae.k=2", "tracking=offline", f"tracking.group={group}"]
    assert saescope("-m", *again, *more, "hydra.sweep.dir=second")[0] == 0
    wandb.teardown()
    script = (tmp_path / "second" / "sync.sh").read_text()
    assert script.count("\nupload ") == 2
    assert sum(f"upload {log.parent}\n" in script for log in outside) == 1


def test_refused_commands_do_not_count_as_failed_jobs(saescope, here, tmp_path):
    for mistyped in (["sae.kk=3"], ["sae.k=lots"], ["probes.path=missing"], ["hookpoint.layer=99"]):
        assert saescope(*here, "tracking=disabled", *mistyped)[0] == 1
    folders = list((tmp_path / "outputs").glob("*/*/status.json"))
    assert [json.loads(path.read_text())["refused"] for path in folders] == [True] * 3
    with pytest.raises(ReportError, match="no job in"):
        open_sweep(tmp_path / "outputs")
    saescope(*here, "tracking=disabled", "sae.k=1000")  # was at work: the SAE is loaded by then
    assert [run.state for run in open_sweep(tmp_path / "outputs").runs] == ["failed"]


def test_a_sweep_whose_jobs_are_all_refused_does_not_count_either(saescope, here, tmp_path):
    for mistyped in (["sae.k=lots,few"], ["sae.k=2,4", "hookpoint.layer=99"]):
        code, out, err = saescope("-m", *here, "tracking=disabled", *mistyped)
        assert (code, err.count("\n")) == (1, 2)
        assert out.count("failed: job") == 2
    with pytest.raises(ReportError, match="no job in"):
        open_sweep(tmp_path / "multirun")
    saescope("-m", *here, "tracking=disabled", "sae.k=2,lots", "metrics.lm_tokens=0")
    assert [run.state for run in open_sweep(tmp_path / "multirun").runs] == ["ok", "failed"]


def test_a_single_job_that_cannot_be_resolved_is_one_line(saescope, here, tmp_path):
    code, _, err = saescope(*here, "tracking=disabled", "sae.k=${oc.env:SAESCOPE_NO_SUCH}")
    assert (code, err.count("\n")) == (1, 1), err
    assert "SAESCOPE_NO_SUCH" in err
    with pytest.raises(ReportError, match="no job in"):
        open_sweep(tmp_path / "outputs")


def test_a_search_that_meets_a_failed_job_ends_in_one_line(saescope, here, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="pip install hydra-optuna-sweeper")
    args = [*here, "tracking=disabled", "metrics.lm_tokens=0", "hydra.sweep.dir=out", "objective=si/excess"]
    search = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=3"]
    code, out, err = saescope("-m", *args, *search, "sae.k=choice(1000,2000,3000)")
    assert code == 1
    ours = [line for line in err.splitlines() if line.startswith("saescope: ")]  # Optuna writes there too
    assert ["exceeds its 256 latents" in line for line in ours] == [True] * 3 + [False]
    assert ours[-1].startswith("saescope: the search ends here: this job has no value of its objective")
    assert "Traceback" not in out
    assert pd.read_csv(tmp_path / "out" / "sweep.csv")["state"].tolist() == ["failed"] * 3


def test_edited_probes_make_another_run(saescope, here, probes, tmp_path):
    shutil.copytree(probes, tmp_path / "mine")
    args = [*here, "probes.path=mine", "tracking=disabled", "metrics.lm_tokens=0"]
    saescope(*args)
    with (tmp_path / "mine" / "letters.jsonl").open("a") as file:
        file.write('{"text": "bal bel bil bol bul"}\n')
    assert "extracted" in saescope(*args)[1]


def test_a_sweep_is_one_run_per_job_in_one_group(saescope, here, tmp_path):
    code, out, err = saescope("-m", *here, "sae.k=2,4,1000", "tracking=offline", "metrics.lm_tokens=0")
    assert code == 1
    assert err.count("\n") == 1
    assert "exceeds its 256 latents" in err
    wandb.teardown()
    (sweep,) = (tmp_path / "multirun").glob("*/*")
    assert re.fullmatch(r"\d\d-\d\d-\d\d-\d{6}", sweep.name)  # two sweeps of one second share no folder
    everything = [load(path) for path in logs(sweep)]
    runs = [r for r in everything if r["run"]["job_type"] == "measure"]
    assert [r["run"]["job_type"] for r in everything if r not in runs] == ["sweep_report"]
    assert len({r["run"]["id"] for r in everything}) == 4
    assert len({r["run"]["group"] for r in everything}) == 1
    assert runs[0]["run"]["group"]
    table = pd.read_csv(sweep / "sweep.csv")
    for at, r in (
        (row, r) for row in range(2) for r in runs if r["config"]["sae"]["k"] == table["sae.k"][row]
    ):
        metrics = json.loads((sweep / str(at) / "metrics.json").read_text())
        assert {key for key in table.columns if "/" in key} == set(metrics)
        assert {key for key in r["summary"] if key in metrics} == set(metrics) - set(nulls(metrics))
    assert list(table["state"]) == ["ok", "ok", "failed"]
    assert (sweep / "sweep.html").is_file()
    assert (sweep / "sync.sh").is_file()
    assert sorted((r["config"]["sae"]["k"], r["exit_code"]) for r in runs) == [(2, 0), (4, 0), (1000, 1)]
    states = [json.loads((sweep / str(i) / "status.json").read_text())["state"] for i in range(3)]
    assert states == ["ok", "ok", "failed"]
    l0 = [json.loads((sweep / str(i) / "metrics.json").read_text())["sae/l0"] for i in range(2)]
    assert l0[0] <= 2 < l0[1] <= 4
    assert "3 jobs" in out
    view = json.loads((sweep / "wandb_workspace.json").read_text())["spec"]["section"]
    panels = [panel for section in view["panelBankConfig"]["sections"] for panel in section["panels"]]
    by_k = [p["config"]["chartTitle"] for p in panels if p["config"].get("xAxis") == "config:k.value"]
    assert len(by_k) == 4
    pinned = [key for key in view["runSets"][0]["runFeed"]["columnPinned"] if key.startswith("config:")]
    assert pinned == ["config:k.value"]
    assert not any(key in json.dumps(view) for key in ("lm/ce", "dynk/", "train/"))
    staged = {p for r in runs for a in r["artifacts"] for p in a["paths"].values()}
    assert staged
    assert all(Path(p).is_relative_to(sweep) and Path(p).is_file() for p in staged)


def failed_run(folder: Path) -> tuple[dict, str]:
    """The only W&B run below `folder`, and the log of the job in it."""
    wandb.teardown()
    (log,) = logs(folder)
    logged = load(log)
    assert logged["exit_code"] == 1
    assert "saescope.log" in logged["files"]
    return logged, (log.parent / "files" / "saescope.log").read_text()


def test_a_failed_job_leaves_its_error_and_log_in_wandb(saescope, here, tmp_path, monkeypatch):
    code, _, err = saescope("-m", *here, "probes.ctx_len=100000", "tracking=offline", "hydra.sweep.dir=out")
    assert (code, err.count("\n")) == (1, 1)
    logged, text = failed_run(tmp_path / "out" / "0")
    assert logged["summary"]["error"] in err
    assert logged["run"]["name"].startswith("failed: ")
    assert "probes.ctx_len=100000" in logged["run"]["name"]
    assert logged["run"]["group"]
    assert "resid of layer 2" in text
    assert json.loads((tmp_path / "out" / "0" / "tracking.json").read_text())["id"] == logged["run"]["id"]

    monkeypatch.setattr(pd.DataFrame, "to_parquet", lambda *a, **k: 1 / 0)
    args = [*here, "metrics.lm_tokens=0", "tracking=offline"]
    assert saescope(*args, "hydra.run.dir=unexpected")[0] == 1
    logged, text = failed_run(tmp_path / "unexpected")
    assert "ZeroDivisionError" in logged["summary"]["error"]
    assert "Traceback" in text
    assert logged["config"]["k"] == 8
    assert ".layers.2.x8.k8." in logged["run"]["name"]
    assert (tmp_path / "unexpected" / "sync.sh").is_file()

    # the log of the first attempt stays its own
    assert saescope(*args, "hydra.run.dir=unexpected")[0] == 1
    wandb.teardown()
    texts = [(path.parent / "files" / "saescope.log").read_text() for path in logs(tmp_path / "unexpected")]
    assert sorted(text.count("Traceback") for text in texts) == [1, 2]


def test_a_refused_command_leaves_no_wandb_run(saescope, here, tmp_path):
    assert saescope(*here, "probes.ctx_len=100000", "tracking=offline", "hydra.run.dir=run")[0] == 1
    wandb.teardown()
    assert logs(tmp_path) == []


def test_an_interrupted_job_leaves_a_failed_wandb_run(saescope, here, tmp_path, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(pd.DataFrame, "to_parquet", interrupt)
    args = [*here, "metrics.lm_tokens=0", "tracking=offline"]
    assert saescope(*args, "hydra.run.dir=run")[0] == 130
    logged, text = failed_run(tmp_path / "run")
    assert "interrupted" in logged["summary"]["error"]
    assert "extracted" in text


@pytest.mark.slow
def test_a_repeated_sweep_has_all_its_points_in_its_own_group(saescope, here, tmp_path):
    args = [*here, "metrics.lm_tokens=0", "tracking=offline"]
    assert saescope("-m", *args, "sae.k=2", "hydra.sweep.dir=a/first")[0] == 0
    code, out, _ = saescope("-m", *args, "sae.k=2,4", "hydra.sweep.dir=a/second")
    assert code == 0
    assert out.count("extracted") == 1
    wandb.teardown()

    def jobs(folder):
        found = [run for run in map(load, logs(tmp_path / folder)) if run["run"]["job_type"] == "measure"]
        return sorted(found, key=lambda run: run["config"]["k"])

    (original,), (again, new) = jobs("a/first"), jobs("a/second")
    assert again["run"]["group"] == new["run"]["group"] != original["run"]["group"]
    assert again["run"]["name"] == original["run"]["name"] != new["run"]["name"]
    collections = [
        {a["name"] for a in r["artifacts"] if a["type"] != "run_table"} for r in (original, again, new)
    ]
    assert collections[0] == collections[1]
    assert collections[1].isdisjoint(collections[2])
    media = ("tables/", "pages/", "hist/", "_")
    for part in ("summary", "config"):
        kept = [{k: v for k, v in r[part].items() if not k.startswith(media)} for r in (again, original)]
        assert kept[0] == kept[1]
    assert set(again["summary"]) == set(original["summary"])
    second = tmp_path / "a" / "second"
    assert (second / "sync.sh").read_text().count("\nupload ") == 3
    assert json.loads((second / "0" / "tracking.json").read_text())["id"] == again["run"]["id"]
    assert json.loads((second / "0" / "status.json").read_text())["reused_from"]
    # the same group again: nothing but the report
    assert saescope("-m", *args, "sae.k=2,4", "hydra.sweep.dir=a/second")[0] == 0
    wandb.teardown()
    assert len(jobs("a/second")) == 2


def test_an_untracked_result_gets_its_run_when_asked_for_and_its_upload_script(saescope, here, tmp_path):
    args = [*here, "metrics.lm_tokens=0", "sae.k=2"]
    assert saescope(*args, "tracking=disabled", "hydra.run.dir=untracked")[0] == 0
    assert not (tmp_path / "untracked" / "sync.sh").exists()
    for name in ("tracked", "again"):
        code, out, _ = saescope(*args, "tracking=offline", f"hydra.run.dir={name}")
        assert code == 0
        assert "extracted" not in out
    wandb.teardown()
    (log,) = logs(tmp_path)
    assert log.is_relative_to(tmp_path / "tracked")
    assert load(log)["summary"]["si/mean"]
    script = (tmp_path / "tracked" / "sync.sh").read_text()
    assert f"\nupload {log.parent.relative_to(tmp_path / 'tracked')}\n" in script
    assert not (tmp_path / "again" / "wandb").exists()
    assert not (tmp_path / "again" / "sync.sh").exists()
    infos = [json.loads((tmp_path / name / "tracking.json").read_text()) for name in ("tracked", "again")]
    assert json.loads((tmp_path / "untracked" / "tracking.json").read_text())["mode"] == "disabled"
    assert infos[0]["id"] == load(log)["run"]["id"]
    assert infos[1] == infos[0]
    assert infos[0]["sync"] in out


@pytest.mark.parametrize("sae", ["neurons", "random"])
def test_controls(saescope, here, sae, tmp_path):
    args = [a for a in here if not a.startswith("sae.repo")]
    code, _, err = saescope("-m", *args, f"sae={sae}", "sae.k=4", "tracking=offline", "hydra.sweep.dir=out")
    assert (code, err) == (0, "")
    metrics = json.loads((tmp_path / "out" / "0" / "metrics.json").read_text())
    assert metrics["features/num_latents"] == {"neurons": 32, "random": 256}[sae]
    assert metrics["sae/l0"] <= 4
    wandb.teardown()
    (run,) = [r for r in map(load, logs(tmp_path / "out")) if r["run"]["job_type"] == "measure"]
    summary = {
        k: v for k, v in run["summary"].items() if not k.startswith(("_", "hist/", "tables/", "pages/"))
    }
    assert summary == {key: value for key, value in metrics.items() if value is not None}
    assert nulls(run["config"]) == []
    resolved = ("k", "expansion_factor", "num_latents")
    assert {key: run["config"][key] for key in resolved} == {
        "k": 4, "expansion_factor": metrics["features/num_latents"] / 32,
        "num_latents": metrics["features/num_latents"],
    }  # fmt: skip
    assert {key: run["config"]["sae"][key] for key in resolved} == {
        key: run["config"][key] for key in resolved
    }
    table = pd.read_csv(tmp_path / "out" / "sweep.csv")
    assert {key for key in table.columns if "/" in key} == set(metrics)


@pytest.mark.slow
def test_keys_of_a_sweep_go_to_the_jobs_that_have_them(saescope, here, tmp_path):
    args = [a for a in here if not a.startswith("sae.repo")] + ["metrics.lm_tokens=0", "tracking=disabled"]
    axes = ["experiment=smoke", "sae=random,neurons", "sae.expansion_factor=4", "sae.init_seed=3", "sae.k=4"]
    code, out, err = saescope("-m", *args, *axes, "hydra.sweep.dir=out", "objective=sae/l0")
    assert (code, err) == (0, "")
    assert "job 1 of 2: " in out
    assert "job 2 of 2, about " in out
    a, b = (yaml.safe_load((tmp_path / "out" / n / "config.yaml").read_text())["sae"] for n in "01")
    assert a == {"source": "random", "k": 4, "expansion_factor": 4, "num_latents": None, "init_seed": 3}
    assert b == {"source": "neurons", "k": 4}
    rows = pd.read_csv(tmp_path / "out" / "sweep.csv").overrides
    assert ["sae.init_seed=3" in row for row in rows] == ["sae.expansion_factor=4" in row for row in rows]
    assert ["sae.init_seed=3" in row for row in rows] == [True, False]
    assert not rows.str.contains("+", regex=False).any()
    assert "++" not in out


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        ("saescope.cli.main", f"saescope {__version__} (Hydra {hydra.__version__})\n"),
        ("saescope.cli.catalogue", f"saescope {__version__} (Hydra {hydra.__version__})\n"),
        ("saescope.cli.report", f"saescope {__version__}\n"),
    ],
)
def test_version(command, printed):
    code = f"import sys; sys.argv[1:] = ['--version']\nfrom {command} import main\nmain()"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == printed


def test_slurm_without_a_cluster_is_one_line(saescope, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    code, _, err = saescope("-m", "hydra/launcher=slurm", "seed=1,2", "tracking=disabled")
    assert (code, err.count("\n")) == (1, 1)
    assert "hydra/launcher=slurm: " in err
    assert "try hydra/launcher=slurm_local" in err


@pytest.mark.slow
def test_random_init_model(saescope, here, tmp_path):
    for name in ("a", "b"):
        assert (
            saescope(
                *here, "model.random_init=true", "tracking=disabled", "force=true", f"hydra.run.dir={name}"
            )[0]
            == 0
        )
    a, b = (json.loads((tmp_path / n / "metrics.json").read_text()) for n in "ab")
    assert a["si/mean"] == b["si/mean"]
    assert {k: v for k, v in a.items() if not k.startswith("cost/")} == {
        k: v for k, v in b.items() if not k.startswith("cost/")
    }


def test_debug_shows_the_traceback(saescope, monkeypatch):
    monkeypatch.setenv("SAESCOPE_DEBUG", "1")
    code, _, err = saescope("hookpoint.layer=99", "tracking=disabled")
    assert code == 1
    assert "Traceback" in err


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "results"), "No space left on device: results"),
        (SaescopeError("the checkpoint cannot be written"), "the checkpoint cannot be written"),
    ],
)
def test_a_failure_that_cannot_be_recorded_is_still_one_line(tmp_path, caplog, error, words):
    (tmp_path / "file").write_text("in the way")
    outcome = failed(error, Context(tmp_path / "file" / "run", tmp_path))
    assert outcome.state == "failed"
    assert outcome.error.startswith(words)
    assert "status.json could not be written either" in outcome.error
    assert "\n" not in outcome.error
    assert not caplog.records
