"""Statistics of every MLP on calibration documents: contributions, firing, communities, needed sets."""

from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import Tensor

from saescope.dynamic_k.communities import Communities, by_weights, find_communities, firing
from saescope.dynamic_k.mlps import Mlp, abs_act_x_wnorm, watched, weight_in_out
from saescope.dynamic_k.passes import Passes
from saescope.dynamic_k.selectors import top_mask
from saescope.dynamic_k.union import Growth, growth
from saescope.runtime.meter import Meter
from saescope.stats.arrays import FloatArray, IntArray
from saescope.text.windows import Batch

GROUP_BYTES = 2**30
"""Bytes of scores in memory: MLPs are taken in groups that fit, and each group is one pass."""

BLOCKS = 16
"""A block has at most d_ff / BLOCKS neurons: several blocks fit into the smallest k of the default grid."""


@dataclass(frozen=True)
class Neurons:
    """The neurons of one MLP.

    F neurons; D documents, all of the probe set: those not calibrated on have no token.
    """

    mlp: Mlp
    score_DF: FloatArray
    """Σ |a|·‖w_down‖ over each document's calibration tokens."""
    fired_DF: IntArray
    """Calibration tokens of each document on which each neuron fires."""
    communities: Communities
    kmeans_F: IntArray
    """Blocks of the same sizes by k-means on the rows of W_up."""
    growth: Growth

    def rank(self, block_F: IntArray) -> IntArray:
        """Place of each neuron in its block by mean contribution, 0 the largest."""
        order = np.lexsort((-self.score_DF.sum(0), block_F))
        sizes = np.bincount(block_F)
        rank_F = np.empty_like(block_F)
        rank_F[order] = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return rank_F


def study(mlps: list[Mlp], passes: Passes, k: float, seed: int) -> list[Neurons]:
    """`Neurons` of every MLP from the calibration windows; `k` is the fraction in a needed set."""
    task_D = passes.windows.task_D
    tokens = int(passes.tokens_D.sum())
    group_size = max(1, GROUP_BYTES // (4 * tokens * max(mlp.d_ff for mlp in mlps)))
    neurons: list[Neurons] = []
    for at in range(0, len(mlps), group_size):
        group = mlps[at : at + group_size]
        scores, doc_N = gather(group, passes)
        with Meter("dynamic k, communities of neurons", len(mlps), "MLPs", start=at) as meter:
            for mlp in group:
                neurons.append(_study_mlp(mlp, scores.pop(mlp.layer), doc_N, task_D, k, seed))
                meter.advance(1)
    return neurons


def gather(
    mlps: list[Mlp], passes: Passes
) -> tuple[dict[int, npt.NDArray[np.float32]], npt.NDArray[np.int64]]:
    """|a|·‖w_down‖ at counted positions, [N, F] by layer, and the document of each token."""
    scores: dict[int, list[Tensor]] = {mlp.layer: [] for mlp in mlps}
    documents: list[npt.NDArray[np.int64]] = []

    def reading(batch: Batch) -> AbstractContextManager[None]:
        documents.append(passes.documents(batch, batch.counted_BT))
        counted = batch.counted_BT.nonzero(as_tuple=True)

        def read(mlp: Mlp, acts_BTF: Tensor) -> None:
            scores[mlp.layer].append(abs_act_x_wnorm(mlp, acts_BTF[counted].float()).cpu())

        return watched(mlps, read)

    passes.watch(reading)
    return {layer: torch.cat(rows).numpy() for layer, rows in scores.items()}, np.concatenate(documents)


def _study_mlp(
    mlp: Mlp,
    score_NF: npt.NDArray[np.float32],
    doc_N: npt.NDArray[np.int64],
    task_D: npt.NDArray[np.int64],
    k: float,
    seed: int,
) -> Neurons:
    in_doc_DN = sparse.csr_matrix(
        (np.ones(len(doc_N), np.float64), (doc_N, np.arange(len(doc_N)))), shape=(len(task_D), len(doc_N))
    )
    fires_NF = firing(score_NF)
    communities = find_communities(fires_NF, max(1, mlp.d_ff // BLOCKS), seed)
    needed_NF = sparse.csr_matrix(top_mask(torch.from_numpy(score_NF), k).numpy())
    up_FD = weight_in_out(mlp.up).T.detach().float().cpu().numpy()
    return Neurons(
        mlp,
        in_doc_DN @ score_NF,
        np.rint((in_doc_DN @ fires_NF).toarray()).astype(np.int64),
        communities,
        by_weights(up_FD, communities.block_F, seed),
        growth(needed_NF, score_NF, task_D[doc_N], communities.community_F, seed),
    )
