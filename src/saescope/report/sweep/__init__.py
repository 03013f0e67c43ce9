"""The sweep page: many run folders side by side; reads files, never a model; torch-free."""

from saescope.report.sweep.write import SweepSummary, write_page, write_sweep

__all__ = ["SweepSummary", "write_page", "write_sweep"]
