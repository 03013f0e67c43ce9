"""The identity of a run: a hash of everything that decides its numbers, and where to find its results."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from saescope.config import AppConfig
from saescope.files import lock, read_json, remove_leftovers, whole, write_json
from saescope.runfolder.names import ARTIFACTS, BESIDE, HYDRA, LOCK, STATUS, SYNC, WANDB
from saescope.runfolder.run import read_run
from saescope.runfolder.status import unreadable, write_status
from saescope.runtime.meter import Meter
from saescope.version import __version__

log = logging.getLogger(__name__)

INDEX = Path("outputs") / ".finished"
_NOT_SHARED = {ARTIFACTS, BESIDE, HYDRA, LOCK, STATUS, SYNC, WANDB}
"""Files and folders that a linked result does not take over; nor its logs."""


_BLOCK = 8 * 2**20


def identity(cfg: AppConfig, contents: dict[str, str]) -> str:
    """12 hex digits: scientific config, contents of local inputs (`digests`), and saescope's version."""
    science = {"config": cfg.scientific(), "contents": contents, "saescope": __version__}
    return hashlib.sha256(json.dumps(science, sort_keys=True).encode()).hexdigest()[:12]


def digests(places: Mapping[str, Path]) -> dict[str, str]:
    """SHA-256 of each file; of a folder over names and bytes of the files in it, hidden ones left out."""
    files = {key: _files(place) for key, place in places.items()}
    size = sum(path.stat().st_size for paths in files.values() for path in paths)
    with Meter("read the inputs", size, "B") as meter:
        return {key: _digest(places[key], paths, meter) for key, paths in files.items()}


def _files(place: Path) -> list[Path]:
    return [
        path
        for path in ([place] if place.is_file() else sorted(place.rglob("*")))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(place).parts)
    ]


def _digest(place: Path, paths: Sequence[Path], meter: Meter) -> str:
    total = hashlib.sha256()
    for path in paths:
        total.update(path.relative_to(place).as_posix().encode() + b"\0")
        content = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                content.update(block)
                meter.advance(len(block))
        total.update(content.digest())
    return total.hexdigest()


def find_finished(run_id: str, here: Path | None = None) -> Path | None:
    """Folder of a finished result with this identity, if it is still there and whole; `here` goes first."""
    if here is not None and _has_result(here, run_id):
        return here
    entry = read_json(INDEX / f"{run_id}.json")
    if not isinstance(entry, dict) or not isinstance(entry.get("run_dir"), str):
        return None
    folder = Path(entry["run_dir"])
    return folder if _has_result(folder, run_id) else None


def _has_result(folder: Path, run_id: str) -> bool:
    run = read_run(folder)
    if why := unreadable(run.status):
        log.warning("%s is not used again: %s", folder, why)
        return False
    return run.ok and run.identity == run_id


def remember(run_id: str, run_dir: Path) -> None:
    """Record `run_dir` as the folder of the finished result with this identity.

    Without room or permission other folders will not find it: a warning, since the result is complete.
    """
    path = INDEX / f"{run_id}.json"
    try:
        INDEX.mkdir(parents=True, exist_ok=True)
        with lock(INDEX / LOCK):
            remove_leftovers(INDEX, path.name)
            write_json(path, {"run_dir": str(run_dir.resolve())})
    except OSError as error:
        log.warning("%s is not noted in %s: %s", run_dir, INDEX, error.strerror or error)


def link_result(finished: Path, run_dir: Path, overrides: Sequence[str]) -> None:
    """Give `run_dir` the files of the finished result: hard links where possible, else copies.

    Its `status.json` is its own: the overrides of this job, and where the result was measured. It is written
    last, so a folder that was left halfway is not taken for a result.
    """
    folders = set()
    for source in sorted(finished.rglob("*")):
        relative = source.relative_to(finished)
        if relative.parts[0] in _NOT_SHARED or source.suffix == ".log" or not source.is_file():
            continue
        target = run_dir / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.parent not in folders:  # what a failed attempt left
            remove_leftovers(target.parent)
            folders.add(target.parent)
        target.unlink(missing_ok=True)
        try:
            os.link(source, target)
        except OSError:
            with whole(target) as temporary:
                shutil.copyfile(source, temporary)
    status = dict(read_run(finished).status) | {
        "overrides": list(overrides),
        "reused_from": str(finished.resolve()),
    }
    write_status(run_dir, **status)
