"""How unevenly the effect of a latent on the model's predictions is spread over tasks, to second order.

The effect of taking a latent out of one token is ½ (a d·g)², with a its activation, d its decoder row and g
the gradient of the log-likelihood of labels that the model itself has drawn: in expectation over labels the
leading term of KL(model ‖ model without it), since the Fisher matrix is the Hessian of KL (Kunstner et al.
2019, arXiv 1905.12558; Theis et al. 2018, arXiv 1801.05787). `scores_NF` below is a d·g, sparse: one entry
for each active latent of each token (several rows a token where labels are drawn several times).
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.special import entr
from scipy.stats import rankdata

from saescope.stats.arrays import AnyIntArray, BoolArray, Csr, FloatArray, IntArray
from saescope.stats.progress import Progress, no_progress
from saescope.stats.resampling import document_weights
from saescope.stats.specialization import check_tasks, dispersion_from_moments, specialization

BLOCK_ENTRIES = 4_000_000
"""Entries of a temporary matrix, about: 32 MB."""
TIE = 1e-12
"""A null draw this little below the observed value counts as reaching it (rounding)."""


def latent_mass(scores_NF: Csr, doc_N: AnyIntArray, num_documents: int, draws: int = 1) -> Csr:
    """½ Σ (a d·g)² over the tokens of each document, [D, F]; nats. `draws`: rows that each token has."""
    squares = sparse.csr_matrix(scores_NF, dtype=np.float64, copy=True)
    squares.data = 0.5 / draws * squares.data**2
    return document_sums(squares, doc_N, num_documents)


def set_mass(
    scores_NF: Csr, member_FG: Csr, doc_N: AnyIntArray, num_documents: int, draws: int = 1
) -> FloatArray:
    """½ Σ (Σ_f a_f d_f·g)² over the tokens of each document, for G sets of latents in one go, [D, G]; nats.

    `member_FG`: 1 where a latent belongs to a set, or the share of it that is taken out.
    """
    scores = sparse.csr_matrix(scores_NF, dtype=np.float64)
    member = sparse.csr_matrix(member_FG, dtype=np.float64)
    num_tokens, num_sets = scores.shape[0], member.shape[1]
    mass_DG = np.zeros((num_documents, num_sets))
    rows = max(1, BLOCK_ENTRIES // max(1, num_sets))
    for start in range(0, num_tokens, rows):
        block = slice(start, start + rows)
        together = sparse.csr_matrix(scores[block] @ member)
        together.data = 0.5 / draws * together.data**2
        mass_DG += document_sums(together, np.asarray(doc_N)[block], num_documents).toarray()
    return mass_DG


def document_sums(values_NF: Csr, doc_N: AnyIntArray, num_documents: int) -> Csr:
    """Sums over the tokens of each document, [D, F]."""
    ones, tokens = np.ones(len(doc_N)), np.arange(len(doc_N))
    member_DN = sparse.csr_matrix((ones, (doc_N, tokens)), shape=(num_documents, len(doc_N)))
    return sparse.csr_matrix(member_DN @ values_NF)


@dataclass(frozen=True)
class CausalIndex:
    """The index of F latents (or sets) over K tasks."""

    si_F: FloatArray
    """1 - H(q*)/ln K of the effects per token; NaN without any effect."""
    rates_FK: FloatArray
    """Effect per token of each task."""
    docs_F: IntArray
    """Documents in which it has an effect."""


class DocumentSums:
    """What F latents did in each document, firings or effects, ready to be summed over tasks many times."""

    def __init__(
        self, sums_DF: Csr | FloatArray, tokens_D: AnyIntArray, task_D: AnyIntArray, num_tasks: int
    ) -> None:
        """Documents without tokens are left out.

        Raises ValueError for fewer than two tasks, bad labels, or a task without tokens.
        """
        task = check_tasks(task_D, sums_DF.shape[0], num_tasks)
        if num_tasks < 2:
            raise ValueError(f"an index over tasks needs at least two, got {num_tasks}")
        rows = np.flatnonzero(np.asarray(tokens_D) > 0)
        self.task_D, self.num_tasks = task[rows], num_tasks
        self.tokens_D = np.asarray(tokens_D, dtype=np.float64)[rows]
        self.sums_FD = sparse.csr_matrix(sparse.csr_matrix(sums_DF, dtype=np.float64)[rows].T)
        if len(np.unique(self.task_D)) < num_tasks:
            raise ValueError("every task needs at least one token")

    def rates(self, label_KD: FloatArray) -> FloatArray:
        """Sums per token [F, K] where document d counts `label_KD[t, d]` times in task t."""
        rates_FK: FloatArray = np.asarray(self.sums_FD @ label_KD.T) / (label_KD @ self.tokens_D)
        return rates_FK

    def labels(self, task_D: AnyIntArray | None = None) -> FloatArray:
        """1 where a document belongs to a task, [K, D]; None: to its own."""
        return indicator(self.task_D if task_D is None else task_D, self.num_tasks)

    def dispersion(self) -> FloatArray:
        """Variance of the sums of each task over documents, by the sums: `document_dispersion`, [F, K]."""
        label_KD, tokens_D = self.labels(), self.tokens_D
        squares_FD = self.sums_FD.copy()
        squares_FD.data = squares_FD.data**2
        return dispersion_from_moments(
            np.asarray(self.sums_FD @ label_KD.T),
            np.asarray(squares_FD @ label_KD.T),
            np.asarray(self.sums_FD @ (label_KD * tokens_D).T),
            label_KD @ tokens_D,
            label_KD @ tokens_D**2,
            label_KD.sum(axis=1),
        )

    def index(self, dispersion_FK: FloatArray, weight_D: FloatArray | None = None) -> FloatArray:
        """The shrunk index of each latent with each document counted `weight_D` times; NaN where all is 0."""
        label_KD = self.labels() if weight_D is None else self.labels() * weight_D
        return specialization(np.asarray(self.sums_FD @ label_KD.T), label_KD @ self.tokens_D, dispersion_FK)

    def resampled(self, rng: np.random.Generator) -> FloatArray:
        """How often each document is drawn when as many as there are of each task are drawn anew."""
        weight_D: FloatArray = document_weights(self.task_D, 1, rng)[0]
        return weight_D


def indicator(task_D: AnyIntArray, num_tasks: int) -> FloatArray:
    """1 where a document belongs to a task, [K, D]."""
    label_KD: FloatArray = np.equal(np.arange(num_tasks)[:, None], np.asarray(task_D)).astype(np.float64)
    return label_KD


def causal_index(
    mass_DF: Csr | FloatArray, tokens_D: AnyIntArray, task_D: AnyIntArray, num_tasks: int
) -> CausalIndex:
    """The index of SI (`specialization`) with effects in place of firings.

    Rates are effect per token of the task; the shrinkage takes their variance from the scatter between
    documents, so that one document with a large effect makes no specialist. Effects have no unit here: all of
    them times a constant gives the same index.

    Raises ValueError for fewer than two tasks or a task without tokens.
    """
    documents = DocumentSums(mass_DF, tokens_D, task_D, num_tasks)
    si_F = documents.index(documents.dispersion())
    docs_F = np.asarray((documents.sums_FD > 0).sum(axis=1)).ravel().astype(np.int64)
    return CausalIndex(si_F, documents.rates(documents.labels()), docs_F)


def own_share(rates_FK: FloatArray, own_F: AnyIntArray) -> FloatArray:
    """Share of each row's rates that lies on its own task; NaN without any effect, or for a negative task."""
    own = np.asarray(own_F)
    rate_F = np.take_along_axis(rates_FK, np.maximum(own, 0)[:, None], axis=1)[:, 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(own >= 0, rate_F / rates_FK.sum(axis=1), np.nan)


def permutation_p(
    mass_DF: Csr | FloatArray,
    tokens_D: AnyIntArray,
    task_D: AnyIntArray,
    num_tasks: int,
    *,
    permutations: int,
    seed: int,
    progress: Progress = no_progress,
) -> FloatArray:
    """p of each latent's index, (1 + draws that reach it) / (permutations + 1); NaN without any effect.

    Task labels move with whole documents. The index compared is not shrunk, so that draws need no variance.
    Raises ValueError for fewer than one permutation, fewer than two tasks, or a task without tokens.
    """
    if permutations < 1:
        raise ValueError("permutations must be at least 1")
    documents = DocumentSums(mass_DF, tokens_D, task_D, num_tasks)
    rng = np.random.default_rng(seed)
    observed_F = plain_index(documents.rates(documents.labels()))
    reached_F = np.zeros(observed_F.size, dtype=np.int64)
    progress("permutations of causal SI", 0, permutations)
    for draw in range(permutations):
        index_F = plain_index(documents.rates(documents.labels(rng.permuted(documents.task_D))))
        reached_F += index_F >= observed_F - TIE
        progress("permutations of causal SI", draw + 1, permutations)
    return np.where(np.isnan(observed_F), np.nan, (1.0 + reached_F) / (permutations + 1.0))


def plain_index(rates_FK: FloatArray) -> FloatArray:
    """1 - H(q)/ln K of rates [..., K] without shrinkage; NaN for a row of zeros."""
    total_F = rates_FK.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        q_FK = rates_FK / total_F[..., None]
        index_F: FloatArray = 1.0 - entr(q_FK).sum(axis=-1) / np.log(rates_FK.shape[-1])
    return np.where(total_F > 0, index_F, np.nan)


def rank_correlation(a_F: FloatArray, b_F: FloatArray, given_F: FloatArray | None = None) -> float | None:
    """Spearman correlation over the entries that are finite in all; None for fewer than 3, or a constant.

    With `given_F` the partial one: what the ranks of a and b share beyond those of a third number.
    """
    columns = [np.asarray(c, dtype=np.float64) for c in (a_F, b_F) + (() if given_F is None else (given_F,))]
    finite = np.isfinite(columns).all(axis=0)
    ranks = [rankdata(column[finite]) for column in columns]
    if finite.sum() < 3 or any(np.ptp(rank) == 0 for rank in ranks):
        return None
    r = np.atleast_2d(np.corrcoef(np.stack(ranks)))
    if given_F is None:
        return float(r[0, 1])
    rest = (1.0 - r[0, 2] ** 2) * (1.0 - r[1, 2] ** 2)
    return float((r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt(rest)) if rest > 1e-12 else None


def rank_correlation_interval(
    fired: DocumentSums,
    effects: DocumentSums,
    scored_F: BoolArray,
    *,
    resamples: int,
    seed: int,
    level: float = 0.95,
    progress: Progress = no_progress,
) -> tuple[float, float] | None:
    """Interval of the rank correlation of two indices of the latents `scored_F`, from document resampling.

    The documents of both sides are drawn anew within their task; the dispersion stays that of the data. A
    resample has fewer distinct documents, hence a lower correlation, so the draws are recentred as those of
    `bootstrap_si`. None where the correlation itself is None.
    """
    dispersion = fired.dispersion(), effects.dispersion()
    both = list(zip((fired, effects), dispersion, strict=True))
    estimate = rank_correlation(*(side.index(phi)[scored_F] for side, phi in both))
    if estimate is None or resamples < 1:
        return None
    rng = np.random.default_rng(seed)
    draws: list[float] = []
    progress("bootstraps of causal SI", 0, resamples)
    for draw in range(resamples):
        r = rank_correlation(*(side.index(phi, side.resampled(rng))[scored_F] for side, phi in both))
        draws += [] if r is None else [r]
        progress("bootstraps of causal SI", draw + 1, resamples)
    if not draws:
        return None
    tail = (1.0 - level) / 2.0
    low, high = estimate + np.quantile(np.array(draws) - np.mean(draws), [tail, 1.0 - tail])
    return float(np.clip(low, -1.0, 1.0)), float(np.clip(high, -1.0, 1.0))


@dataclass(frozen=True)
class Agreement:
    """How far an approximation of effects agrees with the effects themselves."""

    r: float | None
    """Spearman correlation; None for fewer than 3 pairs."""
    median_ratio: float
    """Median of exact / approximate."""
    largest_ratio: float
    """95 % quantile of exact / approximate: how much too small the approximation can be."""
    pairs: int
    """Pairs of positive effects behind the ratios."""


def agreement(exact: FloatArray, approximate: FloatArray) -> Agreement:
    """Compare effects of the same sets, both in nats. Raises ValueError for different shapes."""
    exact, approximate = np.ravel(exact), np.ravel(approximate)
    if exact.shape != approximate.shape:
        raise ValueError(f"{exact.size} exact effects, {approximate.size} approximate ones")
    positive = (exact > 0) & (approximate > 0)
    ratio = exact[positive] / approximate[positive]
    median, large = np.quantile(ratio, [0.5, 0.95]) if ratio.size else (np.nan, np.nan)
    return Agreement(rank_correlation(exact, approximate), float(median), float(large), int(positive.sum()))
