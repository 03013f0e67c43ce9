"""Controls that need the activations of training text but no training: `sae=pca` and `sae=directions`.

Both are TopK SAEs with encoder and decoder rows u, the same unit directions, around the mean activation m:
the k largest of ReLU(u (x − m)) are active. They are saved in sparsify's layout, like a trained SAE.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from saescope.activations import ActivationSource
from saescope.config import AppConfig, DirectionsSae, PcaSae
from saescope.errors import SaeError
from saescope.extraction.setup import Setup
from saescope.runfolder.names import SAE
from saescope.sae.coder import CoderSae, SparseCoder, SparseCoderConfig
from saescope.text.token_rows import token_rows
from saescope.training.checkpoint import save_coder
from saescope.training.train import untrained

log = logging.getLogger(__name__)

READ_TOKENS = 8192
"""Tokens read at a time."""


def sae_of_directions(cfg: AppConfig, setup: Setup, run_dir: Path) -> CoderSae:
    """The control of `cfg`, after one pass over the training text; saved under `run_dir/sae/<hookpoint>`.

    Raises SaeError or CorpusError for what the user has to correct.
    """
    assert isinstance(cfg.sae, PcaSae | DirectionsSae)
    width, place = setup.width, setup.hookpoint.label
    num_latents = 2 * width  # both signs of each component
    if isinstance(cfg.sae, DirectionsSae):
        num_latents = cfg.sae.num_latents or (cfg.sae.expansion_factor or 0) * width
        if cfg.sae.k > num_latents:
            raise SaeError(
                f"sae.k={cfg.sae.k} exceeds its {num_latents} latents; choose sae.k from 1 to {num_latents}"
            )
    elif cfg.sae.k > width:
        raise SaeError(
            f"sae.k={cfg.sae.k} exceeds the {width} principal components at {place}; "
            f"choose sae.k from 1 to {width}"
        )
    folder = setup.store.cache.tokens_folder if setup.store.cache else None
    text = token_rows(cfg.corpus, setup.lm.tokenizer, cfg.sae.tokens, folder)
    rows = text.train
    provenance: dict[str, Any] = {"source": cfg.sae.source, "tokens": int(rows.size)}
    with setup.row_activations(rows, "training text") as source:
        if isinstance(cfg.sae, PcaSae):
            if rows.size <= width:
                raise SaeError(
                    f"sae.tokens={cfg.sae.tokens} gives {rows.size} tokens, too few for the {width} "
                    f"principal components at {place}; make it larger"
                )
            moments = moments_of(_batches(source, setup), covariance=True)
            directions_FD = both_signs(principal_components(moments))
        else:
            moments = moments_of(_batches(source, setup))
            directions_FD = random_directions(num_latents, width, cfg.sae.init_seed)
            provenance["init_seed"] = cfg.sae.init_seed
    if not torch.isfinite(moments.mean_D).all():
        raise SaeError(
            f"NaN or infinite activations at {place} in the training text; try runtime.dtype=float32, or "
            "check the model's weights"
        )
    coder = coder_of(directions_FD, moments.mean_D, cfg.sae.k)
    saved = run_dir / SAE / place
    save_coder(coder, saved)
    provenance |= {
        "folder": str(saved.relative_to(run_dir)),
        "corpus": cfg.corpus.name or cfg.corpus.path or cfg.corpus.source,
    }
    log.info("%s of %d training tokens: %d directions", cfg.sae.source, rows.size, coder.num_latents)
    sae = CoderSae(coder.to(setup.machine.device), setup.machine.dtype, provenance, control=True)
    sae.left_out = (*text.left_out, *untrained(cfg.sae.tokens, rows.size))
    return sae


@dataclass(frozen=True)
class Moments:
    """Mean and covariance of activations, in float64."""

    tokens: int
    mean_D: Tensor
    covariance_DD: Tensor | None
    """Divided by the number of tokens; None where it was not computed."""


def moments_of(batches: Iterator[Tensor], *, covariance: bool = False) -> Moments:
    """Moments of all rows of `batches` [N, d_in], of which there is at least one, in one pass."""
    tokens, shift_D, sum_D, sum_DD = 0, None, None, None
    for batch in batches:
        x_ND = batch.double()
        if shift_D is None or sum_D is None:
            shift_D = x_ND.mean(0)  # products of what is near 0 do not cancel later
            sum_D = torch.zeros_like(shift_D)
            sum_DD = torch.zeros(len(shift_D), len(shift_D)).to(shift_D) if covariance else None
        x_ND = x_ND - shift_D
        tokens += len(x_ND)
        sum_D += x_ND.sum(0)
        if sum_DD is not None:
            sum_DD.addmm_(x_ND.T, x_ND)
    assert shift_D is not None
    assert sum_D is not None
    mean_D = sum_D / tokens
    centred_DD = None if sum_DD is None else sum_DD / tokens - torch.outer(mean_D, mean_D)
    return Moments(tokens, shift_D + mean_D, centred_DD)


def principal_components(moments: Moments) -> Tensor:
    """Eigenvectors of the covariance as rows [d, d], largest variance first.

    The entry of largest magnitude of each is positive, so that the same text gives the same latents.
    """
    assert moments.covariance_DD is not None
    covariance_DD = moments.covariance_DD.cpu()
    if not torch.isfinite(covariance_DD).all():
        return torch.full_like(covariance_DD, torch.nan)
    _, columns = torch.linalg.eigh(covariance_DD)
    rows_DD: Tensor = columns.T.flip(0)
    largest = rows_DD.abs().argmax(1, keepdim=True)
    signed_DD: Tensor = rows_DD * rows_DD.gather(1, largest).sign()
    return signed_DD


def both_signs(directions_FD: Tensor) -> Tensor:
    """Each direction and, behind all of them, each opposite one [2 F, d]: activations are never negative."""
    return torch.cat([directions_FD, -directions_FD])


def random_directions(num_latents: int, width: int, seed: int) -> Tensor:
    """Directions drawn uniformly from the unit sphere [num_latents, width]."""
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(num_latents, width, generator=generator, dtype=torch.float64), dim=1)


def coder_of(directions_FD: Tensor, mean_D: Tensor, k: int) -> SparseCoder:
    """The TopK SAE with these encoder and decoder rows around `mean_D`, in float32 on the CPU."""
    num_latents, width = directions_FD.shape
    cfg = SparseCoderConfig(
        k=k, num_latents=num_latents, expansion_factor=max(1, num_latents // width), normalize_decoder=True
    )
    coder = SparseCoder(width, cfg, "meta")
    weights = {
        "encoder.weight": directions_FD,
        "encoder.bias": torch.zeros(num_latents),
        "W_dec": directions_FD.clone(),
        "b_dec": mean_D,
    }
    coder.load_state_dict({name: weight.cpu().float() for name, weight in weights.items()}, assign=True)
    return coder.requires_grad_(False)


def _batches(source: ActivationSource, setup: Setup) -> Iterator[Tensor]:
    """All rows in order, on the job's device if that has float64."""
    device = "cpu" if setup.machine.device == "mps" else setup.machine.device
    sizes_R = source.sizes_R
    at_once = max(1, READ_TOKENS // max(1, int(sizes_R.max())))
    for rows in np.split(np.arange(len(sizes_R)), range(at_once, len(sizes_R), at_once)):
        yield source.read(rows).to(device)
