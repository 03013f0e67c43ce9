"""What stands before a text: the tokens that the tokenizer, or `probes.prepend_bos`, puts there."""

import itertools
from typing import Any

from saescope.config import ProbesConfig
from saescope.errors import ProbeError
from saescope.text.packing import Ids


def begins_with(ids: Ids, prefix: list[int]) -> bool:
    """Whether a document begins with the tokens that are put before every window."""
    return bool(prefix) and ids[: len(prefix)].tolist() == prefix


def prefix_of(cfg: ProbesConfig, tokenizer: Any) -> list[int]:
    """The tokens put before every window: by default those that the tokenizer puts before a text by itself.

    Raises ProbeError where `probes.prepend_bos` wants a token that is not there, or no room is left.
    """
    if cfg.prepend_bos is False:
        return []
    prefix = _own_prefix(tokenizer)
    bos: int | None = tokenizer.bos_token_id
    if cfg.prepend_bos and bos is None:
        raise ProbeError(
            "probes.prepend_bos=true, but this tokenizer has no beginning-of-sequence token; set it to false"
        )
    if cfg.prepend_bos and bos is not None and bos not in prefix:
        prefix = [bos, *prefix]
    if len(prefix) >= cfg.ctx_len:
        raise ProbeError(
            f"probes.ctx_len={cfg.ctx_len} leaves no room beside the {len(prefix)} tokens that the tokenizer "
            "puts before every text; raise it"
        )
    return prefix


def _own_prefix(tokenizer: Any) -> list[int]:
    """What the tokenizer puts before a text: a BOS token, nothing, or several tokens."""
    whole = list(tokenizer("a", verbose=False)["input_ids"])
    text = list(tokenizer("a", add_special_tokens=False, verbose=False)["input_ids"])
    for start in range(len(whole) - len(text) + 1) if text else ():
        if whole[start : start + len(text)] == text:
            return whole[:start]
    # the text is tokenised otherwise beside special tokens: those at the beginning are known as such
    special = set(tokenizer.all_special_ids)
    return list(itertools.takewhile(special.__contains__, whole))
