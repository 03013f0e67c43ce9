"""Which hookpoints of which model have pre-trained SAEs: facts in the YAML files here; no torch."""

from saescope.coverage.known import known_repositories

__all__ = ["known_repositories"]
