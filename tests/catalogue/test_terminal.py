"""`saescope-coverage` as users type it."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from scripts.coverage_tables import DOCS, rewritten

from saescope.catalogue import registry
from saescope.catalogue.export import COLUMNS
from saescope.catalogue.registry import installed_version
from saescope.catalogue.repositories import load_rows
from saescope.catalogue.shapes import suite_names
from saescope.cli.catalogue import main as coverage


@pytest.fixture
def command(monkeypatch, capfd):
    """Runs `saescope-coverage ARGS` in this process; returns exit code, stdout, stderr."""

    def run(*args: str):
        monkeypatch.setattr(sys, "argv", ["saescope-coverage", *args])
        code = coverage()
        out, err = capfd.readouterr()
        return code, out, err

    return run


def test_help_and_table_are_fast_and_free_of_torch():
    code = (
        "import sys, time; start = time.process_time()  # not of what else runs here\n"
        "from saescope.cli.catalogue import main as coverage\n"
        "sys.argv = ['saescope-coverage', '--help']; assert coverage() == 0\n"
        "print('SECONDS', time.process_time() - start)\n"
        "sys.argv = ['saescope-coverage']; assert coverage() == 0\n"
        "heavy = {'torch', 'transformers', 'lightning', 'wandb', 'sparsify', 'pandas'} & set(sys.modules)\n"
        "print('HEAVY', sorted(heavy))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "saescope-coverage models=" in out
    seconds = next(line for line in out.splitlines() if line.startswith("SECONDS"))
    assert float(seconds.split()[1]) < 2.0
    assert out.splitlines()[-1] == "HEAVY []"


def test_the_pythia_suite(command):
    code, out, err = command()
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == (
        "14 of 39 wanted hookpoints have pre-trained SAEs; 4 more are claimed (?), 21 need training."
    )
    commands = [line for line in lines if line.startswith("  saescope ")]
    assert len(commands) == 39
    assert sum(" sae=train " in line for line in commands) == 21
    table = lines[: lines.index("to measure, in the order of the table:")]
    assert max(map(len, table)) <= 100
    assert any("sae-pythia-70m-32k" in line and "32,768" in line and "yes" in line for line in table)
    # a model and its deduplicated variant, each under its own name with its own SAEs
    heads = [line.split()[0] for line in table if line.startswith("pythia-")]
    assert [name for name in heads if name.endswith("-deduped")] == [
        "pythia-70m-deduped", "pythia-160m-deduped", "pythia-410m-deduped",
    ]  # fmt: skip
    assert sum("sae-pythia-70m-deduped-32k" in line for line in table) == 3


def test_the_page_of_the_docs_is_what_is_printed_and_recorded():
    text = DOCS.read_text(encoding="utf-8")
    if installed_version() is None or f"With sae_lens {installed_version()};" not in text:
        pytest.skip("the page was made with another sae_lens")
    assert rewritten(text) == text, "run python scripts/coverage_tables.py"
    example = text.split("```")[1]
    assert max(len(line) for line in example.split("to measure")[0].splitlines()) <= 100
    table = text.replace(r"\|", "|")
    assert all(f"| `{row.repo}` |" in table for row in load_rows())


def test_tables_of_all_models_fit_100_columns(command):
    code, out, err = command(f"models={','.join(suite_names())}", "kind=all")
    assert (code, err) == (0, "")
    table = out.split("\nto measure, in the order of the table:")[0].splitlines()
    assert max(map(len, table)) <= 100
    assert len(table) > 300


def test_without_sae_lens_a_line_says_what_is_missing(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "sae_lens", None)  # as if it were not installed
    registry._releases.cache_clear()
    try:
        code, out, err = command("models=gemma-2-2b")
        covered = command("models=pythia-70m")[1]
    finally:
        registry._releases.cache_clear()
    assert (code, err) == (0, "")
    assert out.startswith("0 of 3 wanted hookpoints")
    assert "sae_lens is not installed" in out
    assert "pip install 'saescope[saelens]'" in out.replace("\n", " ")
    assert "sae_lens" not in covered


def test_json_holds_source_date_and_what_was_seen(command, tmp_path):
    code, _, _ = command("models=smollm2-135m,pythia-410m", "kind=resid,mlp", "layers=15", "json=a.json")
    assert code == 0
    values = json.loads((tmp_path / "a.json").read_text())
    assert values["summary"].startswith("2 of 4 wanted")
    rows = {(row["model"], row["kind"]): row for row in values["rows"]}
    assert all(tuple(row) == COLUMNS for row in values["rows"])
    mlp = rows["smollm2-135m", "mlp"]
    assert (mlp["state"], mlp["num_latents"], mlp["k"], mlp["expansion"]) == ("covered", 36864, 32, 64.0)
    assert "57ea2cb" in mlp["basis"]
    assert (mlp["source"], mlp["date"]) == ("public code that loads it", "2026-07")
    assert rows["smollm2-135m", "resid"]["source"] is None


def test_the_docs_show_what_is_printed(command):
    page = (Path(__file__).parents[2] / "docs" / "coverage.md").read_text()
    block = page.split("## What it prints")[1].split("```")[1]
    printed = {line.rstrip() for line in command()[1].splitlines()} | {"…"}
    assert len(block.splitlines()) > 20
    assert [line for line in block.splitlines() if line not in printed] == []


def test_csv_and_markdown_hold_the_same_rows(command, tmp_path):
    code, out, _ = command("models=pythia-70m,pythia-410m", "kind=all", "csv=sub/a.csv", "markdown=a.md")
    assert code == 0
    with (tmp_path / "sub" / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 18
    assert [f"  {row['command']}" for row in rows] == [
        x for x in out.splitlines() if x.startswith("  saescope ")
    ]
    row = rows[0]
    assert (row["model"], row["hookpoint"], row["state"]) == ("pythia-70m", "layers.1", "covered")
    assert (row["repo"], row["folder"]) == ("EleutherAI/sae-pythia-70m-32k", "layers.1")
    assert (row["num_latents"], row["expansion"], row["k"]) == ("32768", "64.0", "16")
    assert row["source"].startswith("https://huggingface.co/")
    assert row["date"]
    lines = (tmp_path / "a.md").read_text().splitlines()
    assert lines[0] == out.splitlines()[0]
    assert len([line for line in lines if line.startswith("| pythia-")]) == 18
    assert {line.count("|") for line in lines if line.startswith("|")} == {10}
    assert not list(tmp_path.rglob(".*.csv*"))


def test_a_folder_is_read_by_its_config(command, model_folder):
    code, out, _ = command(f"models={model_folder}", "expansion=8", "k=16")
    assert code == 0
    assert "4 layers, width 32" in out
    assert [x.split("hookpoint.layer=")[1] for x in out.splitlines() if "hookpoint.layer" in x] == [
        f"{layer} sae=train sae.expansion_factor=8 sae.k=16 corpus=pile" for layer in (1, 2, 3)
    ]
    assert f"model=local model.name={model_folder}" in out


def test_a_folder_named_and_sized_like_a_known_model_is_taken_for_it(command, tmp_path):
    folder = tmp_path / "pythia-70m-deduped"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"num_hidden_layers": 6, "hidden_size": 512}))
    _, out, _ = command(f"models={folder}", "layers=3")
    assert (
        f"saescope model=local model.name={folder} hookpoint.layer=3 sae.repo=EleutherAI/sae-pythia-70m-dedu"
        in out
    )
    (folder / "config.json").write_text(json.dumps({"n_layer": 6, "n_embd": 256}))
    _, out, _ = command(f"models={folder}", "layers=3")
    assert "sae=train" in out
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["modles=gpt2"], ["unknown key 'modles'", "did you mean 'models'"]),
        (["+modles=gpt2"], ["unknown key 'modles'", "did you mean 'models'"]),
        (["models=pythia-71m"], ["models=pythia-71m", "did you mean 'pythia-70m'", "Hub id"]),
        (["models="], ["models is empty"]),
        (["models=/no/such/folder"], ["/no/such/folder", "does not exist"]),
        (["models=[gpt2"], ["key=value"]),
        (["models=pythia-70m", "layers=10"], ["layers=10", "pythia-70m has layers 0–5"]),
        (["layers=-1"], ["layers=-1", "0 or more"]),
        (["depth=2"], ["depth=2", "between 0 and 1"]),
        (["kind=mpl"], ["did you mean 'mlp'", "resid, mlp, attention, all"]),
        (["expansion=lots"], ["'expansion' must be a whole number"]),
        (["k=0"], ["k=0", "1 or more"]),
        (["--liv"], ["unknown flag '--liv'", "did you mean '--live'"]),
        (["-m", "k=1,2"], ["unknown flag '-m'"]),
        (["hydra.run.dir=x"], ["unknown key 'hydra.run.dir'"]),
        (["depth"], ["key=value"]),
    ],
)
def test_user_errors_are_one_line(command, args, words):
    code, out, err = command(*args)
    assert (code, out, err.count("\n")) == (1, "", 1), err
    for word in words:
        assert word in err


@pytest.mark.parametrize("content", [None, "{", "[]", '{"hidden_size": 32}', '{"num_hidden_layers": 0}'])
def test_broken_model_folders_are_one_line(command, tmp_path, content):
    (tmp_path / "broken").mkdir()
    if content is not None:
        (tmp_path / "broken" / "config.json").write_text(content)
    code, out, err = command("models=./broken")
    assert (code, out, err.count("\n")) == (1, "", 1), err
    assert "broken" in err


def test_a_file_that_cannot_be_written(command, tmp_path):
    (tmp_path / "file").write_text("kept")
    code, _, err = command("models=gpt2", "csv=file/a.csv")
    assert (code, err.count("\n")) == (1, 1), err
    assert "csv=file/a.csv cannot be written" in err
    assert (tmp_path / "file").read_text() == "kept"
