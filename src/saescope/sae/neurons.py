"""Control: the hookpoint's own basis as dictionary, the k entries of largest magnitude active."""

from typing import Any

import torch
from torch import Tensor

from saescope.sae.base import Sae, SparseCodes, compress, token_of_each


class NeuronBasis(Sae):
    """`num_latents = d_in`; a latent's activation is the entry itself, so either sign counts as active."""

    control = True

    def __init__(self, d_in: int, k: int) -> None:
        super().__init__()
        self.d_in = self.num_latents = d_in
        self.k = k

    def encode_rows(self, x_ND: Tensor) -> SparseCodes:
        """Entries of largest magnitude, with their sign."""
        x = x_ND.float()
        indices = x.abs().topk(self.k or 1, dim=-1, sorted=False).indices
        return compress(x.gather(-1, indices), indices)

    def decode(self, codes: SparseCodes) -> Tensor:
        """The kept entries, zero elsewhere."""
        x_ND = torch.zeros(len(codes.sizes_N), self.d_in, device=codes.acts.device)
        rows = token_of_each(codes)
        x_ND[rows, codes.latents] = codes.acts
        return x_ND

    def provenance(self) -> dict[str, Any]:
        """Sizes and k."""
        return {
            "source": "neurons",
            "d_in": self.d_in,
            "num_latents": self.d_in,
            "expansion_factor": 1.0,
            "k": self.k,
        }
