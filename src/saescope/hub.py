"""The Hugging Face Hub: lists repositories, fetches single files, reports each failure in one line.

The only module that uses the Hub's own client; the client's settings apply (`HF_ENDPOINT`, `HF_TOKEN`, …).
The client itself retries HEAD requests and resumes broken downloads (huggingface_hub/file_download.py). It
does not retry listings, nor a download that is answered with a 5xx status; that is done here.

Importing this imports the client (0.3 s): do it inside a function.
"""

import errno
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download, try_to_load_from_cache
from huggingface_hub import errors as hub

from saescope.compat import hub_http_error
from saescope.errors import HubError, NoRepositoryError, choices, nearest

log = logging.getLogger(__name__)

T = TypeVar("T")

ATTEMPTS = 5
MAX_WAIT = 300.0
"""Seconds: the Hub counts requests in windows of five minutes; a longer Retry-After is not waited for."""
TIMEOUT = 10.0
TEMPORARY = (408, 429, 500, 502, 503, 504)

HTTP_ERROR = hub_http_error()
FAILURES: tuple[type[Exception], ...] = (HTTP_ERROR, OSError, hub.EntryNotFoundError, ValueError, KeyError)


@dataclass(frozen=True)
class Listing:
    """What the Hub says about one revision of a repository."""

    files: Mapping[str, int | None]
    """Size in bytes by path; None unless listed with `sizes`."""

    commit: str | None
    changed: str
    """Date of the last commit, `2024-05-31`; empty where the Hub does not say."""


def list_files(
    repo: str,
    revision: str | None = None,
    *,
    repo_type: Literal["model", "dataset"] = "model",
    sizes: bool = False,
) -> Listing:
    """The Hub's answer now, whatever is in the cache.

    Raises NoRepositoryError, or HubError with the reason.
    """
    client = HfApi()
    info_of = client.model_info if repo_type == "model" else client.dataset_info
    try:
        info = _retrying(
            f"list of files of {repo}",
            lambda: info_of(repo, revision=revision, files_metadata=sizes, timeout=TIMEOUT),
        )
        files = {file.rfilename: file.size for file in info.siblings or ()}
    except FAILURES as error:
        raise _explain(error, repo, revision) from error
    return Listing(files, info.sha, info.last_modified.date().isoformat() if info.last_modified else "")


def download(repo: str, file: str, revision: str | None = None) -> Path:
    """A file of a model repository, through the client's cache. Raises HubError."""
    try:
        return Path(_retrying(f"{repo}/{file}", lambda: hf_hub_download(repo, file, revision=revision)))
    except FAILURES as error:
        raise _explain(error, repo, revision, file) from error


def cached_file(repo: str, file: str, revision: str | None = None) -> Path | None:
    """A file in the client's cache, None if it is not there; uses no network."""
    path = try_to_load_from_cache(repo, file, revision=revision)
    return Path(path) if isinstance(path, str) else None


def cached_snapshot(repo: str, revision: str | None = None) -> Path | None:
    """Folder of the revision in the client's cache, complete or not, named by its commit; uses no network."""
    if any(part in ("", "..") for part in (revision or "main").split("/")):
        return None
    try:
        # no pattern: the client would refuse a folder that lacks a file which matches one
        folder = snapshot_download(repo, revision=revision, local_files_only=True, allow_patterns=[])
    except (hub.LocalEntryNotFoundError, OSError, ValueError):
        return None
    return Path(folder)


class HubRepository:
    """Files of one revision of a model repository, from the Hub; where that fails, from the local cache."""

    def __init__(self, repo: str, revision: str | None) -> None:
        """List the files. Raises NoRepositoryError or HubError with the reason."""
        self.repo, self.revision = repo, revision
        self.path = ""
        self.commit: str | None = None
        self.name = f"Hub repository {repo}"
        self._cache: Path | None = None
        try:
            self.files = list_files(repo, revision, sizes=True).files
        except HubError as error:
            no_such = (hub.RepositoryNotFoundError, hub.RevisionNotFoundError, hub.HFValidationError)
            self._cache = None if isinstance(error.__cause__, no_such) else cached_snapshot(repo, revision)
            if self._cache is None:
                raise
            log.warning("Hub repository %s is read from the local cache only: %s", repo, error.reason)
            self.commit = self._cache.name
            self.name = f"the local cache of Hub repository {repo} ({error.reason})"
            paths = [p for p in self._cache.rglob("*") if p.is_file()]
            self.files = {p.relative_to(self._cache).as_posix(): p.stat().st_size for p in paths}

    @property
    def cached(self) -> bool:
        """Whether only the local cache is read."""
        return self._cache is not None

    def fetch(self, file: str) -> Path:
        """The file on this machine; downloaded when it is not in the cache. Raises HubError."""
        if self._cache is not None:
            return self._cache / file
        size = self.files.get(file) or 0
        if size > 10**6:
            log.info("%s: %s, %.0f MB", self.name, file, size / 1e6)
        # the first file by the revision's name, so that the cache stores the name; the others by the commit,
        # so that all are of one version
        path = download(self.repo, file, self.commit or self.revision)
        self.commit = path.parents[file.count("/")].name
        return path


_opened: dict[tuple[str, str | None], HubRepository] = {}


