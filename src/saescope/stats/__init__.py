"""Statistics of sparse codes: pure functions on arrays; no file, no model, no torch.

- Which latents count: `supported`, `feature_statistics`, `log10_density_histogram`.
- Specialization (SI): `task_counts`, `document_dispersion`, `specialization`, its null `permutation_null`,
  its test `permutation_p`, its interval `bootstrap_si`, and `naive_specialization`, the literature's.
  All of it: `summarise_specialization`. Given the word: `beyond_words`, all of it `summarise_words`.
- Co-activation graph: `validated_edges` (per token, or per unit after `collapse`), and `null_edge_count`,
  the edges left on randomised activations (`curveball`, `block_permutation`).
- Modularity (Q): `leiden`, `modularity`, its null `rewire`, and `naive_modularity`, the literature's.
  All of it: `summarise_modularity`.
- Reconstruction: `quality`. Many tests at a time: `benjamini_hochberg`.
"""

from saescope.stats.beyond_words import beyond_words
from saescope.stats.beyond_words_summary import summarise_words
from saescope.stats.bootstrap import bootstrap_si
from saescope.stats.coactivation import collapse, validated_edges
from saescope.stats.density import feature_statistics, log10_density_histogram, supported
from saescope.stats.edge_nulls import block_permutation, curveball, null_edge_count
from saescope.stats.graph_metrics import ModularitySettings
from saescope.stats.modularity import leiden, modularity
from saescope.stats.modularity_summary import ModularitySummary, summarise_modularity
from saescope.stats.multiple_testing import benjamini_hochberg
from saescope.stats.naive import naive_modularity
from saescope.stats.permutation import permutation_null
from saescope.stats.permutation_test import permutation_p
from saescope.stats.reconstruction import quality
from saescope.stats.rewiring import rewire
from saescope.stats.specialization import (
    document_dispersion,
    naive_specialization,
    specialization,
    task_counts,
)
from saescope.stats.specialization_summary import (
    SpecializationSettings,
    SpecializationSummary,
    summarise_specialization,
)

__all__ = [
    "ModularitySettings",
    "ModularitySummary",
    "SpecializationSettings",
    "SpecializationSummary",
    "benjamini_hochberg",
    "beyond_words",
    "block_permutation",
    "bootstrap_si",
    "collapse",
    "curveball",
    "document_dispersion",
    "feature_statistics",
    "leiden",
    "log10_density_histogram",
    "modularity",
    "naive_modularity",
    "naive_specialization",
    "null_edge_count",
    "permutation_null",
    "permutation_p",
    "quality",
    "rewire",
    "specialization",
    "summarise_modularity",
    "summarise_specialization",
    "summarise_words",
    "supported",
    "task_counts",
    "validated_edges",
]
