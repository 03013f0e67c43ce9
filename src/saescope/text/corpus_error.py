"""The error of everything that reads training text."""

from saescope.errors import SaescopeError


class CorpusError(SaescopeError):
    """The training text cannot be read, or is too little."""
