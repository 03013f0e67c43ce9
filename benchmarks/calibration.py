"""Do p-values, intervals and nulls keep their promises? Writes docs/calibration.md to standard output.

Many small corpora with documents of unequal length, tasks of unequal size and bursty latents: false
positives without any effect, coverage of the interval of mean SI, uniformity of q/p on graphs without
modules, and power.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse, stats
from tqdm import tqdm

from saescope.stats import (
    benjamini_hochberg,
    beyond_words,
    bootstrap_si,
    document_dispersion,
    leiden,
    permutation_null,
    permutation_p,
    rewire,
    specialization,
    task_counts,
)
from saescope.stats.synthetic import word_corpus, word_detectors

HEAD = """# Calibration

`python benchmarks/calibration.py --corpora {number} > docs/calibration.md`: corpora of six tasks of unequal
size (6–30 % of the documents), documents of log-normal length, latents whose rate differs from document to
document (beta with concentration 0.5–20: most firings of a latent lie in few documents).
"""
INTERVAL = """## Interval of mean SI

150 latents, 400 documents, concentration 4–40. The index is shrunk by the scatter between documents, so that
bursts do not lift it; a weak preference is shrunk a little too far. Coverage: share of intervals that hold
the SI of the true rates. Where there is hardly any effect the interval is wider than need be (bootstraps are,
at the edge of a range).

| log rate ratio | SI of the true rates | bias of `si/mean` | `si/null_mean` | coverage of the true SI |
|---|---|---|---|---|"""
WORDS = """
## Beyond words

Share of latents with `si_token_p` ≤ 5 %. Latents fire on 1 to 60 words each; tasks and documents have
vocabularies of their own. The first four kinds prefer no task given the word.

