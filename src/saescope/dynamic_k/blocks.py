"""Whole blocks of neurons executed up to a budget: communities against chance, k-means and single neurons."""

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
import torch
from torch import Tensor

from saescope.dynamic_k.communities import shuffled
from saescope.dynamic_k.mlps import Mlp, abs_act_x_wnorm, masked
from saescope.dynamic_k.neurons import Neurons
from saescope.dynamic_k.part import Section, section
from saescope.dynamic_k.passes import BatchEdit, Passes
from saescope.dynamic_k.selectors import kept_count, top_mask
from saescope.metrics import at_floor
from saescope.stats.arrays import IntArray
from saescope.stats.savings import Recovered, recovered_share


@dataclass(frozen=True)
class BlockResult:
    """Loss over the dense model's per token at one kept fraction, and the recovered shares."""

    k: float
    draws: int
    ce_delta: dict[str, float]
    """`random` (mean of the draws), `kmeans`, `community`, `neuron`."""
    eta: dict[str, Recovered | None]
    """`community`, `kmeans`; None where single neurons do not beat random blocks."""


def block_mask(energy_BTF: Tensor, block_F: Tensor, rank_F: Tensor, count: int) -> Tensor:
    """The blocks of the largest mean energy of each token, whole, until `count` neurons are kept.

    Exactly `count`: the last block may be taken in part, by its neurons' fixed ranks. An oracle: the energies
    are known only once the up-projection has run.
    """
    sizes_C = torch.bincount(block_F)
    member_FC = torch.nn.functional.one_hot(block_F, len(sizes_C)).to(energy_BTF.dtype)
    mean_BTC = energy_BTF @ member_FC / sizes_C
    order_BTC = mean_BTC.argsort(dim=-1, descending=True, stable=True)
    ordered_BTC = sizes_C[order_BTC]
    before_BTC = torch.empty_like(ordered_BTC).scatter_(-1, order_BTC, ordered_BTC.cumsum(-1) - ordered_BTC)
    return before_BTC[..., block_F] + rank_F < count


def measure_blocks(
    neurons: list[Neurons], passes: Passes, draws: dict[float, int], *, resamples: int, seed: int
) -> list[BlockResult]:
    """`draws`: random partitions by kept fraction. All kinds of blocks have the same sizes in every MLP."""
    edits: dict[tuple[float, str, int], BatchEdit] = {}
    for k, number in draws.items():
        edits[k, "community", 0] = _top_blocks(neurons, attrgetter("communities.block_F"), k, passes)
        edits[k, "kmeans", 0] = _top_blocks(neurons, attrgetter("kmeans_F"), k, passes)
        for draw in range(number):
            edits[k, "random", draw] = _top_blocks(neurons, _random_blocks(draw, seed), k, passes)
        edits[k, "neuron", 0] = _top_neurons(neurons, k)
    dense, edited = passes.losses(edits, name="dynamic k, blocks of neurons")
    tokens, has_tokens_D = dense.tokens_D.sum(), dense.tokens_D > 0
    loss = {key: (losses.ce_D - dense.ce_D)[has_tokens_D] for key, losses in edited.items()}
    results = []
    for k, number in draws.items():
        random_RD = np.stack([loss[k, "random", draw] for draw in range(number)])
        ce_delta = {"random": float(random_RD.mean(0).sum() / tokens)}
        ce_delta |= {
            kind: float(loss[k, kind, 0].sum() / tokens) for kind in ("community", "kmeans", "neuron")
        }
        eta = {
            kind: recovered_share(
                random_RD, loss[k, kind, 0], loss[k, "neuron", 0], resamples=resamples, seed=seed
            )
            for kind in ("community", "kmeans")
        }
        results.append(BlockResult(k, number, ce_delta, eta))
    return results


def _p(p: float, draws: int) -> float | str:
    """At its floor the p-value is an upper bound."""
    return f"≤ 1/{draws + 1}" if at_floor(p, draws) else p


def block_section(results: list[BlockResult], neurons: list[Neurons]) -> Section:
    """eta by k: the share of the random-to-neuron gap that whole blocks recover."""
    rows = []
    for result in results:
        community, kmeans = result.eta["community"], result.eta["kmeans"]
        rows.append(
            [
                result.k,
                *(result.ce_delta[kind] for kind in ("random", "kmeans", "community", "neuron")),
                *(
                    (None,) * 4
                    if community is None
                    else (community.eta, community.low, community.high, _p(community.p, result.draws))
                ),
                None if kmeans is None else kmeans.eta,
                result.draws,
            ]
        )
    partitions = [mlp_neurons.communities for mlp_neurons in neurons]
    linked = np.mean([(part.community_F >= 0).mean() for part in partitions])
    return section(
        "Whole blocks of neurons: CE above the dense model's, and eta",
        [
            "Blocks are the communities of the neurons' co-activation graph, cut to at most a sixteenth of "
            "d_ff; random and k-means (rows of W_up) blocks have the same sizes. An oracle runs the "
            "blocks of the largest energy of each token until k is filled.",
            "eta = (random − blocks) / (random − single neurons): 0 is chance, 1 the neuron-level bound; "
            "95 % interval over documents; p against random partitions.",
            f"Mean over {len(partitions)} MLPs: Q {np.mean([part.modularity for part in partitions]):.3f}, "
            f"{np.mean([part.community_F.max(initial=-1) + 1 for part in partitions]):.1f} communities, "
            f"{np.mean([part.block_F.max() + 1 for part in partitions]):.1f} blocks, "
            f"{linked:.0%} of neurons with an edge.",
        ],
        [
            "k", "random", "k-means", "community", "neuron", "eta", "eta_lo", "eta_hi", "p", "eta k-means",
            "random partitions",
        ],
        rows,
    )  # fmt: skip


def _random_blocks(draw: int, seed: int) -> Callable[[Neurons], IntArray]:
    """The sizes of the communities' blocks, members drawn at random."""

    def blocks_of(mlp_neurons: Neurons) -> IntArray:
        layer_seed = 1009 * (seed + 1) + 97 * draw + mlp_neurons.mlp.layer
        return shuffled(mlp_neurons.communities.block_F, layer_seed)

    return blocks_of


def _top_blocks(
    neurons: list[Neurons], blocks_of: Callable[[Neurons], IntArray], k: float, passes: Passes
) -> BatchEdit:
    """Run the blocks of the largest energy of each token."""
    blocks: dict[int, tuple[Tensor, Tensor]] = {}
    for mlp_neurons in neurons:
        block_F = blocks_of(mlp_neurons)
        rank_F = torch.from_numpy(mlp_neurons.rank(block_F))
        blocks[mlp_neurons.mlp.layer] = (
            torch.from_numpy(block_F).to(passes.device),
            rank_F.to(passes.device),
        )

    def choose(mlp: Mlp, acts_BTF: Tensor) -> Tensor:
        return block_mask(_energy(mlp, acts_BTF), *blocks[mlp.layer], kept_count(k, mlp.d_ff))

    return lambda _batch: masked([mlp_neurons.mlp for mlp_neurons in neurons], choose)


def _top_neurons(neurons: list[Neurons], k: float) -> BatchEdit:
    """Run the single neurons of the largest energy of each token: the bound for blocks."""

    def choose(mlp: Mlp, acts_BTF: Tensor) -> Tensor:
        return top_mask(_energy(mlp, acts_BTF), k)

    return lambda _batch: masked([mlp_neurons.mlp for mlp_neurons in neurons], choose)


def _energy(mlp: Mlp, acts_BTF: Tensor) -> Tensor:
    return abs_act_x_wnorm(mlp, acts_BTF.float()) ** 2
