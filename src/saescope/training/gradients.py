"""Exact gradients of a sparse code as sparse-by-dense products: nothing (tokens × k × d) exists.

The code of a batch is a sparse matrix A [N × F] with k entries a row. Then
    error E     A W_dec − target        rows gathered and summed; the loss is Σ E²
    ∂W_dec      2 Aᵀ E                  the same, over the tokens of each latent
    ∂acts       2 E W_decᵀ at A's slots k dot products a token
    ∂b_dec      2 column sums of E      where the target is x − b_dec
    ∂W_enc      Gᵀ x                    G: A's pattern with ∂acts in it
    ∂b_enc      column sums of G
    ∂b_dec      −∂b_enc W_enc           through x − b_dec, without a gradient for x
A transcoder encodes x as it is, and its error is A W_dec + b_dec + W_skip x − y: b_dec has the first of its
two gradients only, and
    ∂W_skip     2 Eᵀ x
A gradient that nobody asks for, that of a frozen weight, is not computed.
Sums of rows run on `embedding_bag`, the fastest of the kernels measured here (MKL's CSR product: 2.5 ×
slower), A W_dec on CUDA on sparsify's Triton kernel. ∂acts runs on `sampled_addmm` on the CPU: 1.5 × as fast
as the backward of `embedding_bag`. The factor 2 is applied to sparse values, so no gradient [N, d] is formed.

As in sparsify, gradients pass through slots whose activation is 0 (its fused encoder does not gate them), and
the encoder gets no gradient from AuxK and Multi-TopK (its backward drops that of the pre-activations).
"""

import warnings
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag

from saescope.compat import sample_weight_gradients
from saescope.sae.coder import decoder_impl

# torch warns at the first sparse tensor, which the user did not make
warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")


class Slots:
    """The pattern of A: the latents of each token and, sorted on first use, the tokens of each latent."""

    def __init__(self, latents_NK: Tensor, num_latents: int) -> None:
        self.latents_NK = latents_NK
        self.num_latents = num_latents
        self._sorted: tuple[Tensor, Tensor, Tensor] | None = None

    def rows_sum(self, values_NK: Tensor, rows_FD: Tensor) -> Tensor:
        """A W: for every token the sum of its latents' rows, weighted [N, d]."""
        # sparsify's choice: its Triton kernel on CUDA, `embedding_bag` elsewhere; only called without a graph
        return cast(Tensor, decoder_impl(self.latents_NK, values_NK, rows_FD.mT))

    def row_products(self, rows_FD: Tensor, tokens_ND: Tensor) -> Tensor:
        """For every slot the product of its latent's row with its token's row [N, k]."""
        if self.latents_NK.device.type == "cpu":
            latents = self.latents_NK.flatten()
            k, tokens = self.latents_NK.shape[1], len(tokens_ND)
            offsets = torch.arange(0, len(latents) + 1, k)
            zeros = tokens_ND.new_zeros(len(latents))
            size = (tokens, len(rows_FD))
            pattern = torch.sparse_csr_tensor(offsets, latents, zeros, size, check_invariants=False)
            sampled: Tensor = torch.sparse.sampled_addmm(pattern, tokens_ND, rows_FD.mT, beta=0.0)
            return sampled.values().view(tokens, k)
        return sample_weight_gradients(tokens_ND, rows_FD, self.latents_NK)

    def tokens_sum(self, values_NK: Tensor, rows_ND: Tensor) -> Tensor:
        """Aᵀ X: for every latent the sum of its tokens' rows, weighted [F, d]."""
        order, tokens, offsets = self._by_latent()
        values = values_NK.flatten()[order]
        return embedding_bag(tokens, rows_ND, offsets, mode="sum", per_sample_weights=values)

    def values_sum(self, values_NK: Tensor) -> Tensor:
        """Column sums of A [F]."""
        sums = values_NK.new_zeros(self.num_latents)
        return sums.index_add_(0, self.latents_NK.flatten(), values_NK.flatten())

    def _by_latent(self) -> tuple[Tensor, Tensor, Tensor]:
        if self._sorted is None:
            flat = self.latents_NK.flatten()
            # stable: the order of summation, and so the result, is fixed
            rising, order = flat.sort(stable=True)
            # not from bincount, for whose largest number a GPU's host waits
            first = torch.searchsorted(rising, torch.arange(self.num_latents, device=flat.device))
            self._sorted = order, order // self.latents_NK.shape[1], first
        return self._sorted


