"""Q from some of the documents, SI from all of them."""

from dataclasses import replace

import numpy as np
import pytest

from saescope.analysis.features import analyse
from saescope.config import MetricsConfig
from tests.analysis.test_features_resampled import contextual_codes

SETTINGS = MetricsConfig(
    permutations=20, bootstraps=20, rewirings=20, leiden_seeds=1, null_tokens=2000, word_draws=1,
    matched_draws=1, min_count=5, min_docs=3, document_groups=4, within=("task", "bigram"),
)  # fmt: skip


@pytest.mark.parametrize("unit", ["token", "chunk"])
def test_the_graph_is_that_of_the_chosen_documents_alone(unit):
    codes = contextual_codes()
    cfg = replace(SETTINGS, unit=unit)
    some = codes.of_documents(codes.documents_within(5_000))
    assert 4_500 < some.num_tokens <= 5_000
    part = analyse(codes, replace(cfg, graph_tokens=5_000), seed=0)
    whole, alone = analyse(codes, cfg, seed=0), analyse(some, cfg, seed=0)
    for key in ("q/n_edges", "q/null_edges", "q/within_task_n_edges", "q/within_bigram_n_edges"):
        assert part.metrics[key] == alone.metrics[key], key
    assert part.metrics["q/modularity"] == pytest.approx(alone.metrics["q/modularity"], abs=0.02)
    assert part.edges[["source", "target", "joint", "p"]].equals(
        alone.edges[["source", "target", "joint", "p"]]
    )
    assert part.edges_within_token.equals(alone.edges_within_token)
    assert part.metrics["q/n_edges"] < whole.metrics["q/n_edges"]
    for key, value in whole.metrics.items():
        if not key.startswith("q/"):
            assert part.metrics[key] == value, key
    np.testing.assert_array_equal(
        part.resamples.groups["si/beyond_token_mean"], whole.resamples.groups["si/beyond_token_mean"]
    )
    np.testing.assert_array_equal(
        part.resamples.groups["q/modularity"].shape, whole.resamples.groups["q/modularity"].shape
    )
    assert part.matched == whole.matched
