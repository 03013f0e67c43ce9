"""How a spawned process of a run on several devices ends."""

import atexit

import torch.distributed as dist


def leave_group_at_exit() -> None:
    """Have this process leave its process group, if it is in one, before it exits.

    A group that is still open then may end the process with SIGABRT ("terminate called without an active
    exception"), after its work was done. Lightning does this for NCCL, not for gloo.
    """
    if dist.is_available() and dist.is_initialized():
        atexit.register(_leave)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
