"""The rows of scripts/defects.py match the source, so that they cannot rot."""

from scripts.defects import DEFECTS, stale_rows


def test_every_defect_quotes_one_place_of_the_source_and_tests_that_exist():
    assert len(DEFECTS) > 50
    assert stale_rows() == []
    assert all(right != wrong for _, right, wrong, _ in DEFECTS)
