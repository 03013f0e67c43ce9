"""Synthetic job folders of a sweep, shaped like real ones."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from saescope.analysis.resamples import Resamples
from tests.report.report_folder import metrics, write_run

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


def write_job(
    path: Path,
    *,
    k: int = 32,
    expansion: int = 8,
    depth: float = 0.5,
    size: int = 70_426_624,
    seed: int = 0,
    random_init: bool = False,
    si: float | None = None,
    q: float | None = None,
    max_tokens: int = 50_000,
    model: str | None = None,
    identity: str | None = None,
    source: str = "train",
    kind: str = "resid",
    resamples: bool = True,
) -> Path:
    """A finished job; SI and Q follow the settings unless they are given."""
    rng = np.random.default_rng([k, expansion, int(100 * depth), seed])
    write_run(path, latents=300, supported=80, seed=seed)
    by_settings = 0.03 if random_init else 0.02 + 0.02 * np.log10(size) + 0.004 * expansion - 0.001 * k
    si = (by_settings if si is None else si) + 0.02 * (depth - 0.5) + rng.normal(0, 0.001)
    q = (q if q is not None else 0.36 - 0.001 * k + 0.02 * depth) + rng.normal(0, 0.002)
    name = model or f"EleutherAI/pythia-{round(size / 1e6)}m"
    config = yaml.safe_load((path / "config.yaml").read_text())
    config["model"] |= {"name": name, "random_init": random_init}
    config["sae"] = {"source": source, "repo": None, "k": k, "expansion_factor": expansion,
                     "num_latents": None, "tokens": 500_000, "init_seed": seed, "data_seed": 0}  # fmt: skip
    config["hookpoint"] = {"kind": kind, "layer": None, "depth": depth, "name": None}
    config["probes"]["max_tokens_per_task"] = max_tokens
    overrides = [
        f"sae.k={k}",
        f"sae.expansion_factor={expansion}",
        f"hookpoint.depth={depth}",
        f"sae.init_seed={seed}",
    ]
    layer = int(depth * 6)
    provenance = {
        "probes": {"digest": f"{max_tokens} tokens a task"},
        "model": {"name": name, "num_parameters": size, "num_layers": 6, "random_init": random_init},
        "hookpoint": {"name": f"layers.{layer}", "kind": kind, "layer": layer, "width": 512},
        "sae": {
            "source": source,
            "k": k,
            "expansion_factor": float(expansion),
            "num_latents": 512 * expansion,
        },
    }
    values = metrics(512 * expansion, 80) | {
        "sae/l0": float(k), "sae/fvu": 0.5 - 0.05 * np.log2(k) - 0.004 * expansion + rng.normal(0, 0.002),
        "lm/ce_score": 0.9 + 0.01 * np.log2(k), "si/mean": si,
        "si/ci_low": si - 0.003, "si/ci_high": si + 0.003,
        "q/modularity": q,
    }  # fmt: skip
    (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (path / "provenance.json").write_text(json.dumps(provenance))
    (path / "metrics.json").write_text(json.dumps(values))
    identity = identity or "-".join(map(str, (name, k, expansion, depth, seed, random_init, source, kind)))
    status = {"schema": 1, "state": "ok", "identity": identity,
              "notes": {}, "warnings": [], "overrides": overrides}  # fmt: skip
    (path / "status.json").write_text(json.dumps(status))
    record(path, overrides, config)
    (path / "report.html").write_text("<p>a run</p>")
    if resamples:
        own = zlib.crc32(repr((k, expansion, depth, size, seed, random_init, source, kind)).encode())
        write_resamples(path, values, np.random.default_rng(own))
    block = np.arange(80) % 4
    source, target = np.triu_indices(80, 1)
    edge = rng.random(source.size) < np.where(block[source] == block[target], 0.6, 0.1)
    edge |= target == source + 1
    edges = {"source": source[edge], "target": target[edge], "joint": np.full(int(edge.sum()), 9),
             "pmi": rng.gamma(2.0, 0.5, int(edge.sum())), "p": np.full(int(edge.sum()), 1e-6)}  # fmt: skip
    pq.write_table(pa.table(edges), path / "edges.parquet")
    features = pq.read_table(path / "features.parquet").to_pandas()
    features["degree"] = np.bincount(np.r_[source[edge], target[edge]], minlength=len(features))
    features.to_parquet(path / "features.parquet", index=False)
    (path / "matched.json").write_text(json.dumps(matched(q, rng)))
    return path


def matched(q: float, rng: np.random.Generator) -> dict[str, Any]:
    """`matched.json` of a job: SI at 50 firings, Q of 100 and 200 latents at two numbers of firings."""
    levels = [
        {"latents": latents, "firings": firings, "q": q + 0.2 + rng.normal(0, 0.002), "q_se": 0.003,
         "q_null_mean": 0.3, "degree": latents // 20}
        for latents in (100, 200) for firings in (145, 205)
    ]  # fmt: skip
    si = {"si": 0.17 + rng.normal(0, 0.0005), "si_firings": 50, "si_latents": 60, "si_lacks": ""}
    return si | {"q": levels, "q_lacks": ""}


def change_matched(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Another `matched.json` in a job's folder."""
    file = path / "matched.json"
    file.write_text(json.dumps(change(json.loads(file.read_text()))))


