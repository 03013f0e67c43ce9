"""Time and peak memory of matching two large SAEs: `python benchmarks/overlap.py [LATENTS] [D]`.

Half of the latents of the second dictionary are those of the first in another order, with noise (cosine about
0.86); the other half is random. Encoder and decoder rows are matched one after the other, as reports do.
"""

import logging
import sys
import time
from pathlib import Path

import numpy as np

from saescope.runtime.meter import Meter
from saescope.stats.assignment import Matching, match
from saescope.stats.cosine_search import unit_rows
from saescope.stats.overlap import overlap, random_overlap

NOISE = 0.6


def peak_gib() -> float:
    """VmHWM of this process."""
    line = next(it for it in Path("/proc/self/status").read_text().splitlines() if it.startswith("VmHWM"))
    return int(line.split()[1]) / 2**20


def pair(latents: int, d: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    first = unit_rows(rng.standard_normal((latents, d), dtype=np.float32))
    second = unit_rows(rng.standard_normal((latents, d), dtype=np.float32))
    half = latents // 2
    second[:half] = unit_rows(first[:half] + NOISE * second[:half])
    return first, second[np.random.default_rng(99).permutation(latents)]


def side(name: str, latents: int, d: int, seed: int) -> Matching:
    first, second = pair(latents, d, seed)
    start, busy = time.perf_counter(), time.process_time()
    with Meter(name, latents, "latents") as meter:
        found = match(first, second, progress=meter.advance)
    took, busy = time.perf_counter() - start, time.process_time() - busy
    print(f"{name}: {took:.0f} s ({busy:.0f} s of CPU), {found.unsettled} unsettled", flush=True)
    return found


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    latents, d = (
        int(sys.argv[at]) if len(sys.argv) > at else default for at, default in ((1, 131_072), (2, 512))
    )
    start = time.perf_counter()
    found = overlap(side("encoder", latents, d, 1), side("decoder", latents, d, 2), d)
    chance = random_overlap(found.latents, d)
    print(f"{latents} latents each, d {d}: {time.perf_counter() - start:.0f} s, peak {peak_gib():.2f} GiB")
    print(f"shared {found.shared_A.mean():.4f} (planted 0.5, random <= {chance.shared:.1g})")
    print(f"PW-MCC {found.pw_mcc:.5f} <= {found.pw_mcc_bound:.5f}, random {chance.pw_mcc:.5f}")
    print(f"MMCS {found.mmcs_ab:.5f} {found.mmcs_ba:.5f}, random {chance.mmcs_ab:.5f}")


if __name__ == "__main__":
    main()
