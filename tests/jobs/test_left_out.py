"""What a job leaves out is counted in `status.json` and said on the page: every kind of it at least once."""

import json
import logging
import shutil
import sys

import pytest
import wandb
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from saescope.cli.main import main
from saescope.left_out import LeftOut, parsed, plain
from saescope.report.left_out import left_out
from tests.support.left_out import check_run, counted

QUICK = [
    "metrics=quick", "metrics.permutations=20", "metrics.bootstraps=20", "metrics.lm_tokens=0",
    "metrics.min_count=3", "metrics.min_docs=2", "probes.ctx_len=32", "runtime.dtype=float32",
    "tracking=disabled", "hydra.run.dir=run", "runtime.cache=off",
]  # fmt: skip


def written(folder, name, texts):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Runs a job and checks its records; returns them."""

    def run(*args, run="run"):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["saescope", *QUICK, *args])
        logging.getLogger().handlers.clear()
        assert main() == 0
        return check_run(tmp_path / run)

    return run


@pytest.fixture
def probes(tmp_path):
    """Two tasks with an empty document, one without a counted token, a repeated one, and one too many."""
    folder = tmp_path / "probes"
    for task in ("first", "second"):
        texts = [
            f"{task} {number}: the words of text {number} are not those of another" for number in range(12)
        ]
        written(folder, f"{task}.jsonl", [texts[0], " ", "a", *texts, "x" * 3000])
    written(folder / "deeper", "a.jsonl", ["unread"])
    (folder / "notes.md").write_text("no task")
    (folder / ".hidden.jsonl").write_text('{"text": "unread"}\n')
    return folder


def test_files_documents_tokens_and_latents(job, probes):
    records = job("probes=folder", f"probes.path={probes}", "probes.max_tokens_per_task=500")
    assert counted(records, "files") == 3
    assert counted(records, "documents", why="is empty") == 2
    assert counted(records, "documents", why="no token that counts") == 2
    assert counted(records, "documents", why="repeats an earlier one") == 2
    assert counted(records, "documents", why="max_tokens_per_task=500") == 2
    assert counted(records, "latents", why="min_count=3") > 0
    assert counted(records, "tokens", part="losses") > 0


def test_hidden_files_of_a_task_folder_are_no_secret(job, tmp_path):
    for task in ("first", "second"):
        for number in range(6):
            written(
                tmp_path / "probes" / task, f"{number}.jsonl", [f"{task} {number} has some words to read"]
            )
    written(tmp_path / "probes" / "first", ".draft.jsonl", ["nobody reads this"])
    records = job("probes=folder", f"probes.path={tmp_path / 'probes'}")
    assert counted(records, "files") == 1


@pytest.mark.slow
def test_training_text_that_is_not_used(job, tmp_path):
    texts = [f"{n} and {n + 1} make {2 * n + 1}, which is what is written in text {n}" for n in range(300)]
    written(tmp_path / "corpus", "a.jsonl", [*texts, "", " "])
    (tmp_path / "corpus" / "b.md").write_text("not read")
    written(tmp_path / "corpus", ".c.jsonl", ["not read"])
    records = job(
        "sae=train", "sae.tokens=50000", "sae.batch_tokens=256", "sae.num_latents=64", "sae.k=8",
        "hookpoint.layer=1", "corpus=local", f"corpus.path={tmp_path / 'corpus'}", "corpus.ctx_len=64",
        "corpus.holdout_tokens=0", "probes.max_tokens_per_task=500",
    )  # fmt: skip
    assert counted(records, "texts", part="training") == 2
    assert counted(records, "files", part="training") == 2
    assert counted(records, "tokens", part="training") > 0


@pytest.mark.slow
def test_what_only_a_part_does_without(job):
    records = job(
        "causal=attribute", "causal.tokens=64", "probes.max_tokens_per_task=600", "metrics.null_tokens=100",
        "metrics.graph_tokens=900",
    )  # fmt: skip
    assert counted(records, "tokens", part="graph") > 0
    assert counted(records, "tokens", part="attribution") > 0
    assert counted(records, "latents", part="attribution") > 0
    assert counted(records, "tokens", part="null of the edges") > 0


def test_tokens_whose_activation_is_not_finite(job, model_folder, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(model_folder, model)
    weights = load_file(model / "model.safetensors")
    letter = AutoTokenizer.from_pretrained(model).encode("Z")
    weights["gpt_neox.embed_in.weight"][letter] = float("nan")
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    for task in ("first", "second"):
        texts = [f"{task} {number} of these has some words to read" for number in range(12)]
        written(
            tmp_path / "probes", f"{task}.jsonl", [*texts, f"{task} ends in the letter Z, and then goes on"]
        )
    args = (
        "model=local", f"model.name={model}", "hookpoint.layer=2", "sae=neurons", "sae.k=4", "probes=folder",
        f"probes.path={tmp_path / 'probes'}", "metrics.allow_nonfinite=true",
    )  # fmt: skip
    records = job(*args)
    assert counted(records, "tokens", why="NaN or infinite") >= 2


def test_columns_that_are_no_language(job, tmp_path):
    rows = ["id,eng,deu,score"]
    rows += [f"{n},number {n} has words,die Zahl {n} hat Worte,0.{n}" for n in range(48)]
    rows[7] = "6,a sentence that nobody translated,,0.6"
    (tmp_path / "all.csv").write_text("\n".join(rows))
    records = job("probes=languages", f"probes.path={tmp_path / 'all.csv'}")
    assert counted(records, "columns") == 2
    assert counted(records, "sentences") == 1


def test_what_wandb_does_not_take(job, monkeypatch, tmp_path):
    """And then takes: the same command does not measure again, and nothing is left out any more."""
    args = ("probes.max_tokens_per_task=600", "tracking=offline")
    with monkeypatch.context() as broken:
        broken.setattr(wandb, "Html", lambda *values, **more: 1 / 0)
        assert counted(job(*args), "wandb", part="W&B") == 2  # report and latents
        again = job(*args, "tracking.group=other", "hydra.run.dir=again", run="again")
        assert counted(again, "wandb", part="W&B") == 2
    assert not counted(job(*args), "wandb", part="W&B")
    assert "W&B did not take it" not in (tmp_path / "run" / "report.html").read_text()
    assert (tmp_path / "run" / "saescope.log").read_text().count("statistics: SI with") == 1
    wandb.teardown()


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sae", "mlp"])
def test_what_dynamic_k_does_without(job, target):
    records = job(
        f"dynamic_k={target}", "dynamic_k.tokens=128", "dynamic_k.calibration_tokens=128",
        "dynamic_k.k=[0.5]", "dynamic_k.structure=false", "dynamic_k.bootstraps=20",
        "probes.max_tokens_per_task=600",
        *(["dynamic_k.rounds=0"] if target == "mlp" else []),
    )  # fmt: skip
    (record,) = [record for record in records if record["part"] == "dynamic k"]
    assert "dynamic_k.tokens=128" in record["why"]


@pytest.mark.slow
def test_what_the_ablation_does_without(job):
    records = job(
        "causal=ablate", "causal.tokens=64", "causal.draw_tokens=64", "causal.draws=20",
        "causal.ablated_draws=1", "causal.bootstraps=20", "causal.attribution_tokens=64",
        "probes.max_tokens_per_task=600",
    )  # fmt: skip
    assert {r["part"] for r in records} >= {"ablation", "ablation of communities", "attribution"}


def test_a_page_of_an_older_run_has_no_foldout():
    assert left_out(parsed(None)) is None
    assert parsed([{"what": "files"}, 3, {"what": "files", "count": True}]) == []


def test_sums_are_of_the_whole_measurement():
    records = [
        LeftOut("files", 2, None, "Why."),
        LeftOut("files", 1, 9, "Why."),
        LeftOut("tokens", 5, 9, "So.", "losses"),
    ]
    assert parsed(plain([*records, LeftOut("tokens", 0, 9, "Nothing.")])) == records
    shown = left_out(records)
    assert shown["sum"] == "3 files, 1 entry on a part of the measurement"
    assert [row["count"] for row in shown["rows"]] == ["2", "1 of 9", "5 of 9"]
