"""Which documents may train the embedded model and which are kept back as probe text."""

from __future__ import annotations

import hashlib
from typing import Literal

Split = Literal["train", "probe"]

PROBE_SHARE = 8
"""One key in this many belongs to the probe split."""


def split_of(key: str) -> Split:
    """Return the split of a key (a text, a name or a file path).

    The choice is a hash of the key alone, so it is the same for every seed, machine and Python version.
    """
    digest = hashlib.blake2b(key.encode("utf-8"), digest_size=8).digest()
    return "probe" if int.from_bytes(digest, "big") % PROBE_SHARE == 0 else "train"
