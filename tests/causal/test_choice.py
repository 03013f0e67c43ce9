"""Which latents stand for a task: those of the choosing documents alone, up to a share of the mass."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from saescope.causal.choice import evidence, first_latents, own_families, ranking_index
from saescope.causal.halves import split_documents
from saescope.config import Ablate, MetricsConfig
from saescope.errors import ConfigError, ProbeError

from .codes import codes_of

METRICS = MetricsConfig(min_count=10, min_docs=4)
RATES = np.array(
    [
        [0.3, 0.0, 0.0],
        [0.2, 0.02, 0.02],
        [0.0, 0.4, 0.0],
        [0.1, 0.1, 0.1],
        [0.02, 0.0, 0.3],
        [0.5, 0.45, 0.45],
    ]
)


def chosen(select, codes=None, labels=None):
    codes = codes or codes_of(RATES)
    choose_D = split_documents(codes.tokens_D, codes.task_D, codes.tasks, 0).choose_D
    task_D = codes.task_D if labels is None else labels
    latents = evidence(codes, choose_D, task_D, METRICS)
    return latents, ranking_index(codes, choose_D, task_D, latents, select)


def test_halves_share_no_document_and_have_every_task():
    codes = codes_of(RATES, documents=7)
    halves = split_documents(codes.tokens_D, codes.task_D, codes.tasks, 3)
    assert not (halves.choose_D & halves.measure_D).any()
    assert np.bincount(codes.task_D[halves.choose_D]).tolist() == [4, 4, 4]
    assert np.bincount(codes.task_D[halves.measure_D]).tolist() == [3, 3, 3]
    again = split_documents(codes.tokens_D, codes.task_D, codes.tasks, 4)
    assert (again.choose_D != halves.choose_D).any()
    with pytest.raises(ProbeError, match="two documents of every task"):
        split_documents(codes.tokens_D[:1], codes.task_D[:1], ("task0",), 0)


def test_counts_are_those_of_the_choosing_documents():
    codes = codes_of(RATES)
    half = np.arange(len(codes.task_D)) % 2 == 0
    latents = evidence(codes, half, codes.task_D, METRICS)
    inside = half[codes.doc_N]
    active = codes.active_NF.toarray()
    np.testing.assert_array_equal(latents.count_F, active[inside].sum(0))
    for task in range(3):
        rows = inside & (codes.task_N == task)
        np.testing.assert_allclose(latents.rate_FK[:, task], active[rows].mean(0))
    np.testing.assert_allclose(
        latents.mass_FK.sum(), codes.acts[np.repeat(inside, np.diff(codes.indptr))].sum()
    )


@pytest.mark.parametrize(
    ("select", "order"), [("si", [0, 1]), ("mutual_info", [0, 1]), ("rate", [5, 0, 1, 3])]
)
def test_order_of_the_first_task(select, order):
    _, index_FK = chosen(select)
    ranked = np.argsort(-index_FK[:, 0], kind="stable")
    assert ranked[: len(order)].tolist() == order


def test_beyond_the_token_a_latent_of_a_task_word_is_nobodys():
    """Latent 0 fires on a word of task 0 alone, wherever it is; latent 1 on any word of task 0."""
    codes = codes_of(np.array([[0.0, 0.0], [0.3, 0.05], [0.2, 0.2]]), documents=30, seed=1)
    word_N = codes.token_N.copy()
    word_N[(word_N < 15) & (codes.task_N == 1) & (np.arange(len(word_N)) % 8 > 0)] += 15
    active = codes.active_NF.toarray().astype(bool)
    active[:, 0] = word_N == 3
    rows, latents = active.nonzero()
    indptr = np.concatenate([[0], np.cumsum(active.sum(1))])
    codes = dataclasses.replace(
        codes, token_N=word_N, indptr=indptr, latents=latents.astype(np.int32),
        acts=np.ones(len(rows), np.float32),
    )  # fmt: skip
    _, by_si = chosen("si", codes)
    _, by_token = chosen("si_token", codes)
    assert by_si[0, 0] > by_si[1, 0]
    assert by_token[1, 0] > by_token[0, 0]
    with pytest.raises(ConfigError, match="si_token needs the token ids"):
        chosen("si_token", dataclasses.replace(codes, token_N=None))


def test_sets_grow_to_their_share_of_the_mass():
    mass = np.array([[5.0], [3.0], [1.0], [1.0]])
    index = np.array([[0.9], [0.8], [0.7], [-np.inf]])
    assert first_latents(index, mass, 0, 0.5).tolist() == [0]
    assert first_latents(index, mass, 0, 0.51).tolist() == [0, 1]
    assert first_latents(index, mass, 0, 1.0).tolist() == [0, 1, 2]  # the last is not the task's
    assert first_latents(np.full((4, 1), -np.inf), mass, 0, 0.5).tolist() == []


def test_families_are_nested_and_disjoint_between_tasks():
    latents, index_FK = chosen("si")
    families = own_families(index_FK, latents, Ablate(sizes=(0.2, 0.01, 0.4)))
    assert [family.size for family in families] == [0.01, 0.2, 0.4]
    for small, large in pairwise(families):
        for a, b in zip(small.latents_K, large.latents_K, strict=True):
            assert set(a) <= set(b)
    flat = np.concatenate(families[-1].latents_K)
    assert len(set(flat.tolist())) == len(flat)


def test_a_number_of_latents_in_place_of_shares():
    latents, index_FK = chosen("si")
    (by_share,) = own_families(index_FK, latents, Ablate(sizes=(1.0,)))
    (family,) = own_families(index_FK, latents, Ablate(num_latents=1))
    assert family.size == Ablate(num_latents=1).headline_size == 1.0
    assert [len(latents_F) for latents_F in family.latents_K] == [1, 1, 1]
    for one, all_of_task in zip(family.latents_K, by_share.latents_K, strict=True):
        assert one[0] == all_of_task[0]
    (many,) = own_families(index_FK, latents, Ablate(num_latents=1000))
    assert [len(a) for a in many.latents_K] == [len(a) for a in by_share.latents_K]


def test_rare_latents_are_not_chosen():
    rates = RATES.copy()
    rates[0] = [0.002, 0, 0]
    latents, index_FK = chosen("si", codes_of(rates))
    assert not latents.supported_F[0]
    assert np.isneginf(index_FK[0]).all()
