"""Finds the folder of a hookpoint's SAE in a local folder or a Hub repository, in any known layout.

sparsify's own loaders fetch whole repositories, need the exact name of the folder, and raise a bare
FileNotFoundError for a missing hookpoint. Here the files are listed first, only those of the hookpoint are
fetched, and an error lists what there is. Layouts: docs/saes.md.
"""

import contextlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from saescope.errors import SaeError, choices
from saescope.sae.formats.marks import FILES, SPARSIFY, format_of, looked_for, other_format
from saescope.sae.layout import hookpoint_part, is_of_hookpoint, natural_key, nearest_first

EMBEDDED = Path(__file__).parents[1] / "assets" / "saes"
CFG, WEIGHTS = FILES[SPARSIFY]
DEPTH = 5
"""Levels of folders looked into below a local `sae.repo`."""


class Place(Protocol):
    """A local folder or a Hub repository with SAE folders."""

    name: str
    """Its name in error messages."""

    path: str
    """Absolute path of a local folder, whose name can tell the hookpoint; "" for a Hub repository."""

    commit: str | None
    """Resolved version, once a file has been fetched; None for a local folder."""

    @property
    def files(self) -> Mapping[str, int | None]:
        """Size in bytes by path with forward slashes."""
        ...

    def fetch(self, file: str) -> Path:
        """The file on this machine."""
        ...


class LocalFolder:
    """A folder on this machine; hidden files do not count."""

    commit: str | None = None

    def __init__(self, root: Path, only: str | None = None) -> None:
        """`only`: the one file that counts."""
        self.root, self.name, self.path = root, f"folder {root}", root.absolute().as_posix()
        self.files: dict[str, int | None] = {}
        if only is not None:
            self.files[only] = (root / only).stat().st_size
            return
        for top, folders, files in os.walk(root, followlinks=True):
            here = Path(top).relative_to(root)
            folders[:] = [f for f in folders if not f.startswith(".") and len(here.parts) < DEPTH]
            for file in files:
                path = Path(top) / file
                with contextlib.suppress(OSError):  # a link into a place this user may not enter
                    if not file.startswith(".") and path.is_file():
                        self.files[(here / file).as_posix()] = path.stat().st_size

    def fetch(self, file: str) -> Path:
        """The file itself."""
        return self.root / file


@dataclass(frozen=True)
class SaeFolder:
    """Where the files of one SAE are."""

    place: Place
    folder: str
    """Path inside the place, "" at its top."""

    def fetch(self, file: str) -> Path:
        """A file of this folder on this machine."""
        return self.place.fetch(_join(self.folder, file))

    @property
    def files(self) -> list[str]:
        """Names of the files in it, in natural order."""
        here = (path for path in self.place.files if _folder(path) == self.folder)
        return sorted((path.rpartition("/")[2] for path in here), key=natural_key)

    @property
    def format(self) -> str:
        """Its format, one of `formats.marks.FILES`."""
        kind = format_of(self.files)
        assert kind is not None, "locate returns folders of known formats only"
        return kind

    @property
    def address(self) -> str:
        """Path or repository, and folder: what the names around an SAE tell."""
        top = self.place.path or self.place.name
        return f"{top}/{self.folder}" if self.folder else top

    def size(self, file: str) -> int:
        """Bytes of a file of this folder, 0 where not known."""
        return self.place.files.get(_join(self.folder, file)) or 0

    def run_configs(self) -> list[str]:
        """Configs of the training run, here or above: `config.json`, or a `cfg.json` not of this SAE."""
        above = [str(p) if str(p) != "." else "" for p in PurePosixPath(self.folder).parents]
        names = [_join(self.folder, "config.json")]
        names += [_join(folder, name) for folder in above for name in ("config.json", CFG)]
        own = _join(self.folder, CFG)
        return [n for n in dict.fromkeys(names) if n in self.place.files and n != own]

    def __str__(self) -> str:
        return f"{self.folder or 'top level'} of {self.place.name}"


