"""Columns, tables and single numbers that all parts share."""

import json

import numpy as np

from saescope.dynamic_k.part import COLUMNS, middle_k, section, table


def test_the_middle_fraction():
    assert middle_k((0.1, 0.2, 0.3, 0.5, 0.7, 1.0)) == 0.3
    assert middle_k((0.5,)) == 0.5
    assert middle_k((1.0,)) == 1.0


def test_what_a_row_lacks_is_empty():
    frame = table([{"target": "sae", "k": 0.5, "tokens": 7}, {"target": "mlp", "task": "code"}])
    assert list(frame.columns) == COLUMNS
    assert frame.task.tolist() == ["all", "code"]
    assert frame.tokens.tolist()[0] == 7
    assert frame.tokens.isna().tolist() == [False, True]
    assert frame.ce.isna().all()


def test_numbers_of_a_section_are_json_s():
    rows = [["a", np.float32(0.5), np.int64(3), np.nan, None]]
    assert section("t", ["s"], list("abcde"), rows)["rows"] == [["a", 0.5, 3, None, None]]
    json.dumps(section("t", ["s"], list("abcde"), rows), allow_nan=False)
