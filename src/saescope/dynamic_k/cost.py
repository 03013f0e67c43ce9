"""Multiply-accumulates and weight bytes per token, counted from shapes.

FlopCounterMode is no substitute: it counts a masked dense product in full and `embedding_bag` as nothing.
Matrix products are counted: attention projections, MLPs, attention scores and their sum over values
(2·context·heads·head_dim a layer), and the unembedding. Embedding look-ups, norms and selection are not.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from saescope.dynamic_k.mlps import Mlp, find_mlps, is_matrix
from saescope.model.blocks import Blocks


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulates per token of a dense model."""

    up: int
    """Projections into the neurons (up, and gate), all MLPs."""
    down: int
    """Down-projections, all MLPs."""
    attention: int
    """Attention projections."""
    scores: int
    """Queries with keys, and weights with values."""
    unembedding: int
    sparse_up: int
    """The part of `up` in MLPs that are made sparse."""
    sparse_down: int
    """The part of `down` in MLPs that are made sparse."""

    @property
    def mlp(self) -> int:
        """All MLPs."""
        return self.up + self.down

    @property
    def weights(self) -> int:
        """Elements of all matrices: each is used once per token."""
        return self.mlp + self.attention + self.unembedding

    @property
    def total(self) -> int:
        """All products."""
        return self.weights + self.scores

    def saved(self, k_up: float, k_down: float) -> float:
        """Multiply-accumulates saved when these fractions of the sparse MLPs' matrices are used."""
        return (1 - k_up) * self.sparse_up + (1 - k_down) * self.sparse_down

    def fractions(self, k_up: float, k_down: float) -> dict[str, float]:
        """`mlp_flops_frac`, `total_flops_frac` and `weight_bytes_frac` against the dense model."""
        saved = self.saved(k_up, k_down)
        return {
            "mlp_flops_frac": 1 - saved / self.mlp,
            "total_flops_frac": 1 - saved / self.total,
            "weight_bytes_frac": 1 - saved / self.weights,
        }


def macs_of(model: Any, mlps: list[Mlp], context: float) -> Macs:
    """Count a model (weights not needed) whose `mlps` are made sparse; queries meet `context` keys."""
    base = model.base_model
    blocks = Blocks(base)
    all_mlps = find_mlps(model)
    inside = {id(m) for mlp in all_mlps for m in mlp.module.modules()}
    attention = sum(
        _size(m) for block in blocks.modules for m in block.modules() if id(m) not in inside and is_matrix(m)
    )
    config = blocks.config
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    return Macs(
        up=sum(_entering(mlp) for mlp in all_mlps),
        down=sum(_size(mlp.down) for mlp in all_mlps),
        attention=attention,
        scores=round(2 * context * heads * head_dim * len(blocks)),
        unembedding=_size(model.get_output_embeddings()),
        sparse_up=sum(_entering(mlp) for mlp in mlps),
        sparse_down=sum(_size(mlp.down) for mlp in mlps),
    )


def saving_of(granularity: str, impl: str) -> str:
    """`realised` where the implementation leaves the products out, `oracle` where it only could.

    `mask` multiplies everything: its fractions are those of an oracle that knows the mask before the
    up-projection. `gather` leaves out rows of the down-projection; `sliced` leaves out both sides, for masks
    that whole sequences, tasks or models share.
    """
    if impl == "mask":
        return "oracle"
    assert (impl == "gather") == (granularity == "token")
    return "realised"


def cost(macs: Macs, impl: str, k: float) -> dict[str, float]:
    """Fractions of the dense cost of a sparse token that keeps a fraction k."""
    return macs.fractions(k_up=1.0 if impl == "gather" else k, k_down=k)


def _entering(mlp: Mlp) -> int:
    return sum(_size(m) for m in mlp.projections[:-1])


def _size(module: nn.Module) -> int:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight.numel()
