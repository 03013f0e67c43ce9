"""Questions to the Hub, through its own client, whose settings hold (`HF_ENDPOINT`, `HF_TOKEN`, …)."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

A = TypeVar("A")
B = TypeVar("B")

TIMEOUT_S = 20
WORKERS = 8


@dataclass(frozen=True)
class Listing:
    """Answer of the Hub about one repository."""

    files: tuple[str, ...] | None
    """Paths; None: no such repository, or no answer."""

    error: str | None = None
    """Why there is no answer, in one line; None: there is one."""

    changed: str = ""
    """Date of the last commit."""


def list_repositories(repos: Sequence[str]) -> dict[str, Listing]:
    """The answer about each repository, one request each, some at a time."""
    return dict(zip(repos, _parallel(_list, repos), strict=True))


def read_configs(files: Sequence[tuple[str, str]]) -> list[dict[str, Any] | None]:
    """JSON objects by (repository, path); None where one cannot be had."""
    return _parallel(_read, files)


def fetch(repo: str, file: str) -> Path | None:
    """A small file, through the client's cache; None when it cannot be had."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repo, file, etag_timeout=TIMEOUT_S))
    except Exception:  # the client lets errors of its HTTP library through, whichever that is
        return None


def _list(repo: str) -> Listing:
    from huggingface_hub import HfApi
    from huggingface_hub import errors as hub

    try:
        info = HfApi().model_info(repo, timeout=TIMEOUT_S)
    except hub.GatedRepoError:
        return Listing(None, "gated: ask for access on its page, then log in with `hf auth login`")
    except hub.RepositoryNotFoundError:
        return Listing(None)
    except hub.OfflineModeIsEnabled:
        return Listing(None, "HF_HUB_OFFLINE is set")
    except Exception as error:  # as above
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        said = lines[0] if lines else type(error).__name__
        return Listing(None, said.split(" for url ")[0].rstrip("."))
    changed = info.last_modified.date().isoformat() if info.last_modified else ""
    return Listing(tuple(s.rfilename for s in info.siblings or ()), changed=changed)


def _read(file: tuple[str, str]) -> dict[str, Any] | None:
    path = fetch(*file)
    try:
        value = json.loads(path.read_text(encoding="utf-8")) if path else None
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _parallel(ask: Callable[[A], B], asked: Sequence[A]) -> list[B]:
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(ask, asked))
