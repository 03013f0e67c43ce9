"""Contexts, frequent tokens and activation histograms by hand, and against the codes of a real job."""

import numpy as np

from saescope.analysis.latent_contexts import BINS, find_contexts
from saescope.text.windows import Windows
from tests.extraction.test_codes import hand_made


def windows():
    return Windows(
        ids=[np.array([9, 4, 5], dtype=np.int32), np.array([9, 4, 4, 6], dtype=np.int32)],
        counted=[np.array([False, True, True]), np.array([False, True, True, True])],
        doc_W=np.array([0, 1]),
        start_W=np.array([0, 0]),
        task_D=np.array([1, 0]),
        tasks=("a", "b"),
        pad_id=0,
        truncated={},
    )


def dense(codes):
    """[N, F]."""
    acts_NF = np.zeros((codes.num_tokens, codes.num_latents), dtype=np.float32)
    rows = np.repeat(np.arange(codes.num_tokens), np.diff(codes.indptr))
    acts_NF[rows, codes.latents] = codes.acts
    return acts_NF


def test_by_hand():
    """Latent 0 fires with 1 and 7 in the first window, with 6 in the second; latent 3 never."""
    found = find_contexts(hand_made(), windows(), [3, 0])
    assert found.latent_L.tolist() == [0, 3]
    assert found.first_L.tolist() == [0, 3, 3]
    # the strongest of each document: row 2 (7) and row 4 (6); then the 10th percentile: row 1 (1)
    assert found.row_C.tolist() == [2, 4, 1]
    assert found.quantile_C.tolist() == [0, 0, 10]
    spans = [slice(found.first_C[c], found.first_C[c + 1]) for c in range(3)]
    assert [found.offset_A[span].tolist() for span in spans] == [[-1, 0], [0], [0, 1]]
    assert [found.act_A[span].tolist() for span in spans] == [[1, 7], [6], [1, 7]]
    assert found.frequent_LT[0, :3].tolist() == [4, 5, -1]
    assert found.share_LT[0, :2].tolist() == [np.float16(2 / 3), np.float16(1 / 3)]
    histogram = found.histogram_LB[0]
    assert histogram.sum() == 3
    assert np.flatnonzero(histogram).tolist() == [int(BINS / 7), int(6 * BINS / 7), BINS - 1]
    assert found.histogram_LB[1].sum() == 0


def test_coloured_tokens_are_those_of_the_codes():
    """Every active token inside a context, and no other, with its activation; never beyond the window."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(5, 60, 30)
    ids = [rng.integers(0, 50, length).astype(np.int32) for length in lengths]
    counted = [np.arange(length) > 0 for length in lengths]
    texts = Windows(
        ids, counted, np.arange(30) // 2, np.zeros(30, dtype=np.int64), np.arange(15) % 2, ("a", "b"), 0, {}
    )
    num_tokens = texts.num_tokens
    from saescope.extraction.codes import assemble

    acts_NF = rng.random((num_tokens, 12)) * (rng.random((num_tokens, 12)) < 0.2)
    rows, latents = np.nonzero(acts_NF)
    position = np.concatenate([np.arange(1, length) for length in lengths])
    window = np.repeat(np.arange(30), lengths - 1)
    codes = assemble(
        rows=np.arange(num_tokens),
        sizes=np.bincount(rows, minlength=num_tokens),
        latents=latents,
        acts=acts_NF[rows, latents].astype(np.float32),
        window_N=window,
        position_N=position,
        doc_N=texts.doc_W[window],
        task_D=texts.task_D,
        tasks=texts.tasks,
        num_latents=12,
    )
    acts_NF = dense(codes)
    found = find_contexts(codes, texts, range(12))
    first_W = found.first_W
    n_of_row = np.full(first_W[-1], -1)
    n_of_row[first_W[window] + position] = np.arange(num_tokens)
    assert len(found.row_C) > 60
    for latent in range(12):
        for c in range(found.first_L[latent], found.first_L[latent + 1]):
            row = int(found.row_C[c])
            w = np.searchsorted(first_W, row, side="right") - 1
            shown = range(max(first_W[w], row - 24), min(first_W[w + 1], row + 13))
            expected = {
                r - row: np.float16(acts_NF[n_of_row[r], latent])
                for r in shown
                if n_of_row[r] >= 0 and acts_NF[n_of_row[r], latent] > 0
            }
            part = slice(found.first_C[c], found.first_C[c + 1])
            assert dict(zip(found.offset_A[part].tolist(), found.act_A[part], strict=True)) == expected
            assert 0 in expected
