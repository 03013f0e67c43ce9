"""Jobs that an interrupted sweep has handed to submitit."""

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from saescope.compat import submitted_jobs

WAIT_S = 20.0
"""For jobs on this machine to end once they are cancelled."""


def cancelled(interrupt: BaseException) -> list[str]:
    """Cancel the jobs that the sweep waited for when `interrupt` was raised, and say so.

    Local ones have ended when this returns, so that the table has what became of them. Where the cluster does
    not take the order, the command that cancels them by hand is named.
    """
    waiting = [job for job in submitted_jobs(interrupt) if not _done(job)]
    if not waiting:
        return []
    refused = [job for job in waiting if not _cancel(job)]
    sentences = []
    if number := len(waiting) - len(refused):
        sentences.append(f"{number} running or queued {'job' if number == 1 else 'jobs'} cancelled")
    if refused:
        ids = " ".join(dict.fromkeys(str(job.job_id) for job in refused))
        sentences.append(f"still running or queued, cancel with: scancel {ids}")
    _wait_for_local(waiting)
    return sentences


def _cancel(job: Any) -> bool:
    try:
        job.cancel(check=True)
    except Exception:  # no scancel here, or it does not know the job any more
        return False
    return True


def _done(job: Any) -> bool:
    with suppress(Exception):
        return bool(job.done())
    return False


def _wait_for_local(jobs: Sequence[Any]) -> None:
    from submitit import LocalJob

    local = [job for job in jobs if isinstance(job, LocalJob)]
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline and not all(map(_done, local)):
        time.sleep(0.1)
