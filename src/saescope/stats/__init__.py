"""Statistics of sparse codes: pure functions on arrays, no file, model or torch in sight."""

from saescope.stats.bootstrap import bootstrap_mean_si
from saescope.stats.coactivation import Edges, collapse, validated_edges
from saescope.stats.density import feature_statistics, log10_density_histogram, supported
from saescope.stats.edge_nulls import block_permutation, curveball, null_edge_count
from saescope.stats.modularity import Partition, leiden, modularity
from saescope.stats.modularity_summary import ModularitySummary, summarise_modularity
from saescope.stats.multiple_testing import benjamini_hochberg
from saescope.stats.naive import naive_modularity
from saescope.stats.permutation import PermutationNull, permutation_null
from saescope.stats.reconstruction import quality
from saescope.stats.rewiring import rewire
from saescope.stats.specialization import naive_specialization, specialization, task_counts
from saescope.stats.specialization_summary import SpecializationSummary, summarise_specialization

__all__ = [
    "Edges",
    "ModularitySummary",
    "Partition",
    "PermutationNull",
    "SpecializationSummary",
    "benjamini_hochberg",
    "block_permutation",
    "bootstrap_mean_si",
    "collapse",
    "curveball",
    "feature_statistics",
    "leiden",
    "log10_density_histogram",
    "modularity",
    "naive_modularity",
    "naive_specialization",
    "null_edge_count",
    "permutation_null",
    "quality",
    "rewire",
    "specialization",
    "summarise_modularity",
    "summarise_specialization",
    "supported",
    "task_counts",
    "validated_edges",
]
