"""`sync.sh`: uploads the offline W&B runs of a folder, artifacts included, wherever it was moved.

An offline log names its artifacts by absolute path; where they are gone `wandb sync` uploads the run without
them, says nothing, and marks it as synced. For a folder that was moved the script therefore links the old
path to it while it runs.
"""

import shlex
from pathlib import Path

from saescope.files import write_text
from saescope.runfolder.names import SYNC, WANDB

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
TAIL = """
[ "$left" -eq 0 ] || { echo "sync.sh: $left runs left; wandb login, then start it again" >&2; exit 1; }
"""


def write_sync(sweep_dir: Path) -> Path | None:
    """Write `sync.sh` for all offline runs below `sweep_dir`, the oldest first; None when there is none.

    Call it after the last run of the folder is closed.
    """
    # searched by logs, not by run folders: the sweep's own report has a log too
    runs = [path.parent for path in sweep_dir.glob(f"**/{WANDB}/offline-run-*/run-*.wandb")]
    if not runs:
        return None
    # the name begins with the start time; the report of the sweep comes last
    ordered = sorted(runs, key=lambda run: (run.parents[1] == sweep_dir, run.name))
    lines = [f"upload {shlex.quote(run.relative_to(sweep_dir).as_posix())}\n" for run in ordered]
    script = sweep_dir / SYNC
    head = HEAD.replace("@WAS@", shlex.quote(str(sweep_dir.resolve())))
    write_text(script, head + "".join(lines) + TAIL)
    script.chmod(script.stat().st_mode | 0o111)
    return script
