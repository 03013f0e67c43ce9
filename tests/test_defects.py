"""The rows of scripts/defects.py match the source and name tests that exist, so that they cannot rot."""

from pathlib import Path

import pytest
from scripts.defects import DEFECTS, HERE


@pytest.mark.parametrize(("file", "right", "wrong", "tests"), DEFECTS)
def test_a_defect_changes_the_one_place_it_quotes(file, right, wrong, tests):
    source = (HERE / "src" / "saescope" / file).read_text(encoding="utf-8")
    assert source.count(right) == 1
    assert right != wrong
    for test in tests.split():
        assert Path(HERE / test).exists(), test
