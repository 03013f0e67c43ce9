"""Seconds until the command answers: --help, --cfg job, and a configuration that has already finished.

    python benchmarks/startup.py [--rounds 5]

Each in a process of its own, in turn; a first run of each, which fills the disk cache, is not counted.
Writes benchmarks/results/startup.json.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from side_by_side import in_turn, machine, versions, write

JOB = ["metrics=quick", "tracking=disabled", "probes.max_tokens_per_task=2500", "runtime.device=cpu"]
CALLS = {"help": ["--help"], "cfg_job": ["--cfg", "job"], "finished_job": JOB}
TARGETS = {"help": 1.0, "cfg_job": 1.0, "finished_job": 3.0}


def call(arguments: list[str], folder: str) -> None:
    command = [sys.executable, "-m", "saescope", *arguments]
    paths = [str(Path(p).absolute()) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="folder of startup.json; default benchmarks/results")
    args = parser.parse_args()
    environment = machine()
    with tempfile.TemporaryDirectory() as folder:
        for arguments in CALLS.values():
            start = time.perf_counter()
            call(arguments, folder)
        first = time.perf_counter() - start
        sides = {name: lambda a=arguments: call(a, folder) for name, arguments in CALLS.items()}
        seconds = in_turn(sides, args.rounds)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"\n{'seconds':<14}{'median':>8}   {'range':<16}target")
    for name, value in medians.items():
        short = "" if value < TARGETS[name] else "  falls short"
        said = f"{min(seconds[name]):.2f} – {max(seconds[name]):.2f}"
        print(f"{name:<14}{value:>8.2f}   {said:<16}< {TARGETS[name]:g}{short}")
    found = {
        "seconds": medians,
        "spreads": {name: [min(values), max(values)] for name, values in seconds.items()},
        "first_run_of_the_job": first,
        "targets": TARGETS,
        "machine": environment,
        "versions": versions("hydra-core"),
    }
    write("startup", found, args.out)


if __name__ == "__main__":
    main()
