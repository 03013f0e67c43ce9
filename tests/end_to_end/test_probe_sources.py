"""A job with tasks and a model named in other scripts, and files beside them: kept, or said everywhere."""

import html
import json
import logging
import shutil
import sys

import pandas as pd
import wandb

from saescope.cli.main import main
from tests.support.wandb_log import load, logs

NAMES = ("हिन्दी", "日本語", "ไทย")


def test_names_of_any_script_and_what_is_left_out(
    monkeypatch, tmp_path, capfd, model_folder, sae_folder, probes
):
    shutil.copytree(model_folder, tmp_path / "模型")
    folder = tmp_path / "probes"
    folder.mkdir()
    for name, file in zip(NAMES, sorted(probes.iterdir()), strict=True):
        lines = file.read_text().splitlines()
        (folder / f"{name}.jsonl").write_text("\n".join([*lines, *lines, '{"text": ""}']) + "\n")
    (folder / "कुछ.xlsx").write_bytes(b"x")
    args = [
        "model=local", "model.name=模型", f"sae.repo={sae_folder}", "probes=folder", f"probes.path={folder}",
        "hookpoint.layer=2", "probes.ctx_len=64", "probes.max_tokens_per_task=2500", "metrics=quick",
        "metrics.permutations=20", "metrics.bootstraps=20", "metrics.lm_tokens=0", "runtime.dtype=float32",
        "hydra.run.dir=run", "tracking=offline",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["saescope", *[quoted(arg) for arg in args]])
    logging.getLogger().handlers.clear()
    code = main()
    out, err = capfd.readouterr()
    assert code == 0, err
    wandb.teardown()

    metrics = json.loads((tmp_path / "run/metrics.json").read_text(encoding="utf-8"))
    assert {key.split("/")[1] for key in metrics if key.startswith("task/")} == set(NAMES)
    columns = pd.read_parquet(tmp_path / "run/features.parquet").columns
    assert {f"rate_{name}" for name in NAMES} <= set(columns)

    status = json.loads((tmp_path / "run/status.json").read_text(encoding="utf-8"))
    page = html.unescape((tmp_path / "run/report.html").read_text(encoding="utf-8"))
    flat = " ".join(out.split())
    for words in (f"left out of {folder}: कुछ.xlsx", "repeat an earlier one of their task"):
        assert any(words in warning for warning in status["warnings"]), status["warnings"]
        assert words in page
        assert words in flat

    (log,) = logs(tmp_path / "run")
    logged = load(log)
    assert "feature_table" in {artifact["type"] for artifact in logged["artifacts"]}
    assert f"task/{NAMES[0]}/tokens" in logged["summary"]
    assert not [warning for warning in status["warnings"] if "W&B" in warning]


def quoted(override: str) -> str:
    """Hydra wants quotes around letters beyond a–z."""
    key, _, value = override.partition("=")
    return override if value.isascii() else f'{key}="{value}"'
