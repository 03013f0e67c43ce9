"""Overlap of the SAEs of several jobs: reads run folders and SAE files, never a model; torch-free."""

from saescope.overlap.command import write_overlap

__all__ = ["write_overlap"]
