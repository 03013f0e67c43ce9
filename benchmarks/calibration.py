"""Do p-values, intervals and nulls keep their promises? Writes docs/calibration.md to standard output.

Many small corpora with documents of unequal length, tasks of unequal size and bursty latents: false
positives without any effect, coverage of the interval of mean SI, uniformity of q/p on graphs without
modules, and power.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
from scipy import sparse, stats
from tqdm import tqdm

from saescope.dynamic_k.transfer import contribution
from saescope.stats import (
    benjamini_hochberg,
    beyond_words,
    bootstrap_si,
    permutation_null,
    permutation_p,
    rewire,
)
from saescope.stats.count_tails import hypergeometric_tail
from saescope.stats.edge_p import edge_p, length_strata
from saescope.stats.jackknife import jackknife_si
from saescope.stats.rewired_null import ENOUGH_REACHED, MOST_REWIRINGS, rewired_null
from saescope.stats.savings import other_tasks, recovered_share
from saescope.stats.savings import permutation_p as one_sided_p
from saescope.stats.synthetic import WordCorpus, word_corpus, word_detectors
from saescope.stats.word_classes import bigrams

HEAD = """# Calibration

`make calibration` (`python benchmarks/calibration.py`, or one part of it): corpora of six tasks of unequal
size (6–30 % of the documents), documents of log-normal length, latents whose rate differs from document to
document (beta with concentration 0.5–20: most firings of a latent lie in few documents).
"""
EVERY_P = """## Every p-value that is printed, without any effect

`--part p --corpora {number}`. Share of p ≤ 5 %. *Bursty*: as above; of words the worst kind of the table
below; of dynamic k gamma-distributed factors of documents of shape 0.3 instead of 20. 19 draws give 1 of
20 at the least; their standard error is {error:.3f} (transfer) and {eta_error:.3f} (eta, five times as many
corpora). `rank_tail` is no p and stands beside.

| p | 60 documents | 60, bursty | 600 documents | 600, bursty |
|---|---|---|---|---|"""
EDGES = """
`q/p` is of graphs, documents do not enter: of {graphs} graphs without modules it is ≤ 5 % in {q_p:.3f}, and
uniform with p = {ks:.2f} (Kolmogorov–Smirnov, ties broken at random). `si_q` ≤ 5 %, where every discovery is
false: in {fdr:.3f} of corpora of 180 bursty documents. {verdict}

## Edges

The `p` of an edge takes documents for the observations, and the pairs above are all pairs of latents that
have nothing to do with each other. The edges of a run are pairs chosen for their joint firing, so their p is
not uniform even where nothing is there. They are chosen by `rank_tail`, the tail were tokens independent; two
bursts that meet by chance make it small, as do documents of unequal length where documents are counted. It
is an order of pairs and no p; `q/null_edges` counts what the rule finds by chance.

Share of p ≤ 5 % where the second latent of a pair also fires on some tokens of the first:

| of the first one's firings | 60 documents | 60, bursty | 600 documents | 600, bursty |
|---|---|---|---|---|"""
INTERVAL = """
## Interval of mean SI

`--part interval --corpora {number}`. 150 latents, supported ones as in a run. Bursts: concentration
4–40, or 0.5–20. `si/mean` is too high with few documents and bursts, and a weak preference is shrunk too
far; the interval stands about the average less the bias that leaving documents out shows. Coverage:
share of intervals that hold the mean SI of the true rates, and of those of the bootstrap alone.

| documents | bursts | log rate ratio | true SI | bias | after jackknife | coverage | bootstrap alone |
|---|---|---|---|---|---|---|---|"""
WORDS = """
## Beyond words

Share of latents with `si_token_p` ≤ 5 %. Latents fire on 1 to 60 words each; tasks and documents have
vocabularies of their own. The first four kinds prefer no task given the word.

