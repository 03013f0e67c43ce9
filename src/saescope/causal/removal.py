"""What a set of latents puts into an activation, to be taken out with the SAE's error kept.

The ablated activation is x − (x̂(codes) − x̂(codes with the set's activations replaced)): for a decoder that
adds up its latents, x − Σ_f (a_f − to_f) d_f over the set.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from saescope.errors import ConfigError
from saescope.sae.base import Sae, SparseCodes, token_of_each
from saescope.stats.arrays import IntArray


@dataclass(frozen=True)
class LatentSet:
    """Latents that are ablated together."""

    name: str

    latents_F: IntArray
    """Latent numbers, each once."""

    to_MF: npt.NDArray[np.float32] | None = None
    """M ≥ 1 rows of activations [M, latents]: every counted token gets one of them, by chance where there are
    several. None: zeros."""


class Removed(NamedTuple):
    """What one set takes out of n tokens."""

    token_n: Tensor
    """Which of the N tokens it changes."""

    removed_nD: Tensor

    firings_n: Tensor
    """Latents of the set that are active there."""


class Encoded:
    """Activations of N counted tokens with their codes."""

    def __init__(self, coder: Sae, x_ND: Tensor, number_N: npt.NDArray[np.int64], seed: int) -> None:
        """`number_N` names each token among all of the text; with `seed` it chooses among replacements."""
        self.coder, self.x_ND, self.number_N, self.seed = coder, x_ND, number_N, seed
        self.codes = coder.encode(x_ND)
        self.token_E = token_of_each(self.codes)

    def removed(self, latents: LatentSet, member_F: Tensor) -> Removed | None:
        """What a set takes out; None where it changes no token.

        `member_F`: true for its latents. Raises ConfigError for a replacement other than zero with an SAE
        that decodes only what it encoded.
        """
        if not len(latents.latents_F):
            return None
        member_E = member_F[self.codes.latents]
        firings_N = torch.bincount(self.token_E[member_E], minlength=len(self.x_ND))
        touched_N = firings_N > 0
        if latents.to_MF is not None:
            touched_N[:] = True
        if not touched_N.any():
            return None
        removed_nD = self._difference(latents, member_E, touched_N)
        return Removed(touched_N.nonzero().flatten(), removed_nD, firings_N[touched_N])

    def _difference(self, latents: LatentSet, member_E: Tensor, touched_N: Tensor) -> Tensor:
        """x̂ minus x̂ with the set replaced, at the touched tokens."""
        coder, x_ND, codes = self.coder, self.x_ND, self.codes
        zeroed = codes._replace(acts=codes.acts.masked_fill(member_E, 0.0))
        if coder.decodes_latest_only:
            if latents.to_MF is not None:
                raise ConfigError(
                    "causal.to=mean and resample need an SAE that decodes any codes; this one normalises "
                    "every token by itself: choose causal.to=zero"
                )
            return (coder.reconstruct(x_ND, codes) - coder.reconstruct(x_ND, zeroed))[touched_N]
        if not touched_N.all():
            x_ND, codes, zeroed = x_ND[touched_N], _rows(codes, touched_N), _rows(zeroed, touched_N)
        if latents.to_MF is not None:
            zeroed = self._with_others(zeroed, latents)
        return coder.reconstruct(x_ND, codes) - coder.reconstruct(x_ND, zeroed)

    def _with_others(self, zeroed: SparseCodes, latents: LatentSet) -> SparseCodes:
        """The codes with the set's activations from `to_MF`; of all counted tokens."""
        assert latents.to_MF is not None
        to_MF = torch.from_numpy(latents.to_MF).to(zeroed.acts)
        latents_F = torch.from_numpy(latents.latents_F).to(zeroed.latents)
        # by the token alone, not by the batch or the set it is in
        chosen_N = _hashed(self.number_N, self.seed) % len(to_MF)
        to_NF = to_MF[torch.from_numpy(chosen_N).to(latents_F)]
        keep_E = zeroed.acts != 0
        token_E = torch.cat(
            [
                self.token_E[keep_E],
                torch.arange(len(to_NF), device=latents_F.device).repeat_interleave(len(latents_F)),
            ]
        )
        merged = torch.argsort(token_E, stable=True)
        return SparseCodes(
            torch.bincount(token_E, minlength=len(to_NF)),
            torch.cat([zeroed.latents[keep_E], latents_F.repeat(len(to_NF))])[merged],
            torch.cat([zeroed.acts[keep_E], to_NF.flatten()])[merged],
        )


def _rows(codes: SparseCodes, keep_N: Tensor) -> SparseCodes:
    """The codes of some tokens."""
    keep_E = keep_N[token_of_each(codes)]
    return SparseCodes(codes.sizes_N[keep_N], codes.latents[keep_E], codes.acts[keep_E])


def _hashed(number_N: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """A number below 2^31 for each number, as if drawn at random (the finaliser of splitmix64)."""
    z = number_N.astype(np.uint64) + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(33)).astype(np.int64)
