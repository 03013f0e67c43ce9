"""One GPU for each of the jobs that run side by side. Free of torch, which reads the choice at its start."""

import os
from pathlib import Path

DRIVER = Path("/proc/driver/nvidia/gpus")
_chosen: list[str] = []


def own_gpu(job_num: int) -> None:
    """Let this process see one GPU only: that with the number of its first job, modulo the visible GPUs.

    A process that runs several jobs keeps its GPU. Without a GPU, or with one only, nothing changes.
    """
    if _chosen:
        return
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        count = len(list(DRIVER.iterdir())) if DRIVER.is_dir() else 0
        visible = [str(number) for number in range(count)]
    else:
        visible = [name for name in named.split(",") if name]
    if len(visible) > 1:
        _chosen.append(visible[job_num % len(visible)])
        os.environ["CUDA_VISIBLE_DEVICES"] = _chosen[0]
