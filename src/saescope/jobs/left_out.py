"""What a job left out, from its stages: the records of `status.json` and of the page."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from saescope.analysis.features import unit_numbers
from saescope.analysis.reconstruction import Sums
from saescope.config import MetricsConfig
from saescope.extraction.codes import Codes
from saescope.left_out import WANDB_MEDIA, LeftOut
from saescope.runfolder.latents import Arrays
from saescope.stats.edge_nulls import run_subset
from saescope.text.windows import Windows


def of_measurement(
    cfg: MetricsConfig,
    windows: Windows,
    codes: Codes,
    supported_F: Any,
    losses: Sums | None,
    latents: Arrays,
    training: Sequence[LeftOut],
) -> list[LeftOut]:
    """All records of a job but those of its causal and dynamic-k stages, which have their own.

    `supported_F`: which latents are supported; `losses`: sums of the losses by task, None where not measured;
    `latents`: the arrays of `latents.npz`; `training`: what the SAE's training left out.
    """
    nonfinite = LeftOut(
        "tokens", len(codes.left_out), windows.num_tokens, "The activation is NaN or infinite there."
    )
    records = [*windows.left_out, nonfinite, *training, _unsupported(cfg, supported_F)]
    of_graph_N = np.isin(codes.doc_N, codes.documents_within(cfg.graph_tokens))
    records += [
        _without_loss(cfg, windows, losses),
        _without_graph(cfg, of_graph_N),
        _without_null(cfg, codes, of_graph_N),
    ]
    return records + _unread_latents(latents)


def of_tracking(lost: Sequence[str]) -> list[LeftOut]:
    """What W&B did not take; the local files have it."""
    if not lost:
        return []
    why = (
        f"W&B did not take it, the local files have it: {'; '.join(' '.join(text.split()) for text in lost)}."
    )
    return [LeftOut(WANDB_MEDIA, len(lost), None, why, "W&B")]


def _unsupported(cfg: MetricsConfig, supported_F: Any) -> LeftOut:
    why = (
        f"The latent fires on fewer than metrics.min_count={cfg.min_count} tokens or in fewer than "
        f"metrics.min_docs={cfg.min_docs} documents: it is not in SI and Q, nor among the listed latents."
    )
    return LeftOut("latents", int((~np.asarray(supported_F)).sum()), len(supported_F), why)


def _without_loss(cfg: MetricsConfig, windows: Windows, losses: Sums | None) -> LeftOut:
    scored = 0 if losses is None else int(losses["tokens_clean"].sum())
    why = f"Losses are measured on about metrics.lm_tokens={cfg.lm_tokens} tokens, where a token follows."
    return LeftOut("tokens", windows.num_tokens - scored, windows.num_tokens, why, "losses")


def _without_graph(cfg: MetricsConfig, of_graph_N: Any) -> LeftOut:
    why = (
        f"The graph of joint firings, and so Q, is of about metrics.graph_tokens={cfg.graph_tokens} tokens: "
        "whole documents, of every task the same share."
    )
    return LeftOut("tokens", int((~of_graph_N).sum()), len(of_graph_N), why, "graph")


def _without_null(cfg: MetricsConfig, codes: Codes, of_graph_N: Any) -> LeftOut:
    """Tokens beyond those on which the null of the edges is drawn; units, where edges are not of tokens."""
    units = {"token": "tokens", "chunk": "chunks", "document": "documents"}[cfg.unit]
    unit_N = unit_numbers(codes, cfg)
    unit_N = np.arange(codes.num_tokens) if unit_N is None else unit_N
    total, of_graph = len(np.unique(unit_N)), len(np.unique(unit_N[of_graph_N]))
    used = len(run_subset(of_graph, cfg.null_tokens)) if cfg.null_tokens > 0 else 0
    why = f"Edges by chance are drawn on at most metrics.null_tokens={cfg.null_tokens} {units}."
    return LeftOut(units, total - used, total, why, "null of the edges")


def _unread_latents(latents: Arrays) -> list[LeftOut]:
    supported = len(latents["latent_L"])
    if "promoted_LT" in latents:
        unread = int((latents["promoted_LT"][:, 0] < 0).sum())
        why = "Promoted tokens are read of the latents that fire most, as many as a limit on logits allows."
    else:
        unread = supported
        why = "The SAE has no decoder rows of the stream's width, or the model cannot be entered at its end."
    read, total = map(int, latents["tokens"])
    shown = "Contexts are chosen from the first tokens of a very large probe set."
    return [
        LeftOut("latents", unread, supported, why, "promoted tokens"),
        LeftOut("tokens", total - read, total, shown, "contexts"),
    ]
