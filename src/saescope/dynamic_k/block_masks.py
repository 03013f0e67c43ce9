"""Whole blocks of neurons executed up to a budget: communities against chance, k-means and single neurons."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from saescope.dynamic_k.communities import shuffled
from saescope.dynamic_k.mlps import Mlp, abs_act_x_wnorm, masked
from saescope.dynamic_k.neurons import Neurons
from saescope.dynamic_k.passes import Opens, Passes
from saescope.dynamic_k.selectors import kept_count, top_mask
from saescope.stats.arrays import IntArray
from saescope.stats.savings import Recovered, recovered_share
from saescope.text.windows import Batch


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
    variants: dict[str, Opens] = {}
    for k, number in draws.items():
        kinds: dict[str, Callable[[Neurons], IntArray]] = {
            "community": lambda one: one.communities.block_F,
            "kmeans": lambda one: one.kmeans_F,
        }
        for draw in range(number):
            kinds[f"random {draw}"] = lambda one, draw=draw: shuffled(  # type: ignore[misc]
                one.communities.block_F, 1009 * (seed + 1) + 97 * draw + one.mlp.layer
            )
        for kind, blocks in kinds.items():
            variants[f"{k} {kind}"] = _opens(neurons, blocks, k, passes)
        variants[f"{k} neuron"] = _opens(neurons, None, k, passes)
    found = passes.losses(variants)
    dense, out = found["dense"], []
    n = dense.tokens_D.sum()
    has = dense.tokens_D > 0
    for k, number in draws.items():
        loss = {
            kind: (found[f"{k} {kind}"].ce_D - dense.ce_D)[has] for kind in ("community", "kmeans", "neuron")
        }
        random_RD = torch.stack(
            [torch.from_numpy((found[f"{k} random {r}"].ce_D - dense.ce_D)[has]) for r in range(number)]
        ).numpy()
        ce_delta = {"random": float(random_RD.mean(0).sum() / n)}
        ce_delta |= {kind: float(value.sum() / n) for kind, value in loss.items()}
        eta = {
            kind: recovered_share(random_RD, loss[kind], loss["neuron"], resamples=resamples, seed=seed)
            for kind in ("community", "kmeans")
        }
        out.append(BlockResult(k, number, ce_delta, eta))
    return out


def _opens(
    neurons: list[Neurons], blocks: Callable[[Neurons], IntArray] | None, k: float, passes: Passes
) -> Opens:
    mlps = [one.mlp for one in neurons]
    tables: dict[int, tuple[Tensor, Tensor]] = {}
    if blocks is not None:
        for one in neurons:
            block_F = blocks(one)
            pair = torch.from_numpy(block_F), torch.from_numpy(one.rank(block_F))
            tables[one.mlp.layer] = (pair[0].to(passes.device), pair[1].to(passes.device))

    def choose(mlp: Mlp, acts_BTF: Tensor) -> Tensor:
        energy_BTF = abs_act_x_wnorm(mlp, acts_BTF.float()) ** 2
        if blocks is None:
            return top_mask(energy_BTF, k)
        return block_mask(energy_BTF, *tables[mlp.layer], kept_count(k, mlp.d_ff))

    @contextmanager
    def opened(_batch: Batch) -> Iterator[None]:
        with masked(mlps, choose):
            yield

    return opened