| latents | 60 documents | 300 documents |
|---|---|---|"""
TASKS = 6
SHARES = np.array([0.3, 0.22, 0.18, 0.14, 0.1, 0.06])
"""Documents of each task: unequal, as in real probe sets."""


@dataclass(frozen=True)
class World:
    """Latents and how they fire; corpora are drawn from it."""

    rate_FK: np.ndarray
    """Mean firing rate of each latent on each task."""
    burst_F: np.ndarray
    """Concentration of the beta of document rates: the smaller, the burstier."""

    @property
    def si_F(self) -> np.ndarray:
        """The index of the true rates."""
        q_FK = self.rate_FK / self.rate_FK.sum(1, keepdims=True)
        entropy_F = -(q_FK * np.log(np.maximum(q_FK, 1e-300))).sum(1)
        return 1 - entropy_F / np.log(self.rate_FK.shape[1])

    def corpus(
        self, documents: int, rng: np.random.Generator
    ) -> tuple[sparse.csr_matrix, np.ndarray, np.ndarray]:
        """(doc_counts_DF, tokens_D, task_D); document lengths are log-normal around 120 tokens."""
        task_D = np.repeat(np.arange(TASKS), np.maximum(4, np.round(SHARES * documents).astype(int)))
        tokens_D = np.clip(rng.lognormal(np.log(120), 0.6, task_D.size), 16, 1000).astype(np.int64)
        mean_DF = self.rate_FK[:, task_D].T
        a_DF = np.maximum(mean_DF * self.burst_F, 1e-9)
        rate_DF = rng.beta(a_DF, np.maximum(self.burst_F - a_DF, 1e-9))
        return sparse.csr_matrix(rng.binomial(tokens_D[:, None], rate_DF)), tokens_D, task_D


def world(latents: int, effect: float, rng: np.random.Generator, burst: tuple[float, float]) -> World:
    """Latents with Zipf-like rates; `effect`: log rate ratio of a preferred task, 0 for none."""
    base_F = np.exp(rng.uniform(np.log(0.01), np.log(0.08), latents))
    rate_FK = np.repeat(base_F[:, None], TASKS, axis=1)
    rate_FK[np.arange(latents), rng.integers(TASKS, size=latents)] *= np.exp(effect)
    return World(rate_FK, np.exp(rng.uniform(*np.log(burst), latents)))


BURSTS = (0.5, 20.0)


def false_positives(
    corpora: int, latents: int = 60, documents: int = 180, permutations: int = 400
) -> dict[str, float]:
    """Without any effect: share of p ≤ 5 %, and of corpora with any q ≤ 5 % (which is the FDR then)."""
    positive, any_discovery = [], []
    for seed in _bar("false positives", corpora):
        rng = np.random.default_rng(seed)
        counts, tokens, task = world(latents, 0.0, rng, BURSTS).corpus(documents, rng)
        fired = np.asarray((counts > 0).sum(0)).ravel() >= 5
        p_F = permutation_p(
            counts[:, fired], tokens, task, TASKS, permutations=permutations, seed=seed, fdr=0.05
        )
        positive.append((p_F <= 0.05).mean())
        any_discovery.append(bool((benjamini_hochberg(p_F) <= 0.05).any()))
    return {"p": float(np.mean(positive)), "fdr": float(np.mean(any_discovery))}


def coverage(
    corpora: int, effect: float, latents: int = 150, documents: int = 400, resamples: int = 400
) -> dict[str, float]:
    """Share of corpora whose 95 % interval of `si/mean` holds the index of the true rates.

    `bias`: how far `si/mean` is above it on average; `null`: what the permutation null (`si/null_mean`) is.
    """
    truth = world(latents, effect, np.random.default_rng(int(1000 * effect)), (4.0, 40.0))
    intervals, found, null = [], [], []
    for seed in _bar(f"coverage, effect {effect:g}", corpora):
        counts, tokens, task = truth.corpus(documents, np.random.default_rng(1000 + seed))
        intervals.append(bootstrap_si(counts, tokens, task, TASKS, resamples=resamples, seed=seed).mean)
        tokens_K = np.bincount(task, weights=tokens, minlength=TASKS)
        dispersion_FK = document_dispersion(counts, tokens, task, TASKS)
        found.append(specialization(task_counts(counts, task, TASKS), tokens_K, dispersion_FK).mean())
        if seed < 10:
            chance = permutation_null(counts, tokens, task, TASKS, permutations=50, seed=seed)
            null.append(chance.mean_F.mean())
    true_si = truth.si_F.mean()
    held = [low <= true_si <= high for low, high in intervals]
    bias = np.mean(found) - true_si
    return {
        "coverage": float(np.mean(held)),
        "si": float(truth.si_F.mean()),
        "bias": float(bias),
        "null": float(np.mean(null)),
    }


def q_p_values(graphs: int, nodes: int = 60, edges: int = 240, rewirings: int = 20) -> np.ndarray:
    """q/p of graphs that are themselves rewirings: no modularity beyond the degrees."""
    found = []
    for seed in _bar("q/p", graphs):
        rng = np.random.default_rng(2000 + seed)
        weight_N = rng.pareto(2.5, nodes) + 0.5
        chance = weight_N / weight_N.sum()
        pairs = rng.choice(nodes, size=(6 * edges, 2), p=chance)
        pairs = np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1), axis=0)
        pairs = pairs[rng.permutation(len(pairs))[:edges]]
        strength = rng.exponential(size=len(pairs)) + 0.2
        source, target, strength = rewire(pairs[:, 0], pairs[:, 1], strength, nodes, seed=seed)
        real = leiden(source, target, strength, nodes, seeds=(0, 1, 2)).modularity
        draws = []
        for draw in range(rewirings):
            made = rewire(source, target, strength, nodes, seed=1_000_000 + 100 * seed + draw)
            draws.append(leiden(*made, nodes, seeds=(0, 1, 2)).modularity)
        found.append((1 + sum(d >= real - 1e-12 for d in draws)) / (rewirings + 1))
    return np.array(found)


def power(corpora: int, effect: float, documents: int, latents: int = 60, permutations: int = 400) -> float:
    """Share of latents with q ≤ 5 %, half of which have a preferred task: of those that do."""
    hits = []
    for seed in range(corpora):
        rng = np.random.default_rng(3000 + seed)
        with_effect, without = world(latents // 2, effect, rng, BURSTS), world(latents // 2, 0.0, rng, BURSTS)
        both = World(
            np.vstack([with_effect.rate_FK, without.rate_FK]),
            np.concatenate([with_effect.burst_F, without.burst_F]),
        )
        counts, tokens, task = both.corpus(documents, rng)
        drawn_F = permutation_p(counts, tokens, task, TASKS, permutations=permutations, seed=seed, fdr=0.05)
        p_F = np.nan_to_num(drawn_F, nan=1.0)  # a latent that never fired is no discovery
        hits.append((benjamini_hochberg(p_F) <= 0.05)[: latents // 2].mean())
    return float(np.mean(hits))


def beyond(corpora: int, documents: int, burst: str, effect: float = 0.0, latents: int = 60) -> float:
    """Share of latents that read words, in bursts or not, with p ≤ 5 % given the word."""
    p_values = []
    for seed in range(corpora):
        corpus = word_corpus(documents, seed=seed)
        active = word_detectors(corpus, latents, seed=seed, burst=burst, effect=effect)
        result = beyond_words(active, corpus.word_N, corpus.doc_N, corpus.task_D, TASKS, draws=0)
        p_values.append(result.p_F)
    return float((np.concatenate(p_values) <= 0.05).mean())


def _bar(what: str, number: int) -> Iterator[int]:
    return iter(tqdm(range(number), desc=what, file=sys.stderr))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpora", type=int, default=200)
    number = parser.parse_args().corpora
    null = false_positives(number)
    print(HEAD.format(number=number))
    print("## Without any effect\n")
    print("| what | promised | found |\n|---|---|---|")
    print(f"| latents with `si_p` ≤ 5 % | 0.05 | {null['p']:.3f} |")
    print(f"| corpora with any `si_q` ≤ 5 % (all discoveries are false here) | ≤ 0.05 | {null['fdr']:.3f} |")
    values = q_p_values(number)
    ks = stats.kstest(values - np.random.default_rng(0).uniform(0, 1 / 21, values.size), "uniform")
    print(f"| graphs with `q/p` ≤ 5 % (20 rewirings: 1 of 21) | 0.048 | {(values <= 0.05).mean():.3f} |")
    print(f"| `q/p` uniform (Kolmogorov–Smirnov p, ties broken at random) | > 0.01 | {ks.pvalue:.2f} |\n")
    print(INTERVAL)
    for effect in (0.5, 1.0, 2.0):
        got = coverage(number, effect)
        row = (
            effect,
            f"{got['si']:.3f}",
            f"{got['bias']:+.4f}",
            f"{got['null']:.4f}",
            f"{got['coverage']:.3f}",
        )
        print("| " + " | ".join(map(str, row)) + " |")
    print("\n## Power\n")
    print("Share of latents with a preferred task that have `si_q` ≤ 5 % (half of all latents have one).\n")
    sizes = (60, 180, 600)
    print(
        "| log rate ratio | "
        + " | ".join(f"{d} documents" for d in sizes)
        + " |\n|---|"
        + "---|" * len(sizes)
    )
    for effect in (0.25, 0.5, 1.0, 1.5, 2.0):
        cells = [f"{power(max(10, number // 10), effect, documents):.2f}" for documents in sizes]
        print(f"| {effect} | " + " | ".join(cells) + " |", flush=True)
    print(WORDS)
    kinds = (
        ("fire on a word with a probability of its own", "none", 0.0),
        ("on in some documents only", "on_off", 0.0),
        ("gamma-distributed factors of documents", "gamma", 0.0),
        ("bursts in two tasks only", "two_tasks", 0.0),
        ("one task e times as often", "none", 1.0),
        ("the same, gamma-distributed factors", "gamma", 1.0),
        ("one task e² times as often, on in some documents", "on_off", 2.0),
    )
    for label, burst, effect in kinds:
        cells = [f"{beyond(max(3, number // 25), size, burst, effect):.3f}" for size in (60, 300)]
        print(f"| {label} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
