"""Sums of the extraction and splice passes → `sae/*`, `lm/*` and `task/*` metrics. Free of torch."""

import math

import numpy as np
import numpy.typing as npt

from saescope.metrics import SAE_VARIANCE_TOP_TOKENS, in_group, keys, metric
from saescope.stats.reconstruction import quality, variance_share

Sums = dict[str, npt.NDArray[np.float64]]
Metrics = dict[str, float | None]

NO_LM = "metrics.lm_tokens=0: losses were not measured"
NO_PREDICTION = "no counted position has a next token in its window: nothing is predicted"
NO_DENOMINATOR = "undefined here: its denominator is 0"


def reconstruction_metrics(sums: Sums) -> Metrics:
    """`sae/*` over all counted tokens; variance pooled globally."""
    total = {name: value.sum(0) for name, value in sums.items()}
    share = variance_share(
        float(total["top_deviation"]), int(total["tokens"]), total["x"], float(total["x2"])
    )
    return {**_quality(total), SAE_VARIANCE_TOP_TOKENS.key: share}


def loss_metrics(losses: Sums | None) -> Metrics:
    """`lm/*`, each the mean over scored predictions; None where not measured, or where there is none.

    ce_score = (CE_zero − CE_spliced)/(CE_zero − CE), kl_score = (KL_zero − KL_spliced)/KL_zero (SAELens,
    SAEBench); 1 is perfect, 0 no better than zeros.
    """
    if losses is None or not losses["tokens_clean"].any():
        return dict.fromkeys(keys("lm"))
    total = {name: float(value.sum()) for name, value in losses.items()}
    n = total["tokens_clean"]
    ce, spliced, zero, mean = (total[f"ce_{v}"] / n for v in ("clean", "spliced", "zero", "mean"))
    kl, kl_zero = total["kl_spliced"] / n, total["kl_zero"] / n
    return {
        "lm/ce": ce,
        "lm/ce_spliced": spliced,
        "lm/ce_zero": zero,
        "lm/ce_mean": mean,
        "lm/ce_delta": spliced - ce,
        "lm/ce_score": (zero - spliced) / (zero - ce) if zero != ce else None,
        "lm/kl": kl,
        "lm/kl_score": (kl_zero - kl) / kl_zero if kl_zero > 0 else None,
    }


def task_metrics(
    tasks: tuple[str, ...],
    sums: Sums,
    losses: Sums | None,
    tokens_D: npt.NDArray[np.int64],
    task_D: npt.NDArray[np.int64],
) -> Metrics:
    """`task/<task>/{tokens,docs,fvu,ce,ce_delta}`; fvu against the task's own variance."""
    metrics: Metrics = {}
    for t, task in enumerate(tasks):
        fvu = _quality({name: value[t] for name, value in sums.items()})["sae/fvu"]
        ce = delta = None
        if losses is not None and losses["tokens_clean"][t] > 0:
            n = losses["tokens_clean"][t]
            ce = float(losses["ce_clean"][t] / n)
            delta = float(losses["ce_spliced"][t] / n) - ce
        metrics |= {
            f"task/{task}/tokens": int(tokens_D[task_D == t].sum()),
            f"task/{task}/docs": int((task_D == t).sum()),
            f"task/{task}/fvu": fvu,
            f"task/{task}/ce": ce,
            f"task/{task}/ce_delta": delta,
        }
    return metrics


def loss_notes(tasks: tuple[str, ...], losses: Sums | None) -> dict[str, str]:
    """Reason for each loss metric that is null because nothing was predicted."""
    if losses is None:
        return {}
    unpredicted_K = losses["tokens_clean"] == 0
    loss_entries = [entry for entry in in_group("task") if entry.losses]
    null_keys = [
        entry.of(task)
        for task, unpredicted in zip(tasks, unpredicted_K, strict=True)
        if unpredicted
        for entry in loss_entries
    ]
    return dict.fromkeys([*null_keys, *(keys("lm") if unpredicted_K.all() else ())], NO_PREDICTION)


def without_nonfinite(metrics: Metrics) -> tuple[Metrics, dict[str, str]]:
    """NaN and infinite values as None, and the reason for each."""
    bad = [key for key, value in metrics.items() if value is not None and not math.isfinite(value)]
    notes = {}
    for key in bad:
        logits = "the model's own logits or those with the hookpoint replaced"
        operands = logits if _from_losses(key) else "what it is made of"
        notes[key] = f"not a finite number: {operands} overflow or are NaN"
    return {**metrics, **dict.fromkeys(bad)}, notes


def null_notes(metrics: Metrics, reasons: dict[str, str]) -> dict[str, str]:
    """A reason for every null metric: that in `reasons`, or the one its definition implies."""
    return {
        key: reasons.get(key, NO_LM if _from_losses(key) else NO_DENOMINATOR)
        for key, value in metrics.items()
        if value is None
    }


def _from_losses(key: str) -> bool:
    entry = metric(key)
    return entry is not None and entry.losses


def _quality(sums: Sums) -> Metrics:
    """`stats.reconstruction.quality` from the sums over some tokens: scalars, and `x` [d_in]."""
    return dict(
        quality(
            n=int(sums["tokens"]),
            sum_x_d=sums["x"],
            sum_x2=float(sums["x2"]),
            sum_err2=float(sums["err2"]),
            sum_cos=float(sums["cosine"]),
            sum_norm_ratio=float(sums["norm_ratio"]),
            sum_dot=float(sums["dot"]),
            sum_xhat2=float(sums["xhat2"]),
            l0_sum=float(sums["l0"]),
        )
    )
