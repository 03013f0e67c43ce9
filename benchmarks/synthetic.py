"""What SI and Q say about data whose structure is known: `python benchmarks/synthetic.py`.

Four tables: noise has nothing to find, bursts are not specialisation, planted modules read the same at three
widths, unequal token counts are not specialisation. Definitions: docs/definitions.md.
"""

import time
from collections.abc import Sequence

import numpy as np
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

from saescope.stats import (
    ModularitySettings,
    ModularitySummary,
    SpecializationSettings,
    document_dispersion,
    naive_specialization,
    permutation_null,
    permutation_p,
    specialization,
    summarise_modularity,
    summarise_specialization,
    supported,
    task_counts,
)
from saescope.stats.synthetic import bursty, documents, noise, planted

TASKS = 6
DOC_TOKENS = 128
TOKENS = 20_000
K = 32
Cell = str | int | float | None


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    text = [list(header)] + [[show(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in text) for i in range(len(header))]
    print(f"\n{title}")
    for number, row in enumerate(text):
        print("  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
        if number == 0:
            print("  " + "  ".join("-" * width for width in widths))


def show(cell: Cell) -> str:
    if cell is None:
        return "-"
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)


def modularity_of(active: sparse.csr_matrix, task: np.ndarray) -> ModularitySummary:
    count = np.asarray(active.sum(0)).ravel()
    doc_counts, _, _ = documents(active, task, DOC_TOKENS)
    ok = supported(count, np.asarray((doc_counts > 0).sum(0)).ravel())
    rate = task_counts(active, task, TASKS) / np.bincount(task, minlength=TASKS)
    settings = ModularitySettings(leiden_seeds=3, rewirings=10)
    return summarise_modularity(active, task, TASKS, ok, rate.argmax(1), settings)


def significant(
    active: sparse.csr_matrix, task: np.ndarray
) -> tuple[float | None, float | None, float | None]:
    """(mean SI, share significant, naive SI)."""
    counts, tokens, label = documents(active, task, DOC_TOKENS)
    ok = supported(np.asarray(counts.sum(0)).ravel(), np.asarray((counts > 0).sum(0)).ravel())
    settings = SpecializationSettings(permutations=300, bootstraps=0)
    m = summarise_specialization(counts, tokens, label, TASKS, ok, settings).metrics
    return m["si/mean"], m["si/significant_frac"], m["si/naive_mean"]


def on_noise() -> None:
    rows = []
    for width in (1024, 2048, 4096):
        active, task = noise(width, K, TOKENS, seed=width), np.arange(TOKENS) * TASKS // TOKENS
        start = time.perf_counter()
        q, (si, share, naive_si) = modularity_of(active, task).metrics, significant(active, task)
        seconds = time.perf_counter() - start
        edges = int(q["q/n_edges"] or 0)
        rows.append((width, edges, q["q/modularity"], q["q/naive"], si, share, naive_si, seconds))
    table(
        "1. Noise (20,000 tokens, k 32): nothing to find",
        ("latents", "edges", "Q", "naive Q", "SI", "significant", "naive SI", "s"),
        rows,
    )


def on_bursts() -> None:
    rows = []
    for docs in (20, 100):
        start = time.perf_counter()
        counts, tokens, task = bursty(400, docs, seed=docs)
        null = permutation_null(counts, tokens, task, TASKS, permutations=100, seed=0)
        doc_p = permutation_p(counts, tokens, task, TASKS, permutations=500, seed=0)
        by_task, tokens_task = task_counts(counts, task, TASKS), np.bincount(task, weights=tokens)
        observed = specialization(by_task, tokens_task)
        dispersion = document_dispersion(counts, tokens, task, TASKS)
        clustered = specialization(by_task, tokens_task, dispersion)
        rng = np.random.default_rng(0)
        shuffled = [
            specialization(rng.multinomial(by_task.sum(1), np.full(TASKS, 1 / TASKS)), tokens_task)
            for _ in range(200)
        ]
        token_p = (1 + (np.array(shuffled) >= observed).sum(0)) / 201
        seconds = time.perf_counter() - start
        shares = (float((doc_p <= 0.05).mean()), float((token_p <= 0.05).mean()))
        si = (float(clustered.mean()), float(observed.mean()), float(null.mean_F.mean()))
        rows.append((docs, *si, *shares, seconds))
    table(
        "2. Bursts independent of task (400 latents): share with p <= 0.05",
        ("docs/task", "SI", "SI as if independent", "null SI", "document null", "token null", "s"),
        rows,
    )


def on_planted() -> None:
    rows = []
    for width in (1024, 2048, 4096):
        data = planted(width, K, TOKENS, boost=2.0, seed=width)
        start = time.perf_counter()
        result = modularity_of(data.active_NF, data.task_N)
        seconds = time.perf_counter() - start
        linked = (result.community_F >= 0) & (data.module_F >= 0)
        ari = float(adjusted_rand_score(data.module_F[linked], result.community_F[linked]))
        m = result.metrics
        counts = (width, int(m["q/n_edges"] or 0), int(m["q/null_edges"] or 0))
        rows.append(
            (*counts, m["q/modularity"], m["q/null_mean"], m["q/within_task"], ari, m["q/naive"], seconds)
        )
    table(
        "3. Six planted modules (boost 2): the same Q at every width, expected 0.83",
        ("latents", "edges", "null edges", "Q", "rewired Q", "within task", "ARI", "naive Q", "s"),
        rows,
    )


def on_unequal_tokens() -> None:
    rows = []
    for share in (
        (0.5, 0.1, 0.1, 0.1, 0.1, 0.1),
        (0.4, 0.25, 0.15, 0.1, 0.06, 0.04),
        (0.7, 0.1, 0.1, 0.05, 0.03, 0.02),
    ):
        start = time.perf_counter()
        tokens = np.round(100_000 * np.array(share)).astype(int)
        counts = np.random.default_rng(0).binomial(tokens, 0.01, size=(5000, TASKS))
        si, naive = float(specialization(counts, tokens).mean()), float(naive_specialization(counts).mean())
        rows.append((" ".join(f"{x:g}" for x in share), si, naive, time.perf_counter() - start))
    table(
        "4. Equal rates, unequal token counts (about 1,000 firings)",
        ("token shares", "SI", "naive SI", "s"),
        rows,
    )


if __name__ == "__main__":
    on_noise()
    on_bursts()
    on_planted()
    on_unequal_tokens()
