"""Mean SI given the word without each group of documents: from some of the latents where there are many."""

import numpy as np
import pytest

from saescope.analysis import features
from saescope.config import MetricsConfig
from saescope.extraction.codes import Codes
from saescope.stats.paired import of_groups

KEY = "si/beyond_token_mean"
SETTINGS = MetricsConfig(
    permutations=20, bootstraps=20, rewirings=20, leiden_seeds=1, null_tokens=2000, word_draws=1,
    matched_draws=0, min_count=5, min_docs=3, document_groups=16,
)  # fmt: skip


def contextual_codes(tokens: int = 12_000, latents: int = 400, length: int = 60) -> Codes:
    """Latents that prefer one of four tasks whatever the word, and documents that have their own rate."""
    rng = np.random.default_rng(0)
    doc_N = np.arange(tokens) // length
    task_D = np.arange(doc_N[-1] + 1) % 4
    preferred_F = rng.integers(4, size=latents)
    burst_D = rng.gamma(1.0, 1.0, task_D.size)  # the same for all latents: what documents add to the mean
    likes_DF = (task_D[:, None] == preferred_F) * burst_D[:, None]
    active = rng.random((tokens, latents)) < 0.01 + 0.02 * likes_DF[doc_N]
    token_N = rng.integers(0, 30, tokens).astype(np.int32)
    return Codes(
        indptr=np.concatenate([[0], np.cumsum(active.sum(axis=1))]).astype(np.int64),
        latents=np.nonzero(active)[1].astype(np.int32), acts=np.ones(int(active.sum()), dtype=np.float32),
        window_N=doc_N.astype(np.int32), position_N=(np.arange(tokens) % length).astype(np.int32),
        doc_N=doc_N.astype(np.int32), task_D=task_D, tasks=tuple("abcd"), num_latents=latents,
        token_N=token_N, previous_N=np.roll(token_N, 1),
    )  # fmt: skip


def test_a_quarter_of_the_latents_moves_as_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = contextual_codes()
    of_all = features.analyse(codes, SETTINGS, seed=0).resamples.groups[KEY]
    monkeypatch.setattr(features, "RESAMPLED_LATENTS", 100)
    of_some = features.analyse(codes, SETTINGS, seed=0).resamples.groups[KEY]
    assert of_all.size == of_some.size == 16
    assert np.corrcoef(of_all, of_some)[0, 1] > 0.9
    ratio = of_groups(of_some).standard_error / of_groups(of_all).standard_error
    assert 0.8 < ratio < 1.3
    assert (of_some != of_all).all()
