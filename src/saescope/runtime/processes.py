"""The end of a spawned process of a run on several."""

import atexit

import torch.distributed as dist


def leave_group_at_exit() -> None:
    """Close this process's connections before its exit, if it has any.

    A group that is still open then may end the process with SIGABRT ("terminate called without an active
    exception"), after its work was done. Lightning does this for NCCL, not for gloo.
    """
    if dist.is_available() and dist.is_initialized():
        atexit.register(_leave)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
