"""`sae=hub`: the SAE of a hookpoint in a folder or Hub repository, in any format that is read."""

from typing import Any

import torch

from saescope.config import HubSae
from saescope.model.hookpoints import Hookpoint
from saescope.sae.base import Sae
from saescope.sae.folder import find_sparsify, load_sparsify
from saescope.sae.formats.load import describe, load_format
from saescope.sae.formats.marks import SPARSIFY
from saescope.sae.repository import locate


def check_stored(
    repo: str, cfg: HubSae, hookpoint: str, *, at: Hookpoint | None = None, model: Any = None
) -> None:
    """Find the SAE of `hookpoint` and check what is known without its weights.

    `at` is the hookpoint in `model`, which needs no weights. Raises SaeError when it is missing, of a kind
    that is not supported, of another hookpoint, or contradicts `cfg`; HubError for its repository.
    """
    folder = locate(repo, cfg.revision, hookpoint)
    if folder.format == SPARSIFY:
        find_sparsify(repo, cfg, hookpoint, folder)
    else:
        describe(folder, cfg, hookpoint, at=at, model=model)


def load_stored(
    repo: str,
    cfg: HubSae,
    *,
    d_in: int | None,
    hookpoint: str,
    dtype: torch.dtype,
    at: Hookpoint | None = None,
    model: Any = None,
) -> Sae:
    """Load the SAE of `hookpoint`, whose width is `d_in` where that is known.

    `dtype` is that of the encoder product of sparsify's SAEs; others run in float32. Raises as
    `check_stored`, and SaeError for weights that cannot be used.
    """
    folder = locate(repo, cfg.revision, hookpoint)
    if folder.format != SPARSIFY:
        return load_format(folder, cfg, repo=repo, hookpoint=hookpoint, d_in=d_in, at=at, model=model)
    if d_in is None:
        d_in = find_sparsify(repo, cfg, hookpoint, folder)[1].d_in
    return load_sparsify(repo, cfg, d_in=d_in, hookpoint=hookpoint, dtype=dtype, folder=folder)
