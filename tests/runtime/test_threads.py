"""What a job sets before torch is imported, and the share of a process."""

import os
import subprocess
import sys

import pytest

SPINNING = ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "LOKY_MAX_CPU_COUNT")


def printed(code: str, **environment: str) -> str:
    kept = {key: value for key, value in os.environ.items() if key not in SPINNING}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=kept | environment, check=True
    )
    return run.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("environment", "policy", "threads"),
    [
        ({}, "PASSIVE", str(len(os.sched_getaffinity(0)))),
        # stands for a quota of one core, which only root could set up here
        pytest.param({"LOKY_MAX_CPU_COUNT": "1"}, "PASSIVE", "1", marks=pytest.mark.slow),
        pytest.param(
            {"LOKY_MAX_CPU_COUNT": "1", "OMP_NUM_THREADS": "2"}, "PASSIVE", "2", marks=pytest.mark.slow
        ),
        pytest.param(
            {"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE", str(len(os.sched_getaffinity(0))), marks=pytest.mark.slow
        ),
    ],
)
def test_a_job_waits_passively_on_no_more_threads_than_its_cores(environment, policy, threads):
    code = (
        "import os, sys; sys.argv = ['saescope', 'hookpoint.layer=99', 'tracking=disabled']\n"
        "from saescope.cli.main import main\n"
        "assert 'torch' not in sys.modules\n"
        "assert main() == 1\n"
        "import torch; print(os.environ['OMP_WAIT_POLICY'], torch.get_num_threads())"
    )
    assert printed(code, **environment) == f"{policy} {threads}"


@pytest.mark.parametrize(
    ("environment", "threads"),
    [
        ({"LOKY_MAX_CPU_COUNT": "1"}, "1"),
        ({"OMP_NUM_THREADS": "1"}, "1"),
        ({"OMP_NUM_THREADS": "8"}, str(max(1, len(os.sched_getaffinity(0)) // 2))),
    ],
)
def test_processes_side_by_side_share_the_cores_they_may_use(environment, threads):
    code = (
        "from saescope.runtime.threads import share_threads; share_threads(2)\n"
        "import torch; print(torch.get_num_threads())"
    )
    assert printed(code, **environment) == threads
