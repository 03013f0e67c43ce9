"""Long statistics count their draws for whoever shows them, and the numbers do not depend on it."""

import numpy as np
from scipy import sparse

from saescope.stats import (
    ModularitySettings,
    SpecializationSettings,
    summarise_modularity,
    summarise_specialization,
)


def test_every_draw_is_counted_and_nothing_else_changes():
    rng = np.random.default_rng(0)
    active = sparse.csr_matrix((rng.random((600, 30)) < 0.2).astype(np.int32))
    task_N = np.repeat([0, 1, 2], 200)
    supported_F, top_task_F = np.ones(30, dtype=bool), np.zeros(30, dtype=int)
    doc_counts = sparse.csr_matrix(active.toarray().reshape(30, 20, 30).sum(axis=1))
    calls: dict[str, list[tuple[int, int]]] = {}

    def progress(step, done, total):
        calls.setdefault(step, []).append((done, total))

    def both(**shown):
        si = summarise_specialization(
            doc_counts, np.full(30, 20), np.repeat([0, 1, 2], 10), 3, supported_F,
            SpecializationSettings(permutations=40, bootstraps=30), **shown,
        )  # fmt: skip
        settings = ModularitySettings(min_joint=1, fdr=0.99, rewirings=5, null_tokens=600, curveball_passes=3)
        q = summarise_modularity(active, task_N, 3, supported_F, top_task_F, settings, **shown)
        return si.metrics | q.metrics

    assert both(progress=progress) == both()
    totals = {
        "null draws": 40, "bootstraps": 30, "permutations": 40, "pairs of latents": 435, "Leiden runs": 5,
        "latents in the naive graph": 30, "curveball passes": 3, "rewirings": 100,
    }  # fmt: skip
    more = calls.pop("more permutations")  # where a few of the 30 latents stand at the floor of p
    assert more[0][0] == 0 < more[-1][0]
    assert all(done <= total for done, total in more)
    assert more == sorted(more, key=lambda call: call[0])
    assert list(calls) == list(totals)
    assert calls["Leiden runs"].count((0, 5)) == 2  # of all edges, and of those within tasks
    for step, counted in calls.items():
        total = totals[step]
        assert counted[0] == (0, total), step
        assert max(counted) == (total, total), step
        assert step in ("rewirings", "Leiden runs") or counted == sorted(counted), step