| latents | 60 documents | 60, two tasks | 600 documents | 600, two tasks |
|---|---|---|---|---|"""
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


BURSTS, NO_BURSTS = (0.5, 20.0), (1e6, 1e6)


def false_positives(
    corpora: int,
    latents: int = 60,
    documents: int = 180,
    permutations: int = 400,
    burst: tuple[float, float] = BURSTS,
) -> dict[str, float]:
    """Without any effect: share of p ≤ 5 %, and of corpora with any q ≤ 5 % (which is the FDR then)."""
    positive, any_discovery = [], []
    for seed in _bar("false positives", corpora):
        rng = np.random.default_rng(seed)
        counts, tokens, task = world(latents, 0.0, rng, burst).corpus(documents, rng)
        fired = np.asarray((counts > 0).sum(0)).ravel() >= 5
        p_F = permutation_p(
            counts[:, fired], tokens, task, TASKS, permutations=permutations, seed=seed, fdr=0.05
        )
        positive.append((p_F <= 0.05).mean())
        any_discovery.append(bool((benjamini_hochberg(p_F) <= 0.05).any()))
    return {"p": float(np.mean(positive)), "fdr": float(np.mean(any_discovery))}


def coverage(
    corpora: int,
    effect: float,
    documents: int = 400,
    burst: tuple[float, float] = (4.0, 40.0),
    latents: int = 150,
    resamples: int = 200,
) -> dict[str, float]:
    """Share of corpora whose 95 % interval of `si/mean` holds the index of the true rates.

    `bias`, `corrected`: how far `si/mean` is above it on average, before and after the jackknife; `alone`:
    coverage of the bootstrap alone; `null`: what the permutation null (`si/null_mean`) is.
    """
    truth = world(latents, effect, np.random.default_rng(int(1000 * effect)), burst)
    held, alone, bias, corrected, null, true_si = [], [], [], [], [], []
    for seed in _bar(f"coverage, effect {effect:g}, {documents} documents", corpora):
        counts, tokens, task = truth.corpus(documents, np.random.default_rng(1000 + seed))
        dense = counts.toarray()
        supported = (dense.sum(0) >= 50) & ((dense > 0).sum(0) >= 10)
        counts, true = counts[:, supported], float(truth.si_F[supported].mean())
        bootstrap = bootstrap_si(counts, tokens, task, TASKS, resamples=resamples, seed=seed).mean
        result, _ = jackknife_si(counts, tokens, task, TASKS)
        for low, high, into in ((*result.around(bootstrap), held), (*bootstrap, alone)):
            into.append(low <= true <= high)
        bias.append(result.plain - true)
        corrected.append(result.corrected - true)
        true_si.append(true)
        if seed < 10:
            chance = permutation_null(counts, tokens, task, TASKS, permutations=50, seed=seed)
            null.append(chance.mean_F.mean())
    columns = {"coverage": held, "alone": alone, "si": true_si, "bias": bias, "corrected": corrected}
    return {name: float(np.mean(values)) for name, values in {**columns, "null": null}.items()}


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
        graph = rewire(pairs[:, 0], pairs[:, 1], strength, nodes, seed=seed)
        null = rewired_null(graph, nodes, fewest=rewirings, seeds=(0, 1, 2), seed=1_000_000 + seed)
        found.append(1.0 if null.p is None else null.p)
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


def beyond(
    corpora: int,
    documents: int,
    burst: str,
    effect: float = 0.0,
    latents: int = 60,
    tasks: int = TASKS,
    word: Callable[[WordCorpus], np.ndarray] = lambda corpus: corpus.word_N,
) -> float:
    """Share of latents that read words, in bursts or not, with p ≤ 5 % given the word."""
    p_values = []
    for seed in range(corpora):
        corpus = word_corpus(documents, seed=seed, num_tasks=tasks)
        active = word_detectors(corpus, latents, seed=seed, burst=burst, effect=effect)
        result = beyond_words(active, word(corpus), corpus.doc_N, corpus.task_D, tasks, draws=0)
        p_values.append(result.p_F)
    return float((np.concatenate(p_values) <= 0.05).mean())


def bigram(corpus: WordCorpus) -> np.ndarray:
    """The last two words of each token."""
    first = np.diff(corpus.doc_N, prepend=-1) != 0
    return bigrams(np.where(first, -1, np.roll(corpus.word_N, 1)), corpus.word_N)


def fires(counts: sparse.csr_matrix, tokens: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The firings of each document on random tokens of it, [N, F]."""
    ends = np.cumsum(tokens)
    active = np.zeros((ends[-1], counts.shape[1]), dtype=np.int32)
    for doc, latent in zip(*counts.nonzero(), strict=True):
        place = rng.choice(tokens[doc], counts[doc, latent], replace=False)
        active[ends[doc] - tokens[doc] + place, latent] = 1
    return active


