"""dynamic_k=sae: losses and reconstruction with each read spliced in, against plain forward passes."""

import dataclasses

import numpy as np
import pytest
import torch

from saescope.config import NeuronSae
from saescope.dynamic_k.passes import split
from saescope.dynamic_k.sae import run_sae
from saescope.metrics import keys
from saescope.sae.coder import CoderSae, SparseCoder, SparseCoderConfig
from saescope.text.windows import batches
from tests.sae.saelens.make import make, ours, saved

from .job import config, sae_of, setup_of


def test_a_wide_enough_basis_spliced_in_changes_nothing(model_folder, probes):
    """An SAE that reconstructs exactly: KL, CE difference and FVU are 0 at k = 1, and only there."""
    cfg = config(
        model_folder, probes, sae=NeuronSae(k=32), target="sae", k=(0.25, 1.0), tokens=900,
        calibration_tokens=600,
    )  # fmt: skip
    setup = setup_of(cfg)
    part = run_sae(cfg, setup, sae_of(cfg, setup))
    assert len(part.rows) == 8
    for row in part.rows:
        if row["k"] == 1.0:
            assert (row["kl"], row["ce_delta"], row["fvu"], row["top1_agree"]) == (0.0, 0.0, 0.0, 1.0)
            assert (row["ce_delta_lo"], row["ce_delta_hi"]) == (0.0, 0.0)
            assert row["realised_k"] == 1.0
        else:
            assert row["kl"] > 0
            assert row["fvu"] > 0.1
            assert row["realised_k"] == pytest.approx(0.25, rel=0.1)
    assert set(part.metrics) == set(keys("dynk.sae"))
    assert part.metrics["dynk/sae_k"] == 32
    assert part.metrics["dynk/sae_kl"] == 0.0


def coder(k=8, multi_topk=False, transcode=False, skip=False, seed=0) -> CoderSae:
    torch.manual_seed(seed)
    cfg = SparseCoderConfig(
        num_latents=128, k=k, multi_topk=multi_topk, transcode=transcode, skip_connection=skip
    )
    made = SparseCoder(32, cfg)
    for weight in (made.encoder.bias, made.b_dec, *([made.W_dec, made.W_skip] if skip else [])):
        torch.nn.init.normal_(weight, std=0.1)
    return CoderSae(made, torch.float32, {"source": "random", "trained_k": k})


def direct(cfg, setup, k_of_sae):
    """CE, KL and FVU of one read by plain forward passes, a window at a time, with an SAE of that very k."""
    model, windows = setup.lm.model, setup.windows
    parts = split(windows, cfg.dynamic_k.calibration_tokens, cfg.dynamic_k.tokens)
    module = model.base_model.get_submodule(setup.hookpoint.name)
    ce, kl, err, xs = [], [], [], []
    for w in parts.evaluation_W:
        ids = torch.from_numpy(windows.ids[w].astype(np.int64))[None]
        counted = torch.from_numpy(windows.counted[w])

        def splice(m, args, out, counted=counted):
            old = out[0] if isinstance(out, tuple) else out
            x = args[0][0, counted] if k_of_sae.transcodes else old[0, counted]
            new = old.clone()
            new[0, counted] = k_of_sae.reconstruct(x, k_of_sae.encode(x))
            err.append(((new - old)[0, counted]).double())
            xs.append(old[0, counted].double())
            return (new, *out[1:]) if isinstance(out, tuple) else new

        with torch.inference_mode():
            clean = torch.log_softmax(model(input_ids=ids).logits[0, :-1], -1)
            handle = module.register_forward_hook(splice)
            spliced = torch.log_softmax(model(input_ids=ids).logits[0, :-1], -1)
            handle.remove()
        use = counted[:-1]
        ce.append(-spliced.gather(1, ids[0, 1:, None])[:, 0][use])
        kl.append((clean.exp() * (clean - spliced)).sum(-1)[use])
    x, e = torch.cat(xs), torch.cat(err)
    fvu = float(e.pow(2).sum() / (x - x.mean(0)).pow(2).sum())
    return {
        "ce": float(torch.cat(ce).double().mean()),
        "kl": float(torch.cat(kl).double().mean()),
        "fvu": fvu,
    }


