"""Quality over k from `dynamic_k.csv`, as points of curves for a dashboard. Free of torch."""

import pandas as pd

from saescope.dynamic_k.part import ALL_TASKS

CURVE_AXIS = "dynk/curves/k"
"""The x-axis of the curves."""


def curves(table: pd.DataFrame) -> list[dict[str, float]]:
    """Pooled quality over k: one dictionary per k, `dynk/curves/<way of choosing>/ce_delta` and `/kl`."""
    points: dict[float, dict[str, float]] = {}
    for row in table[table.ce_delta.notna() & (table.task == ALL_TASKS)].to_dict("records"):
        way = "-".join(row[key] for key in ("selector", "score", "granularity") if isinstance(row[key], str))
        point = points.setdefault(row["k"], {CURVE_AXIS: row["k"]})
        point |= {f"dynk/curves/{way}/{name}": row[name] for name in ("ce_delta", "kl")}
    return [points[k] for k in sorted(points)]