def edges(
    corpora: int, documents: int, burst: tuple[float, float], unit: str, latents: int = 40
) -> tuple[float, float]:
    """Shares ≤ 5 % of pairs of independent latents: of their p, and of the rule's tail."""
    p_values, tails = [], []
    for seed in range(corpora):
        rng = np.random.default_rng(4000 + seed)
        counts, tokens, _ = world(latents, 0.0, rng, burst).corpus(documents, rng)
        if unit == "document":
            active, doc_N = (counts.toarray() > 0).astype(np.int32), np.arange(tokens.size)
        else:
            active, doc_N = fires(counts, tokens, rng), np.repeat(np.arange(tokens.size), tokens)
        a, b = np.triu_indices(latents, 1)
        fired = active.sum(0)
        length_N = length_strata(tokens) if unit == "document" else None
        p_values.append(edge_p(sparse.csr_matrix(active), a, b, doc_N, length_N))
        tails.append(hypergeometric_tail((active.T @ active)[a, b], fired[a], fired[b], len(active)))
    return tuple(float((np.concatenate(values) <= 0.05).mean()) for values in (p_values, tails))


def edges_within_token(corpora: int, documents: int, burst: str, latents: int = 60) -> float:
    """Share of p ≤ 5 % of pairs of latents that read words, in bursts or not, and fire together at all."""
    p_values = []
    for seed in range(corpora):
        corpus = word_corpus(documents, seed=seed)
        active = word_detectors(corpus, latents, seed=seed, burst=burst)
        a, b = np.triu_indices(latents, 1)
        together = np.asarray((active.T @ active)[a, b]).ravel() > 0
        p_values.append(edge_p(active, a[together], b[together], corpus.doc_N, corpus.word_N))
    return float((np.concatenate(p_values) <= 0.05).mean())


def edges_found(
    corpora: int, documents: int, burst: tuple[float, float], share: float, latents: int = 40
) -> float:
    """Share of p ≤ 5 % of pairs whose second latent also fires on a share of the first one's tokens."""
    p_values = []
    for seed in range(corpora):
        rng = np.random.default_rng(7000 + seed)
        counts, tokens, _ = world(latents, 0.0, rng, burst).corpus(documents, rng)
        active = fires(counts, tokens, rng)
        even, odd = np.arange(0, latents, 2), np.arange(1, latents, 2)
        active[:, odd] |= active[:, even] & (rng.random((len(active), even.size)) < share)
        p_values.append(
            edge_p(sparse.csr_matrix(active), even, odd, np.repeat(np.arange(tokens.size), tokens))
        )
    return float((np.concatenate(p_values) <= 0.05).mean())


def eta(corpora: int, documents: int, shape: float, partitions: int = 19) -> float:
    """Share of `dynk/eta_p` ≤ 5 % where the structured partition is a random one."""
    p_values = []
    for seed in range(corpora):
        rng = np.random.default_rng(5000 + seed)
        loss = rng.gamma(shape, 1 / shape, (partitions + 1, documents))
        recovered = recovered_share(loss[1:], loss[0], loss.min(axis=0) - 1.0, resamples=50, seed=seed)
        assert recovered is not None
        p_values.append(recovered.p)
    return float((np.array(p_values) <= 0.05 + 1e-9).mean())


def transfer(corpora: int, documents: int, shape: float) -> float:
    """Share of `dynk/transfer_p` ≤ 5 % where no neuron prefers a task."""
    p_values = [transfer_p(6000 + seed, documents, shape) for seed in range(corpora)]
    return float((np.array(p_values) <= 0.05 + 1e-9).mean())


