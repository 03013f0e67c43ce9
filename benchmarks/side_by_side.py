"""What the benchmarks share: sides measured in turn, ratios with their spread, result files, tables."""

import ctypes
import importlib.metadata
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from saescope.runtime.allocator import keep_freed_memory
from saescope.version import __version__

RESULTS = Path(__file__).parent / "results"
Seconds = dict[str, list[float]]
PACKAGES = ("torch", "transformers", "eai-sparsify", "lightning", "numpy", "scipy")


def as_by_default(side: Callable[[], Any]) -> Callable[[], Any]:
    """`side` with glibc's own limits, as it runs without saescope, which sets others for its process.

    32 and 64 MiB are the largest that the allocator gives itself, after the first large block is freed.
    """

    def run() -> Any:
        if keep_freed_memory(retained_mib=64, largest_mib=32):
            ctypes.CDLL(None).malloc_trim(0)
        return side()

    return run


def as_saescope(side: Callable[[], Any]) -> Callable[[], Any]:
    """`side` with the limits that saescope sets."""

    def run() -> Any:
        keep_freed_memory()
        return side()

    return run


def children_time() -> float:
    """CPU seconds of all processes that this one has started and that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time, "children": children_time}
"""`cpu` and `children` sum over threads and leave out what other processes take: for busy machines."""


def in_turn(
    sides: Mapping[str, Callable[[], Any]], rounds: int, label: str = "", clock: str = "wall"
) -> Seconds:
    """Seconds of every side in every round; each round begins with another side, none is always first."""
    now = CLOCKS[clock]
    seconds: Seconds = {name: [] for name in sides}
    names = list(sides)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            start = now()
            sides[name]()
            seconds[name].append(now() - start)
        took = ", ".join(f"{name} {seconds[name][-1]:.1f} s" for name in names)
        print(f"{label}round {number + 1} of {rounds} done: {took}", flush=True)
    return seconds


def ratios(seconds: Mapping[str, Sequence[float]], pairs: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """`{name: (one, other)}` → medians and ranges over the rounds of seconds of one / other."""
    found = {
        name: [a / b for a, b in zip(seconds[one], seconds[other], strict=True)]
        for name, (one, other) in pairs.items()
    }
    return {
        "ratios": {name: statistics.median(values) for name, values in found.items()},
        "spreads": {name: [min(values), max(values)] for name, values in found.items()},
    }


def machine() -> dict[str, Any]:
    """Class of the machine, and versions."""
    bf16 = (getattr(torch.cpu, "get_capabilities", dict)() or {}).get("avx512_bf16", False)
    found: dict[str, Any] = {
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "bfloat16_units": bool(bf16),
        "system": platform.machine(),
        "load_before": os.getloadavg()[0],
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def versions(*more: str) -> dict[str, str]:
    """Versions of Python and of the packages that matter."""
    return {
        "python": platform.python_version(),
        "saescope": __version__,
        **{name: importlib.metadata.version(name) for name in (*PACKAGES, *more)},
    }


def write(name: str, found: Mapping[str, Any], folder: Path | None = None) -> None:
    """`results/<name>.json`, or the same in another folder."""
    path = (folder or RESULTS) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=2) + "\n")
    print(f"written: {path}")


def print_ratios(found: Mapping[str, Any], targets: Mapping[str, float]) -> None:
    """One line a ratio: median, range, target, and whether it falls short."""
    print(f"\n{'ratio':<24}{'median':>8}   {'range':<16}target")
    for name, value in found["ratios"].items():
        low, high = found["spreads"][name]
        target = targets.get(name)
        said = "" if target is None else f"≥ {target:g}" + ("" if value >= target else "  falls short")
        print(f"{name:<24}{value:>8.2f}   {f'{low:.2f} – {high:.2f}':<16}{said}")


def high_water_mb() -> float:
    """Peak resident memory (Linux). Not `getrusage`: its maximum is inherited from the starting process."""
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(peak) / 1024


def alone(script: str, *args: str) -> dict[str, Any]:
    """The JSON that `python script args` prints as its last line, from a process of its own."""
    command = [sys.executable, script, *args]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result
