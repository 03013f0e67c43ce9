"""From scores to masks of kept neurons, nested in k.

`topk` keeps round(k·d_ff) neurons. The other selectors give every neuron of a token a level and keep those at
or above one cut per layer, so that a token keeps as many as it needs:

    threshold  level = score
    rel_max    level = score / largest score of the token          (`dynk_max` of D2DMoE, 2310.04361)
    top_p      level = energy share of the neuron and all smaller ones, energy = score²: keeping the levels
               above 1 − p keeps the smallest set that reaches p   (`dynk` of D2DMoE; 2509.00454)

The cut is the (1 − k)-quantile of the levels on calibration tokens, with the layers before already sparse, so
that the mean kept fraction there is k.
"""

import torch
from torch import Tensor

from saescope.dynamic_k.mlps import Mlp, abs_act, abs_act_x_wnorm


def kept_count(k: float, d_ff: int) -> int:
    """Number of kept neurons: round(k·d_ff), at least 1."""
    return max(1, round(k * d_ff))


def top_mask(score_F: Tensor, k: float) -> Tensor:
    """Exactly `kept_count` neurons of the last axis, the largest scores; ties go to the lower index.

    The tie rule makes masks of one score nested in k, and the same on every device.
    """
    width = score_F.shape[-1]
    count = kept_count(k, width)
    if count == width:
        return torch.ones_like(score_F, dtype=torch.bool)
    smallest_kept = score_F.topk(count, dim=-1, sorted=False).values.amin(-1, keepdim=True)
    above, equal = score_F > smallest_kept, score_F == smallest_kept
    room = count - above.sum(-1, keepdim=True)
    return above | (equal & (equal.cumsum(-1) <= room))


def level(selector: str, score_F: Tensor) -> Tensor:
    """Level of every neuron of the last axis, monotone in its score."""
    match selector:
        case "threshold":
            return score_F
        case "rel_max":
            largest = score_F.amax(-1, keepdim=True)
            return score_F / largest.clamp_min(torch.finfo(score_F.dtype).tiny)
        case "top_p":
            ascending, order = (score_F.double() ** 2).sort(-1)
            below = ascending.cumsum(-1)
            share = below / below[..., -1:].clamp_min(torch.finfo(below.dtype).tiny)
            return torch.zeros_like(share).scatter(-1, order, share).to(score_F.dtype)
        case other:
            raise AssertionError(f"{other} has no level")


def cut(level_NF: Tensor, k: float) -> float:
    """The level that a fraction k of all entries reaches; −inf at k = 1, so that nothing is ever dropped."""
    if k == 1:
        return -torch.inf
    flat = level_NF.flatten()
    count = max(1, round(k * len(flat)))
    return float(flat.kthvalue(len(flat) - count + 1).values)


def scored(name: str, mlp: Mlp, acts_BTF: Tensor, seed: int) -> Tensor:
    """Scores [B, T, d_ff], float32. `random`: a new draw at every position, whatever the text."""
    if name == "random":
        generator = torch.Generator().manual_seed(1_000_003 * (seed + 1) + mlp.layer)
        drawn_TF = torch.rand(acts_BTF.shape[-2:], generator=generator)
        return drawn_TF.to(acts_BTF.device).expand(acts_BTF.shape)
    measure = {"abs_act": abs_act, "abs_act_x_wnorm": abs_act_x_wnorm}[name]
    return measure(mlp, acts_BTF.float())
