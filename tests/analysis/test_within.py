"""Graphs within the strata of `metrics.within`, from codes: each stratum is what its name says."""

import numpy as np
import pytest
from scipy import sparse

from saescope.analysis.features import analyse
from saescope.config.metrics import STRATA, MetricsConfig
from saescope.errors import ConfigError
from saescope.extraction.codes import Codes
from saescope.stats.coactivation import validated_edges

DOCS, LENGTH, LATENTS = 60, 100, 24
FEW = {"permutations": 20, "bootstraps": 20, "document_groups": 0, "matched_draws": 0, "null_tokens": 0,
       "leiden_seeds": 1, "word_draws": 1}  # fmt: skip


def codes(token_ids=True):
    """Latents that read the token, the one before it and the task, and meet beyond all three."""
    rng = np.random.default_rng(0)
    doc_N, position_N = np.repeat(np.arange(DOCS), LENGTH), np.tile(np.arange(LENGTH), DOCS)
    task_D = np.arange(DOCS) % 3
    token_N = rng.integers(5, size=doc_N.size)
    previous_N = np.where(position_N > 0, np.roll(token_N, 1), -1)
    read_N = (token_N == 1) * 0.3 + (previous_N == 2) * 0.2 + (task_D[doc_N] == 0) * 0.2
    chance_NF = 0.03 + read_N[:, None] * (np.arange(LATENTS) < 16)
    chance_NF += 0.3 * ((rng.random(doc_N.size) < 0.1)[:, None] & (np.arange(LATENTS) < 4))
    active = sparse.csr_matrix((rng.random(chance_NF.shape) < chance_NF).astype(np.int32))
    return Codes(
        active.indptr.astype(np.int64), active.indices, np.ones(active.nnz, np.float32), doc_N, position_N,
        doc_N, task_D, ("a", "b", "c"), LATENTS,
        token_N=token_N if token_ids else None, previous_N=previous_N if token_ids else None,
    )  # fmt: skip


def test_strata_are_what_their_names_say():
    c = codes()
    results = analyse(c, MetricsConfig(**FEW, within=STRATA), seed=0)
    labels = {
        "task": c.task_N,
        "token_task": c.token_N * 3 + c.task_N,
        "bigram": np.where(c.previous_N < 0, -1, c.previous_N * 5 + c.token_N),
        "position": c.position_N,
    }
    sizes = []
    for stratum, label_N in labels.items():
        edges = len(validated_edges(c.active_NF, stratum_N=label_N))
        assert results.metrics[f"q/within_{stratum}_n_edges"] == edges >= 5, stratum
        assert 0 < results.metrics[f"q/within_{stratum}"] < 1
        sizes.append(edges)
    assert len(set(sizes)) > 2
    assert isinstance(results.metrics["q/within_bigram_n_edges"], int)


def test_without_token_ids_words_have_a_reason():
    results = analyse(codes(token_ids=False), MetricsConfig(**FEW, within=("bigram", "position")), seed=0)
    assert results.metrics["q/within_position_n_edges"] > 0
    assert "token ids are not known" in results.notes["q/within_bigram"]
    assert "metrics.within" in results.notes["q/within_token_task"]


@pytest.mark.parametrize("within", [("word",), ("task", "task")])
def test_unknown_and_repeated_strata_are_refused(within):
    with pytest.raises(ConfigError, match=r"metrics\.within"):
        MetricsConfig(within=within)
