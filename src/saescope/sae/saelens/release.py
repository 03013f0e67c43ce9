"""`sae.release` and `sae.id` in sae_lens' registry, or a Hub repository in SAELens layout."""

import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from saescope import compat
from saescope.errors import SaeError, choices
from saescope.sae.saelens.folder import error_summary


@dataclass(frozen=True)
class Release:
    """One SAE that sae_lens can fetch."""

    name: str
    """Registered release, or `owner/repo`."""

    id: str
    """SAE id, or the folder in an unregistered repository."""

    repo: str
    """Hub repository behind it."""

    converter: str
    """sae_lens' loader for its format; `sae_lens` for its own."""

    norm_factor: float | None
    """Known factor of `expected_average_only_in`, which sae_lens folds into the weights."""

    def config(self) -> dict[str, Any]:
        """Config as the repository states it; no weights are fetched. Raises SaeError."""
        with _fetching(self):
            return compat.sae_lens_config(self.name, self.id, self.converter)

    def load(self) -> Any:
        """The SAE in float32. Raises SaeError."""
        from sae_lens import SAE

        with _fetching(self), _weights_only(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice about its own classes; what matters is in notices.py
            return SAE.from_pretrained(self.name, self.id, device="cpu", dtype="float32")


def find_release(name: str, sae_id: str | None) -> Release:
    """Look it up without network. Raises SaeError with the nearest valid names first."""
    releases = compat.sae_lens_releases()
    if name not in releases:
        registered = compat.sae_lens_releases_of(name)
        if registered:
            near = ", ".join(_nearest_first(name, registered)[:8])
            raise SaeError(
                f"sae.release={name} is the repository of registered releases; give one of them: {near}"
            )
        if name.count("/") != 1:
            near = choices(_nearest_first(name, releases), 8)
            raise SaeError(
                f"sae.release={name} is no release of sae_lens, no folder, and no Hub id of the form "
                f"owner/name; nearest first: {near}"
            )
        if sae_id is None:
            raise SaeError(f"sae.release={name} needs sae.id, the folder of the SAE in that Hub repository")
        return Release(name, sae_id, name, "sae_lens", None)
    release = releases[name]
    if sae_id is None or sae_id not in release.saes_map:
        problem = "needs sae.id" if sae_id is None else f"has no sae.id={sae_id}"
        raise SaeError(
            f"sae.release={name} {problem}; nearest first: "
            f"{choices(_nearest_first(sae_id or '', release.saes_map), 8)}"
        )
    converter = release.conversion_func or "sae_lens"
    if converter == "sparsify":  # sae_lens' loader for it is wrong
        raise SaeError(f"sae.release={name} is in sparsify layout; use sae=hub sae.repo={release.repo_id}")
    return Release(name, sae_id, release.repo_id, converter, release.norm_scaling_factor.get(sae_id))


def _nearest_first(name: str, valid: Iterable[str]) -> list[str]:
    """`valid`, the most similar first; in their own order without a name."""
    names = list(valid)
    return sorted(names, key=lambda v: -SequenceMatcher(None, name, v).ratio()) if name else names


@contextmanager
def _weights_only() -> Iterator[None]:
    """No pickle may run code, whatever the environment says: sae_lens leaves that to torch's default."""
    names = ("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
    before = {name: os.environ.pop(name, None) for name in names}
    os.environ[names[0]] = "1"
    try:
        yield
    finally:
        del os.environ[names[0]]
        os.environ.update({name: value for name, value in before.items() if value is not None})


@contextmanager
def _fetching(release: Release) -> Iterator[None]:
    """Whatever goes wrong between sae_lens and the Hub, as one line."""
    import pickle

    import requests
    from huggingface_hub import errors as hub

    sae_name = f"sae.release={release.name} sae.id={release.id} (Hub repository {release.repo})"
    try:
        yield
    except hub.GatedRepoError as error:
        raise SaeError(f"{sae_name} is gated: ask for access on its page, then `hf auth login`") from error
    except hub.RepositoryNotFoundError as error:
        raise SaeError(f"{sae_name}: no such repository (or it is private: `hf auth login`)") from error
    except (hub.LocalEntryNotFoundError, hub.OfflineModeIsEnabled, requests.ConnectionError) as error:
        raise SaeError(
            f"{sae_name} cannot be reached and is not in the local cache; check the network, "
            "or give a folder in sae.release"
        ) from error
    except hub.EntryNotFoundError as error:
        raise SaeError(
            f"{sae_name} has no SAE in SAELens layout there (cfg.json, sae_weights.safetensors); "
            f"SAEs in other formats are read by sae=hub sae.repo={release.repo}"
        ) from error
    except pickle.UnpicklingError as error:
        raise SaeError(f"{sae_name} is a pickle that would run code when read; refused") from error
    except Exception as error:  # fifteen formats, each with errors of its own
        raise SaeError(f"sae_lens cannot load {sae_name}: {error_summary(error)}") from error