def transfer_p(seed: int, documents: int, shape: float, neurons: int = 64, draws: int = 19) -> float:
    """p of one corpus. A document's loss under a mask is what its masked neurons would have contributed."""
    rng = np.random.default_rng(seed)
    task_D = rng.permutation(np.arange(documents) % TASKS)
    score_DF = rng.gamma(shape, 1 / shape, (documents, neurons))
    calibrates_D = np.arange(documents) % 2 == 0
    scored = np.flatnonzero(~calibrates_D)
    other_D = other_tasks(task_D, TASKS, seed)
    calibration = SimpleNamespace(score_DF=score_DF * calibrates_D[:, None])

    def gain(label_D: np.ndarray) -> float:
        mean_KF = contribution(calibration, 100 * calibrates_D, label_D, TASKS)
        masked_KF = mean_KF.argsort(axis=1).argsort(axis=1) < neurons * 3 // 4
        loss_KD = masked_KF @ score_DF.T
        return float((loss_KD[other_D[scored], scored] - loss_KD[task_D[scored], scored]).mean())

    null = []
    for _ in range(draws):
        label_D = task_D.copy()
        label_D[calibrates_D] = rng.permutation(task_D[calibrates_D])
        null.append(gain(label_D))
    return one_sided_p(gain(task_D), null)


KINDS = (
    ("fire on a word with a probability of its own", "none", 0.0),
    ("on in some documents only", "on_off", 0.0),
    ("gamma-distributed factors of documents", "gamma", 0.0),
    ("bursts in two tasks only", "two_tasks", 0.0),
    ("one task e times as often", "none", 1.0),
    ("the same, gamma-distributed factors", "gamma", 1.0),
    ("one task e² times as often, on in some documents", "on_off", 2.0),
)
"""Latents of the table beyond words."""


def many_corpora(number: int) -> int:
    """Corpora of the p-values of dynamic k, which are one a corpus."""
    return max(100, 10 * number)