@pytest.mark.parametrize("kind", ["plain", "transcoder"])
def test_a_prefix_is_the_sae_of_that_k(model_folder, probes, kind):
    transcode = kind == "transcoder"
    sae = coder(transcode=transcode, skip=transcode)
    cfg = config(
        model_folder, probes, target="sae", k=(0.25, 0.5, 1.0), selectors=("topk",), tokens=600,
        calibration_tokens=300,
    )  # fmt: skip
    if transcode:
        cfg = dataclasses.replace(cfg, hookpoint=dataclasses.replace(cfg.hookpoint, kind="mlp"))
    setup = setup_of(cfg)
    part = run_sae(cfg, setup, sae)
    for row in part.rows:
        smaller = coder(k=round(8 * row["k"]), transcode=transcode, skip=transcode)
        expected = direct(cfg, setup, smaller)
        assert {key: row[key] for key in expected} == pytest.approx(expected, rel=2e-4)


def test_counted_positions_alone_and_any_padding(model_folder, probes):
    """One window per batch (no padding) and many (much padding) give the same rows."""
    cfg = config(model_folder, probes, target="sae", k=(0.5,), tokens=900, calibration_tokens=600)
    sae = coder()
    alone, padded = (run_sae(cfg, setup_of(cfg, batch_tokens=size), sae) for size in (1, 4000))
    windows = setup_of(cfg).windows
    parts = split(windows, 600, 900)
    made = batches(windows, parts.evaluation_W, 4000)
    assert any(not batch.real_BT.all() for batch in made)
    counted = sum(int((b.counted_BT[:, :-1] & b.real_BT[:, 1:]).sum()) for b in made)
    for one, many in zip(alone.rows, padded.rows, strict=True):
        assert one["tokens"] == many["tokens"] == counted
        for key in ("ce", "kl", "fvu", "realised_k"):
            assert one[key] == pytest.approx(many[key], rel=1e-3)


def test_dynamic_selectors_meet_the_mean_l0_of_the_prefix(model_folder, probes):
    cfg = config(model_folder, probes, target="sae", k=(0.25, 0.5), tokens=3000, calibration_tokens=3000)
    part = run_sae(cfg, setup_of(cfg), coder())
    for row in part.rows:
        assert row["realised_k"] == pytest.approx(row["k"], rel=0.15), row["selector"]
        assert row["saving"] == "none"
        assert not {"mlp_flops_frac", "total_flops_frac", "weight_bytes_frac", "speedup"} & row.keys()


def test_an_sae_of_varying_l0_that_decodes_only_its_last_codes(model_folder, probes, tmp_path):
    made = make("standard", normalize_activations="layer_norm")
    sae = ours(saved(tmp_path / "sae", made), model_folder)
    cfg = config(model_folder, probes, target="sae", k=(0.5, 1.0), tokens=600, calibration_tokens=600)
    part = run_sae(cfg, setup_of(cfg), sae)
    assert sae.k is None
    rows = {(row["selector"], row["k"]): row for row in part.rows}
    # everything kept: the SAE as it is
    expected = direct(cfg, setup_of(cfg), sae)
    full = rows["threshold", 1.0]
    assert {key: full[key] for key in expected} == pytest.approx(expected, rel=2e-4, abs=1e-6)
    assert rows["threshold", 0.5]["realised_k"] == pytest.approx(0.5, rel=0.1)


def test_only_multi_topk_is_read_beyond_its_k(model_folder, probes):
    cfg = config(
        model_folder, probes, target="sae", k=(0.5, 1.0), selectors=("topk", "threshold"), tokens=600,
        calibration_tokens=300,
    )  # fmt: skip
    plain, multi = (run_sae(cfg, setup_of(cfg), coder(multi_topk=m)) for m in (False, True))
    assert {row["k"] for row in plain.rows} == {0.5, 1.0}
    assert {row["k"] for row in multi.rows} == {0.5, 1.0, 2.0, 4.0}
    for name in ("ce", "kl", "fvu"):
        assert [r[name] for r in plain.rows if r["selector"] == "topk"] == pytest.approx(
            [r[name] for r in multi.rows if r["selector"] == "topk" and r["k"] <= 1], rel=1e-4
        )
    assert multi.metrics["dynk/sae_k"] == 8
    assert not plain.warnings
    wider = CoderSae(coder(k=16).coder, torch.float32, {"source": "hub", "trained_k": 8})
    assert "outside this SAE's training" in run_sae(cfg, setup_of(cfg), wider).warnings[0]
