"""`dynamic_k.structure=true` as a part of a job."""

import json

from saescope.dynamic_k.structure import run_structure
from saescope.metrics import keys

from .job import config, setup_of


def test_a_job_gives_every_metric_and_tables_that_json_can_hold(model_folder, probes):
    cfg = config(
        model_folder, probes, target="mlp", k=(0.1, 0.5), tokens=600, calibration_tokens=600, bootstraps=20
    )
    part = run_structure(cfg, setup_of(cfg))
    assert set(part.metrics) == set(keys("dynk.structure"))
    assert {key for key, value in part.metrics.items() if value is None} == set(part.notes)
    assert 0 < part.metrics["dynk/union_mixed_8"] <= 1
    assert part.metrics["dynk/union_same_task_8"] <= part.metrics["dynk/union_same_task_64"]
    assert [len(section["rows"]) for section in part.sections] == [4, 2, 8]
    for section in part.sections:
        assert all(len(row) == len(section["columns"]) for row in section["rows"])
    json.dumps(part.sections, allow_nan=False)
