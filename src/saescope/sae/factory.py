"""`sae.source` → an SAE that fits the hookpoint."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from saescope import catalogue
from saescope.config import HubSae, NeuronSae, PythonSae, RandomSae, SaeConfig, SaeLensSae
from saescope.errors import NoRepositoryError, SaeError, choices
from saescope.model.hookpoints import Hookpoint
from saescope.sae.base import Sae

log = logging.getLogger(__name__)


def known_repositories(model_name: str, model_sae_repo: str | None) -> list[str]:
    """Pre-trained SAE repositories known for the model; `model_sae_repo`, which its config names, first.

    Pythia's deduped models are other models, with SAEs of their own.
    """
    configured = [model_sae_repo] if model_sae_repo and not _other_variant(model_sae_repo, model_name) else []
    return list(dict.fromkeys(configured + catalogue.known_repositories(model_name)))


def check(
    cfg: SaeConfig,
    *,
    hookpoint: str,
    model_sae_repo: str | None,
    model_name: str,
    at: Hookpoint | None = None,
    model: Any = None,
) -> None:
    """Find the SAE and read its config, before a model is loaded; weights stay where they are.

    `at` is the hookpoint in `model`, which needs no weights; for SAEs that name their own hookpoint.
    Raises SaeError when it is not there, of another mathematics, or contradicts `cfg`, HubError when its
    repository cannot be read.
    """
    cfg = _plain(cfg)
    match cfg:
        case HubSae():
            from saescope.sae.stored import check_stored

            repo = _repository(cfg, model_sae_repo, model_name)
            with _naming_known(model_sae_repo, model_name):
                check_stored(repo, cfg, hookpoint, at=at, model=model)
        case PythonSae():
            from saescope.sae.python_target import find_target

            find_target(cfg.target)
        case SaeLensSae():
            from saescope.sae.saelens.load import check_saelens

            if at is not None:
                check_saelens(cfg, at=at, model=model)


def check_known(cfg: SaeConfig, model_name: str, model_sae_repo: str | None) -> None:
    """Raise SaeError for a repository that the catalogue lists as non-existent; needs no network."""
    if isinstance(cfg, HubSae) and cfg.repo and catalogue.never_seen(cfg.repo):
        repositories = choices(known_repositories(model_name, model_sae_repo)) or "none"
        raise SaeError(f"no Hub repository {cfg.repo} was ever seen; known for {model_name}: {repositories}")


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
    """Load or build the SAE of `cfg`, for a hookpoint of width `d_in`.

    `at` and the causal LM `model` are for SAEs that name their own hookpoint.
    Raises SaeError when it is not there, cannot be read, or does not fit, HubError for its repository.
    """
    cfg = _plain(cfg)
    match cfg:
        case HubSae():
            from saescope.sae.stored import load_stored

            repo = _repository(cfg, model_sae_repo, model_name)
            with _naming_known(model_sae_repo, model_name):
                sae: Sae = load_stored(
                    repo, cfg, d_in=d_in, hookpoint=hookpoint, dtype=dtype, at=at, model=model
                )
            if _other_variant(repo, model_name):
                sae.warnings += (
                    f"{repo} was trained on another variant of Pythia than {model_name} (deduped).",
                )
        case SaeLensSae():
            from saescope.sae.saelens.load import load_saelens

            assert at is not None
            assert model is not None
            sae = load_saelens(cfg, d_in=d_in, at=at, model=model, model_name=model_name)
        case NeuronSae():
            from saescope.sae.neurons import NeuronBasis

            if cfg.k > d_in:
                raise SaeError(
                    f"sae.k={cfg.k} exceeds the {d_in} neurons at {hookpoint}; choose sae.k from 1 to {d_in}"
                )
            sae = NeuronBasis(d_in, cfg.k)
        case RandomSae():
            from saescope.sae.coder import untrained

            sae = untrained(
                d_in,
                k=cfg.k,
                expansion_factor=cfg.expansion_factor,
                num_latents=cfg.num_latents,
                seed=cfg.init_seed,
                dtype=dtype,
            )
        case PythonSae():
            from saescope.sae.python_target import load_python

            sae = load_python(cfg, d_in=d_in, hookpoint=hookpoint)
        case other:  # pragma: no cover - those made from training text are made by training/
            raise AssertionError(other)
    if sae.k is not None and sae.k > sae.num_latents:
        raise SaeError(
            f"sae.k={sae.k} exceeds its {sae.num_latents} latents; choose sae.k from 1 to {sae.num_latents}"
        )
    log.info("SAE %s: %d latents, k %s", sae.provenance()["source"], sae.num_latents, sae.k)
    return sae


def _plain(cfg: SaeConfig) -> SaeConfig:
    """`sae=saelens` of a folder in another format than SAELens', as `sae=hub`."""
    if isinstance(cfg, SaeLensSae):
        from saescope.sae.saelens.folder import folder_of_another_format

        path = folder_of_another_format(cfg.release, cfg.id)
        if path is not None:
            return HubSae(
                repo=str(path), k=cfg.k, expansion_factor=cfg.expansion_factor, num_latents=cfg.num_latents
            )
    return cfg


def _repository(cfg: HubSae, model_sae_repo: str | None, model_name: str) -> str:
    """The repository of `sae=hub`. Raises SaeError where none is configured and none is known."""
    if cfg.repo is not None:
        return cfg.repo
    repositories = known_repositories(model_name, model_sae_repo)
    if not repositories:
        raise SaeError(
            f"no pre-trained SAE repository is known for {model_name}; "
            "give sae.repo=HUB_ID_OR_FOLDER, or choose sae=train, sae=neurons or sae=random; "
            f"saescope-coverage models={model_name} kind=all lists SAEs that sae=saelens reads"
        )
    return repositories[0]


@contextmanager
def _naming_known(model_sae_repo: str | None, model_name: str) -> Iterator[None]:
    """Add the repositories known for the model to the error that a repository does not exist."""
    try:
        yield
    except NoRepositoryError as error:
        repositories = choices(known_repositories(model_name, model_sae_repo)) or "none"
        raise SaeError(f"{error}; known for {model_name}: {repositories}") from error


def _other_variant(repo: str, model_name: str) -> bool:
    """Whether, by their names, one is of a deduped Pythia and the other of a Pythia that is not."""
    names = (repo.lower(), model_name.lower())
    return all("pythia" in name for name in names) and len({"deduped" in name for name in names}) == 2
