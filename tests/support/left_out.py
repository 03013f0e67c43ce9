"""Silence is a fault: what a finished job left out is worked out anew, from its inputs and its tables.

`check_run` fails where `status.json` does not count it or the page does not say it. It uses none of the code
that writes the records.
"""

import csv
import html
import json
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

FIRINGS, DOCUMENTS = 20, 5
"""What a latent needs for a causal SI (docs/causal.md)."""


def check_run(run: Path) -> list[dict]:
    """The records of a finished run folder, checked against everything that can be counted anew."""
    status = json.loads((run / "status.json").read_text())
    assert status["state"] == "ok", status
    records = status["left_out"]
    for record in records:
        assert set(record) == {"what", "count", "of", "why", "part"}, record
        assert record["what"]
        assert record["count"] > 0
        assert record["of"] is None or record["of"] >= record["count"], record
        assert record["why"].endswith("."), record
    metrics = json.loads((run / "metrics.json").read_text())
    config = yaml.safe_load((run / "config.yaml").read_text())
    _tokens(run, metrics, config, records)
    _latents(run, records)
    _documents(config["probes"], metrics, records)
    _languages(config["probes"], records)
    _training(run, config, records)
    _parts(run, metrics, config, records)
    lost = [warning for warning in status["warnings"] if warning.startswith("W&B")]
    assert counted(records, "wandb", part="W&B") == len(lost), lost
    page = html.unescape((run / "report.html").read_text())
    assert ("What was left out:" in page) == bool(records)
    for record in records:
        assert record["why"] in page, record["why"]
        assert f"{record['count']:,}" in page
    return records


def counted(records: list[dict], what: str, *, part: str = "", why: str = "") -> int:
    """Sum over the records of a kind whose reason holds the words `why`."""
    return sum(r["count"] for r in records if (r["what"], r["part"]) == (what, part) and why in r["why"])


def _tokens(run: Path, metrics: dict, config: dict, records: list[dict]) -> None:
    measured = sum(value for key, value in metrics.items() if key.startswith("task/") and "/tokens" in key)
    with np.load(run / "latents.npz") as arrays:
        positions, read = len(arrays["id_R"]), int(arrays["tokens"][0])
    assert counted(records, "tokens") == positions - measured
    assert counted(records, "tokens", part="contexts") == measured - read
    lm_tokens, windows = config["metrics"]["lm_tokens"], metrics["features/num_latents"] > 0
    without_loss = counted(records, "tokens", part="losses")
    assert windows
    if not lm_tokens:
        assert without_loss >= measured
    tasks = sum(key.endswith("/tokens") and key.startswith("task/") for key in metrics)
    # a window more than the share of each task at most
    assert without_loss >= measured - lm_tokens - tasks * config["probes"]["ctx_len"]
    most = config["metrics"]["graph_tokens"] or measured
    assert (counted(records, "tokens", part="graph") > 0) == (measured > most)
    if config["metrics"]["unit"] == "token":
        assert (
            counted(records, "tokens", part="null of the edges")
            >= measured - config["metrics"]["null_tokens"]
        )


def _latents(run: Path, records: list[dict]) -> None:
    features = pd.read_parquet(run / "features.parquet")
    supported = features["supported"].to_numpy()
    assert counted(records, "latents") == (~supported).sum()
    with np.load(run / "latents.npz") as arrays:
        unread = (arrays["promoted_LT"][:, 0] < 0).sum() if "promoted_LT" in arrays else supported.sum()
    assert counted(records, "latents", part="promoted tokens") == unread
    if "causal_si" in features:
        scored = features["causal_si"].notna().sum()
        assert counted(records, "latents", part="attribution") == supported.sum() - scored