def open_repository(repo: str, revision: str | None) -> HubRepository:
    """The repository, listed once: all jobs of this process then read one version of it.

    One read from the local cache is opened again next time, since the network may be back. Raises as
    `HubRepository`.
    """
    repository = _opened.get((repo, revision))
    if repository is None:
        repository = HubRepository(repo, revision)
        if not repository.cached:
            _opened[repo, revision] = repository
    return repository


def _retrying(what: str, call: Callable[[], T]) -> T:
    """`call()`; up to `ATTEMPTS` times, with pauses, while the Hub is busy or the connection breaks."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return call()
        except FAILURES as error:
            wait = _pause(error, attempt)
            if wait is None or wait > MAX_WAIT or attempt == ATTEMPTS:
                raise
            log.warning(
                "%s: %s; trying again in %g s (attempt %d of %d)",
                what,
                _reason(error),
                wait,
                attempt,
                ATTEMPTS,
            )
            time.sleep(wait)
    raise AssertionError  # pragma: no cover - the last attempt returns or raises


def _pause(error: Exception, attempt: int) -> float | None:
    """Seconds to wait before another attempt; None where another attempt would fail too."""
    backoff = float(2 ** (attempt - 1))
    if isinstance(error, hub.HfHubHTTPError):
        if error.response.status_code not in TEMPORARY:
            return None
        retry_after = error.response.headers.get("Retry-After", "")
        # the Hub's own header, https://huggingface.co/docs/hub/rate-limits: "api";r=0;t=55
        window = re.search(r"\bt=(\d+)", error.response.headers.get("RateLimit", ""))
        if window and error.response.status_code == 429:
            return float(window[1])
        return float(retry_after) if retry_after.isdigit() else backoff
    if isinstance(error, HTTP_ERROR) and not type(error).__name__.startswith("Connect"):
        return backoff  # broken or timed out; if no connection can be made at all, waiting does not help
    return None


def _reason(error: BaseException) -> str:
    """The cause of a failure in a few words."""
    if isinstance(error, hub.LocalEntryNotFoundError) and error.__cause__ is not None:
        return _reason(error.__cause__)
    if isinstance(error, hub.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    if isinstance(error, hub.GatedRepoError):
        return "gated: ask for access on its page, then log in with `hf auth login`"
    if isinstance(error, hub.HfHubHTTPError):
        return f"the Hub answers {error.response.status_code}"
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")


def _explain(error: Exception, repo: str, revision: str | None, file: str | None = None) -> HubError:
    """The error with a one-line message for a failure that retrying did not cure."""
    name, reason = f"Hub repository {repo}", _reason(error)
    cause = error.__cause__ if isinstance(error, hub.LocalEntryNotFoundError) else error
    match cause:
        case hub.GatedRepoError():
            page = f"{constants.ENDPOINT}/{repo}"
            message = f"{name} is gated: ask for access on {page}, then log in: `hf auth login`, or HF_TOKEN"
        case hub.RevisionNotFoundError():
            message = f"{name} has no revision '{revision}'; {_revisions(repo, revision)}"
        case hub.RepositoryNotFoundError():
            message = f"no Hub repository {repo} (or it is private: log in with `hf auth login`)"
            return NoRepositoryError(message, reason)
        case hub.DisabledRepoError():
            message = f"{name} is disabled by the Hub; choose another repository"
        case hub.HFValidationError():
            message = f"{repo} is no Hub id ({reason}); give owner/name, or a folder"
        case KeyError() | ValueError() if not isinstance(cause, HTTP_ERROR):
            message = f"{constants.ENDPOINT} does not answer like a Hub; check HF_ENDPOINT and proxies"
        case hub.OfflineModeIsEnabled():
            message = f"{reason} and {name} is not in the local cache; unset it, or give a folder instead"
        case hub.EntryNotFoundError():
            message = f"{name} lost {file} while it was being read; run the same command again"
        case hub.HfHubHTTPError():
            message = f"{name}: {_refusal(cause)}"
        case OSError() if cause.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT):
            message = (
                f"{name} cannot be stored in the cache ({cause.strerror}: {constants.HF_HUB_CACHE}); "
                "make room there, or set HF_HOME to another folder"
            )
        case _ if file is None:
            message = (
                f"the Hub at {constants.ENDPOINT} cannot be reached ({reason}) and {name} is not in "
                "the local cache; check the network and HF_ENDPOINT, or give a folder instead"
            )
        case _:
            message = f"{name}: {file} did not arrive whole ({reason}); run the same command again"
    return HubError(message, reason)


def _refusal(error: hub.HfHubHTTPError) -> str:
    """An HTTP status in words, with what the user can do."""
    status = error.response.status_code
    if status == 429:
        wait = _pause(error, 1) or 0
        return (
            f"the Hub limits your requests (429) and asks to wait {wait:g} s; "
            "try again then, or log in with `hf auth login` for a higher limit"
        )
    if status in TEMPORARY:
        return f"the Hub answers {status}, also after {ATTEMPTS} attempts; try again later"
    if status in (401, 403):
        return (
            f"the Hub refuses your token ({status}); "
            "log in again with `hf auth login`, or unset HF_TOKEN for a public repository"
        )
    return f"the Hub answers {status}; check the names of the repository and of the revision"


def _revisions(repo: str, revision: str | None) -> str:
    """Part of a message: the revisions there are."""
    try:
        refs = HfApi().list_repo_refs(repo)
    except FAILURES:
        return "leave the revision out for main"
    names = [ref.name for ref in (*refs.branches, *refs.tags)]
    return f"{nearest(revision or '', names)}it has: {choices(names, 12)} (or a commit)"
