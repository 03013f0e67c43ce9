"""Synthetic run folders, shaped like real ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

TASKS = ["code", "dialogue", "math", "prose", "qa", "reasoning"]
EVIL = "<script>alert(1)</script>"
TEXTS = {
    "code": (
        "def mean(values):\n    total = sum(values)\n    return total / ",
        "len",
        "(values)\n\n\ndef median(",
    ),
    "dialogue": (
        "- Are you coming tonight?\n- I would love to,",
        " but",
        " I have to finish this first.\n- Again?",
    ),
    "math": (
        "Natalia sold clips to 48 friends in April, and half as many in May: 48 / 2",
        " =",
        " 24 clips in May.",
    ),
    "prose": (
        "The ship was laid down in 1912 and, after",
        " several",
        " delays caused by strikes, launched in 1915 .",
    ),
    "qa": (
        "Context: The river rises in the hills.\nQuestion: Where does the river rise?\n",
        "Answer",
        ": the hills",
    ),
    "reasoning": (
        "Which of these is a renewable resource?\nA. coal\nB. wind\n",
        "C",
        ". oil\nD. natural gas\n",
    ),
}


def metrics(latents: int = 4096, supported: int = 912) -> dict[str, Any]:
    """Every key of a finished run, with numbers of a plausible one."""
    values: dict[str, Any] = {
        "sae/fvu": 0.1873, "sae/explained_variance": 0.8127, "sae/mse": 4.21, "sae/cosine": 0.912,
        "sae/l0": 31.9, "sae/l2_ratio": 0.934, "sae/reconstruction_bias": 1.021,
        "sae/variance_top_tokens": 0.0123,
        "lm/ce": 2.914, "lm/ce_spliced": 3.021, "lm/ce_zero": 7.84, "lm/ce_mean": 6.93, "lm/ce_delta": 0.107,
        "lm/ce_score": 0.978, "lm/kl": 0.131, "lm/kl_score": 0.972,
    }  # fmt: skip
    for at, task in enumerate(TASKS):
        values |= {
            f"task/{task}/tokens": 18_000 - 411 * at, f"task/{task}/docs": 120 + 13 * at,
            f"task/{task}/fvu": 0.15 + 0.021 * at, f"task/{task}/ce": 2.3 + 0.2 * at,
            f"task/{task}/ce_delta": None if task == "qa" else 0.08 + 0.013 * at,
        }  # fmt: skip
    values |= {
        "features/num_latents": latents, "features/alive_frac": 0.969, "features/dead_frac": 0.031,
        "features/supported": supported, "features/log10_density_mean": -3.21,
        "features/density_gt_1pct_frac": 0.041, "features/density_gt_10pct_frac": 0.002,
        "si/mean": 0.1812, "si/median": 0.122, "si/weighted": 0.094, "si/null_mean": 0.00612,
        "si/excess": 0.1751,
        "si/ci_low": 0.1714, "si/ci_high": 0.1921, "si/significant_frac": 0.8314, "si/naive_mean": 0.2713,
        "q/modularity": 0.3603, "q/null_mean": 0.0801, "q/null_sd": 0.0015, "q/excess": 0.2802, "q/z": 186.8,
        "q/p": 0.0476, "q/rewirings": 20, "q/n_edges": 16_854, "q/null_edges": 0, "q/n_communities": 14,
        "q/edges_by_document_frac": 0.94, "q/within_token_edges_by_document_frac": 0.91,
        "q/coverage": 0.963, "q/within_task": 0.3241, "q/task_partition": 0.1042, "q/ami_task": 0.137,
        "q/ami_task_within": 0.081,
        "q/within_token": 0.369, "q/within_token_null_mean": 0.166, "q/within_token_excess": 0.203,
        "q/within_token_n_edges": 5_463, "q/within_token_n_communities": 9, "q/lexical": 0.359,
        "q/word_share": 0.862, "q/ami_within_token": 0.051, "q/ami_within_token_task": 0.03,
        "q/seed_ari": 0.871, "q/naive": 0.9812, "dynk/k_at_ppl_1pct": None, "dynk/k_at_ppl_5pct": None,
        "cost/wall_s": 48.3, "cost/tokens": 101_835, "cost/tokens_per_s": 5120.0, "cost/peak_mem_mb": 912.0,
    }  # fmt: skip
    return values


STATUS: dict[str, Any] = {
    "state": "ok",
    "notes": {
        "dynk/k_at_ppl_1pct": "dynamic_k=none",
        "dynk/k_at_ppl_5pct": "dynamic_k=none",
        "task/qa/ce_delta": "no qa window among the metrics.lm_tokens tokens",
    },
    "warnings": [],
}


def _features(latents: int, supported: int, rng: np.random.Generator) -> dict[str, Any]:
    density = np.sort(10 ** rng.normal(-3.1, 0.7, latents).clip(-5, -0.3))[::-1]
    dead = np.arange(latents) >= latents - max(latents // 32, 1)
    chosen = np.arange(latents) < supported
    share = rng.dirichlet(np.full(len(TASKS), 0.9), latents)
    share = np.where(rng.random((latents, 1)) < 0.3, 0.15 * share + 0.85 / len(TASKS), share)
    entropy = -(share * np.log(share.clip(1e-12))).sum(1)
    si = 1 - entropy / np.log(len(TASKS))
    community = np.where(
        chosen, share.argmax(1) + 6 * (rng.random(latents) < 0.45) + (rng.random(latents) < 0.2), -1
    )
    si_p = np.where(si > 0.03, 0.001, rng.random(latents))
    unknown = np.where(chosen, si, np.nan)
    return {
        "latent": np.arange(latents),
        "count": np.where(dead, 0, density * 100_000).astype(int),
        "docs": np.where(dead, 0, density * 9_000 + 1).astype(int),
        "density": np.where(dead, 0.0, density),
        "mean_act": np.where(dead, np.nan, rng.gamma(2, 0.7, latents)),
        "max_act": np.where(dead, np.nan, rng.gamma(4, 2.0, latents)),
        "alive": ~dead,
        "supported": chosen,
        "si": unknown,
        "si_naive": np.where(dead, np.nan, si),
        "si_null": np.where(chosen, 0.006, np.nan),
        "si_excess": unknown - 0.006,
        "si_p": np.where(chosen, si_p, np.nan),
        "si_q": np.where(chosen, np.minimum(si_p * 1.2, 1), np.nan),
        "top_task": [TASKS[at] if ok else None for at, ok in zip(share.argmax(1), chosen, strict=True)],
        **{f"rate_{task}": np.where(dead, 0.0, share[:, at] * density) for at, task in enumerate(TASKS)},
        "community": community,
        "community_within_token": np.where(chosen, rng.integers(-1, 7, latents), -1),
        "degree": np.where(chosen, rng.poisson(30, latents), 0),
    }


def _examples(features: dict[str, Any], rng: np.random.Generator) -> dict[str, list[Any]]:
    names = ["latent", "rank", "task", "doc", "position", "activation", "token"]
    rows: dict[str, list[Any]] = {name: [] for name in [*names, "context_before", "context_after"]}
    si = np.nan_to_num(features["si"], nan=-1)
    for task in TASKS:
        mine = [at for at in np.argsort(-si) if features["top_task"][at] == task][:8]
        for nth, latent in enumerate(mine):
            for rank in range(8):
                home = task if rank < 5 else str(rng.choice(TASKS))
                before, token, after = TEXTS[home]
                if task == "code" and nth == 0 and rank == 0:
                    before, token, after = "<html><body>\n\t", EVIL, "\n</body>"
                if nth == 1 and rank == 1:
                    token = "\n"
                values = (
                    int(latent), rank, home, rank * 7, 31 + rank, 9.3 * 0.86**rank, token, before * 3, after
                )  # fmt: skip
                for name, value in zip(rows, values, strict=True):
                    rows[name].append(value)
    return rows


def _histogram(values: np.ndarray, edges: np.ndarray) -> dict[str, list[float]]:
    counts, _ = np.histogram(values, edges)
    return {"edges": edges.tolist(), "counts": counts.tolist()}


def write_run(path: Path, latents: int = 4096, supported: int = 912, seed: int = 0) -> Path:
    """A run folder as a finished run leaves it, before its report."""
    rng = np.random.default_rng(seed)
    path.mkdir(parents=True, exist_ok=True)
    features = _features(latents, supported, rng)
    alive = features["alive"]
    si = features["si"][features["supported"]]
    null = rng.gamma(1.2, 0.005, 20_000)
    shared = np.linspace(0, 1, 51)
    histograms = {
        "si": _histogram(si, shared),
        "si_null_draws": _histogram(null, shared),
        "log10_density": _histogram(np.log10(features["density"][alive]), np.linspace(-6, 0, 49)),
        "max_act": _histogram(features["max_act"][alive], np.linspace(0, 30, 41)),
    }
    config = {
        "model": {"name": "EleutherAI/pythia-70m", "deduped": False, "revision": None, "random_init": False},
        "sae": {"source": "hub", "repo": "EleutherAI/sae-pythia-70m-32k", "revision": None, "k": 32},
        "hookpoint": {"kind": "resid", "layer": 3, "depth": None, "name": None},
        "probes": {"source": "embedded", "path": None, "ctx_len": 256, "max_tokens_per_task": 50000},
        "metrics": {
            "min_count": 50, "min_docs": 10, "permutations": 1000, "si_fdr": 0.05, "unit": "token",
            "edge_fdr": 0.01, "resolution": 1.0, "leiden_seeds": 5, "rewirings": 20,
        },
        "runtime": {"device": "cpu", "dtype": "float32", "batch_tokens": 4096},
        "tracking": {"mode": "offline", "project": "saescope", "tags": []},
        "seed": 0,
        "force": False,
    }  # fmt: skip
    provenance = {
        "model": {"name": "EleutherAI/pythia-70m", "params": 70_426_624},
        "hookpoint": {"name": "layers.3", "width": 512},
        "sae": {"source": "hub", "repo": "EleutherAI/sae-pythia-70m-32k", "num_latents": latents, "k": 32},
        "device": "cpu",
        "dtype": "float32",
        "versions": {"saescope": "0.1.0", "torch": "2.9.0", "transformers": "5.0.0"},
    }
    tracking = {
        "run_id": "k3v9x2ab", "group": "default", "mode": "offline", "url": None,
        "sync": "wandb sync wandb/offline-run-20260101_120000-k3v9x2ab",
    }  # fmt: skip
    (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    for name, content in {
        "metrics": metrics(latents, supported), "status": STATUS, "histograms": histograms,
        "provenance": provenance, "tracking": tracking,
    }.items():  # fmt: skip
        (path / f"{name}.json").write_text(json.dumps(content))
    pq.write_table(pa.table(features), path / "features.parquet")
    pq.write_table(pa.table(_examples(features, rng)), path / "examples.parquet")
    return path
