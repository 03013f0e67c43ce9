"""Metrics with the documents drawn anew: what a run leaves for comparison with others. Free of torch."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from saescope.analysis.reconstruction import Sums, loss_metrics, reconstruction_metrics
from saescope.metrics import (
    LM_CE_DELTA,
    LM_CE_SCORE,
    LM_KL,
    LM_KL_SCORE,
    Q_MODULARITY,
    SAE_FVU,
    SI_BEYOND_BIGRAM_MEAN,
    SI_BEYOND_TOKEN_MEAN,
    Metric,
)

Draws = dict[str, npt.NDArray[np.float64]]
"""Metric key → a value for each draw."""

BEYOND = {"token": SI_BEYOND_TOKEN_MEAN, "bigram": SI_BEYOND_BIGRAM_MEAN}
"""The mean index given the word, by kind of word."""
MODULARITY = Q_MODULARITY
QUALITY = (SAE_FVU,)
LOSSES = (LM_CE_DELTA, LM_CE_SCORE, LM_KL, LM_KL_SCORE)


@dataclass(frozen=True)
class OfSome:
    """Values of metrics under draws from some of the documents: those that `causal` measures on."""

    draws: Draws
    """Documents drawn with replacement within their task."""
    documents: str
    """Names the draws (`draws_digest`): jobs of another name were not drawn together."""
    num_documents: int
    """Documents that are drawn from."""


@dataclass(frozen=True)
class Resamples:
    """Values of metrics under draws of the documents: of all, they depend on the documents alone."""

    bootstrap: Draws = field(default_factory=dict)
    """Documents drawn with replacement within their task."""
    groups: Draws = field(default_factory=dict)
    """Each group of documents left out once."""
    of_some: OfSome | None = None
    """Bootstrap of the documents that `causal` measures on."""

    def table(self) -> pd.DataFrame:
        """`resamples.parquet`: `scheme`, `draw`, a column a metric, empty in the rows of the other schemes.

        With `of_some` rows of the scheme `causal` too, and columns that only they fill: `documents`,
        `num_documents`.
        """
        frames = []
        for scheme, draws in (("bootstrap", self.bootstrap), ("groups", self.groups)):
            for size in sorted({values.size for values in draws.values()}):
                columns = {key: values for key, values in draws.items() if values.size == size}
                frames.append(pd.DataFrame({"scheme": scheme, "draw": np.arange(size), **columns}))
        if (some := self.of_some) is not None and some.draws:
            draw = np.arange(next(iter(some.draws.values())).size)
            drawn = {"documents": some.documents, "num_documents": some.num_documents}
            frames.append(pd.DataFrame({"scheme": "causal", "draw": draw, **drawn, **some.draws}))
        if not frames:
            return pd.DataFrame({"scheme": pd.Series(dtype="str"), "draw": pd.Series(dtype="int64")})
        return pd.concat(frames, ignore_index=True)


def quality_draws(sums_of_groups: Sequence[Sums], losses_of_groups: Sequence[Sums]) -> Draws:
    """Reconstruction and losses with each group of documents left out, from the sums over the others.

    A metric that is null without some group is left out.
    """
    draws = _columns([reconstruction_metrics(sums) for sums in sums_of_groups], QUALITY)
    return draws | _columns([loss_metrics(losses) for losses in losses_of_groups], LOSSES)


def _columns(values: Sequence[dict[str, float | None]], metrics: Sequence[Metric]) -> Draws:
    columns = {metric.key: [each[metric.key] for each in values] for metric in metrics}
    return {
        key: np.array(column, dtype=np.float64)
        for key, column in columns.items()
        if column and all(value is not None and np.isfinite(value) for value in column)
    }
