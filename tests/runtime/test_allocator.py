"""Freed memory stays with the process: the same large block twice gives no new page faults."""

import subprocess
import sys

import pytest

COUNT = """
import ctypes
import resource
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: pages of 2 MiB cost few faults in any case
from saescope.runtime.allocator import keep_freed_memory
import numpy as np
accepted = keep_freed_memory() if {keep} else True
faults = []
for _ in range(4):
    np.ones(16 * 2**20, dtype=np.float32)  # 64 MiB, freed at once
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(int(accepted), faults[3] - faults[1])
"""


def counted(keep: bool) -> tuple[int, int]:
    done = subprocess.run(
        [sys.executable, "-c", COUNT.format(keep=keep)], capture_output=True, text=True, check=True
    )
    accepted, faults = done.stdout.split()
    return int(accepted), int(faults)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_freed_memory_comes_back_without_page_faults() -> None:
    accepted, faults = counted(keep=True)
    if not accepted:
        pytest.skip("no mallopt in this C library")
    _, by_default = counted(keep=False)
    assert faults < 100 < by_default
