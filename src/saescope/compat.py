"""All uses of private parts of other libraries, each with a test in tests/test_compat.py.

Private: with a leading underscore, or in a module that its library neither exports nor documents. A room that
imports no other room has a `compat.py` of its own (`stats/compat.py`). Libraries are imported inside the
functions: a report must not import torch.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def hub_http_error() -> type[Exception]:
    """The base error of the Hub client's HTTP library: httpx or httpx2, depending on the client's version."""
    from huggingface_hub.errors import HfHubHTTPError

    base = HfHubHTTPError.__bases__[0]
    assert issubclass(base, Exception)
    return base


def sample_weight_gradients(grad_ND: Tensor, rows_FD: Tensor, latents_NK: Tensor) -> Tensor:
    """`grad_ND[n] @ rows_FD[latents_NK[n, k]]` [N, k], on CPU and CUDA.

    What `embedding_bag`'s backward computes for its `per_sample_weights`, without its forward pass.
    """
    import torch

    tokens, k = latents_NK.shape
    latents = latents_NK.flatten()
    first = torch.arange(0, tokens * k, k, device=latents.device)
    bag = torch.arange(tokens, device=latents.device).repeat_interleave(k)
    backward = torch.ops.aten._embedding_bag_per_sample_weights_backward
    products: Tensor = backward(grad_ND, rows_FD, latents, first, bag, 0)
    return products.view_as(latents_NK)


def sparsify_decoder() -> Any:
    """sparsify's decoder (latents [N, k], activations [N, k], W_decᵀ [d, F]) → [N, d], without b_dec.

    On CUDA its Triton kernel.
    """
    from sparsify.utils import decoder_impl

    return decoder_impl


def sparsify_muon() -> Any:
    """sparsify's Muon optimiser."""
    from sparsify.muon import Muon

    return Muon


def sae_lens_registry() -> Path | None:
    """The YAML file of the releases registered in sae_lens, which is not imported; None without sae_lens."""
    spec = importlib.util.find_spec("sae_lens")
    folders = spec.submodule_search_locations if spec is not None else None
    return Path(next(iter(folders))) / "pretrained_saes.yaml" if folders else None


def sae_lens_releases() -> dict[str, Any]:
    """Releases registered in sae_lens, by name.

    Each has `repo_id`, `saes_map`, `conversion_func` and `norm_scaling_factor`.
    """
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    return dict(get_pretrained_saes_directory())


def sae_lens_releases_of(repo: str) -> list[str]:
    """Names of the registered releases in a Hub repository."""
    from sae_lens.loading.pretrained_saes_directory import get_releases_for_repo_id

    return list(get_releases_for_repo_id(repo))


def sae_lens_config(release: str, sae_id: str, converter: str) -> dict[str, Any]:
    """The config of a release as its repository states it, in sae_lens' terms; fetches no weights."""
    from sae_lens.loading import pretrained_sae_loaders as loaders
    from sae_lens.loading import pretrained_saes_directory as registry

    repo, folder = registry.get_repo_id_and_folder_name(release, sae_id)
    getter = loaders.NAMED_PRETRAINED_SAE_CONFIG_GETTERS[converter]
    return dict(getter(repo, folder, "cpu", False, registry.get_config_overrides(release, sae_id)))


def sae_lens_defaults(stated: dict[str, Any]) -> dict[str, Any]:
    """A config of any version of sae_lens in its present form."""
    from sae_lens.loading.pretrained_sae_loaders import handle_config_defaulting

    return dict(handle_config_defaulting(dict(stated)))


def sae_lens_trains(architecture: str) -> bool:
    """Whether sae_lens uses the architecture only in training."""
    from sae_lens.registry import SAE_TRAINING_CLASS_REGISTRY

    return architecture in SAE_TRAINING_CLASS_REGISTRY


def submitted_jobs(error: BaseException) -> list[Any]:
    """The submitit jobs that Hydra's launcher waited for when `error` was raised.

    It has them in a variable of its `launch` only.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_qualname == "BaseSubmititLauncher.launch":
            return list(frame.f_locals.get("jobs", ()))
    return []


def workspace_view(workspace: Any) -> dict[str, Any]:
    """A `wandb_workspaces` workspace as W&B stores it, without login."""
    view: dict[str, Any] = workspace._to_model().model_dump(mode="json", by_alias=True, exclude_none=True)
    return view


def number_panels(panels: Sequence[Any]) -> None:
    """Give W&B panels fixed ids in place of random ones."""
    for number, panel in enumerate(panels):
        panel._id = f"saescope{number:03d}"


def no_wandb_reports() -> None:
    """Let W&B's client report none of its own errors to W&B's server, for the rest of the process.

    It does so from offline runs too, and in wandb 0.31 such a report waits for ever for a lock that its own
    thread holds, where the service process does not start.
    """
    from wandb.analytics.opentelemetry.opentelemetry_proxy import disable

    disable()


def wandb_service_died() -> bool:
    """Whether the service process that W&B's client started here has ended; the client never notices."""
    wandb_setup = sys.modules.get("wandb.sdk.wandb_setup")
    if wandb_setup is None:  # nothing was started, and the client is not imported to hear it
        return False
    session = wandb_setup._singleton
    service = session._connection._proc if session is not None and session._connection else None
    return service is not None and service._process.poll() is not None


def wandb_settings() -> Any:
    """W&B's own settings, from environment and settings files, without its service process."""
    from wandb.sdk.wandb_setup import singleton

    return singleton().settings
