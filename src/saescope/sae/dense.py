"""An SAE or transcoder of any of the usual activation functions, computed here in float32."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from saescope.errors import SaeError
from saescope.sae.base import Sae, SparseCodes, compress, weighted_rows
from saescope.sae.cpu_topk import select
from saescope.sae.places import Places

EPS = 1e-5
"""Added to the standard deviation of standardised tokens (openai/sparse_autoencoder model.py, `LN`)."""


@dataclass(frozen=True)
class Computation:
    """What an SAE computes from its weights: with n the input,

    pre  = W_enc (n − b_dec) + b_enc        (without `centred`: W_enc n + b_enc)
    relu:     ReLU(pre)
    topk:     the k largest of ReLU(pre)
    jumprelu: ReLU(pre) where pre > threshold
    gated:    ReLU(exp(r_mag) · W_enc (n − b_dec) + b_mag) where W_enc (n − b_dec) + b_gate > 0
    output = W_dec acts + b_dec (+ W_skip n)
    """

    activation: str
    """`relu`, `topk`, `jumprelu` or `gated`."""

    k: int | None = None
    """Of `topk`."""

    centred: bool = True
    """b_dec is subtracted from the input."""

    standardised: bool = False
    """Every token has its mean over the width subtracted and is divided by its standard deviation; the
    reconstruction gets both back."""

    scale: float = 1.0
    """Activations are divided by it, reconstructions multiplied."""

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of the weights it needs."""
        own = {"jumprelu": ("b_enc", "threshold"), "gated": ("b_gate", "b_mag", "r_mag")}
        return ("W_enc", "W_dec", "b_dec", *own.get(self.activation, ("b_enc",)))


class DenseSae(Sae):
    """Weights: W_enc [F, d_in], W_dec [F, d_out], b_dec [d_out], W_skip [d_out, d_in]; the others [F]."""

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        computation: Computation,
        source: dict[str, Any],
        *,
        places: Places | None = None,
        notices: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.computation, self.places = computation, places or Places()
        for name in (*computation.weights, "W_skip"):
            self.register_buffer(name, weights.get(name))
        self.W_enc: Tensor
        self.W_dec: Tensor
        self.b_dec: Tensor
        self.W_skip: Tensor | None
        self.num_latents, self.d_in = self.W_enc.shape
        self.k = computation.k
        self.reads, self.transcodes = self.places.reads, self.places.reads is not None
        self.warnings = notices
        self._source = source

    @property
    def d_out(self) -> int:
        """Width of what it reconstructs."""
        return int(self.W_dec.shape[1])

    def encode_rows(self, x_ND: Tensor) -> SparseCodes:
        """As `Computation` says."""
        n_ND, _, _ = self._input(x_ND)
        if self.computation.centred:
            n_ND = n_ND - self.b_dec
        if self.computation.activation == "gated":
            product_NF = n_ND @ self.W_enc.T
            gate_NF = product_NF + self.get_buffer("b_gate") > 0
            magnitude_NF = self.get_buffer("r_mag").exp() * product_NF + self.get_buffer("b_mag")
            return _nonzero(torch.relu(magnitude_NF) * gate_NF)
        b_enc = self.get_buffer("b_enc")
        if self.k is not None:
            top = select(n_ND, self.W_enc, b_enc, k=self.k, activation="topk").main
            return compress(top.acts_NK, top.latents_NK)
        pre_NF = torch.addmm(b_enc, n_ND, self.W_enc.T)
        acts_NF = torch.relu(pre_NF)
        if self.computation.activation == "jumprelu":
            acts_NF = acts_NF * (pre_NF > self.get_buffer("threshold"))
        return _nonzero(acts_NF)

    def decode(self, codes: SparseCodes) -> Tensor:
        """W_dec acts + b_dec. Raises SaeError where the token itself is needed: use `reconstruct`."""
        if self.computation.standardised:
            raise SaeError("this SAE standardises every token by itself: use reconstruct(x, codes)")
        return self._decoded(codes) * self.computation.scale

    def reconstruct(self, x_ND: Tensor, codes: SparseCodes) -> Tensor:
        """The output of `Computation`, in the units of the target."""
        n_ND, mean_N1, std_N1 = self._input(x_ND)
        out_ND = self._decoded(codes) * std_N1 + mean_N1
        if self.W_skip is not None:
            out_ND = out_ND + n_ND @ self.W_skip.T
        return out_ND * self.computation.scale

    def provenance(self) -> dict[str, Any]:
        """Source, computation, sizes and k."""
        return {
            **self._source,
            "activation": self.computation.activation,
            "dtype": "float32",
            "standardised": self.computation.standardised,
            "transcoder": self.transcodes,
            "skip_connection": self.W_skip is not None,
            "d_in": self.d_in,
            "num_latents": self.num_latents,
            "expansion_factor": self.num_latents / self.d_in,
            "k": self.k,
        }

    def _input(self, x_ND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """n, and the mean and standard deviation that were taken out of it."""
        n_ND = self.places.normalised(x_ND.float()) / self.computation.scale
        if not self.computation.standardised or not len(n_ND):
            return n_ND, n_ND.new_zeros(1), n_ND.new_ones(1)
        mean_N1, std_N1 = n_ND.mean(-1, keepdim=True), n_ND.std(-1, keepdim=True)
        return (n_ND - mean_N1) / (std_N1 + EPS), mean_N1, std_N1

    def _decoded(self, codes: SparseCodes) -> Tensor:
        return weighted_rows(codes, self.W_dec) + self.b_dec


def _nonzero(acts_NF: Tensor) -> SparseCodes:
    rows, latents = acts_NF.nonzero(as_tuple=True)
    return SparseCodes(torch.bincount(rows, minlength=len(acts_NF)), latents, acts_NF[rows, latents])
