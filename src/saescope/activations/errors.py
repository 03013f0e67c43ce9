"""The error of the activation cache."""

from saescope.errors import SaescopeError


class CacheError(SaescopeError):
    """The activation cache cannot be written or read."""
