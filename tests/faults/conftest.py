"""What the tests of faults share."""

import pytest


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The setting of a cache for a whole file, so that a small disk holds nothing but the run."""
    return f"runtime.cache={tmp_path_factory.mktemp('cache')}"
