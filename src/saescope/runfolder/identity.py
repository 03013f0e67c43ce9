"""Which run is this? A hash of everything that decides its numbers, and the finished results known by it."""

import hashlib
import json
import logging
import os
import shutil
from pathlib import Path

from saescope import __version__
from saescope.config import AppConfig
from saescope.files import read_json, write_json
from saescope.runfolder.status import status_of, unreadable

log = logging.getLogger(__name__)

INDEX = Path("outputs") / ".finished"
SKIPPED = {".hydra", ".lock", "wandb"}


def identity(cfg: AppConfig, contents: dict[str, str]) -> str:
    """12 hex digits: scientific config, contents of local inputs (`digest`), and saescope's version."""
    science = {"config": cfg.scientific(), "contents": contents, "saescope": __version__}
    return hashlib.sha256(json.dumps(science, sort_keys=True).encode()).hexdigest()[:12]


def digest(place: Path) -> str:
    """SHA-256 of a file, or over names and bytes of the files in a folder; hidden ones do not count."""
    total = hashlib.sha256()
    for path in [place] if place.is_file() else sorted(place.rglob("*")):
        relative = path.relative_to(place)
        if path.is_file() and not any(part.startswith(".") for part in relative.parts):
            total.update(relative.as_posix().encode() + b"\0")
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def run_name(cfg: AppConfig, model: str, hookpoint: str, num_latents: int, d_in: int, k: int | None) -> str:
    """`{model}.{hookpoint}.x{expansion}.k{k}.s{seed}`, for dashboards."""
    expansion = f"{num_latents / d_in:g}"
    kind = "" if cfg.sae.source == "hub" else f".{cfg.sae.source}"
    random = ".random-init" if cfg.model.random_init else ""
    name = f"{Path(model).name}{random}.{hookpoint}{kind}.x{expansion}.k{k if k is not None else 'var'}"
    return f"{name}.s{cfg.seed}"


def find_finished(run_id: str) -> Path | None:
    """Folder of a finished result with this identity, if it is still there and whole."""
    known = read_json(INDEX / f"{run_id}.json")
    if not isinstance(known, dict) or not isinstance(known.get("run_dir"), str):
        return None
    folder = Path(known["run_dir"])
    status = status_of(folder)
    if status and (why := unreadable(status)):
        log.warning("%s is not used again: %s", folder, why)
        return None
    done = (
        status.get("state") == "ok"
        and status.get("identity") == run_id
        and (folder / "metrics.json").is_file()
    )
    return folder if done else None


def remember(run_id: str, run_dir: Path) -> None:
    """Note that `run_dir` holds the finished result of this identity."""
    write_json(INDEX / f"{run_id}.json", {"run_dir": str(run_dir.resolve())})


def link_result(found: Path, run_dir: Path) -> None:
    """Give `run_dir` the files of the finished result: hard links where possible, else copies."""
    for source in sorted(found.rglob("*")):
        relative = source.relative_to(found)
        target = run_dir / relative
        if relative.parts[0] in SKIPPED or not source.is_file() or target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)
