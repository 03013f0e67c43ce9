"""`sync.sh`: uploads the offline W&B runs of a folder, artifacts included, wherever it was moved.

An offline log names its artifacts by absolute path; where they are gone `wandb sync` uploads the run without
them, says nothing, and marks it as synced. For a folder that was moved the script therefore links the old
path to it while it runs.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from saescope.files import write_text
from saescope.runfolder.names import SYNC, WANDB
from saescope.runfolder.run import read_run
from saescope.runfolder.sweep import find_runs

HEAD = r"""#!/bin/sh
# Uploads the offline W&B runs below this folder, artifacts included. Wants the wandb command and a login.
# The runs name their artifacts by absolute path: a folder that was moved is linked to where it was meanwhile.
# Again after an interruption: what W&B marked as synced (run-*.wandb.synced) is skipped.
set -eu
cd -- "$(dirname -- "$0")"
here=$(pwd -P)
export WANDB_DATA_DIR="$here" WANDB_CACHE_DIR="$here/artifacts/cache"
unset WANDB_MODE WANDB_DIR WANDB_SWEEP_ID WANDB_RUN_ID
was=@WAS@
if [ "$(cd -- "$was" 2>/dev/null && pwd -P)" != "$here" ]; then
    { [ ! -e "$was" ] && mkdir -p -- "$(dirname -- "$was")" && ln -s -- "$here" "$was"; } 2>/dev/null || {
        echo "sync.sh: recorded in $was; put this folder, or a link to it, there and try again" >&2; exit 1; }
    trap 'rm -f -- "$was"' EXIT
fi
command -v wandb >/dev/null || { echo "sync.sh: wandb is not here; pip install wandb" >&2; exit 1; }

left=0
synced() { ls "$1"/run-*.wandb.synced >/dev/null 2>&1; }
upload() {
    if synced "$1"; then echo "already uploaded: $1"; return 0; fi
    wandb sync --yes "$1" || true
    synced "$1" || { echo "sync.sh: not uploaded: $1" >&2; left=$((left + 1)); }
}

"""
LOGS = f"{WANDB}/offline-run-*/run-*.wandb"
"""Offline logs in the folder of their job."""
HEADER = 7
"""Bytes of a log that holds nothing: its process was killed before W&B wrote the first record."""
TAIL = """
[ "$left" -eq 0 ] || { echo "sync.sh: $left runs left; wandb login, then start it again" >&2; exit 1; }
"""


def write_sync(
    folder: Path, report: Mapping[str, Any] | None = None, jobs: Sequence[Path] = ()
) -> Path | None:
    """Write `sync.sh` for all offline runs of a sweep folder or run folder; None when there is none.

    They are those below it, the oldest first, then those elsewhere: of `jobs` whose folders lie outside, and
    those that a `tracking.json` of the jobs or `report`, the tracking of the sweep itself, names (with
    `WANDB_DIR`, or where the group had an earlier result already). Call it after the last run of the folder
    is closed.
    """
    # searched by logs, not by run folders: the sweep's own report and failed jobs have logs too
    runs = [path.parent for path in folder.glob(f"**/{LOGS}") if path.stat().st_size > HEADER]
    # the name begins with the start time; the report of the sweep comes last
    ordered = sorted(runs, key=lambda run: (run.parents[1] == folder, run.name))
    inside = {run.resolve() for run in runs}
    all_jobs = dict.fromkeys(path.resolve() for path in (*find_runs([folder]), *jobs))
    elsewhere = [
        path.parent for job in all_jobs for path in sorted(job.glob(LOGS)) if path.stat().st_size > HEADER
    ]
    entries = [read_run(job).tracking for job in all_jobs] + [report or {}]
    elsewhere += [Path(entry["log"]) for entry in entries if isinstance(entry.get("log"), str)]
    outside = dict.fromkeys(
        log.resolve() for log in elsewhere if log.is_dir() and log.resolve() not in inside
    )
    places = [run.relative_to(folder).as_posix() for run in ordered] + list(map(str, outside))
    if not places:
        return None
    script = folder / SYNC
    head = HEAD.replace("@WAS@", shlex.quote(str(folder.resolve())))
    write_text(script, head + "".join(f"upload {shlex.quote(place)}\n" for place in places) + TAIL)
    script.chmod(script.stat().st_mode | 0o111)
    return script
