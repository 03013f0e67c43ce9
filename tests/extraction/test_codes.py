"""The code structure and the examples, by hand."""

import numpy as np
import pandas as pd

from saescope.analysis.examples import choose_latents, top_contexts
from saescope.extraction.codes import assemble
from saescope.text.windows import Windows


def hand_made():
    """Five tokens in two documents, four latents, and a varying number of active ones."""
    return assemble(
        rows=np.array([3, 0, 4, 1, 2]),
        sizes=np.array([1, 2, 0, 1, 3]),
        latents=np.array([1, 2, 0, 0, 2, 1, 0]),
        acts=np.array([5, 2, 1, -7, 3, 4, 6], dtype=np.float32),
        window_N=np.array([0, 0, 1, 1, 1]),
        position_N=np.array([1, 2, 1, 2, 3]),
        doc_N=np.array([0, 0, 1, 1, 1]),
        task_D=np.array([1, 0]),
        tasks=("a", "b"),
        num_latents=4,
    )


def test_assemble_puts_rows_in_document_order():
    codes = hand_made()
    dense = np.zeros((5, 4))
    for n in range(5):
        part = slice(codes.indptr[n], codes.indptr[n + 1])
        dense[n, codes.latents[part]] = codes.acts[part]
    expected = [[1, 0, 2, 0], [7, 0, 0, 0], [6, 4, 3, 0], [0, 5, 0, 0], [0, 0, 0, 0]]
    assert dense.tolist() == expected
    assert codes.active_NF.toarray().tolist() == (np.array(expected) > 0).astype(int).tolist()


def test_counts():
    codes = hand_made()
    assert codes.count_F.tolist() == [3, 2, 2, 0]
    assert codes.docs_F.tolist() == [2, 1, 2, 0]
    assert codes.tokens_D.tolist() == [2, 3]
    assert codes.doc_counts_DF.toarray().tolist() == [[2, 0, 1, 0], [1, 2, 1, 0]]
    assert codes.task_N.tolist() == [1, 1, 0, 0, 0]
    np.testing.assert_array_equal(codes.mean_act_F, [14 / 3, 4.5, 2.5, np.nan])
    np.testing.assert_array_equal(codes.max_act_F, [7, 5, 3, np.nan])


def test_some_documents_keep_their_numbers_and_codes():
    codes = hand_made()
    part = codes.of_documents(np.array([1]))
    assert part.indptr.tolist() == [0, 3, 4, 4]
    assert part.latents.tolist() == [0, 1, 2, 1]
    assert part.acts.tolist() == [6, 4, 3, 5]
    assert (part.doc_N.tolist(), part.position_N.tolist()) == ([1, 1, 1], [1, 2, 3])
    assert part.task_N.tolist() == [0, 0, 0]
    assert part.tokens_D.tolist() == [0, 3]
    assert codes.of_documents(np.array([0, 1])) is codes
    assert codes.documents_within(0).tolist() == codes.documents_within(5).tolist() == [0, 1]


def test_chunks_stay_inside_windows():
    codes = hand_made()
    assert codes.chunks_N(2).tolist() == [0, 1, 2, 3, 3]
    assert codes.chunks_N(100).tolist() == [0, 0, 1, 1, 1]


def test_contexts_are_the_strongest_of_each_document():
    codes = hand_made()
    ids = [np.array([10, 11, 12]), np.array([20, 21, 22, 23])]
    windows = Windows(
        ids, [np.array([False, True, True]), np.array([False, True, True, True])],
        np.array([0, 1]), np.array([0, 8]), np.array([1, 0]), ("a", "b"), 0, {},
    )  # fmt: skip
    table = top_contexts(codes, windows, [0], 5, lambda tokens: " ".join(map(str, tokens)))
    assert table.doc.tolist() == [0, 1]
    assert table.activation.tolist() == [7, 6]
    assert table["rank"].tolist() == [0, 1]
    assert table.task.tolist() == ["b", "a"]
    assert table.position.tolist() == [2, 9]
    assert table.token.tolist() == ["12", "21"]
    assert table.context_before.tolist() == ["10 11", "20"]
    assert table.context_after.tolist() == ["", "22 23"]
    assert len(top_contexts(codes, windows, [3], 5, str)) == 0


def test_chosen_latents_are_supported_significant_and_specialised():
    features = pd.DataFrame(
        {
            "latent": [0, 1, 2, 3, 4],
            "supported": [True, True, True, False, True],
            "si": [0.2, 0.9, 0.5, 1.0, np.nan],
            "si_q": [0.01, 0.5, 0.01, np.nan, 1.0],
            "top_task": ["a", "a", "a", "a", "b"],
        }
    )
    assert choose_latents(features, ("a", "b"), 3) == [2, 0, 1]
