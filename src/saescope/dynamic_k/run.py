"""The stage of a job: which parts run, and their rows, scalars and tables put together."""

from typing import Any

import numpy as np

from saescope.config import AppConfig
from saescope.dynamic_k.part import Part, table
from saescope.extraction.setup import Setup
from saescope.sae.base import Sae


def check(cfg: AppConfig, skeleton: Any) -> None:
    """What can be checked before any weight is loaded. Raises ConfigError."""
    if cfg.dynamic_k.target == "mlp":
        from saescope.dynamic_k.mlp import check

        check(cfg, skeleton)


def run(cfg: AppConfig, setup: Setup, sae: Sae) -> Part:
    """Run the parts that `cfg.dynamic_k` selects.

    `metrics` has every key of the parts that ran, null with a reason where it does not apply, and no key of
    the others. `tables["dynamic_k"]` has all rows; with `dynamic_k=none` there is no such table.
    Raises ConfigError for a model without MLPs, ProbeError for a task of a single document.
    """
    part, job = Part(), cfg.dynamic_k
    if job.target == "mlp":
        from saescope.dynamic_k.mlp import run_mlp

        part.add(run_mlp(cfg, setup))
    if job.target == "sae":
        from saescope.dynamic_k.sae import run_sae

        part.add(run_sae(cfg, setup, sae))
    if job.target != "none":
        if job.structure:
            from saescope.dynamic_k.structure import run_structure

            part.add(run_structure(cfg, setup))
        part.tables = {"dynamic_k": table(part.rows), **part.tables}
    part.metrics = {key: _finite(part.metrics[key]) for key in sorted(part.metrics)}
    return part


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
