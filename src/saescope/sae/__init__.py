"""What encodes: one interface, and a factory keyed on `sae.source`."""

from saescope.sae.base import Sae, SparseCodes
from saescope.sae.factory import check, check_known, load

__all__ = ["Sae", "SparseCodes", "check", "check_known", "load"]
