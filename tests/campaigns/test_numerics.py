"""The same numbers again, on the embedded model: same seed, other batches, processes and precision."""

import json
import logging
import sys

import pytest

from saescope.cli.main import main

ARGS = [
    "tracking=disabled", "metrics=quick", "probes.max_tokens_per_task=2500", "metrics.min_count=20",
    "metrics.lm_tokens=1500", "runtime.cache=off", "runtime.dtype=float32", "force=true",
]  # fmt: skip
RUNS = {
    "one": [],
    "one again": [],
    "small batches": ["runtime.batch_tokens=700"],
    "two processes": ["runtime.devices=2"],
    "two processes again": ["runtime.devices=2"],
    "bfloat16": ["runtime.dtype=bfloat16"],
}

# Greatest |a − b| / max(1, |b|) by the beginning of the key, the longest that fits.
# What hangs on which of several equally good partitions Leiden finds; one edge more can turn it. q/z is
# divided by the standard deviation of 20 rewirings, known to 1/√38 = 16 %: three standard errors of a ratio.
PARTITION = {
    "q/z": 0.7, "q/seed_ari": 0.15, "q/seed_ami": 0.15, "q/ami_": 0.05, "q/n_communities": 0.25,
    "q/within_token_n_communities": 0.25, "q/naive": 0.05,
}  # fmt: skip
# float32 in other batches or processes: products differ in the last bits.
SAME = {"features/": 1e-3, "si/": 1e-3, "q/": 0.01, "sae/": 1e-5, "lm/": 1e-5, "task/": 1e-5, **PARTITION}
# bfloat16 (8 bits of mantissa) in model and encoder.
HALF = {"features/": 5e-3, "si/": 5e-3, "q/": 0.01, "sae/": 5e-3, "lm/": 5e-3, "task/": 0.02, **PARTITION}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    here = tmp_path_factory.mktemp("numerics")
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        for name, args in RUNS.items():
            folder = name.replace(" ", "-")
            patch.setattr(sys, "argv", ["saescope", *ARGS, *args, f"hydra.run.dir={folder}"])
            logging.getLogger().handlers.clear()
            assert main() == 0, name
            found[name] = json.loads((here / folder / "metrics.json").read_text())
    return found


def without_cost(metrics):
    return {key: value for key, value in metrics.items() if not key.startswith("cost/")}


@pytest.mark.parametrize("name", ["one", "two processes"])
def test_the_same_seed_gives_the_same_file(runs, name):
    assert without_cost(runs[name]) == without_cost(runs[f"{name} again"])


@pytest.mark.parametrize(
    ("name", "tolerance"), [("small batches", SAME), ("two processes", SAME), ("bfloat16", HALF)]
)
def test_every_metric_agrees(runs, name, tolerance):
    one, other = without_cost(runs["one"]), without_cost(runs[name])
    assert one.keys() == other.keys()
    apart = {}
    for key, value in one.items():
        assert (value is None) == (other[key] is None), key
        if value is None:
            continue
        start = max((start for start in tolerance if key.startswith(start)), key=len)
        if abs(other[key] - value) / max(1.0, abs(value)) > tolerance[start]:
            apart[key] = (value, other[key])
    assert not apart