def encode_at(
    acts_NK: Tensor, input_ND: Tensor, weight_FD: Tensor, bias_F: Tensor, b_dec: Tensor | None, slots: Slots
) -> Tensor:
    """Activations [N, k], already computed, with the gradients of the encoder that computed them.

    `input_ND` is what it multiplied, without a graph: x − b_dec, or x of a transcoder, without `b_dec`.
    """
    return cast(Tensor, cast(Any, _EncodeAt).apply(acts_NK, input_ND, weight_FD, bias_F, b_dec, slots))


class Skip(NamedTuple):
    """The skip connection of a transcoder."""

    W_skip: Tensor
    """[d_out, d_in]."""

    x_ND: Tensor
    """What it multiplies, without a graph."""


class SquaredError(NamedTuple):
    """Error of a decoded batch against its target."""

    total: Tensor
    """Σ error², with a graph."""

    error_ND: Tensor
    """Decoded − target; without a graph."""


def squared_error(
    acts_NK: Tensor,
    weight_FD: Tensor,
    target_ND: Tensor,
    slots: Slots,
    b_dec: Tensor | None = None,
    skip: Skip | None = None,
) -> SquaredError:
    """Σ (A W_dec − target)².

    With `b_dec`, the target is y − b_dec, and b_dec gets the gradient it has in A W_dec + b_dec − y; with
    `skip`, it is y − b_dec − W_skip x, and W_skip gets its gradient too. The target has no graph, and
    `acts_NK` may be without one: then the encoder gets no gradient.
    """
    W_skip, x_ND = skip or (None, None)
    arguments = (acts_NK, weight_FD, b_dec, W_skip, x_ND, target_ND, slots)
    return SquaredError(*cast(Any, _SquaredError).apply(*arguments))


class _EncodeAt(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        acts_NK: Tensor,
        input_ND: Tensor,
        weight_FD: Tensor,
        bias_F: Tensor,
        b_dec: Tensor | None,
        slots: Slots,
    ) -> Tensor:
        ctx.slots = slots
        ctx.save_for_backward(input_ND, weight_FD)
        return acts_NK.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NK: Tensor) -> tuple[Tensor | None, ...]:
        input_ND, weight_FD = ctx.saved_tensors
        _, _, for_weight, _, for_b_dec, _ = ctx.needs_input_grad
        grad_bias_F = ctx.slots.values_sum(grad_NK)
        grad_weight_FD = ctx.slots.tokens_sum(grad_NK, input_ND) if for_weight else None
        grad_b_dec = -(grad_bias_F @ weight_FD) if for_b_dec else None
        return None, None, grad_weight_FD, grad_bias_F, grad_b_dec, None


class _SquaredError(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        acts_NK: Tensor,
        weight_FD: Tensor,
        b_dec: Tensor | None,
        W_skip: Tensor | None,
        x_ND: Tensor | None,
        target_ND: Tensor,
        slots: Slots,
    ) -> tuple[Tensor, Tensor]:
        error_ND = slots.rows_sum(acts_NK, weight_FD).sub_(target_ND)
        ctx.slots = slots
        ctx.save_for_backward(acts_NK, weight_FD, x_ND, error_ND)
        ctx.mark_non_differentiable(error_ND)
        return torch.linalg.vector_norm(error_ND, dim=1).square().sum(), error_ND

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        acts_NK, weight_FD, x_ND, error_ND = ctx.saved_tensors
        for_acts, for_weight, for_b_dec, for_skip, *_ = ctx.needs_input_grad
        twice = 2 * grad
        grad_NK = ctx.slots.row_products(weight_FD, error_ND).mul_(twice) if for_acts else None
        grad_weight_FD = ctx.slots.tokens_sum(acts_NK * twice, error_ND) if for_weight else None
        grad_b_dec = error_ND.sum(0).mul_(twice) if for_b_dec else None
        grad_skip = (error_ND.mT @ x_ND).mul_(twice) if for_skip else None
        return grad_NK, grad_weight_FD, grad_b_dec, grad_skip, None, None, None
