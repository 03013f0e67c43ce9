"""Faults while a job runs: kills, a full disk, a lost cache, W&B gone. `make test-faults`; seeded.

A killed command is started again with the same words. What it then finds has to be what an undisturbed run
finds, bit for bit on CPU, and no half-written file may ever have its final name.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
import yaml
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_torch

from saescope.files import read_json
from tests.faults.disks import disk, remounted
from tests.support.left_out import check_run
from tests.support.wandb_log import load, logs

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]

KILLS = 52
"""At least; spread over whole runs."""
SEED = 7
AT_ONCE = 2
"""Runs that are killed side by side."""
JOB = [
    "sae=train",
    "sae.tokens=60000",
    "sae.save_every=2",
    "hookpoint.layer=1",
    "corpus.holdout_tokens=2048",
    "metrics=quick",
    "metrics.lm_tokens=600",
    "probes.max_tokens_per_task=4000",
    "runtime.cache=cache",
    "hydra.run.dir=run",
]
STAGES = (  # last line of the log that holds the words → what was going on
    ("statistics: SI", "statistics and report"),
    ("losses with the SAE", "statistics and report"),
    ("extracted", "spliced losses"),
    ("held-out FVU", "probe capture"),
    ("train:", "training"),
    ("activation cache", "cache write and training"),
    ("corpus:", "cache write and training"),
)


def start(folder: Path, *args: str, tracking: str = "disabled", **environment: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "saescope", *JOB, f"tracking={tracking}", *args]
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},  # side by side, and the same everywhere
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(folder: Path, *args: str, **options: str) -> tuple[int, str]:
    job = start(folder, *args, **options)
    said, _ = job.communicate(timeout=600)
    return job.returncode, said


def science(run: Path) -> dict:
    """Everything a run found, without what it cost; what it left out is checked."""
    check_run(run)
    metrics = read_json(run / "metrics.json")
    weights = load_file(next((run / "sae").glob("*/sae.safetensors")))
    return {
        "metrics": {key: value for key, value in metrics.items() if not key.startswith("cost/")},
        "features": pd.read_parquet(run / "features.parquet").to_csv(),
        "edges": pd.read_parquet(run / "edges.parquet").to_csv(),
        "examples": pd.read_parquet(run / "examples.parquet").to_csv(),
        "history": (run / "history.csv").read_text(),
        "weights": {name: array.tobytes() for name, array in weights.items()},
    }


def check_whole(folder: Path) -> None:
    """Every file with a final name can be read to its end."""
    for path in folder.rglob("*"):
        if not path.is_file() or path.name.startswith(".") or "wandb" in path.parts:
            continue
        match path.suffix:
            case ".json":
                json.loads(path.read_text())
            case ".parquet":
                pd.read_parquet(path)
            case ".yaml":
                yaml.safe_load(path.read_text())
            case ".safetensors":
                load_torch(path)  # cached activations may be bfloat16, which numpy does not have
            case ".html":
                assert path.read_text().rstrip().endswith("</html>")


def stage(run: Path) -> str:
    log = run / "saescope.log"
    lines = log.read_text().splitlines() if log.is_file() else []
    for line in reversed(lines):
        for words, name in STAGES:
            if words in line:
                return name
    return "start"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[dict, float]:
    folder = tmp_path_factory.mktemp("undisturbed")
    begun = time.monotonic()
    code, said = finish(folder)
    assert code == 0, said[-2000:]
    return science(folder / "run"), time.monotonic() - begun


def killed_again_and_again(folder: Path, seed: str, expected: dict, duration: float) -> Counter[str]:
    """One run to its end through several kills: how many, by what was going on."""
    rng = random.Random(seed)
    where: Counter[str] = Counter()
    folder.mkdir()
    for _ in range(rng.randint(4, 8)):
        job = start(folder)
        try:
            job.communicate(timeout=rng.uniform(0.15, 0.9) * duration)
        except subprocess.TimeoutExpired:
            job.send_signal(signal.SIGKILL)
            job.communicate()
            where[stage(folder / "run")] += 1
        check_whole(folder)
        if (read_json(folder / "run" / "status.json") or {}).get("state") == "ok":
            assert science(folder / "run") == expected
            break
    code, said = finish(folder)
    assert code == 0, said[-2000:]
    assert science(folder / "run") == expected
    shutil.rmtree(folder)
    return where


def test_sigkill_at_random_moments(undisturbed, tmp_path, capsys):
    expected, duration = undisturbed
    where: Counter[str] = Counter()
    runs = 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while where.total() < KILLS:
            numbers = range(runs, runs + AT_ONCE)
            found = [
                pool.submit(killed_again_and_again, tmp_path / str(n), f"{SEED}-{n}", expected, duration)
                for n in numbers
            ]
            for one in found:
                where += one.result()
            runs += AT_ONCE
            with capsys.disabled():
                said = ", ".join(f"{count} in {name}" for name, count in where.most_common())
                print(
                    f"\n{runs} runs equal to the undisturbed one after {where.total()} kills: {said}",
                    flush=True,
                )


def test_the_cache_is_deleted_under_a_running_job(undisturbed, tmp_path):
    expected, _ = undisturbed
    for moment in ("activation cache: miss", "training: ", "extracted"):
        folder = tmp_path / moment[:8].strip()
        folder.mkdir()
        job = start(folder)
        log = folder / "run" / "saescope.log"
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not (log.is_file() and moment in log.read_text()):
            time.sleep(0.02)
        shutil.rmtree(folder / "cache", ignore_errors=True)
        said, _ = job.communicate(timeout=300)
        if job.returncode:  # one line that says so, and the same command goes on
            assert said.rstrip().splitlines()[-1].startswith("saescope: "), said[-1500:]
            assert "Traceback" not in said
            code, said = finish(folder)
            assert code == 0, said[-2000:]
        assert science(folder / "run") == expected


def test_two_processes_in_one_run_folder(undisturbed, tmp_path):
    expected, _ = undisturbed
    jobs = [start(tmp_path), start(tmp_path)]
    said = [job.communicate(timeout=600)[0] for job in jobs]
    assert 0 in [job.returncode for job in jobs], said[0][-1500:] + said[1][-1500:]
    for job, text in zip(jobs, said, strict=True):
        if job.returncode:
            assert text.rstrip().splitlines()[-1].startswith("saescope: ")
    assert (read_json(tmp_path / "run" / "status.json") or {})["state"] == "ok"
    check_whole(tmp_path)
    assert science(tmp_path / "run") == expected


def test_the_clock_jumps(undisturbed, tmp_path):
    """A month back in training, two months on before the losses; then the same command in the present."""
    expected, _ = undisturbed
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if library is None:
        pytest.skip("no libfaketime here")
    offset = tmp_path / "offset"
    offset.write_text("+0")
    job = start(
        tmp_path,
        tracking="offline",
        LD_PRELOAD=str(library),
        FAKETIME_TIMESTAMP_FILE=str(offset),
        FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
    )
    log = tmp_path / "run" / "saescope.log"
    for moment, jump in (("training:", "-725h"), ("extracted", "+725h")):
        while job.poll() is None and not (log.is_file() and moment in log.read_text()):
            time.sleep(0.02)
        assert job.poll() is None
        offset.write_text(jump)
    said, _ = job.communicate(timeout=600)
    assert job.returncode == 0, said[-2000:]
    check_whole(tmp_path)
    assert science(tmp_path / "run") == expected
    hours = {line[:2] for line in log.read_text().splitlines() if line[2:3] == ":"}
    assert len(hours) >= 3, "the clock did not jump"
    code, said = finish(tmp_path, "hydra.run.dir=again")
    assert code == 0, said[-2000:]
    assert science(tmp_path / "again") == expected


def wandb_service(job: subprocess.Popen) -> int | None:
    """Process id of the service that W&B's client in `job` has started."""
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            parent = int(status.read_text().split("PPid:")[1].split()[0])
            if parent == job.pid and b"wandb-core" in (status.parent / "cmdline").read_bytes():
                return int(status.parent.name)
        except (OSError, IndexError, ValueError):
            continue
    return None


