"""Run folders with SAEs in sparsify layout → overlap.json and overlap.csv."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors.numpy import save_file

from saescope.overlap import write_overlap

WIDTH, LATENTS = 48, 200


def rows(seed: int, latents: int = LATENTS) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((latents, WIDTH)).astype(np.float32)


def job(folder: Path, weights: np.ndarray, si: np.ndarray, *, seed=0, k=32, layer=3, sae=None) -> Path:
    at = f"layers.{layer}"
    folder.mkdir(parents=True)
    sae = sae or {"source": "train", "folder": f"sae/{at}"}
    sae = {"init_seed": seed, "data_seed": 0, "d_in": WIDTH, "num_latents": len(weights), "k": k, **sae}
    if sae["source"] == "train":
        (folder / "sae" / at).mkdir(parents=True)
        save_file({"encoder.weight": 2 * weights, "W_dec": weights}, folder / "sae" / at / "sae.safetensors")
    files = {
        "provenance.json": {
            "model": {"name": "tiny", "revision": None, "random_init": False},
            "hookpoint": {"name": at, "kind": "resid", "layer": layer, "width": WIDTH},
            "sae": sae,
        },
        "status.json": {"state": "ok"},
        "metrics.json": {"si/mean": float(si.mean()), "q/modularity": 0.3 + 0.01 * seed},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    config = {"sae": {"source": "train", "init_seed": seed, "k": k, "expansion_factor": len(weights) / WIDTH}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    count = len(weights)
    features = {
        "latent": np.arange(count),
        "density": np.full(count, 0.005),
        "supported": np.ones(count, bool),
    }
    features |= {"si": si, "community": np.arange(count) % 2, "degree": np.full(count, 2)}
    pd.DataFrame(features).to_parquet(folder / "features.parquet")
    ring = {"source": np.arange(count), "target": (np.arange(count) + 2) % count, "pmi": np.ones(count)}
    pd.DataFrame(ring).to_parquet(folder / "edges.parquet")
    return folder


def half_shared(folder: Path) -> list[Path]:
    """Two seeds with the first half in common, whose SI is 0.5 against 0.1."""
    a, b = rows(0), rows(1)
    b[: LATENTS // 2] = a[: LATENTS // 2]
    noise = np.random.default_rng(2).normal(0, 0.02, LATENTS)
    si = np.where(np.arange(LATENTS) < LATENTS // 2, 0.5, 0.1) + noise
    return [job(folder / str(seed), weights, si, seed=seed) for seed, weights in enumerate((a, b))]


def read(out: Path) -> list[dict[str, str]]:
    with (out / "overlap.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_half_shared_seeds(tmp_path):
    sentences = write_overlap(half_shared(tmp_path), tmp_path)
    (row,) = read(tmp_path)
    number = {key: float(value) for key, value in row.items() if key not in ("place",) and value}
    assert number["shared_a"] == number["shared_b"] == number["replicas"] * 0.5
    assert 0.6 < number["pw_mcc"] < 0.75
    assert number["si_shared"] == pytest.approx(0.5, abs=0.01)
    assert number["si_orphan"] == pytest.approx(0.1, abs=0.01)
    assert 0.38 < number["si_difference_lo"] < 0.4 < number["si_difference_hi"] < 0.42
    # two rings of 100, half of each shared: Q and degree are alike in both groups
    assert number["degree_shared"] == number["degree_orphan"] == 2
    assert number["q_share_shared"] == pytest.approx(0.5)
    tables = json.loads((tmp_path / "overlap.json").read_text())
    assert tables[0].pop("matrix") == {"names": ["0", "1"], "shared": [[None, 0.5], [0.5, None]]}
    assert all(set(table) == {"title", "sentences", "columns", "rows"} for table in tables)
    assert all(len(row) == len(table["columns"]) for table in tables for row in table["rows"])
    assert tables[0]["sentences"][: len(sentences)] == sentences
    assert "share 50 % of their latents" in sentences[0]
    assert any("higher in every pair, also at equal firing frequency" in it for it in sentences)


def test_what_is_no_pair(tmp_path):
    si = np.full(LATENTS, 0.2)
    same = [job(tmp_path / f"k{k}", rows(0), si, k=k) for k in (8, 32)]
    elsewhere = job(tmp_path / "elsewhere", rows(1), si, layer=4)
    gone = {"source": "hub", "repo": "owner/name", "revision": None, "commit": None, "folder": "layers.3"}
    absent = job(tmp_path / "absent", rows(2), si, sae=gone)
    control = job(tmp_path / "control", rows(2), si, sae={"source": "neurons"})
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    sentences = write_overlap([*same, elsewhere, absent, control, unfinished], tmp_path)
    assert read(tmp_path) == []
    assert json.loads((tmp_path / "overlap.json").read_text()) == []
    assert "there is no overlap" in sentences[0]
    assert any("absent" in it and "not on this machine" in it for it in sentences)
    assert any("control" in it and "without stored weights" in it for it in sentences)


def test_unequal_widths_and_a_folder_of_ones_own(tmp_path):
    wide = rows(0, 2 * LATENTS)
    narrow = job(tmp_path / "narrow", wide[:LATENTS], np.full(LATENTS, 0.2))
    own = {"source": "hub", "repo": str(narrow / "sae"), "folder": "layers.3"}
    again = job(tmp_path / "again", wide[:LATENTS], np.full(LATENTS, 0.2), sae=own)
    other = job(tmp_path / "other", wide, np.full(2 * LATENTS, 0.2))
    sentences = write_overlap([narrow, again, other], tmp_path)
    (row,) = read(tmp_path)
    assert (float(row["shared_a"]), float(row["shared_b"]), row["replicas"]) == (1.0, 0.5, "0")
    matrix = json.loads((tmp_path / "overlap.json").read_text())[0]["matrix"]
    assert matrix["shared"] == [[None, 1.0], [0.5, None]]  # a row's own latents, shared with the column
    assert matrix["names"] == [row["job_a"], row["job_b"]]
    assert "share 50 % to 100 % of their latents" in sentences[0]


def test_bfloat16_weights(tmp_path):
    import torch
    from safetensors.torch import save_file as save_torch

    from saescope.overlap.sae_file import read_rows

    stored = torch.from_numpy(rows(0)).bfloat16()
    save_torch({"W_dec": stored}, tmp_path / "sae.safetensors")
    np.testing.assert_array_equal(read_rows(tmp_path / "sae.safetensors", "W_dec"), stored.float().numpy())
    (tmp_path / "sae.safetensors").write_bytes(b"broken")
    with pytest.raises(ValueError, match="cannot be read"):
        read_rows(tmp_path / "sae.safetensors", "W_dec")


def test_free_of_torch(tmp_path):
    half_shared(tmp_path)
    code = (
        "import sys; from pathlib import Path; from saescope.overlap import write_overlap\n"
        f"write_overlap([Path({str(tmp_path)!r}) / name for name in '01'], Path({str(tmp_path)!r}))\n"
        "assert not {'torch', 'hydra'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert len(read(tmp_path)) == 1
