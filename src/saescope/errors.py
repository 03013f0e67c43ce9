"""User errors: one line that says what is wrong, what was valid, and how to fix it.

Anything that is not a `SaescopeError` is a defect of saescope and keeps its traceback.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches

LONGEST = 2000
"""Characters of a message; a value quoted in it may have millions."""
LONGEST_QUOTED = 500
"""Characters of what another library says."""


class SaescopeError(ValueError):
    """Base of all errors that a user can fix."""

    def __init__(self, message: str) -> None:
        super().__init__(line(message))


class ConfigError(SaescopeError):
    """A configuration key or value is not valid."""


class BusyError(SaescopeError):
    """Another process works in the run folder."""


class ModelError(SaescopeError):
    """The language model or its tokenizer cannot be loaded."""


class HookpointError(SaescopeError):
    """The hookpoint does not exist in this model."""


class SaeError(SaescopeError):
    """The sparse autoencoder cannot be loaded, or does not fit the hookpoint."""


class HubError(SaescopeError):
    """A repository on the Hugging Face Hub cannot be read."""

    def __init__(self, message: str, reason: str) -> None:
        """`reason`: what is wrong in a few words, for sentences that name the repository already."""
        super().__init__(message)
        self.reason = line(reason)


class NoRepositoryError(HubError):
    """There is no such repository on the Hub, or it is hidden from this user."""


class ProbeError(SaescopeError):
    """The probe texts cannot be read or are too few."""


class CorpusError(SaescopeError):
    """The training text cannot be read, or is too little."""


class CacheError(SaescopeError):
    """The activation cache cannot be used as configured."""


class ReportError(SaescopeError):
    """A report cannot be built from this folder."""


def line(message: str) -> str:
    """`message` as one printable line of at most `LONGEST` characters, whatever path or value it quotes."""
    text = " ".join(message.split())
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"


def library_words(error: Exception) -> str:
    """What another library says, in one line and as a sentence.

    Its end is kept, since that is where a remedy stands; the setting it names is named as it is called here.
    """
    text = line(str(error)) or type(error).__name__
    text = re.sub(r"`?trust_remote_code=True`?", "model.trust_remote_code=true", text)
    if len(text) > LONGEST_QUOTED:
        text = f"{text[: LONGEST_QUOTED // 2]} … {text[-LONGEST_QUOTED // 2 :]}"
    return text.rstrip(".") + "."


def choices(valid: Iterable[str], limit: int = 40) -> str:
    """The valid names in one line, shortened after `limit`."""
    names = list(valid)
    shown = ", ".join(names[:limit])
    return shown + (f", … ({len(names)} in all)" if len(names) > limit else "")


def nearest(name: str, valid: Iterable[str]) -> str:
    """`did you mean 'x'? ` or an empty string, to be put in front of the valid names."""
    matches = get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return f"did you mean '{matches[0]}'? " if matches else ""
