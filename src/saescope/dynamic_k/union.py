"""Union growth: the share of neurons that a batch of B tokens needs together."""

import numpy as np
import numpy.typing as npt

from saescope.dynamic_k.part import Section, section
from saescope.stats.arrays import Csr, FloatArray, IntArray
from saescope.stats.savings import independent_union, union_growth

SIZES = (1, 2, 4, 8, 16, 32, 64)
"""Tokens in a batch."""

DRAWS = 200

Growth = dict[str, FloatArray]
"""Shares at `SIZES`: batches of one `task`, of one dominant `community`, `mixed`, and as if `independent`."""


def growth(
    needed_NF: Csr,
    score_NF: npt.NDArray[np.floating],
    task_N: IntArray,
    community_F: IntArray,
    seed: int,
) -> Growth:
    """How unions of needed neurons grow in batches put together in three ways.

    `independent` keeps every neuron's rate and draws tokens without any regard to each other.
    """
    groups = {
        "task": task_N,
        "community": dominant(score_NF, community_F),
        "mixed": np.zeros_like(task_N),
    }
    drawn = {
        name: union_growth(needed_NF, group_N, SIZES, draws=DRAWS, seed=seed)
        for name, group_N in groups.items()
    }
    rate_F = np.asarray(needed_NF.astype(np.float64).mean(axis=0)).ravel()
    return {**drawn, "independent": independent_union(rate_F, SIZES)}


def dominant(score_NF: npt.NDArray[np.floating], community_F: IntArray) -> IntArray:
    """The community whose energy Σ score² is largest on each token, relative to its mean over tokens.

    Without that ratio the largest community would dominate every token. 0 where there is no community.
    """
    communities = int(community_F.max(initial=-1)) + 1
    if communities == 0:
        return np.zeros(len(score_NF), dtype=np.int64)
    member_FC = community_F[:, None] == np.arange(communities)
    energy_NC = np.square(score_NF, dtype=np.float64) @ member_FC
    mean_C = energy_NC.mean(axis=0)
    dominant_N: IntArray = (energy_NC / np.where(mean_C > 0, mean_C, 1.0)).argmax(axis=1).astype(np.int64)
    return dominant_N


def union_section(growth: dict[str, FloatArray], k: float) -> Section:
    """U(B) by how batches are put together."""
    return section(
        f"Neurons a batch needs together, each token its top {k:.0%}",
        [
            "Share of d_ff in the union of the tokens' sets, mean over MLPs. Batches of one task, of one "
            "dominant community, or mixed; independent: every neuron at its own rate, 1 − (1 − r)^B.",
            f"Were every neuron as likely as any other, 8 tokens would need {1 - (1 - k) ** 8:.3f}.",
        ],
        ["batch", *(f"B = {size}" for size in SIZES)],
        [[kind.replace("_", " "), *values] for kind, values in growth.items()],
    )
