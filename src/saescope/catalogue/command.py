"""The exact command that loads or trains the SAE of a hookpoint."""

import re
import shlex
from collections.abc import Iterable

from saescope.catalogue.known import READERS, Known
from saescope.catalogue.shapes import Override, Shape

PLAIN = re.compile(r"[A-Za-z/][\w/.+-]*", re.ASCII)
"""Values that Hydra's grammar reads as text without quotes."""
WORDS = ("null", "true", "false", "nan", "inf", "yes", "no", "on", "off")


def load_command(shape: Shape, layer: int, kind: str, known: Known) -> str:
    """Measure with the pre-trained SAE of `known`."""
    source = READERS[known.format]
    sae: list[Override]
    if source == "hub":
        sae = [("sae.repo", known.repo)]
    else:
        release, sae_id = known.release or known.repo, known.ids[kind].format(layer=layer)
        sae = [("sae", source), ("sae.release", release), ("sae.id", sae_id)]
    return _command([*shape.overrides, *_hookpoint(layer, kind), *sae])


def train_command(shape: Shape, layer: int, kind: str, expansion: int, k: int) -> str:
    """Train an SAE, then measure; Pythia's own corpus, except for the embedded model."""
    sae: list[Override] = [("sae", "train"), ("sae.expansion_factor", expansion), ("sae.k", k)]
    corpus: list[Override] = [] if shape.known_as == "embedded" else [("corpus", "pile")]
    return _command([*shape.overrides, *_hookpoint(layer, kind), *sae, *corpus])


def _hookpoint(layer: int, kind: str) -> list[Override]:
    group: list[Override] = [] if kind == "resid" else [("hookpoint", kind)]
    return [*group, ("hookpoint.layer", layer)]


def _command(overrides: Iterable[Override]) -> str:
    return " ".join(["saescope", *(shlex.quote(f"{key}={_value(value)}") for key, value in overrides)])


def _value(value: str | int | bool) -> str:
    """As Hydra reads it back to the same value."""
    if isinstance(value, int):
        return str(value).lower()
    if PLAIN.fullmatch(value) and value.lower() not in WORDS:
        return value
    # Hydra halves backslashes only in front of a quote or the closing quote
    escaped = re.sub(r'(\\*)"', lambda m: m[1] * 2 + '\\"', value)
    escaped = re.sub(r"(\\+)$", lambda m: m[1] * 2, escaped)
    return f'"{escaped}"'
