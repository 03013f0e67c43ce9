"""What taking sets of latents out of a model does to each task: selectivity, ratios, intervals, matched p.

`M_…` matrices are [..., G, K]: G sets, the mean effect of each on each of K tasks. `own_G` is the task a set
was chosen for; "others" is the plain mean over all other tasks.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from saescope.stats.arrays import AnyIntArray, FloatArray, IntArray
from saescope.stats.resampling import document_weights
from saescope.stats.savings import permutation_p
from saescope.stats.specialization import check_tasks

FLOOR = 1e-7
"""KL below this, nats a token, is rounding in float32; added to both sides of a ratio."""


@dataclass
class Effects:
    """Sums over documents D of what each of G sets of latents does when it is ablated."""

    ce_GD: FloatArray
    """Rise of the cross-entropy over the scored predictions, nats."""

    kl_GD: FloatArray
    """KL(untouched ‖ ablated) over the scored predictions, nats."""

    norm_GD: FloatArray
    """Squared norm of what was taken out, over the counted tokens."""

    firings_GD: FloatArray
    """Activations of latents of the set on the counted tokens."""

    tokens_D: IntArray
    """Scored predictions."""

    @classmethod
    def zeros(cls, num_sets: int, num_documents: int) -> "Effects":
        """Nothing measured yet."""
        shape = num_sets, num_documents
        ce_GD, kl_GD, norm_GD, firings_GD = (np.zeros(shape) for _ in range(4))
        return cls(ce_GD, kl_GD, norm_GD, firings_GD, np.zeros(num_documents, dtype=np.int64))

    def add(self, other: "Effects") -> None:
        """Add the sums over other windows."""
        for name in ("ce_GD", "kl_GD", "norm_GD", "firings_GD", "tokens_D"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def of(self, sets: npt.ArrayLike) -> "Effects":
        """Those of some of the sets, by number or mask."""
        at = np.asarray(sets)
        return Effects(self.ce_GD[at], self.kl_GD[at], self.norm_GD[at], self.firings_GD[at], self.tokens_D)


class OwnOthers(NamedTuple):
    """An effect on the own task of each set, and the mean effect on the others, [..., G] each."""

    own: FloatArray
    others: FloatArray


def task_matrix(
    value_GD: npt.NDArray[np.float64],
    per_D: npt.NDArray[np.floating] | AnyIntArray,
    task_D: AnyIntArray,
    num_tasks: int,
    weight_BD: FloatArray | None = None,
) -> FloatArray:
    """Mean effect of each set on each task, [G, K], or [B, G, K] under document weights.

    `value_GD`: sums per document; `per_D`: what they are divided by (tokens). NaN for a task without any.
    """
    task_D = check_tasks(task_D, value_GD.shape[1], num_tasks)
    member_DK = (task_D[:, None] == np.arange(num_tasks)).astype(np.float64)
    per = np.asarray(per_D, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        if weight_BD is None:
            mean_GK: FloatArray = (value_GD @ member_DK) / (per @ member_DK)
            return mean_GK
        sums_BGK = np.stack(
            [weight_BD[:, task_D == task] @ value_GD[:, task_D == task].T for task in range(num_tasks)],
            axis=-1,
        )
        per_BK = (weight_BD * per) @ member_DK
        mean_BGK: FloatArray = sums_BGK / per_BK[:, None, :]
    return mean_BGK


def drawn_matrix(
    value_GD: npt.NDArray[np.float64],
    tokens_D: AnyIntArray,
    task_D: AnyIntArray,
    num_tasks: int,
    weight_BD: FloatArray,
) -> FloatArray:
    """`task_matrix` under weights [B, G, K], for intervals: NaN for a task of a single document.

    Drawn anew, such a task is always the same; an interval of no width would look exact.
    """
    drawn_BGK = task_matrix(value_GD, tokens_D, task_D, num_tasks, weight_BD)
    documents_K = np.bincount(np.asarray(task_D)[np.asarray(tokens_D) > 0], minlength=num_tasks)
    drawn_BGK[..., documents_K < 2] = np.nan
    return drawn_BGK


def own_and_others(M_GK: FloatArray, own_G: AnyIntArray) -> OwnOthers:
    """Own effect and mean of the others of every set. Raises ValueError for fewer than two tasks."""
    num_tasks = M_GK.shape[-1]
    if num_tasks < 2:
        raise ValueError("own and others need at least two tasks")
    index = np.broadcast_to(np.asarray(own_G)[:, None], (*M_GK.shape[:-1], 1))
    own = np.take_along_axis(M_GK, index, axis=-1)[..., 0]
    return OwnOthers(own, (M_GK.sum(axis=-1) - own) / (num_tasks - 1))


def selectivity(own: FloatArray, others: FloatArray) -> FloatArray:
    """own / (own + others), negative effects counted as 0; 0.5 where neither is hurt.

    1: only the own task is hurt; 0.5: all tasks alike; 0: only the others. NaN where an effect is NaN.
    """
    a, b = np.maximum(own, 0.0), np.maximum(others, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(a + b == 0, 0.5, a / (a + b))


def geometric_ratio(own: FloatArray, others: FloatArray, floor: float | FloatArray = FLOOR) -> FloatArray:
    """Geometric mean over the last axis (sets) of (own + floor)/(others + floor)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        mean: FloatArray = np.exp(np.mean(np.log((own + floor) / (others + floor)), axis=-1))
    return mean


