"""The interface of every kind of SAE: dense activations → sparse codes → reconstruction."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from saescope.left_out import LeftOut
from saescope.model.hookpoints import Hookpoint

PRE_ACTS_BYTES = 256 * 2**20
"""As many rows are encoded at once as keep a float32 matrix [rows, num_latents] below this."""


class SparseCodes(NamedTuple):
    """Codes of N tokens in compressed-row form; any number of active latents per token."""

    sizes_N: Tensor
    """int64: active latents of each token."""

    latents: Tensor
    """int64 [sum(sizes_N)]: latent numbers, token after token."""

    acts: Tensor
    """float32, same length: activations, never 0."""


class Sae(nn.Module, ABC):
    """A sparse autoencoder at one hookpoint."""

    d_in: int
    """Width of the activations it reads."""

    num_latents: int
    """Number of latents."""

    k: int | None
    """Active latents per token at most; None where the number varies."""

    control: bool = False
    """A control rather than a trained SAE: poor reconstruction is expected."""

    transcodes: bool = False
    """Reads one activation and is measured against another, a module's output."""

    reads: Hookpoint | None = None
    """Where a transcoder reads; None: the input of the module whose output it predicts."""

    warnings: tuple[str, ...] = ()
    """Warnings for readers of results measured with it, in sentences."""

    left_out: tuple[LeftOut, ...] = ()
    """What its training left out, where it was trained here."""

    prepend_bos: bool | None = None
    """Whether it was trained on contexts that begin with a BOS token; None where unknown."""

    @property
    def d_out(self) -> int:
        """Width of what it reconstructs."""
        return self.d_in

    @property
    def decodes_latest_only(self) -> bool:
        """Only the tokens that `encode` got last can be decoded, all of them, each with its own latents."""
        return False

    @abstractmethod
    def encode_rows(self, x_ND: Tensor) -> SparseCodes:
        """Codes of a few rows; `encode` chooses how many."""

    @abstractmethod
    def decode(self, codes: SparseCodes) -> Tensor:
        """Reconstruction [N, d_out], float32."""

    def reconstruct(self, x_ND: Tensor, codes: SparseCodes) -> Tensor:
        """Reconstruction of the target [N, d_out]: `decode(codes)`, plus the skip connection if any."""
        return self.decode(codes)

    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """Where it came from and its sizes, for the report and the tracker."""

    def encode(self, x_ND: Tensor) -> SparseCodes:
        """Codes of N activations [N, d_in].

        Slots that a TopK fills with activation 0 are not active and are left out. No matrix
        [N, num_latents] is built.
        """
        rows = max(1, PRE_ACTS_BYTES // (4 * self.num_latents))
        parts = [self.encode_rows(x_ND[at : at + rows]) for at in range(0, len(x_ND), rows)]
        if not parts:
            empty = torch.zeros(0, dtype=torch.int64, device=x_ND.device)
            return SparseCodes(empty, empty, torch.zeros(0, device=x_ND.device))
        return SparseCodes(*(torch.cat(field) for field in zip(*parts, strict=True)))


def compress(top_acts_NK: Tensor, top_indices_NK: Tensor) -> SparseCodes:
    """Drop the slots whose activation is 0."""
    active_NK = top_acts_NK != 0
    at = active_NK.flatten().nonzero().flatten()  # once: a GPU's host waits for the number of entries
    return SparseCodes(
        active_NK.sum(1), top_indices_NK.flatten()[at].long(), top_acts_NK.flatten()[at].float()
    )


def token_of_each(codes: SparseCodes) -> Tensor:
    """Number of the token to which each active latent belongs [sum(sizes_N)]."""
    tokens_N = torch.arange(len(codes.sizes_N), device=codes.sizes_N.device)
    # with the size of the result, which the host knows, a GPU need not be asked for it
    return torch.repeat_interleave(tokens_N, codes.sizes_N, output_size=len(codes.latents))


def weighted_rows(codes: SparseCodes, rows_FD: Tensor) -> Tensor:
    """Σ act · row for every token [N, d_in]: a sparse-by-dense product without (N × F) in memory."""
    offsets = torch.cumsum(codes.sizes_N, 0) - codes.sizes_N
    return nn.functional.embedding_bag(
        codes.latents, rows_FD, offsets, mode="sum", per_sample_weights=codes.acts.to(rows_FD.dtype)
    )
