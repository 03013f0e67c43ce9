"""Where sparsify folders lie: a local folder or a Hub repository, one hookpoint at a time.

sparsify's own loaders fetch whole repositories and answer a missing hookpoint with a bare FileNotFoundError;
here the folders are listed first, only the asked one is downloaded, and a miss names what is there.
"""

import logging
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from saescope.errors import SaeError, choices

log = logging.getLogger(__name__)

EMBEDDED = Path(__file__).parents[1] / "assets" / "saes"
CFG, WEIGHTS = "cfg.json", "sae.safetensors"


def locate(repo: str, revision: str | None, hookpoint: str) -> Path:
    """Folder on this machine with `cfg.json` and `sae.safetensors` for `hookpoint`.

    Raises SaeError when the repository, the revision or the hookpoint is not there.
    """
    if repo == "embedded":
        return _in_folder(EMBEDDED, hookpoint)
    path = Path(repo).expanduser()
    if path.is_dir():
        return _in_folder(path, hookpoint)
    if repo.startswith(("/", ".", "~")) or not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise SaeError(f"sae.repo={repo}: no such folder, and no Hub id of the form owner/name")
    return _on_hub(repo, revision, hookpoint)


def choose_folder(folders: Iterable[str], hookpoint: str, where: str) -> str:
    """The folder among `folders` that holds `hookpoint`.

    Exact name first; then a module prefix (`gpt_neox.layers.3`); then a nested folder (`baseline/layers.3`)
    when just one matches. Raises SaeError listing what is there, nearest first.
    """
    names = sorted(folders, key=_natural)
    if hookpoint in names:
        return hookpoint
    for suffix in (f".{hookpoint}", f"/{hookpoint}"):
        found = [n for n in names if n.endswith(suffix)]
        if len(found) == 1:
            return found[0]
        if found:
            raise SaeError(
                f"{where} has several SAEs for {hookpoint}: {choices(found)}; give the folder in sae.repo"
            )
    if not names:
        raise SaeError(f"{where} holds no SAE in sparsify layout (folders with {CFG} and {WEIGHTS})")
    wanted = re.findall(r"\d+", hookpoint)
    near = sorted(names, key=lambda n: (_distance(n, hookpoint, wanted), _natural(n)))
    raise SaeError(f"{where} has no SAE for {hookpoint}; it has, nearest first: {choices(near, 12)}")


def _in_folder(root: Path, hookpoint: str) -> Path:
    if (root / CFG).is_file() and (root / WEIGHTS).is_file():
        return root
    found = [
        cfg.parent.relative_to(root).as_posix()
        for depth in ("*", "*/*", "*/*/*")
        for cfg in root.glob(f"{depth}/{CFG}")
        if not any(part.startswith(".") for part in cfg.relative_to(root).parts)
        and (cfg.parent / WEIGHTS).is_file()
    ]
    return root / choose_folder(found, hookpoint, f"folder {root}")


def _on_hub(repo: str, revision: str | None, hookpoint: str) -> Path:
    # Imported here: the Hub client takes a second to import and most folders are local.
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub import errors as hub

    pick = f"Hub repository {repo}"
    try:
        try:
            files = HfApi().list_repo_files(repo, revision=revision)
        except (hub.OfflineModeIsEnabled, ConnectionError, OSError, hub.HfHubHTTPError) as error:
            if isinstance(error, hub.RepositoryNotFoundError | hub.RevisionNotFoundError):
                raise
            root = _cached(repo, revision)
            if root is None:
                raise
            log.warning("Hub repository %s cannot be reached; using the copy in the local cache", repo)
            names = [p.relative_to(root).as_posix() for p in root.rglob("*")]
            return root / choose_folder(_folders(names), hookpoint, pick)
        folder = choose_folder(_folders(files), hookpoint, pick)
        wanted = [f"{folder}/{CFG}", f"{folder}/{WEIGHTS}"]
        return Path(snapshot_download(repo, revision=revision, allow_patterns=wanted)) / folder
    except hub.GatedRepoError as error:
        raise SaeError(
            f"Hub repository {repo} is gated: ask for access on its page, then log in with `hf auth login`"
        ) from error
    except hub.RevisionNotFoundError as error:
        raise SaeError(
            f"Hub repository {repo} has no revision '{revision}'; leave sae.revision out for main"
        ) from error
    except hub.RepositoryNotFoundError as error:
        raise SaeError(f"no Hub repository {repo} (or it is private: log in with `hf auth login`)") from error
    except (hub.LocalEntryNotFoundError, hub.OfflineModeIsEnabled) as error:
        raise SaeError(
            f"Hub repository {repo} cannot be reached and is not in the local cache; "
            "check the network, or give a folder in sae.repo"
        ) from error
    except (hub.HfHubHTTPError, ConnectionError, OSError) as error:
        text = str(error).strip().splitlines() or [type(error).__name__]
        raise SaeError(f"Hub repository {repo} could not be read: {text[0]}; try again later") from error


def _folders(files: list[str]) -> list[str]:
    """Folders that hold both files of an SAE."""
    return [
        str(PurePosixPath(f).parent)
        for f in files
        if f.endswith("/" + CFG) and f.removesuffix(CFG) + WEIGHTS in files
    ]


def _cached(repo: str, revision: str | None) -> Path | None:
    """Snapshot of the revision in the Hub client's cache, whole or not."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        known = scan_cache_dir().repos
    except CacheNotFound:
        return None
    for cached in known:
        if cached.repo_id == repo and cached.repo_type == "model":
            for snapshot in cached.revisions:
                if (revision or "main") in {*snapshot.refs, snapshot.commit_hash}:
                    return Path(snapshot.snapshot_path)
    return None


def _natural(name: str) -> list[tuple[int, int | str]]:
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name) if part]


def _distance(name: str, hookpoint: str, wanted: list[str]) -> int:
    """Layers between `name` and the hookpoint, same kind of module first."""
    numbers = re.findall(r"\d+", name)
    same_kind = re.sub(r"\d+", "#", name).endswith(re.sub(r"\d+", "#", hookpoint))
    gap = abs(int(numbers[-1]) - int(wanted[-1])) if numbers and wanted else 1000
    return gap + (0 if same_kind else 500)
