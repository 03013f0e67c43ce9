"""A repository on the Hugging Face Hub: which files it has, one file at a time, every failure in one line.

The client itself retries HEAD requests and resumes broken downloads (huggingface_hub/file_download.py). It
does not retry the request for the file list nor a 5xx answer to a download; that is done here.
"""

import errno
import logging
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar, cast

from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub import errors as hub
from huggingface_hub.file_download import repo_folder_name

from saescope.errors import SaeError, choices, nearest

log = logging.getLogger(__name__)

T = TypeVar("T")

ATTEMPTS = 5
MAX_WAIT = 300.0
"""Seconds: the Hub counts requests in windows of five minutes; a longer Retry-After is not waited for."""
TIMEOUT = 10.0
PASSING = (408, 429, 500, 502, 503, 504)

# The base error of the client's HTTP library: httpx or httpx2, depending on the client's version.
HTTP_ERROR = cast(type[Exception], hub.HfHubHTTPError.__bases__[0])
FAILURES: tuple[type[Exception], ...] = (HTTP_ERROR, OSError, hub.EntryNotFoundError, ValueError, KeyError)


class NoRepositoryError(SaeError):
    """There is no such repository on the Hub, or it is hidden from this user."""


class HubRepository:
    """Files of one revision of a model repository: from the Hub, or where that fails, from the cache."""

    def __init__(self, repo: str, revision: str | None) -> None:
        """List the files. Raises NoRepositoryError or SaeError with the reason."""
        self.repo, self.revision = repo, revision
        self.path = ""
        self.commit: str | None = None
        self.name = f"Hub repository {repo}"
        self._cache: Path | None = None
        try:
            info = _patiently(
                f"list of files of {repo}",
                lambda: HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=TIMEOUT),
            )
            self.files: Mapping[str, int | None] = {f.rfilename: f.size for f in info.siblings or ()}
            return
        except FAILURES as error:
            gone = (hub.RepositoryNotFoundError, hub.RevisionNotFoundError, hub.HFValidationError)
            self._cache = None if isinstance(error, gone) else _snapshot(repo, revision)
            if self._cache is None:
                raise _explain(error, repo, revision) from error
            why = "HF_HUB_OFFLINE is set" if isinstance(error, hub.OfflineModeIsEnabled) else _reason(error)
        log.warning("Hub repository %s is read from the local cache only: %s", repo, why)
        self.commit = self._cache.name
        self.name = f"the local cache of Hub repository {repo} ({why})"
        found = [p for p in self._cache.rglob("*") if p.is_file()]
        self.files = {p.relative_to(self._cache).as_posix(): p.stat().st_size for p in found}

    @property
    def cached(self) -> bool:
        """Whether only the local cache is read."""
        return self._cache is not None

    def fetch(self, file: str) -> Path:
        """The file on this machine; downloaded when it is not in the cache. Raises SaeError."""
        if self._cache is not None:
            return self._cache / file
        size = self.files.get(file) or 0
        if size > 10**6:
            log.info("%s: %s, %.0f MB", self.name, file, size / 1e6)
        try:
            # by the name of the revision first, so that the cache knows the name; then by the commit, so that
            # all files are of one version
            path = Path(
                _patiently(
                    f"{self.repo}/{file}",
                    lambda: hf_hub_download(self.repo, file, revision=self.commit or self.revision),
                )
            )
        except FAILURES as error:
            raise _explain(error, self.repo, self.revision, file) from error
        self.commit = path.parents[file.count("/")].name
        return path


_opened: dict[tuple[str, str | None], HubRepository] = {}


def open_repository(repo: str, revision: str | None) -> HubRepository:
    """The repository, listed once: all jobs of this process then read one version of it.

    What was read from the cache is not kept, the network may come back. Raises as HubRepository does.
    """
    known = _opened.get((repo, revision))
    if known is None:
        known = HubRepository(repo, revision)
        if not known.cached:
            _opened[repo, revision] = known
    return known


def _snapshot(repo: str, revision: str | None) -> Path | None:
    """Folder of the revision in the client's cache, whole or not."""
    asked = revision or "main"
    if any(part in ("", "..") for part in asked.split("/")):
        return None
    home = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model")
    commit = asked
    with suppress(OSError):  # no such name: it may be a commit
        commit = (home / "refs" / asked).read_text().strip()
    folder = home / "snapshots" / commit
    return folder if folder.is_dir() else None


