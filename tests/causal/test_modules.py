"""Communities taken out whole: planted ones that matter on one task, and ones drawn at random."""

import numpy as np
import pandas as pd
import pytest
import torch

from saescope.causal.ablation import Ablation
from saescope.causal.attribution import attribute
from saescope.causal.choice import evidence
from saescope.causal.halves import split_documents
from saescope.causal.modules import control_sets, membership, run_modules
from saescope.causal.removal import LatentSet
from saescope.config import Ablate
from saescope.metrics import keys
from saescope.runtime.meter import Meter

from .planted import METRICS, WIDTH, FixedLatents, codes_of, config, model, setup, texts

LATENTS = 120
MEMBERS = 10


def latents(network, seed=0):
    """Community c = 0 … 3 has latents 10 c … 10 c + 9; their rows point one way, into the coordinates that
    task c mod 2 reads, and they fire on its tokens more often. The other 80 write anywhere and fire alike."""
    generator = torch.Generator().manual_seed(seed)
    often = torch.full((32, LATENTS), 0.5)
    for community in range(4):
        at = slice(MEMBERS * community, MEMBERS * (community + 1))
        first = community % 2 == 0
        often[:16, at], often[16:, at] = (0.7, 0.3) if first else (0.3, 0.7)
    fires = torch.rand(32, LATENTS, generator=generator) < often
    acts = fires * (0.5 + torch.rand(32, LATENTS, generator=generator))
    rows = torch.zeros(LATENTS, WIDTH)
    rows[:, 32:48] = torch.randn(LATENTS, 16, generator=generator) / 8
    for community in range(4):
        at = slice(MEMBERS * community, MEMBERS * (community + 1))
        rows[at] = 0.0
        start = 32 + 8 * (community % 2)
        direction = torch.randn(8, generator=generator) / 8
        rows[at, start : start + 8] = direction
    rows *= 0.35 / rows.norm(dim=1, keepdim=True)
    return FixedLatents(network.get_input_embeddings().weight, acts, rows)


def world(coder, network, community_F, documents=30, **columns):
    job = setup(network, texts(documents=documents))
    codes = codes_of(job, coder)
    halves = split_documents(codes.tokens_D, codes.task_D, codes.tasks, 0)
    ablation = Ablation(job, coder, halves.measure_D, 2048)
    seen = evidence(codes, halves.choose_D, codes.task_D, METRICS)
    whole = attribute(ablation.batches(), coder, len(codes.task_D), seed=1)
    features = pd.DataFrame({"community": community_F, **columns})
    chosen = Ablate(bootstraps=40, tokens=2048)
    part = run_modules(config(chosen), chosen, job, coder, codes, features, whole)
    return part, ablation, seen


def planted_communities():
    community = np.full(LATENTS, -1)
    community[:40] = np.arange(40) // MEMBERS
    return community


@pytest.fixture(scope="module")
def planted():
    network = model()
    coder = latents(network)
    return (coder, *world(coder, network, planted_communities()))


def test_planted_modules_are_more_selective_than_their_controls(planted):
    _, part, *_ = planted
    metrics = part.metrics
    assert set(metrics) == {*keys("causal.module"), *keys("causal.within")}
    assert metrics["causal/module_within_token_p"] is None
    assert "not measured" in part.notes["causal/module_within_token_p"]
    assert metrics["causal/module_p"] <= 0.05
    assert metrics["causal/module_excess_ci_low"] <= metrics["causal/module_excess"]
    assert metrics["causal/module_attribution_r"] > 0.8
    # all members push the same way, and several fire on a token: more together than one by one
    assert metrics["causal/module_synergy"] > 1.5


def test_the_table_is_what_plain_ablation_gives(planted):
    _, part, ablation, _ = planted
    table = part.tables["causal_modules"]
    assert set(table["kind"]) == {"module", "random", "decoder"}
    assert (table["partition"] == "community").all()
    modules = table[table["kind"] == "module"]
    assert len(modules) == 8
    assert (modules["latents"] == MEMBERS).all()
    with Meter("test", 0, "", quiet=True) as meter:
        effects = ablation.effects([LatentSet("2", np.arange(20, 30))], meter)
    first_D = ablation.windows.task_D == 0
    row = modules[(modules["module"] == 2) & (modules["task"] == "first")].iloc[0]
    assert row["kl"] == pytest.approx(effects.kl_GD[0, first_D].sum() / effects.tokens_D[first_D].sum())
    assert row["ce"] == pytest.approx(effects.ce_GD[0, first_D].sum() / effects.tokens_D[first_D].sum())
    singles = [LatentSet(str(f), np.array([f])) for f in range(20, 30)]
    with Meter("test", 0, "", quiet=True) as meter:
        alone = ablation.effects(singles, meter)
    assert row["members_kl"] == pytest.approx(alone.kl_GD.sum() / alone.tokens_D.sum(), rel=0.5)


def test_control_sets_have_the_sizes_of_the_modules(planted):
    coder, _, _, seen = planted
    sets = control_sets(planted_communities(), seen, coder, 0)
    assert sets is not None
    assert sets.numbers == [0, 1, 2, 3]
    for family in (*sets.random, sets.decoder):
        assert [len(members) for members in family] == [MEMBERS] * 4
    for module, drawn in zip(sets.modules, sets.random[0], strict=True):
        assert not np.intersect1d(module, drawn).size
    cosine = np.corrcoef(coder.rows_FD.numpy()[sets.decoder[0]])
    assert cosine.mean() > 0.5


def test_random_communities_are_as_selective_as_their_controls():
    network = model()
    coder = latents(network)
    community = np.random.default_rng(3).permutation(np.repeat(np.arange(6), 20))
    part, *_ = world(coder, network, community)
    assert part.metrics["causal/module_p"] > 0.02
    assert abs(part.metrics["causal/module_excess"]) < 0.15


def test_small_communities_and_missing_columns():
    network = model()
    coder = latents(network)
    within = planted_communities()
    part, *_ = world(coder, network, np.arange(LATENTS) // 3, documents=12, community_within_token=within)
    assert part.metrics["causal/module_selectivity"] is None
    assert "no community has 5" in part.notes["causal/module_selectivity"]
    assert part.metrics["causal/module_within_token_selectivity"] is not None
    assert (part.tables["causal_modules"]["partition"] == "community_within_token").all()


def test_membership_by_hand():
    matrix = membership([np.array([0, 2]), np.array([2])], 3).toarray()
    assert matrix.tolist() == [[1, 0], [0, 0], [1, 1]]
