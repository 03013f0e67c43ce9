"""`dynamic_k.csv`: one row per way of choosing, k and task, and one per timing."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

COLUMNS = [
    "target",
    "selector",
    "score",
    "granularity",
    "phase",
    "impl",
    "k",
    "realised_k",
    "tokens",
    "ce",
    "ppl",
    "ce_delta",
    "ce_delta_lo",
    "ce_delta_hi",
    "kl",
    "top1_agree",
    "mlp_flops_frac",
    "total_flops_frac",
    "weight_bytes_frac",
    "saving",
    "tokens_per_s",
    "speedup",
    "task",
    "seed",
    "fvu",
]
"""`phase`: sparse positions (`all`, `generation`), or what was timed (`prefill_b1`, `decode_b8`).
`saving`: whether the fractions are `realised` by `impl` or an `oracle`'s. `task`: `all`, or one task.
`fvu`: of the reconstruction, target `sae` only."""

ALL_TASKS = "all"


def table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """The rows under exactly `COLUMNS`; what a row lacks is empty."""
    whole = pd.DataFrame([dict(row) for row in rows], columns=COLUMNS)
    whole["task"] = whole["task"].fillna(ALL_TASKS)
    whole["tokens"] = whole["tokens"].astype("Int64")
    return whole
