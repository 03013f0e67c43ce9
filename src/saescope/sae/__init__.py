"""What encodes: one interface, and a factory keyed on `sae.source`."""

from saescope.sae.base import Sae, SparseCodes
from saescope.sae.factory import load

__all__ = ["Sae", "SparseCodes", "load"]
