"""Activations whose features are known: what an SAE trained on them should find, and what it prefers.

Words come from tasks, features from words or from what a document is about, activations from features in
superposition. Three strengths can be turned: how much some features prefer a task whatever the word, how much
the features of a module fire together, and how far the vocabularies of the tasks differ.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

NUM_FEATURES, WIDTH, NUM_TASKS = 4096, 256, 6
LEXICAL = 2048
"""Features that fire on words; the others by context."""
MODULES = 32
WORDS = 1500
L0 = 12.0
"""Features active on a token, on average."""
RUN = 8
"""Tokens a module stays on, on average."""
MODULE_SHARE = 0.06
"""Of the tokens a module is on."""
CHUNK = 4000


@dataclass(frozen=True)
class Strengths:
    """What is turned; the values of `BASE` unless an axis is followed."""

    tasks: float = 1.5
    """Log of how much more often a contextual feature fires on the task it prefers."""

    modules: float = 2.0
    """Log of how much more often a contextual feature fires while its module is on."""

    words: float = 1.0
    """Standard deviation between tasks of the log frequency of a word."""


BASE = Strengths()
AXES = {
    "tasks": (0.0, 0.75, 1.5, 2.5),
    "modules": (0.0, 1.0, 2.0, 3.0),
    "words": (0.25, 1.0, 2.0),
}
"""Values followed along each axis; one of each is that of `BASE`."""


def settings() -> dict[str, Strengths]:
    """`base` and, by axis and value, the others."""
    others = {
        f"{axis} {value:g}": Strengths(**{**vars(BASE), axis: value})
        for axis, values in AXES.items()
        for value in values
        if value != getattr(BASE, axis)
    }
    return {"base": BASE, **others}


@dataclass(frozen=True)
class Features:
    """What is the same in the training text and the probes."""

    directions_FD: np.ndarray
    """Unit vectors; sixteen times as many as there are dimensions."""
    scale_F: np.ndarray
    rate_F: np.ndarray
    """Mean rate of a contextual feature (0 for a lexical one): Zipf."""
    reads_WF: sparse.csr_matrix
    """Chance that a lexical feature fires on a word."""
    module_F: np.ndarray
    """-1 for a lexical feature."""
    task_F: np.ndarray
    """Task that a contextual feature prefers; -1 for a lexical one."""
    chance_KW: np.ndarray
    """Frequency of each word in each task."""


def features(strengths: Strengths, seed: int) -> Features:
    """Directions, words, modules and preferences; only `chance_KW` depends on the strengths."""
    rng = np.random.default_rng(seed)
    directions_FD = rng.standard_normal((NUM_FEATURES, WIDTH))
    directions_FD /= np.linalg.norm(directions_FD, axis=1, keepdims=True)
    frequency_W = 1.0 / np.arange(1, WORDS + 1)
    tilt_KW = rng.standard_normal((NUM_TASKS, WORDS))
    chance_KW = frequency_W * np.exp(strengths.words * tilt_KW)
    chance_KW /= chance_KW.sum(axis=1, keepdims=True)

    words_F = np.exp(rng.uniform(0.0, np.log(6.0), LEXICAL)).astype(int)
    feature = np.repeat(np.arange(LEXICAL), words_F)
    reads = sparse.coo_matrix(
        (rng.uniform(0.3, 0.95, feature.size), (rng.integers(WORDS, size=feature.size), feature)),
        shape=(WORDS, NUM_FEATURES),
    ).tocsr()
    reads.data = np.minimum(reads.data, 0.95)
    per_token = float(reads.sum(axis=1).A1 @ (frequency_W / frequency_W.sum()))
    reads.data *= min(1.0, 0.5 * L0 / per_token)

    rank_F = rng.permutation(NUM_FEATURES - LEXICAL) + 1.0
    rate_F = np.zeros(NUM_FEATURES)
    rate_F[LEXICAL:] = 0.5 * L0 * rank_F**-0.8 / (rank_F**-0.8).sum()
    module_F, task_F = (np.full(NUM_FEATURES, -1) for _ in range(2))
    module_F[LEXICAL:] = rng.integers(MODULES, size=NUM_FEATURES - LEXICAL)
    task_F[LEXICAL:] = rng.integers(NUM_TASKS, size=NUM_FEATURES - LEXICAL)
    return Features(
        directions_FD.astype(np.float32),
        np.exp(0.3 * rng.standard_normal(NUM_FEATURES)).astype(np.float32),
        np.minimum(rate_F, 0.25),
        reads,
        module_F,
        task_F,
        chance_KW,
    )


@dataclass(frozen=True)
class Text:
    """Tokens with the features that are active on them, in document order."""

    active_NF: sparse.csr_matrix
    """Activations, 0 where a feature is not active."""
    word_N: np.ndarray
    doc_N: np.ndarray
    position_N: np.ndarray
    task_D: np.ndarray

    def activations(self, truth: Features, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """[N, WIDTH] of some tokens, with a little noise."""
        clean = np.asarray(self.active_NF[rows] @ truth.directions_FD, dtype=np.float32)
        return clean + 0.05 * rng.standard_normal(clean.shape, dtype=np.float32)


def text(truth: Features, strengths: Strengths, num_docs: int, doc_tokens: int, seed: int) -> Text:
    """Documents of `doc_tokens` words on average, as many of each task.

    A module is on for runs of `RUN` tokens, and each document has modules of its own liking (gamma, shape 1),
    so firings come in bursts. Rates are scaled so that the strengths leave a feature's mean rate as it is.
    """
    rng = np.random.default_rng(seed)
    task_D = np.arange(num_docs) % NUM_TASKS
    tokens_D = np.clip(rng.lognormal(np.log(doc_tokens), 0.4, num_docs), 40, 800).astype(int)
    doc_N = np.repeat(np.arange(num_docs), tokens_D)
    ends = np.cumsum(tokens_D)
    position_N = np.arange(doc_N.size) - np.repeat(ends - tokens_D, tokens_D)
    word_N = np.concatenate(
        [
            rng.choice(WORDS, tokens, p=truth.chance_KW[task])
            for task, tokens in zip(task_D, tokens_D, strict=True)
        ]
    )
    on_NM = _modules(doc_N, position_N, rng)

    boost = np.exp(strengths.modules)
    base = truth.rate_F[LEXICAL:] / (MODULE_SHARE * boost + 1.0 - MODULE_SHARE)
    prefers = np.exp(strengths.tasks)
    factor_KF = np.where(truth.task_F[LEXICAL:] == np.arange(NUM_TASKS)[:, None], prefers, 1.0)
    factor_KF *= NUM_TASKS / (prefers + NUM_TASKS - 1.0)
    rate_KF = (base * factor_KF).astype(np.float32)
    parts = []
    for start in range(0, doc_N.size, CHUNK):
        rows = slice(start, min(start + CHUNK, doc_N.size))
        chance = rate_KF[task_D[doc_N[rows]]]
        chance *= np.where(on_NM[rows], np.float32(boost), np.float32(1.0))[:, truth.module_F[LEXICAL:]]
        fired = rng.random(chance.shape, dtype=np.float32) < chance
        by_context = sparse.csr_matrix(fired, dtype=np.float32)
        by_word = truth.reads_WF[word_N[rows]].astype(np.float32)
        by_word.data = (rng.random(by_word.data.size) < by_word.data).astype(np.float32)
        by_word.eliminate_zeros()
        parts.append(sparse.hstack([by_word[:, :LEXICAL], by_context], format="csr"))
    active_NF = sparse.vstack(parts, format="csr")
    active_NF.data = truth.scale_F[active_NF.indices] * np.exp(
        0.2 * rng.standard_normal(active_NF.data.size, dtype=np.float32)
    )
    return Text(active_NF, word_N, doc_N, position_N, task_D)


def _modules(doc_N: np.ndarray, position_N: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Which modules are on, [N, M]: runs of geometric length, begun more often in some documents."""
    liking_DM = rng.gamma(1.0, 1.0, (int(doc_N[-1]) + 1, MODULES))
    begin_NM = rng.random((doc_N.size, MODULES)) < liking_DM[doc_N] * MODULE_SHARE / RUN
    on_NM = np.zeros((doc_N.size, MODULES), dtype=bool)
    length_NM = rng.geometric(1.0 / RUN, begin_NM.shape)
    for module in range(MODULES):
        begun = np.flatnonzero(begin_NM[:, module])
        for token, length in zip(begun, length_NM[begun, module], strict=True):
            stop = token + length
            on_NM[token:stop, module] = doc_N[token:stop] == doc_N[token]
    return on_NM
