"""Results of the causal stage: scalars, and tables of the run folder."""

from dataclasses import dataclass, field

import pandas as pd

from saescope.analysis.reconstruction import Metrics
from saescope.analysis.resamples import OfSome
from saescope.left_out import LeftOut
from saescope.stats.arrays import FloatArray


@dataclass
class Part:
    """What the causal stage leaves; a part that did not run has no key at all."""

    metrics: Metrics = field(default_factory=dict)
    """`causal/<name>` → value; a null one has its reason in `notes`."""

    notes: dict[str, str] = field(default_factory=dict)
    """Metric key → why it is null."""

    warnings: list[str] = field(default_factory=list)
    """One line each, shown at the end of the run."""

    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    """Written as `<name>.parquet` into the run folder."""

    columns: dict[str, FloatArray] = field(default_factory=dict)
    """Further columns of `features.parquet`, [F] each."""

    left_out: list[LeftOut] = field(default_factory=list)
    """What the stage left out of what the job measures."""

    resamples: OfSome | None = None
    """Metrics with the measured documents drawn anew, for paired differences between jobs."""

    def add(self, other: "Part") -> None:
        """Append the results of another part."""
        self.metrics |= other.metrics
        self.notes |= other.notes
        self.warnings += other.warnings
        self.left_out += other.left_out
        self.tables |= other.tables
        self.columns |= other.columns
        assert self.resamples is None or other.resamples is None
        self.resamples = self.resamples or other.resamples
