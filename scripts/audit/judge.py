"""Does a metric say what it claims? Noise, truth, specificity and training, from values and nothing else.

After arXiv 2605.18229: reseed noise against the effects of interest, correlation with a known truth,
discriminability over training, and the smallest difference that could be seen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

POWER = 0.8
"""Chance that a difference of the minimum detectable size is significant at 5 %."""
FOLLOWS = 0.8
"""Least Spearman correlation of the metric with the strength that it claims to measure."""
SPECIFIC = 0.5
"""Another strength moves the metric by at most this share of what its own does."""

CLAIMS = {
    "si/mean": "tasks",
    "si/excess": "tasks",
    "si/mutual_info": "tasks",
    "si/mutual_info_excess": "tasks",
    "si/beyond_token_mean": "tasks",
    "si/beyond_token_weighted": "tasks",
    "si/beyond_bigram_mean": "tasks",
    "si/lexical": "words",
    "si/lexical_share": "words",
    "q/modularity": "modules",
    "q/excess": "modules",
    "q/within_task": "modules",
    "q/within_token": "modules",
    "q/within_token_excess": "modules",
    "q/lexical": "words",
    "matched_si": "tasks",
    "matched_q": "modules",
    "causal/ratio": "tasks",
    "causal/ratio_matched": "tasks",
    "causal/selectivity": "tasks",
}
"""The strength that each audited metric claims to measure; what a version does not have is left out."""


@dataclass(frozen=True)
class Measured:
    """Values of one metric; NaN where it was null."""

    axes: Mapping[str, Sequence[tuple[float, float]]]
    """(strength, value) along each axis, by rising strength; at the base strength the mean over seeds."""
    truth: Sequence[tuple[float, float]]
    """(value for the true features, value for the trained latents) along the axis it claims."""
    seeds: Sequence[float]
    """Base setting, trainings that differ in their seed alone."""
    stages: Mapping[float, Sequence[float]]
    """The same trainings after a share of their steps."""


@dataclass(frozen=True)
class Verdict:
    """What the audit says of one metric."""

    claim: str
    """The axis that it claims to measure."""
    noise: float
    """Standard deviation between seeds."""
    detectable: float
    """Smallest difference of two SAEs seen with a chance of 80 %, one training each."""
    effect: float
    """Change along the axis that the metric claims, weakest to strongest."""
    rank: float
    """Spearman correlation with the strength along that axis."""
    slope: float
    """Of the trained latents' value on the true features' one."""
    other: tuple[str, float]
    """The other axis that moves it most, and by how much."""
    training: float
    """Trained less untrained."""
    stages: tuple[float, ...]
    """Change between the stages of training, in standard deviations between seeds."""
    follows: bool
    """It rises with what it claims to measure, by more than noise."""
    specific: bool
    """Nothing else moves it as much."""
    learns: bool
    """It rises with training, by more than noise."""

    @property
    def quotable(self) -> str:
        """What it may be quoted for; empty where nothing."""
        if not self.follows:
            return ""
        claims = [self.claim] if self.specific else [self.claim, self.other[0]]
        return " and ".join(AXIS_WORDS[axis] for axis in claims) + (", together" if len(claims) > 1 else "")

    @property
    def failures(self) -> list[str]:
        """What it fails at, in words that follow the metric's name; empty for a metric that passes."""
        words = []
        if not self.follows:
            words.append("does not follow what it claims to measure")
        if not self.specific:
            words.append(f"is moved as much by {AXIS_WORDS[self.other[0]]}")
        if not self.learns:
            words.append("does not rise with training")
        return words


AXIS_WORDS = {
    "tasks": "the strength of task preferences beyond words",
    "modules": "the strength of modules",
    "words": "how far the vocabularies of the tasks differ",
}


def judge(claim: str, measured: Measured) -> Verdict:
    """The verdict on a metric that claims to measure the axis `claim`.

    A difference is above noise when it is at least the detectable one. Raises ValueError for fewer than two
    seeds, or an axis that was not followed.
    """
    if len(measured.seeds) < 2:
        raise ValueError("noise needs at least two seeds")
    if claim not in measured.axes:
        raise ValueError(f"nothing was measured along {claim!r}")
    noise = float(np.std(measured.seeds, ddof=1))
    detectable = detectable_difference(measured.seeds, trainings=1)
    strength, value = np.array(measured.axes[claim], dtype=float).T
    effect = float(value[-1] - value[0])
    rank = _spearman(strength, value)
    others = {
        axis: float(np.ptp([value for _, value in points]))
        for axis, points in measured.axes.items()
        if axis != claim
    }
    other = max(others, key=lambda axis: _or(others[axis], np.inf))
    means = [float(np.mean(measured.stages[stage])) for stage in sorted(measured.stages)]
    training = means[-1] - means[0]
    true, found = np.array(measured.truth, dtype=float).T
    follows = bool(rank >= FOLLOWS and effect >= detectable)
    return Verdict(
        claim,
        noise,
        detectable,
        effect,
        rank,
        float(stats.linregress(true, found).slope) if np.ptp(true) > 0 else float("nan"),
        (other, others[other]),
        training,
        tuple(float(step) / max(noise, 1e-12) for step in np.diff(means)),
        follows,
        others[other] <= max(SPECIFIC * effect, detectable),
        bool(training >= detectable),
    )


def detectable_difference(seeds: Sequence[float], trainings: int) -> float:
    """Smallest difference of two settings that `trainings` seeds each show at 5 %, with a chance of 80 %.

    (t_0.975 + t_0.8) sd √(2/n), t with the degrees of freedom of the sd (Bloom 1995, Evaluation Review 19,
    547).
    """
    freedom = len(seeds) - 1
    quantiles = stats.t.ppf(0.975, freedom) + stats.t.ppf(POWER, freedom)
    return float(quantiles * np.std(seeds, ddof=1) * np.sqrt(2.0 / trainings))


def _spearman(x: np.ndarray, y: np.ndarray) -> float:
    """0 where either does not vary."""
    if np.ptp(x) == 0 or np.ptp(y) == 0 or not np.isfinite(y).all():
        return 0.0
    return float(stats.spearmanr(x, y).statistic)


def _or(value: float, otherwise: float) -> float:
    return value if np.isfinite(value) else otherwise
