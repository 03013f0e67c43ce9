"""`sparsify.SparseCoder` as an `Sae`: pre-trained, trained here, or untrained."""

import contextlib
import io
import os
from typing import Any

import torch
from torch import Tensor

from saescope.compat import sparsify_decoder
from saescope.sae.base import Sae, SparseCodes, compress, weighted_rows
from saescope.sae.cpu_topk import select

if not torch.cuda.is_available():
    # sparsify chooses its Triton decoder at import, also for CPU tensors.
    os.environ.setdefault("SPARSIFY_DISABLE_TRITON", "1")

with contextlib.redirect_stdout(io.StringIO()):  # it prints which decoder it chose
    from sparsify import SparseCoder, SparseCoderConfig

    decoder_impl = sparsify_decoder()

__all__ = ["CoderSae", "SparseCoder", "SparseCoderConfig", "decoder_impl", "untrained"]


class CoderSae(Sae):
    """A TopK (or GroupMax) SAE in sparsify's own module.

    `dtype` is that of the encoder product; b_dec is subtracted and the decoder applied in float32.
    """

    def __init__(
        self, coder: SparseCoder, dtype: torch.dtype, source: dict[str, Any], control: bool = False
    ) -> None:
        super().__init__()
        self.coder = coder.float().requires_grad_(False)
        self.coder.encoder.to(dtype)
        self.d_in, self.num_latents, self.k = coder.d_in, coder.num_latents, coder.cfg.k
        self.control, self.transcodes = control, coder.cfg.transcode
        self._source = source

    def encode_rows(self, x_ND: Tensor) -> SparseCodes:
        """sparsify's `encode`: ReLU(W (x − b_dec) + b), then the k largest; a transcoder takes x as it is."""
        weight, bias = self.coder.encoder.weight, self.coder.encoder.bias
        x_ND = x_ND.float()
        centred = (x_ND if self.transcodes else x_ND - self.coder.b_dec).to(weight.dtype)
        chosen = select(centred, weight, bias, k=self.coder.cfg.k, activation=self.coder.cfg.activation).main
        return compress(chosen.acts_NK, chosen.latents_NK)

    def decode(self, codes: SparseCodes) -> Tensor:
        """Σ act · W_dec + b_dec."""
        assert self.coder.W_dec is not None
        decoded: Tensor = weighted_rows(codes, self.coder.W_dec) + self.coder.b_dec
        return decoded

    def reconstruct(self, x_ND: Tensor, codes: SparseCodes) -> Tensor:
        """`decode(codes)`, plus W_skip x where there is a skip connection."""
        decoded = self.decode(codes)
        return decoded if self.coder.W_skip is None else decoded + x_ND.float() @ self.coder.W_skip.mT

    def provenance(self) -> dict[str, Any]:
        """Source, sizes and k."""
        return {
            **self._source,
            "transcoder": self.transcodes,
            "skip_connection": self.coder.W_skip is not None,
            "d_in": self.d_in,
            "num_latents": self.num_latents,
            "expansion_factor": self.num_latents / self.d_in,
            "k": self.k,
            "activation": self.coder.cfg.activation,
        }


def untrained(
    d_in: int, *, k: int, expansion_factor: int | None, num_latents: int | None, seed: int, dtype: torch.dtype
) -> CoderSae:
    """Control: a SparseCoder as sparsify initialises it, never trained."""
    cfg = SparseCoderConfig(k=k, expansion_factor=expansion_factor or 1, num_latents=num_latents or 0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        coder = SparseCoder(d_in, cfg)
    return CoderSae(coder, dtype, {"source": "random", "init_seed": seed}, control=True)
