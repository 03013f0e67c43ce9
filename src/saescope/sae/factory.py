"""`sae.source` → an SAE that fits the hookpoint."""

import logging
from typing import Any

import torch

from saescope.config import SaeConfig
from saescope.errors import SaeError
from saescope.hookpoints import Hookpoint
from saescope.sae.base import Sae

log = logging.getLogger(__name__)


def load(
    cfg: SaeConfig,
    *,
    d_in: int,
    hookpoint: str,
    model_sae_repo: str | None,
    model_name: str,
    dtype: torch.dtype,
    at: Hookpoint | None = None,
    model: Any = None,
) -> Sae:
    """Load or make the SAE that `cfg` asks for, for a hookpoint of width `d_in`.

    `at` and the causal LM `model` are for SAEs that name their own hookpoint (`saelens`).
    Raises SaeError when it is not there, cannot be read, or does not fit.
    """
    if cfg.k is not None and cfg.source == "neurons" and cfg.k > d_in:
        raise SaeError(
            f"sae.k={cfg.k} exceeds the {d_in} neurons at {hookpoint}; choose sae.k from 1 to {d_in}"
        )
    match cfg.source:
        case "hub":
            from saescope.sae.folder import load_sparsify

            repo = cfg.repo or model_sae_repo
            if repo is None:
                raise SaeError(
                    f"no pre-trained SAE repository is known for {model_name}; "
                    "give sae.repo=HUB_ID_OR_FOLDER, or choose sae=neurons or sae=random"
                )
            sae: Sae = load_sparsify(repo, cfg, d_in=d_in, hookpoint=hookpoint, dtype=dtype)
        case "saelens":
            from saescope.sae.saelens.load import load_saelens

            assert at is not None
            assert model is not None
            sae = load_saelens(cfg, d_in=d_in, at=at, model=model, model_name=model_name)
        case "neurons":
            from saescope.sae.neurons import NeuronBasis

            sae = NeuronBasis(d_in, cfg.k or 1)
        case "random":
            from saescope.sae.coder import untrained

            sae = untrained(
                d_in,
                k=cfg.k or 1,
                expansion_factor=cfg.expansion_factor,
                num_latents=cfg.num_latents,
                seed=cfg.init_seed,
                dtype=dtype,
            )
        case other:  # pragma: no cover - SaeConfig has checked it
            raise AssertionError(other)
    if sae.k is not None and sae.k > sae.num_latents:
        raise SaeError(
            f"sae.k={sae.k} exceeds its {sae.num_latents} latents; choose sae.k from 1 to {sae.num_latents}"
        )
    log.info("SAE %s: %d latents, k %s", sae.provenance()["source"], sae.num_latents, sae.k)
    return sae
