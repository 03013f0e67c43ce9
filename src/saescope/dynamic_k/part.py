"""What a part of the dynamic-k stage gets, and what it gives back."""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from saescope.analysis.features import FeatureResults
from saescope.analysis.reconstruction import Metrics
from saescope.extraction.codes import Codes
from saescope.model.hookpoints import Hookpoint
from saescope.model.load import LanguageModel
from saescope.runtime.hardware import Hardware
from saescope.sae.base import Sae
from saescope.text.windows import Windows


@dataclass(frozen=True)
class Inputs:
    """The measured job: everything that was loaded, extracted and found."""

    lm: LanguageModel
    windows: Windows
    machine: Hardware
    hookpoint: Hookpoint
    coder: Sae
    codes: Codes
    found: FeatureResults


@dataclass
class Part:
    """Rows of `dynamic_k.csv` (keys of `table.COLUMNS`, missing ones null) and `dynk/*` scalars."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    metrics: Metrics = field(default_factory=dict)
    """`dynk/<name>` → value; a null one has its reason in `notes`."""

    notes: dict[str, str] = field(default_factory=dict)
    """Metric key → why it is null."""

    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    """Further tables, written as `<name>.csv` into the run folder and shown in the report."""

    warnings: list[str] = field(default_factory=list)
    """One line each, shown at the end of the run."""

    sections: list[dict[str, Any]] = field(default_factory=list)
    """Tables with their words (`title`, `sentences`, `columns`, `rows`): `dynamic_k_structure.json`."""