def _patiently(what: str, call: Callable[[], T]) -> T:
    """`call()`, again after a pause when the Hub is busy or the connection breaks; at most ATTEMPTS times."""
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
    """Seconds until another attempt makes sense; None when it makes none."""
    backoff = float(2 ** (attempt - 1))
    if isinstance(error, hub.HfHubHTTPError):
        if error.response.status_code not in PASSING:
            return None
        asked = error.response.headers.get("Retry-After", "")
        # the Hub's own header, https://huggingface.co/docs/hub/rate-limits: "api";r=0;t=55
        window = re.search(r"\bt=(\d+)", error.response.headers.get("RateLimit", ""))
        if window and error.response.status_code == 429:
            return float(window[1])
        return float(asked) if asked.isdigit() else backoff
    if isinstance(error, HTTP_ERROR) and not type(error).__name__.startswith("Connect"):
        return backoff  # cut or timed out; where nobody answers at all, waiting does not help
    return None


def _reason(error: BaseException) -> str:
    """What went wrong, in a few words."""
    if isinstance(error, hub.LocalEntryNotFoundError) and error.__cause__ is not None:
        return _reason(error.__cause__)
    if isinstance(error, hub.HfHubHTTPError):
        return f"the Hub answers {error.response.status_code}"
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")


def _explain(error: Exception, repo: str, revision: str | None, file: str | None = None) -> SaeError:
    """The one-line message for a failure that was not overcome."""
    named = f"Hub repository {repo}"
    cause = error.__cause__ if isinstance(error, hub.LocalEntryNotFoundError) else error
    match cause:
        case hub.GatedRepoError():
            page = f"{constants.ENDPOINT}/{repo}"
            return SaeError(
                f"{named} is gated: ask for access on {page}, then log in: `hf auth login`, or HF_TOKEN"
            )
        case hub.RevisionNotFoundError():
            return SaeError(f"{named} has no revision '{revision}'; {_revisions(repo, revision)}")
        case hub.RepositoryNotFoundError():
            return NoRepositoryError(
                f"no Hub repository {repo} (or it is private: log in with `hf auth login`)"
            )
        case hub.DisabledRepoError():
            return SaeError(f"{named} is disabled by the Hub; choose another repository")
        case hub.HFValidationError():
            return SaeError(f"sae.repo={repo} is no Hub id ({_reason(cause)}); give owner/name, or a folder")
        case KeyError() | ValueError() if not isinstance(cause, HTTP_ERROR):
            return SaeError(f"{constants.ENDPOINT} does not answer like a Hub; check HF_ENDPOINT and proxies")
        case hub.OfflineModeIsEnabled():
            return SaeError(
                f"HF_HUB_OFFLINE is set and {named} is not in the local cache; "
                "unset it, or give a folder in sae.repo"
            )
        case hub.EntryNotFoundError():
            return SaeError(f"{named} lost {file} while it was being read; run the same command again")
        case hub.HfHubHTTPError():
            return SaeError(f"{named}: {_refusal(cause)}")
        case OSError() if cause.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT):
            return SaeError(
                f"{named} cannot be stored in the cache ({cause.strerror}: {constants.HF_HUB_CACHE}); "
                "make room there, or set HF_HOME to another folder"
            )
        case _ if file is None:
            return SaeError(
                f"the Hub at {constants.ENDPOINT} cannot be reached ({_reason(error)}) and {named} is not in "
                "the local cache; check the network and HF_ENDPOINT, or give a folder in sae.repo"
            )
    return SaeError(f"{named}: {file} did not arrive whole ({_reason(error)}); run the same command again")


def _refusal(error: hub.HfHubHTTPError) -> str:
    """An HTTP status in words, with what can be done about it."""
    status = error.response.status_code
    if status == 429:
        wait = _pause(error, 1) or 0
        return (
            f"the Hub limits your requests (429) and asks to wait {wait:g} s; "
            "try again then, or log in with `hf auth login` for a higher limit"
        )
    if status in PASSING:
        return f"the Hub answers {status}, also after {ATTEMPTS} attempts; try again later"
    if status in (401, 403):
        return (
            f"the Hub refuses your token ({status}); "
            "log in again with `hf auth login`, or unset HF_TOKEN for a public repository"
        )
    return f"the Hub answers {status}; check sae.repo and sae.revision"


def _revisions(repo: str, revision: str | None) -> str:
    """What could be asked for instead."""
    try:
        refs = HfApi().list_repo_refs(repo)
    except FAILURES:
        return "leave sae.revision out for main"
    names = [ref.name for ref in (*refs.branches, *refs.tags)]
    return f"{nearest(revision or '', names)}it has: {choices(names, 12)} (or a commit)"
