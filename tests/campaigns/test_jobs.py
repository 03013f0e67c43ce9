"""Whole jobs at the edges of what a config or a probe set may be: sound numbers, or one line on stderr."""

import json
import logging
import math
import sys

import pytest

from saescope.cli.main import main
from tests.campaigns.conftest import TRIED
from tests.campaigns.outcome import one_line
from tests.support.left_out import check_run

GOOD = [
    f"{word} {word} and so {word} the words of a text" for word in ("one", "two", "six", "ten", "red", "blue")
]

CONFIGS = {
    "lowest thresholds": ["metrics.min_count=1", "metrics.min_docs=1", "metrics.min_joint=1"],
    "highest thresholds": ["metrics.min_count=9007199254740992", "metrics.min_joint=9007199254740992"],
    "smallest fdr": ["metrics.si_fdr=1e-6", "metrics.edge_fdr=1e-12", "metrics.resolution=1000"],
    "coarsest graph": ["metrics.resolution=0.001", "metrics.unit=document"],
    "chunks of one": ["metrics.unit=chunk", "metrics.chunk_tokens=1", "metrics.block_tokens=1"],
    "chunks of all": ["metrics.unit=chunk", "metrics.chunk_tokens=1048576", "metrics.block_tokens=1048576"],
    "no nulls, no losses": ["metrics.null_tokens=0", "metrics.lm_tokens=0", "metrics.example_latents=0"],
    "one of each": ["metrics.null_tokens=1", "metrics.lm_tokens=1", "metrics.example_contexts=0"],
    "more than there is": [
        "metrics.null_tokens=9007199254740992", "metrics.lm_tokens=9007199254740992",
        "metrics.example_latents=100000", "metrics.example_contexts=100000",
    ],
    "windows of two": ["probes.ctx_len=2", "runtime.batch_tokens=300"],
    "one window a batch": ["runtime.batch_tokens=1", "metrics.lm_tokens=0"],
    "all positions": ["probes.exclude_first=0", "runtime.batch_tokens=9007199254740992"],
    "largest seed": ["seed=4294967295", "runtime.cache_gb=0"],
    "negative zero": ["seed=-0", "metrics.lm_tokens=-0.0"],
    "no tokens": ["probes.max_tokens_per_task=1"],
    "k of one": ["sae.k=1"],
    "k of all": ["sae.k=32"],
    "k beyond": ["sae.k=33"],
    "one latent": ["sae=random", "sae.num_latents=1", "sae.k=1"],
    "k beyond its latents": ["sae=random", "sae.num_latents=4", "sae.k=5"],
    "all latents": ["sae=random", "sae.num_latents=8", "sae.k=8"],
    "half precision": ["runtime.dtype=float16"],
}  # fmt: skip

PROBES = {
    "one document a task": {"a": GOOD[:1], "b": GOOD[1:2]},
    "the same text everywhere": {"a": GOOD[:1] * 12, "b": GOOD[:1] * 12},
    "one task": {"a": GOOD},
    "one long, one short": {"a": GOOD * 12, "b": GOOD[:1]},
    "one token again and again": {"a": ["the " * 60] * 12, "b": ["so " * 60] * 12},
    "special tokens only": {"a": ["<|endoftext|>" * 20], "b": GOOD},
    "nothing but NUL": {"a": ["\0" * 40] * 5, "b": ["\0" * 50] * 5},
    "ten tasks": {f"task {n}": [f"{n} {text}" for text in GOOD * 2] for n in range(10)},
    "emoji and marks": {"🧪 <b>": ["🧪🔬 ‮ abc \u0301" * 9] * 12, "日本": ["日本語の文" * 9] * 12},
}


@pytest.fixture
def job(model_folder, tmp_path, monkeypatch, capfd):
    """Runs a job on documents by task; checks how it ends."""

    def run(what: str, tasks: dict[str, list[str]], *args: str) -> None:
        folder = tmp_path / "probes"
        folder.mkdir()
        for task, texts in tasks.items():
            lines = [json.dumps({"text": text}) for text in texts]
            (folder / f"{task}.jsonl").write_text("\n".join(lines), encoding="utf-8")
        given = [
            "model=local", f"model.name={model_folder}", "sae=neurons", "sae.k=4", "hookpoint.layer=2",
            "probes=folder", f"probes.path={folder}", "probes.ctx_len=64", "metrics=quick",
            "metrics.min_count=3", "metrics.min_docs=2", "metrics.min_joint=2", "metrics.lm_tokens=60",
            "metrics.permutations=20",
            "metrics.bootstraps=20", "tracking=disabled", "hydra.run.dir=run", "runtime.cache=off",
        ]  # fmt: skip
        monkeypatch.setattr(sys, "argv", ["saescope", *given, *args])
        logging.getLogger().handlers.clear()
        code = main()
        err = capfd.readouterr().err
        status = json.loads((tmp_path / "run" / "status.json").read_text())
        TRIED[what, "accepted" if code == 0 else "refused"] += 1
        if code:
            said = [line for line in err.splitlines() if line.startswith("saescope: ")]
            assert len(said) == 1
            assert "unexpected" not in one_line(said[0])
            assert "Traceback" not in err
            assert status["state"] == "failed"
            return
        metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
        for key, value in metrics.items():
            assert (value is None) == (key in status["notes"]), key
            assert value is None or math.isfinite(value), key
        assert status["state"] == "ok"
        assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
        check_run(tmp_path / "run")

    return run


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_at_the_edge(job, name):
    tasks = {task: [f"{task} {text}" for text in GOOD * 2] for task in ("first", "second", "third")}
    job("jobs, config at the edge", tasks, *CONFIGS[name])


@pytest.mark.parametrize("name", PROBES)
def test_probes_at_the_edge(job, name):
    job("jobs, probes at the edge", PROBES[name])