def _documents(probes: dict, metrics: dict, records: list[dict]) -> None:
    measured = sum(
        value for key, value in metrics.items() if key.startswith("task/") and key.endswith("/docs")
    )
    folder = probes["path"] and Path(probes["path"])
    if probes["source"] != "folder" or probes["task_key"] or not folder.is_dir():
        return
    tasks = {key.split("/")[1] for key in metrics if key.startswith("task/")}
    mine, others = [], 0
    for path in sorted(folder.rglob("*")):
        above = path.relative_to(folder).parts
        if path.is_dir() or any(part[0] == "." for part in above[:-1]):
            continue
        readable = path.suffix in (".txt", ".jsonl", ".csv", ".tsv", ".json", ".parquet", ".arrow")
        name = path.stem if len(above) == 1 else above[0]
        label = "".join(c if c.isalnum() or c in "_-." else "_" for c in name)
        if readable and path.name[0] != "." and label in tasks:
            mine.append(path)
        elif path.name[0] != "." or readable:
            others += 1
    assert counted(records, "files") == others, others
    if all(path.suffix in (".txt", ".jsonl", ".csv") and label in tasks for path in mine):
        texts = [
            text
            for path in mine
            for text in _texts(path, probes["text_key"], len(path.relative_to(folder).parts) > 1)
        ]
        written = sum(bool(text.strip()) for text in texts)
        blank = counted(records, "documents", why="is empty")
        assert counted(records, "documents") - blank == written - measured
        if not counted(records, "documents", why="max_tokens_per_task"):
            assert blank == len(texts) - written


def _texts(path: Path, key: str, whole: bool) -> list[str]:
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix == ".csv":
        return [row[key] for row in csv.DictReader(text.splitlines(keepends=True))]
    if path.suffix == ".txt":
        return [text] if whole else [block for block in _blocks(text) if block]
    values = [json.loads(line)[key] for line in text.splitlines() if line.strip()]
    return ["" if value is None else value for value in values]


def _blocks(text: str) -> list[str]:
    blocks = [""]
    for line in text.splitlines():
        blocks = [*blocks[:-1], blocks[-1] + line] if line.strip() else [*blocks, ""]
    return blocks


def _languages(probes: dict, records: list[dict]) -> None:
    """Of a CSV table: its columns without a letter, and the rows that lack a sentence."""
    if probes["source"] != "languages" or probes["languages"] or Path(probes["path"] or "").suffix != ".csv":
        return
    with Path(probes["path"]).open(encoding="utf-8", newline="") as file:
        names, *rows = csv.reader(file)
    spoken = [any(c.isalpha() for row in rows for c in row[at]) for at in range(len(names))]
    assert counted(records, "columns") == spoken.count(False)
    missing = [
        row for row in rows if any(not row[at].strip() for at, is_spoken in enumerate(spoken) if is_spoken)
    ]
    assert counted(records, "sentences") == len(missing)


def _parts(run: Path, metrics: dict, config: dict, records: list[dict]) -> None:
    """Parts that run on a budget of tokens: a window more than the share of each task at most."""
    tasks = [key for key in metrics if key.startswith("task/") and key.endswith("/tokens")]
    measured, slack = sum(metrics[key] for key in tasks), len(tasks) * config["probes"]["ctx_len"]

    def used(part: str, budget: int) -> int:
        tokens: int = measured - counted(records, "tokens", part=part)
        assert 0 < tokens <= min(measured, budget + slack), (part, tokens)
        return tokens

    causal = config["causal"]
    if causal["method"] == "ablate":
        assert used("ablation", causal["tokens"]) < measured  # documents that choose the sets do not measure
        if (run / "causal_modules.parquet").is_file():
            used("ablation of communities", causal["tokens"])
    if causal["method"] != "none":
        used("attribution", causal["attribution_tokens" if causal["method"] == "ablate" else "tokens"])
    if config["dynamic_k"]["target"] != "none":
        table = pd.read_csv(run / "dynamic_k.csv")
        predictions = table.loc[(table["task"] == "all") & (table["phase"] == "all"), "tokens"].max()
        assert predictions <= used("dynamic k", config["dynamic_k"]["tokens"]) <= 2 * predictions


def _training(run: Path, config: dict, records: list[dict]) -> None:
    if config["sae"]["source"] not in ("train", "pca", "directions"):
        return
    used = json.loads((run / "provenance.json").read_text())["sae"]["tokens"]
    assert counted(records, "tokens", part="training") == max(0, config["sae"]["tokens"] - used)
    if config["corpus"]["source"] == "local":
        files = [path for path in Path(config["corpus"]["path"]).rglob("*") if path.is_file()]
        read = sum(path.suffix in (".txt", ".jsonl", ".csv") and path.name[0] != "." for path in files)
        assert counted(records, "files", part="training") == len(files) - read if len(files) > 1 else True
