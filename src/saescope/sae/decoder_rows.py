"""What a latent adds to the reconstruction, for any SAE: its decoder row."""

import torch
from torch import Tensor

from saescope.errors import SaeError
from saescope.sae.base import Sae, SparseCodes

BLOCK = 8192
"""Latents decoded at once."""


def decoder_rows(sae: Sae, latents_L: Tensor | None = None, *, directions: bool = False) -> Tensor:
    """What one unit of each latent adds to the reconstruction [L, d_out], float32; None: of all latents.

    The reconstruction of a single active latent less that of none. `directions`: only the directions are
    wanted, so an SAE that standardises every token by itself is read on a token of standard deviation 1.
    Raises SaeError where a token's own scale is needed to decode.
    """
    if sae.decodes_latest_only:
        raise SaeError("this SAE normalises every token by itself: its decoder has no rows of its own")
    device = next((t.device for t in (*sae.parameters(), *sae.buffers())), torch.device("cpu"))
    latents_L = torch.arange(sae.num_latents) if latents_L is None else latents_L
    latents_L = latents_L.to(device, torch.int64)
    token_1D = torch.ones(1, sae.d_in, device=device)
    token_1D[:, ::2] = -1.0

    def decoded(codes: SparseCodes) -> Tensor:
        if directions:
            return sae.reconstruct(token_1D.expand(len(codes.sizes_N), -1), codes)
        return sae.decode(codes)

    none = torch.zeros(0, dtype=torch.int64, device=device)
    with torch.no_grad():
        bias_1D = decoded(SparseCodes(none.new_zeros(1), none, none.float()))
        parts = [
            decoded(SparseCodes(torch.ones_like(part), part, torch.ones(len(part), device=device))) - bias_1D
            for part in torch.split(latents_L, BLOCK)
        ]
    return torch.cat(parts).float() if parts else bias_1D[:0].float()
