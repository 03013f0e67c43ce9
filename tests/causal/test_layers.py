"""The latents of a task at two hookpoints of networks in which it is known whether they add up."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch

from saescope.causal.halves import split_documents
from saescope.causal.layers import KEYS, places, read_layers, run_layers
from saescope.config import Ablate, HookpointConfig
from saescope.errors import ConfigError, HookpointError
from saescope.metrics import keys
from saescope.model.hookpoints import resolve
from saescope.sae.base import Sae, SparseCodes, compress, weighted_rows
from tests.causal.planted import VOCAB, WIDTH, codes_of, config, model, setup
from tests.dynamic_k.planted import windows as windows_of

FIRST, SECOND = range(32, 40), range(40, 48)
"""Coordinates through which the tokens of each task predict."""


class Coordinates(Sae):
    """Latents 0 to 7 are the coordinates of the first task, 8 to 15 those of the second.

    They are active on `tokens` alone, which their own coordinates in the stream tell.
    """

    d_in, num_latents, k = WIDTH, 16, None

    def __init__(self, tokens) -> None:
        super().__init__()
        self.tokens = list(tokens)
        self.rows_FD = torch.eye(WIDTH)[[*FIRST, *SECOND]]

    def encode_rows(self, x_ND: torch.Tensor) -> SparseCodes:
        mine_N1 = x_ND[:, self.tokens].sum(1, keepdim=True) > 0.5
        return compress((x_ND @ self.rows_FD.T) * mine_N1, torch.arange(16).expand(len(x_ND), -1))

    def decode(self, codes: SparseCodes) -> torch.Tensor:
        return weighted_rows(codes, self.rows_FD)

    def provenance(self):
        return {"source": "planted"}


@pytest.fixture(scope="module")
def network():
    network = model()
    network.get_input_embeddings().weight.abs_()  # latents are never negative
    network.get_output_embeddings().weight[:, 32:48] *= 0.3  # no token is rare
    return network


def texts(network, documents=30, length=24):
    """Texts of two tasks that the network itself draws, so that it predicts them."""
    p_VV = torch.softmax(network(input_ids=torch.arange(VOCAB)[:, None]).logits[:, 0].double(), -1).numpy()
    rng, ids, labels = np.random.default_rng(0), [], [0] * documents + [1] * documents
    for task in labels:
        mine = np.arange(VOCAB) // 16 == task
        ids.append([int(rng.choice(np.flatnonzero(mine)))])
        for _ in range(length - 1):
            p_V = p_VV[ids[-1][-1]] * mine
            ids[-1].append(int(rng.choice(VOCAB, p=p_V / p_V.sum())))
    return windows_of([np.array(document) for document in ids], labels, ("first", "second"))


def measured(network, at_first, at_second, **settings):
    """The part over layers 0 and 1, with SAEs that read these tokens."""
    job = Ablate(**{"tokens": 600, "sizes": (1.0,), "bootstraps": 40, "layers": (1,)} | settings)
    place = setup(network, texts(network))
    coder, other = Coordinates(at_first), Coordinates(at_second)
    codes = codes_of(place, coder)
    read, _ = read_layers(config(job), place, coder, codes, lambda _place: other)
    return run_layers(config(job), job, place, codes, read)


def rise_by_hand(network):
    """CE rise [V, V] of the prediction of token b after token a when all coordinates of a are taken out.

    No block writes: a prediction depends on the embedding of its token alone.
    """
    x_VD = network.get_input_embeddings().weight.clone()
    gone_VD = x_VD.clone()
    gone_VD[:, 32:48] = 0
    unembed = network.get_output_embeddings().weight

    def ce_VV(x):
        return -torch.log_softmax((x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-6)) @ unembed.T, -1)

    return (ce_VV(gone_VD) - ce_VV(x_VD)).numpy()


def mean_rise(network, ids_lists, tokens):
    """Mean over the scored predictions of some windows; only `tokens` lose their coordinates."""
    rise_VV = rise_by_hand(network)
    values = [rise_VV[a, b] * (a in tokens) for ids in ids_lists for a, b in pairwise(ids[1:])]
    return float(np.mean(values))


EVERY, EVEN, ODD = range(VOCAB), range(0, VOCAB, 2), range(1, VOCAB, 2)


@pytest.mark.parametrize(
    ("at_first", "at_second", "additivity"),
    [(EVERY, EVERY, 0.5), (EVEN, ODD, 1.0), (EVEN, EVERY, None)],
    ids=["redundant", "independent", "partly"],
)
def test_layers_add_up_as_far_as_they_do_something_of_their_own(network, at_first, at_second, additivity):
    part = measured(network, at_first, at_second)
    value, table = part.metrics, part.tables["causal_layers"]
    assert set(value) == set(keys("causal.layers")) == {f"causal/layers_{key}" for key in KEYS}
    own = table[(table["set"] == "own") & (table["set_task"] == table["task"])]
    kl = own.groupby("hookpoint")["kl"].sum()
    if additivity is None:
        additivity = kl["layers.1"] / (kl["layers.0"] + kl["layers.1"])
        assert 0.6 < additivity < 0.75
    assert value["causal/layers_additivity"] == pytest.approx(additivity, abs=1e-4)
    assert value["causal/layers_additivity_ce"] == pytest.approx(additivity, abs=0.05)
    assert value["causal/layers_additivity_ci_low"] <= additivity + 1e-4
    # every latent serves one task: all of it hurts that task alone, at one layer and at both
    assert value["causal/layers_selectivity"] == pytest.approx(1.0, abs=1e-6)
    assert value["causal/layers_selectivity_alone"] == pytest.approx(1.0, abs=1e-6)
    assert value["causal/layers_others_ce"] == pytest.approx(0.0, abs=1e-6)
    assert value["causal/layers_own_worst"] == 1.0
    assert value["causal/layers_additivity_others"] is None
    assert "no hookpoint alone" in part.notes["causal/layers_additivity_others"]
    together = own[own["hookpoint"] == "together"].set_index("task")
    assert together["num_latents"].tolist() == [16, 16]
    assert value["causal/layers_own_ce"] == pytest.approx(together["ce_delta"].mean())


def test_the_rise_is_that_of_the_formula(network):
    """On every hookpoint and on both, from the embeddings of the measured tokens."""
    part = measured(network, EVEN, ODD, tokens=100_000)
    own = part.tables["causal_layers"].query("set == 'own' and set_task == task")
    place = setup(network, texts(network))
    codes = codes_of(place, Coordinates(EVERY))
    halves = split_documents(codes.tokens_D, codes.task_D, codes.tasks, 0)
    windows = place.windows
    for number, task in enumerate(("first", "second")):
        mine = [
            windows.ids[w] for w in range(len(windows.ids))
            if halves.measure_D[windows.doc_W[w]] and windows.task_W[w] == number
        ]  # fmt: skip
        of_task = own[own["task"] == task].set_index("hookpoint")
        for hookpoint, tokens in (("layers.0", EVEN), ("layers.1", ODD), ("together", EVERY)):
            expected = mean_rise(network, mine, set(tokens))
            assert of_task.loc[hookpoint, "ce_delta"] == pytest.approx(expected, abs=1e-5)
            assert abs(expected) > 0.01


def test_sets_are_chosen_at_every_hookpoint(network):
    """At layer 1 on the tokens that its SAE reads; matched sets stand beside them at both."""
    table = measured(network, EVEN, ODD).tables["causal_layers"]
    assert set(table["hookpoint"]) == {"layers.0", "layers.1", "together"}
    assert set(table["set"]) == {"own", "matched"}
    own = table[(table["set"] == "own") & (table["set_task"] == table["task"])].set_index(
        ["hookpoint", "task"]
    )
    for hookpoint in ("layers.0", "layers.1"):
        assert sorted(own.loc[(hookpoint, "first"), "latents"]) == list(range(8))
        assert sorted(own.loc[(hookpoint, "second"), "latents"]) == list(range(8, 16))
    sums = own.groupby("hookpoint")[["firings", "removed_norm"]].sum()
    assert sums.loc["together"].tolist() == pytest.approx(sums.drop("together").sum().tolist())
    assert (table["tokens"] > 100).all()


def test_layers_that_read_the_same_take_it_out_once(network):
    table = measured(network, EVERY, EVERY).tables["causal_layers"]
    sums = table[table["set"] == "own"].groupby("hookpoint")["removed_norm"].sum()
    assert sums["together"] == pytest.approx(sums["layers.0"]) == pytest.approx(sums["layers.1"])


@pytest.mark.parametrize("to", ["mean", "resample"])
def test_other_replacements_at_both(network, to):
    """Off the task its latents are silent, so their mean there and a token there are zero."""
    zero, other = (measured(network, EVEN, ODD, to=kind).metrics for kind in ("zero", to))
    for key in ("own_ce", "ratio", "additivity"):
        assert other[f"causal/layers_{key}"] == pytest.approx(zero[f"causal/layers_{key}"], rel=1e-4)


def test_one_latent_a_task(network):
    part = measured(network, EVEN, ODD, num_latents=1)
    table = part.tables["causal_layers"].query("set == 'own'")
    assert set(table[table["hookpoint"] != "together"]["num_latents"]) == {1}
    assert set(table[table["hookpoint"] == "together"]["num_latents"]) == {2}


def test_a_killed_job_goes_on(network, tmp_path):
    job = Ablate(tokens=600, sizes=(1.0,), bootstraps=40, layers=(1,))
    place = setup(network, texts(network), batch_tokens=64)
    coder, other = Coordinates(EVERY), Coordinates(ODD)
    codes = codes_of(place, coder)
    read, _ = read_layers(config(job), place, coder, codes, lambda _place: other)
    arguments = config(job), job, place, codes, read
    whole = run_layers(*arguments, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        ".partial-layer layers.0.npz", ".partial-layer layers.1.npz", ".partial-layers together.npz",
    }  # fmt: skip
    again = run_layers(*arguments, tmp_path)
    for name in ("kl", "ce_delta", "firings"):
        np.testing.assert_array_equal(
            whole.tables["causal_layers"][name], again.tables["causal_layers"][name]
        )


def test_a_single_task_has_nothing_to_compare(network):
    windows = texts(network)
    alone = dataclasses.replace(windows, task_D=np.zeros_like(windows.task_D), tasks=("only",))
    job = Ablate(layers=(1,))
    place = setup(network, alone)
    codes = codes_of(place, Coordinates(EVERY))
    read, _ = read_layers(config(job), place, Coordinates(EVERY), codes, None)
    part = run_layers(config(job), job, place, codes, read)
    assert set(part.metrics) == set(part.notes) == set(keys("causal.layers"))
    assert set(part.metrics.values()) == {None}


def test_layers_that_cannot_be_are_refused(network):
    def at(layers, hookpoint=None):
        cfg = config(Ablate(layers=layers))
        cfg = cfg if hookpoint is None else dataclasses.replace(cfg, hookpoint=hookpoint)
        return places(cfg, resolve(cfg.hookpoint, network, quiet=True), network)

    assert [place.label for place in at((0, 1))] == ["layers.1"]
    custom = HookpointConfig("custom", name="layers.0.mlp.act_fn")
    assert [place.label for place in at((1,), custom)] == ["layers.1.mlp.act_fn"]
    with pytest.raises(HookpointError, match=r"causal\.layers=\[1, 5\]: this model has layers 0–1"):
        at((1, 5))
    with pytest.raises(ConfigError, match="own layer 0 alone"):
        at((0,))
    with pytest.raises(ConfigError, match="in none"):
        at((1,), HookpointConfig("custom", name="embed_tokens"))
    with pytest.raises(ConfigError, match="each further layer once"):
        Ablate(layers=(1, 1))
    with pytest.raises(ConfigError, match="each further layer once"):
        Ablate(layers=())
    with pytest.raises(ConfigError, match=r"causal\.num_latents"):
        Ablate(num_latents=0)
