"""A sae_lens SAE behind our interface: its own `encode` and `decode`, sparse in between."""

import warnings
from typing import Any

import torch
from torch import Tensor

from saescope.sae.base import Sae, SparseCodes, token_of_each
from saescope.sae.places import Places

# What `encode` leaves on a sae_lens module for the `decode` that follows (layer_norm, constant_norm_rescale).
PER_TOKEN = ("ln_mu", "ln_std", "x_norm_coeff")
NORMALISES_TOKENS = ("layer_norm", "constant_norm_rescale")
"""Values of sae_lens' `normalize_activations` by which every token has a scale of its own."""


class LensSae(Sae):
    """Any sae_lens architecture that codes each token by itself, in float32; a transcoder with its `places`.

    `centred`: the SAE was trained on a model whose writes to the residual stream TransformerLens had centred
    (`center_writing_weights`). For a LayerNorm model those activations are the plain ones less their mean
    over the width, so that mean is taken out before `encode` and put back after `decode`.
    """

    def __init__(
        self,
        inner: Any,
        source: dict[str, Any],
        *,
        places: Places | None = None,
        centred: bool = False,
        prepend_bos: bool | None = None,
        notices: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.inner = inner.requires_grad_(False)
        # the heads of hook_z come side by side here, as the output projection reads them
        self.inner.turn_off_forward_pass_hook_z_reshaping()
        self.inner.cfg.reshape_activations = "none"
        self.places = places or Places()
        self.reads = self.places.reads
        self.transcodes = self.reads is not None
        self.d_in, self.num_latents = inner.cfg.d_in, inner.cfg.d_sae
        self.k = getattr(inner.cfg, "k", None)
        self.centred, self.prepend_bos, self.warnings = centred, prepend_bos, notices
        self._source = source
        self._norms: list[dict[str, Tensor]] = []
        self._encoded: Tensor | None = None

    def encode(self, x_ND: Tensor) -> SparseCodes:
        """Codes of N activations; what `decode` needs to undo a per-token normalisation is kept."""
        self._norms = []
        codes = super().encode(x_ND)
        self._encoded = codes.sizes_N
        return codes

    def encode_rows(self, x_ND: Tensor) -> SparseCodes:
        """sae_lens' `encode`, the zeros left out."""
        x = self.places.normalised(x_ND.float())
        norms: dict[str, Tensor] = {}
        if self.centred:
            norms["mean"] = x.mean(-1, keepdim=True)
            x = x - norms["mean"]
        acts_NF = self.inner.encode(x)
        norms |= {name: vars(self.inner).pop(name) for name in PER_TOKEN if name in vars(self.inner)}
        self._norms.append(norms)
        rows, latents = acts_NF.nonzero(as_tuple=True)
        return SparseCodes(torch.bincount(rows, minlength=len(x)), latents, acts_NF[rows, latents])

    def decode(self, codes: SparseCodes) -> Tensor:
        """sae_lens' `decode` of the codes as a sparse matrix.

        Where the SAE normalises every token by itself, only the codes `encode` returned last can be decoded.
        """
        device = codes.acts.device
        n = len(codes.sizes_N)
        if n == 0:
            return torch.zeros(0, self.d_out, device=device)
        rows = token_of_each(codes)
        acts_NF = torch.sparse_coo_tensor(
            torch.stack([rows, codes.latents]), codes.acts, (n, self.num_latents), check_invariants=False
        )
        norms = self._joined()
        assert not norms or codes.sizes_N is self._encoded, "decode what encode returned last"
        mean = norms.pop("mean", None)
        vars(self.inner).update(norms)
        decoded: Tensor = self.inner.decode(acts_NF)
        return decoded if mean is None else decoded + mean

    def reconstruct(self, x_ND: Tensor, codes: SparseCodes) -> Tensor:
        """`decode(codes)`, plus W_skip x where there is a skip connection."""
        decoded = self.decode(codes)
        skip = getattr(self.inner, "W_skip", None)
        return decoded if skip is None else decoded + self.places.normalised(x_ND.float()) @ skip.T

    @property
    def d_out(self) -> int:
        """Width of what it reconstructs."""
        return int(getattr(self.inner.cfg, "d_out", self.d_in))

    @property
    def decodes_latest_only(self) -> bool:
        """It normalises every token by itself, and undoes that."""
        normalises = getattr(self.inner.cfg, "normalize_activations", None) in NORMALISES_TOKENS
        return self.centred or normalises

    def provenance(self) -> dict[str, Any]:
        """Source, architecture, sizes and k."""
        cfg = self.inner.cfg
        return {
            **self._source,
            "architecture": cfg.architecture(),
            "dtype": "float32",
            "apply_b_dec_to_input": cfg.apply_b_dec_to_input,
            "centred_input": self.centred,
            "transcoder": self.transcodes,
            "skip_connection": hasattr(self.inner, "W_skip"),
            "d_in": self.d_in,
            "num_latents": self.num_latents,
            "expansion_factor": self.num_latents / self.d_in,
            "k": self.k,
        }

    def __getstate__(self) -> dict[str, Any]:
        # sae_lens keeps lambdas on its modules, which cannot go to another process.
        state = {**self.__dict__, "_modules": {}, "_norms": [], "_encoded": None}
        return state | {"_packed": (self.inner.cfg.to_dict(), self.inner.state_dict())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        cfg, weights = state.pop("_packed")
        self.__dict__.update(state)
        self.inner = build(cfg, weights).requires_grad_(False)

    def _joined(self) -> dict[str, Tensor]:
        names = self._norms[0] if self._norms else {}
        return {name: torch.cat([part[name] for part in self._norms]) for name in names}


def build(cfg: dict[str, Any], weights: dict[str, Tensor]) -> Any:
    """A sae_lens SAE from its config and weights, which are taken over, not copied.

    Raises RuntimeError when the weights are not those of the architecture.
    """
    from sae_lens import SAE

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice on loading the model with sae_lens' own classes
        inner = SAE.from_dict({**cfg, "device": "meta"})
    inner.load_state_dict(weights, assign=True)
    return inner.to(dtype=torch.float32, device=next(iter(weights.values())).device)