def write_resamples(path: Path, values: dict[str, Any], rng: np.random.Generator) -> None:
    """Draws that all jobs share but for a tenth of their variance: standard errors 0.0015, Q 0.001."""
    shared = np.random.default_rng(0)
    documents_B, documents_G = shared.normal(size=100), shared.normal(size=8)
    own_B, own_G = rng.normal(size=100), rng.normal(size=8)
    bootstrap = {
        key: values[key] + 0.0015 * (0.95 * documents_B + 0.3 * own_B)
        for key in ("si/mean", "si/mutual_info")
        if values.get(key) is not None
    }
    groups = {
        key: values[key] + 0.001 / np.sqrt(7) * (0.95 * documents_G + 0.3 * own_G)
        for key in ("q/modularity", "sae/fvu", "lm/ce_score")
    }
    Resamples(bootstrap, groups).table().to_parquet(path / "resamples.parquet", index=False)


def record(path: Path, overrides: list[str], config: dict[str, Any]) -> None:
    """What Hydra writes before a job starts."""
    (path / ".hydra").mkdir(parents=True, exist_ok=True)
    (path / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    (path / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config))


def write_failed(path: Path, error: str, overrides: list[str], state: str = "failed") -> Path:
    """A job that did not finish."""
    config = {
        "model": {"name": "EleutherAI/pythia-70m"},
        "sae": {"source": "train", "k": 64, "expansion_factor": 8},
    }
    record(path, overrides, config)
    (path / "status.json").write_text(
        json.dumps({"schema": 1, "state": state, "error": error, "overrides": overrides})
    )
    return path


def write_six(folder: Path) -> Path:
    """Expansion factor by k, the last job failed."""
    jobs = [(k, expansion) for expansion in (8, 16, 32) for k in (16, 32)]
    for at, (k, expansion) in enumerate(jobs[:5]):
        write_job(folder / str(at), k=k, expansion=expansion)
    write_failed(
        folder / "5", "the SAE folder /x is missing; give another", ["sae.k=32", "sae.expansion_factor=32"]
    )
    return folder


def write_lacking(folder: Path) -> Path:
    """Trainings with and without a learning rate of their own, by k, and neurons, which have neither."""
    jobs: list[tuple[int, float | None, str]] = [
        (16, None, "train"), (16, 0.1, "train"), (32, None, "train"), (32, 0.1, "train"),
        (32, None, "neurons"),
    ]  # fmt: skip
    for at, (k, lr, source) in enumerate(jobs):
        path = write_job(folder / str(at), k=k, source=source, identity=str(at))
        config = yaml.safe_load((path / "config.yaml").read_text())
        lacks = {"k": None, "expansion_factor": None, "tokens": None, "init_seed": None} if at == 4 else {}
        config["sae"] |= {"lr": lr} | lacks
        (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        provenance = json.loads((path / "provenance.json").read_text())
        provenance["sae"] |= {key: None for key in ("k", "expansion_factor") if lacks}
        (path / "provenance.json").write_text(json.dumps(provenance))
    return folder


def write_sixty(folder: Path) -> Path:
    """Four sizes, three depths, two k, two seeds, and a random-init control; two jobs lost."""
    at = 0
    for size in (14_067_712, 70_426_624, 162_322_944, 405_334_016):
        for depth in (0.25, 0.5, 0.75):
            for k in (16, 32):
                for seed in (0, 1):
                    if at == 7:
                        write_failed(folder / "7", "out of memory " + HOSTILE, ["sae.k=32"])
                    elif at == 11:
                        write_failed(folder / "11", "", ["sae.k=32"], state="running")
                    else:
                        write_job(folder / str(at), k=k, depth=depth, size=size, seed=seed)
                    at += 1
            write_job(folder / str(at), k=32, depth=depth, size=size, random_init=True)
            at += 1
    return folder
