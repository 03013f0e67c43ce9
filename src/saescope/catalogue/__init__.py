"""Which hookpoints of which model have pre-trained SAEs: facts in the YAML files here; no torch."""

from saescope.catalogue.repositories import known_repositories, never_seen
from saescope.catalogue.shapes import known_layers

__all__ = ["known_layers", "known_repositories", "never_seen"]