@pytest.mark.parametrize("moment", ["it starts", "training:"])
def test_wandb_dies(undisturbed, tmp_path, moment):
    """Its service, while it starts or in mid-run: the job goes on, and the same command tracks its result."""
    expected, _ = undisturbed
    job = start(tmp_path, tracking="offline")
    log = tmp_path / "run" / "saescope.log"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        service = wandb_service(job)
        if service and (moment == "it starts" or moment in log.read_text()):
            break
        time.sleep(0.01)
    assert service
    os.kill(service, signal.SIGKILL)
    said, _ = job.communicate(timeout=300)
    assert job.returncode == 0, said[-2000:]
    assert science(tmp_path / "run") == expected
    assert any("W&B" in warning for warning in read_json(tmp_path / "run" / "status.json")["warnings"])
    code, said = finish(tmp_path, tracking="offline")
    assert code == 0, said[-2000:]
    (transactions,) = logs(tmp_path / "run")
    assert load(transactions)["summary"]["si/mean"] == expected["metrics"]["si/mean"]


def test_wandb_folder_is_not_writable(undisturbed, tmp_path):
    expected, _ = undisturbed
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "wandb").write_text("a file where a folder should be")
    code, said = finish(tmp_path, tracking="offline")
    assert code == 0, said[-2000:]
    assert science(tmp_path / "run") == expected


@pytest.mark.parametrize("size", ["1m", "3m", "6m", "12m", "24m"])
def test_a_full_disk(undisturbed, tmp_path, size):
    """Too small for the cache, the checkpoints or the results; then room is made and the job goes on."""
    expected, _ = undisturbed
    with disk(tmp_path / "small", f"size={size}") as place:
        code, said = finish(place, "runtime.cache=off" if size in ("3m", "6m") else "runtime.cache=cache")
        assert "Traceback" not in said, said[-3000:]
        check_whole(place)
        if code:
            assert said.rstrip().splitlines()[-1].startswith("saescope: "), said[-1500:]
            remounted(place, "size=400m")
            code, said = finish(place, "runtime.cache=cache")
        assert code == 0, said[-2000:]
        assert science(place / "run") == expected


def test_a_read_only_folder(tmp_path):
    with disk(tmp_path / "fixed", "ro") as place:
        code, said = finish(place)
        assert code == 1
        assert "Traceback" not in said
        assert said.rstrip().splitlines()[-1].startswith("saescope"), said[-1500:]
        assert "ead-only" in said
