"""Statistics of sparse codes: pure functions on arrays, no file, model or torch in sight."""

from .bootstrap import bootstrap_mean_si
from .coactivation import Edges, collapse, validated_edges
from .density import feature_statistics, log10_density_histogram, supported
from .edge_nulls import block_permutation, curveball, null_edge_count
from .modularity import Partition, leiden, modularity
from .modularity_summary import ModularitySummary, summarise_modularity
from .multiple_testing import benjamini_hochberg
from .naive import naive_modularity
from .permutation import PermutationNull, permutation_null
from .reconstruction import quality
from .rewiring import rewire
from .specialization import naive_specialization, specialization, task_counts
from .specialization_summary import SpecializationSummary, summarise_specialization

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
