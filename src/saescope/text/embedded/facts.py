"""What a passage can tell and be asked."""

from __future__ import annotations

Fact = tuple[str, str, str]
"""A sentence template, a question template, the answer."""
