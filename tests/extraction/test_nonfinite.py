"""NaN and infinite activations: counted, named, an error, or left out where that was asked for."""

import dataclasses
import re

import numpy as np
import pytest
import torch

from saescope.analysis.reconstruction import loss_metrics, loss_notes, null_notes, without_nonfinite
from saescope.errors import ModelError, SaeError
from saescope.extraction.nonfinite import nonfinite_message
from saescope.sae.neurons import NeuronBasis
from tests.extraction.test_engine import make_engine


def spoil(engine, token: int, value: float):
    """From now on the hookpoint gives `value` at every occurrence of `token`."""
    seen = {}

    def see(module, args):
        seen["ids"] = args[0]

    def change(module, args, output):
        output = output.clone()
        output[..., 3][seen["ids"] == token] = value
        return output

    base = engine.model.base_model
    base.get_input_embeddings().register_forward_pre_hook(see)
    base.get_submodule(engine.hookpoint.name).register_forward_hook(change)


def rare_token(engine) -> int:
    """A token that occurs in some documents, but not in all of any task."""
    ids = np.concatenate(engine.windows.ids)
    counted = np.concatenate(engine.windows.counted)
    found, times = np.unique(ids[counted], return_counts=True)
    return int(found[np.argmin(np.abs(times - 8))])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_nonfinite_activations_end_the_run_and_are_named(model_folder, probes, value):
    engine = make_engine(model_folder, NeuronBasis(32, 4), probes)
    token = rare_token(engine)
    windows = engine.windows
    bad = [(mask & (ids == token)).sum() for ids, mask in zip(windows.ids, windows.counted, strict=True)]
    docs = np.unique(windows.doc_W[np.flatnonzero(bad)])
    spoil(engine, token, value)
    with pytest.raises(ModelError) as caught:
        engine.extract()
    said = str(caught.value)
    assert f"at layers.2 on {sum(bad)} tokens of {len(docs)} documents" in said
    task = windows.tasks[windows.task_D[docs[0]]]
    first_of_task = int(np.flatnonzero(windows.task_D == windows.task_D[docs[0]])[0])
    assert f": {task} {docs[0] - first_of_task + 1}" in said
    assert "metrics.allow_nonfinite=true" in said


@pytest.mark.parametrize("batch_tokens", [64, 5000])
def test_allowed_nonfinite_tokens_are_left_out_and_nothing_else_changes(model_folder, probes, batch_tokens):
    engine = make_engine(model_folder, NeuronBasis(32, 4), probes, batch_tokens=batch_tokens)
    clean, _ = engine.extract()
    token = rare_token(engine)
    spoil(engine, token, float("nan"))
    engine = dataclasses.replace(engine, allow_nonfinite=True)
    codes, sums = engine.extract()
    of_token = np.concatenate(engine.windows.ids)[np.concatenate(engine.windows.counted)] == token
    assert len(codes.left_out) == of_token.sum() > 0
    assert codes.num_tokens == (~of_token).sum() == sums["tokens"].sum()
    assert np.array_equal(codes.doc_N, clean.doc_N[~of_token])
    assert np.array_equal(codes.position_N, clean.position_N[~of_token])
    assert np.array_equal(codes.token_N, clean.token_N[~of_token])
    assert np.array_equal(codes.previous_N, clean.previous_N[~of_token])
    assert np.array_equal(clean.token_N == token, of_token)
    assert (codes.active_NF != clean.active_NF[~of_token]).nnz == 0
    losses = engine.splice(2000, sums["x"].sum(0) / sums["tokens"].sum(), codes.left_out)
    assert all(np.isfinite(values).all() for values in losses.values())


def test_a_task_must_keep_some_tokens(model_folder, probes):
    engine = dataclasses.replace(make_engine(model_folder, NeuronBasis(32, 4), probes), allow_nonfinite=True)
    engine.model.base_model.get_submodule("layers.1.mlp.dense_4h_to_h").bias.data[0] = float("nan")
    with pytest.raises(ModelError, match=r"NaN or infinite activations at layers\.2"):
        engine.extract()


def test_an_sae_that_overflows_is_named(model_folder, sae_folder, probes):
    from saescope.config import HubSae
    from saescope.sae import load

    sae = load(
        HubSae(repo=str(sae_folder)),
        d_in=32, hookpoint="layers.2", model_sae_repo=None, model_name="m", dtype=torch.float32,
    )  # fmt: skip
    sae.coder.encoder.weight.data *= 1e30
    sae.coder.W_dec.data *= 1e30
    with pytest.raises(SaeError, match=r"for finite activations at layers\.2"):
        make_engine(model_folder, sae, probes).extract()


def test_where_the_bad_tokens_are_in_words():
    doc_W, task_D = np.array([0, 0, 1, 2, 3]), np.array([0, 0, 1, 1])
    said = nonfinite_message(np.array([1, 1, 3, 4]), doc_W, task_D, ("a", "b"), "layers.5")
    assert said == (
        "NaN or infinite activations at layers.5 on 4 tokens of 3 documents, "
        "counted from 1 within each task: a 1, b 1, b 2"
    )


def test_losses_without_a_prediction_are_null_with_that_reason(model_folder, probes):
    """In windows of two tokens the counted one is the last."""
    engine = make_engine(model_folder, NeuronBasis(32, 4), probes)
    _, sums = engine.extract()
    losses = engine.splice(600, sums["x"].sum(0) / sums["tokens"].sum())
    names = engine.windows.tasks
    assert loss_notes(names, losses) == {}
    losses["tokens_clean"][1] = 0
    assert set(loss_notes(names, losses)) == {f"task/{names[1]}/ce", f"task/{names[1]}/ce_delta"}
    nothing = {name: values * 0 for name, values in losses.items()}
    found = loss_metrics(nothing)
    assert set(found.values()) == {None}
    notes = null_notes(found, loss_notes(names, nothing))
    assert set(notes) == set(found)
    assert all("no counted position has a next token" in why for why in notes.values())


def test_no_nan_in_metrics_without_its_reason():
    metrics = {
        "lm/ce": float("nan"),
        "task/a/ce": float("inf"),
        "q/z": -float("inf"),
        "si/mean": 0.5,
        "q/p": None,
    }
    found, why = without_nonfinite(metrics)
    assert found == {"lm/ce": None, "task/a/ce": None, "q/z": None, "si/mean": 0.5, "q/p": None}
    notes = null_notes(found, {"q/p": "no edges"} | why)
    assert set(notes) == {"lm/ce", "task/a/ce", "q/z", "q/p"}
    assert all(re.match("not a finite number: .+", notes[key]) for key in ("lm/ce", "task/a/ce", "q/z"))
    assert "logits" in notes["lm/ce"]
    assert notes["q/p"] == "no edges"