def norm_ratio(norm: OwnOthers) -> FloatArray:
    """`geometric_ratio` of removed norms; the floor is 1e-7 of what the sets remove on average."""
    floor = FLOOR * (norm.own + norm.others).mean(axis=-1, keepdims=True) + np.finfo(float).tiny
    return geometric_ratio(norm.own, norm.others, floor)


def hurts_own_most(M_GK: FloatArray, own_G: AnyIntArray) -> float:
    """Share of tasks that no set hurts more than their own one; `M_GK`: one set a task."""
    own = np.asarray(own_G)
    return float(np.mean(M_GK[..., np.arange(len(own)), own] >= M_GK[:, own].max(axis=0)))


def per_unit(effect_GD: FloatArray, unit_GD: FloatArray, task_D: AnyIntArray, num_tasks: int) -> FloatArray:
    """Effect on each task per firing, or per removed norm, there, [G, K]; NaN where there is none."""
    member_DK = (np.asarray(task_D)[:, None] == np.arange(num_tasks)).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate: FloatArray = (effect_GD @ member_DK) / (unit_GD @ member_DK)
    return np.where(np.isfinite(rate), rate, np.nan)


def unit_selectivity(rate_GK: FloatArray, own_G: AnyIntArray) -> float:
    """Mean `selectivity` of effects per unit, over the sets with a unit on their own and another task.

    The others' mean runs over the tasks that have one. NaN where no set is left.
    """
    values = []
    for row, own in zip(rate_GK, np.asarray(own_G), strict=True):
        others = np.delete(row, own)
        others = others[np.isfinite(others)]
        if np.isfinite(row[own]) and others.size:
            values.append(float(selectivity(row[own], others.mean())))
    return float(np.mean(values)) if values else float("nan")


def additivity(together_G: FloatArray, alone_LG: FloatArray) -> FloatArray:
    """What G sets do together, over the sum of what each of L parts of them does alone; [..., G] to [...].

    `alone_LG`: [L, ..., G]. 1: the parts add up; 1/L: they do the same; above 1: one makes up for another.
    NaN where the parts do nothing, or less, alone.
    """
    alone = alone_LG.sum(axis=(0, -1))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: FloatArray = np.where(alone > 0, together_G.sum(axis=-1) / alone, np.nan)
    return ratio


def measured_weights(task_D: AnyIntArray, tokens_D: AnyIntArray, resamples: int, seed: int) -> FloatArray:
    """How often every measured document is drawn, [B, D]: with replacement within its task."""
    measured_D = np.asarray(tokens_D) > 0
    weight_BD = np.zeros((resamples, measured_D.size))
    rng = np.random.default_rng(seed)
    weight_BD[:, measured_D] = document_weights(np.asarray(task_D)[measured_D], resamples, rng)
    return weight_BD


@dataclass(frozen=True)
class Summary:
    """One set a task: the numbers over all of them. Shapes [...] as those of the matrices before [G, K]."""

    selectivity: FloatArray
    """Mean over tasks of `selectivity` of the CE rise."""
    own_ce: FloatArray
    """Mean CE rise on the own task, nats a token."""
    others_ce: FloatArray
    """Mean CE rise on the others."""
    ratio: FloatArray
    """KL on the own task over KL on the others, geometric mean over tasks."""
    norm_ratio: FloatArray
    """The same of the removed squared norm."""


def summarise(
    effects: Effects,
    own_G: AnyIntArray,
    task_D: AnyIntArray,
    num_tasks: int,
    weight_BD: FloatArray | None = None,
) -> Summary:
    """The numbers of a family of sets, one for each task in `own_G`; under weights one for each resample."""

    def of(value_GD: FloatArray) -> OwnOthers:
        if weight_BD is None:
            return own_and_others(task_matrix(value_GD, effects.tokens_D, task_D, num_tasks), own_G)
        return own_and_others(drawn_matrix(value_GD, effects.tokens_D, task_D, num_tasks, weight_BD), own_G)

    ce, kl, norm = of(effects.ce_GD), of(effects.kl_GD), of(effects.norm_GD)
    return Summary(
        selectivity(*ce).mean(axis=-1),
        ce.own.mean(axis=-1),
        ce.others.mean(axis=-1),
        geometric_ratio(*kl),
        norm_ratio(norm),
    )


def interval(draws: FloatArray, level: float = 0.95) -> tuple[float, float]:
    """Lower and upper quantile of bootstrap draws; NaN draws left out, NaN where none is left."""
    finite = draws[np.isfinite(draws)]
    if not finite.size:
        return float("nan"), float("nan")
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def matched_p(observed: float, draws: npt.ArrayLike) -> float:
    """p of sets chosen by an index among sets drawn at random: (1 + draws that reach it)/(draws + 1)."""
    return permutation_p(observed, draws)