def every_p(
    number: int, beyond_table: dict[tuple[str, float], list[float]]
) -> Iterator[tuple[str, list[float]]]:
    """Each printed p-value and its share ≤ 5 % in the four worlds."""
    worlds = [(documents, bursty) for documents in (60, 600) for bursty in (False, True)]

    def row(share: Callable[[int, bool], float]) -> list[float]:
        return [share(documents, bursty) for documents, bursty in tqdm(worlds, file=sys.stderr)]

    few, many = max(20, number // 3), many_corpora(number)
    yield (
        "`si_p`",
        row(
            lambda documents, bursty: false_positives(
                few, documents=documents, permutations=200, burst=BURSTS if bursty else NO_BURSTS
            )["p"]
        ),
    )
    for name, columns in (("six tasks", (0, 2)), ("two tasks", (1, 3))):
        calm = beyond_table["none", 0.0]
        worst = np.max([beyond_table[kind, 0.0] for kind in ("on_off", "gamma", "two_tasks")], axis=0)
        yield f"`si_token_p`, {name}", [v for column in columns for v in (calm[column], worst[column])]
    yield (
        "`si_bigram_p`",
        row(
            lambda documents, bursty: max(
                beyond(max(3, number // (6 if documents < 100 else 20)), documents, kind, word=bigram)
                for kind in (("on_off", "gamma", "two_tasks") if bursty else ("none",))
            )
        ),
    )
    tails: dict[str, list[float]] = {}
    for unit in ("token", "document"):
        both = [
            edges(max(4, number // (4 if documents < 100 else 20)), documents, burst, unit)
            for documents in (60, 600)
            for burst in (NO_BURSTS, BURSTS)
        ]
        yield f"`p` of an edge, counted by {unit}", [p for p, _ in both]
        tails[f"`rank_tail` of an edge (no p), counted by {unit}"] = [tail for _, tail in both]
    yield (
        "`p` of an edge within token ids",
        row(
            lambda documents, bursty: max(
                edges_within_token(max(4, number // (4 if documents < 100 else 20)), documents, kind)
                for kind in (("on_off", "gamma", "two_tasks") if bursty else ("none",))
            )
        ),
    )
    yield from tails.items()
    for name, share, corpora in (("transfer", transfer, many), ("eta", eta, 5 * many)):
        yield (
            f"`dynk/{name}_p`",
            row(
                lambda documents, bursty, share=share, corpora=corpora: share(
                    corpora, documents, 0.3 if bursty else 20.0
                )
            ),
        )


def without_ties(p: np.ndarray) -> np.ndarray:
    """Each p lowered at random, at most to the next that `sequential_p` can give."""
    most, enough = MOST_REWIRINGS, ENOUGH_REACHED
    possible = np.array(
        [g / (most + 1) for g in range(enough + 1)] + [enough / n for n in range(most, enough - 1, -1)]
    )
    place = np.searchsorted(possible, p - 1e-9)
    gap = possible[place] - possible[np.maximum(place - 1, 0)]
    return p - np.random.default_rng(0).uniform(size=p.size) * gap


def verdict(rows: dict[str, list[float]]) -> str:
    """Which p-values are at most 0.06 everywhere, in one sentence."""
    largest = {name: max(values) for name, values in rows.items() if "no p" not in name}
    above = [f"{name} ({value:.3f})" for name, value in largest.items() if value > 0.06]
    if not above:
        return "Every p-value above is ≤ 5 % in at most 0.06 of the cases, in all four worlds."
    return (
        f"Above 0.06 somewhere, at most: {', '.join(above)}; all others are at most 0.06 in all four worlds."
    )


def _bar(what: str, number: int) -> Iterator[int]:
    return iter(tqdm(range(number), desc=what, file=sys.stderr))


def write_p_values(number: int) -> None:
    """Every printed p-value without an effect, and the test given the word."""
    shares: dict[tuple[str, float], list[float]] = {}
    for _, burst, effect in tqdm(KINDS, file=sys.stderr):
        shares[burst, effect] = [
            beyond(max(3, number // (6 if documents < 100 else 20)), documents, burst, effect, tasks=tasks)
            for documents in (60, 600)
            for tasks in (TASKS, 2)
        ]
    many = many_corpora(number)
    errors = {"error": np.sqrt(0.05 * 0.95 / many), "eta_error": np.sqrt(0.05 * 0.95 / (5 * many))}
    print(EVERY_P.format(number=number, **errors))
    rows = {}
    for name, values in every_p(number, shares):
        rows[name] = values
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in values) + " |", flush=True)
    graphs = q_p_values(5 * number // 2)
    print(
        EDGES.format(
            graphs=graphs.size,
            q_p=(graphs <= 0.05).mean(),
            ks=stats.kstest(without_ties(graphs), "uniform").pvalue,
            fdr=false_positives(number)["fdr"],
            verdict=verdict(rows),
        )
    )
    for share in (0.02, 0.05, 0.1, 0.2):
        row = [
            edges_found(max(2, number // 30), documents, burst, share)
            for documents in (60, 600)
            for burst in (NO_BURSTS, BURSTS)
        ]
        print(f"| {100 * share:g} % | " + " | ".join(f"{value:.2f}" for value in row) + " |", flush=True)
    print(WORDS)
    for label, burst, effect in KINDS:
        print(f"| {label} | " + " | ".join(f"{v:.3f}" for v in shares[burst, effect]) + " |", flush=True)


def write_intervals(number: int) -> None:
    """Coverage of the interval of mean SI."""
    print(INTERVAL.format(number=number))
    for documents in (60, 600):
        for burst in ((4.0, 40.0), BURSTS):
            for effect in (0.5, 1.0, 2.0):
                got = coverage(number, effect, documents, burst)
                cells = [f"{documents}", f"{burst[0]:g}–{burst[1]:g}", f"{effect}", f"{got['si']:.3f}"]
                cells += [f"{got[name]:+.4f}" for name in ("bias", "corrected")]
                cells += [f"{got[name]:.3f}" for name in ("coverage", "alone")]
                print("| " + " | ".join(cells) + " |", flush=True)


def write_power(number: int) -> None:
    """Power of the permutation test."""
    print("\n## Power\n")
    print(
        f"`--part power --corpora {number}`. Share of latents with a preferred task that have `si_q` ≤ 5 % "
        "(half of all latents have one).\n"
    )
    sizes = (60, 180, 600)
    print(
        "| log rate ratio | "
        + " | ".join(f"{d} documents" for d in sizes)
        + " |\n|---|"
        + "---|" * len(sizes)
    )
    for effect in (0.25, 0.5, 1.0, 1.5, 2.0):
        row = [f"{power(max(10, number // 10), effect, documents):.2f}" for documents in sizes]
        print(f"| {effect} | " + " | ".join(row) + " |", flush=True)


PARTS = {"p": write_p_values, "interval": write_intervals, "power": write_power}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpora", type=int, default=200)
    parser.add_argument("--part", choices=PARTS, help="one part of the page alone, without its head")
    chosen = parser.parse_args()
    if chosen.part is None:
        print(HEAD)
    for name, write in PARTS.items():
        if chosen.part in (None, name):
            write(chosen.corpora)


if __name__ == "__main__":
    main()
