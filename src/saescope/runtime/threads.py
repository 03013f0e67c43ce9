"""Threads of a job's numerical libraries: no more than its cores, and none that spins while it waits."""

import os


def set_threads() -> None:
    """Set the environment of OpenMP, which torch reads when it is imported; what is set already stays.

    By default a thread without work spins for milliseconds. Where jobs share the cores, it then takes them
    from the others: two jobs at once on two cores took 2.5 times as long as one.
    OpenMP looks at the affinity of the process, not at the quota of a container (`docker --cpus=4`), and
    would start a thread for every core of the machine.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if "OMP_NUM_THREADS" not in os.environ and (cores := usable_cores()) < _cores_of_affinity():
        os.environ["OMP_NUM_THREADS"] = str(cores)


def usable_cores() -> int:
    """Cores that affinity and container quota leave to this process."""
    # Imported here: it imports numpy, which a refused command does not need.
    import joblib  # type: ignore[import-untyped]

    return int(joblib.cpu_count())


def share_threads(processes: int) -> None:
    """Have torch use this process's share of the cores, when `processes` of one job work side by side."""
    import torch

    torch.set_num_threads(max(1, min(torch.get_num_threads(), usable_cores() // processes)))


def _cores_of_affinity() -> int:
    # macOS has no affinity
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