def locate(repo: str, revision: str | None, hookpoint: str) -> SaeFolder:
    """The SAE of `hookpoint`; only lists files.

    `repo` is a folder, a file, a Hub id `owner/name`, or a folder in a Hub repository, `owner/name/folder`.
    Raises SaeError when the folder or the hookpoint is not there, HubError when the repository or revision is
    not.
    """
    _check_path(hookpoint, "hookpoint.name")
    path = EMBEDDED if repo == "embedded" else Path(repo).expanduser()
    if path.is_dir():
        return _choose(LocalFolder(path), "", hookpoint, repo)
    if path.is_file():
        return _choose(LocalFolder(path.parent, path.name), "", hookpoint, repo)
    if repo.startswith(("/", ".", "~")) or not re.fullmatch(r"[\w.-]+/[\w.-]+(/[^/\\]+)*", repo):
        raise SaeError(
            f"sae.repo={repo}: no such folder, and no Hub id of the form owner/name or owner/name/folder"
        )
    _check_path(repo, "sae.repo")
    from saescope.hub import open_repository

    owner, name, *inside = repo.split("/")
    return _choose(open_repository(f"{owner}/{name}", revision), "/".join(inside), hookpoint, repo)


def _choose(place: Place, top: str, hookpoint: str, repo: str) -> SaeFolder:
    """The folder below `top` with the SAE of `hookpoint`.

    A folder directly below `top` goes before nested ones, the exact name before one with a module prefix.
    Where nothing below matches and `top` itself is an SAE, that is returned. Raises SaeError with the SAEs
    there are, nearest first.
    """
    safe = [f for f in place.files if ".." not in f.split("/") and not f.startswith("/") and "\\" not in f]
    below = [f for f in safe if not top or f.startswith(f"{top}/")]
    folders = dict.fromkeys(map(_folder, below))
    names = sorted((n for n in folders if format_of(_names(below, n))), key=natural_key)
    matches = [n for n in names if n != top and is_of_hookpoint(n, hookpoint)]
    level = top.count("/") + 1 if top else 0
    matches = [n for n in matches if n.count("/") == level] or matches
    matches = [n for n in matches if hookpoint_part(n) == hookpoint] or matches
    if len(matches) == 1:
        return SaeFolder(place, matches[0])
    if matches:
        # the folder around the copies serves a sweep over layers; where there is none, the copy itself
        parent = (
            matches[0].rpartition("/")[0] if is_of_hookpoint(matches[0].split("/")[-1], hookpoint) else ""
        )
        base = repo.removesuffix(f"/{top}") if top else repo
        raise SaeError(
            f"{place.name} has several SAEs for {hookpoint}: {choices(matches)}; "
            f"choose one with sae.repo={base}/{parent if parent not in ('', top) else matches[0]}"
        )
    # a language model has the files of an mlsae SAE; where there are SAEs below it, it is no SAE itself
    if top in names and (len(names) == 1 or format_of(_names(below, top)) != "mlsae"):
        return SaeFolder(place, top)
    names = [name for name in names if name != top]
    raise _missing(place, top, hookpoint, names, below, repo)


def _missing(
    place: Place, top: str, hookpoint: str, names: list[str], below: list[str], repo: str
) -> SaeError:
    """Why there is no SAE for the hookpoint, and what there is."""
    where = f"{place.name}, folder {top}," if top else place.name
    if top and not below:
        folders = sorted({f.split("/")[0] for f in place.files if "/" in f}, key=natural_key)
        return SaeError(f"{place.name} has no folder {top}; it has: {choices(folders, 12) or 'files only'}")
    broken = next((n for n in map(_folder, below) if n not in names and is_of_hookpoint(n, hookpoint)), None)
    if broken is not None:
        present = sorted(f.split("/")[-1] for f in below if _folder(f) == broken)
        lacking = " and ".join(name for name in (CFG, WEIGHTS) if name not in present)
        return SaeError(
            f"{broken} of {place.name} has no {lacking} (it has {choices(present, 8)}); "
            "sparsify folders are read with weights in safetensors only"
        )
    if names:
        near = nearest_first(names, hookpoint)
        shown = choices((name or "its top level" for name in near), 12)
        named = all(format_of(_names(below, name)) == SPARSIFY for name in names)
        hint = "" if named else f"; give the folder itself, such as sae.repo={repo}/{near[0]}"
        return SaeError(f"{where} has no SAE for {hookpoint}; it has, nearest first: {shown}{hint}")
    if (other := other_format(below, repo)) is not None:
        return SaeError(f"{where} holds {other}")
    return SaeError(
        f"{where} holds no SAE in a known format; looked for {looked_for()}; its files: "
        f"{choices(sorted(below, key=natural_key), 12) or 'none'}"
    )


def _names(paths: list[str], folder: str) -> set[str]:
    """Names of the files right in a folder."""
    return {path.rpartition("/")[2] for path in paths if _folder(path) == folder}


def _folder(file: str) -> str:
    return file.rpartition("/")[0]


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _check_path(name: str, key: str) -> None:
    if "\\" in name or "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
        raise SaeError(f"{key}={name} is no path inside a repository; leave out '.', '..' and empty parts")
