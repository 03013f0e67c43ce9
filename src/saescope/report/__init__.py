"""The run page: reads the files of a run folder, never a model; torch-free."""

from saescope.report.page import ReportError, write_report
from saescope.report.words import Sentence, headline

__all__ = ["ReportError", "Sentence", "headline", "write_report"]
