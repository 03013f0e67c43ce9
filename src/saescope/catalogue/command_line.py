"""The exact command line that loads or trains the SAE of a hookpoint."""

import re
import shlex
from collections.abc import Iterable

from saescope.catalogue.repositories import READERS, CatalogueRow
from saescope.catalogue.shapes import Override, Shape

PLAIN = re.compile(r"[A-Za-z/][\w/.+-]*", re.ASCII)
"""Values that Hydra's grammar reads as text without quotes."""
RESERVED = ("null", "true", "false", "nan", "inf", "yes", "no", "on", "off")
"""Values that would be read as something else than text without quotes."""


def load_command(shape: Shape, layer: int, kind: str, row: CatalogueRow) -> str:
    """The command that measures a hookpoint with its pre-trained SAE of `row`."""
    source = READERS[row.format]
    sae: list[Override]
    if source == "hub":
        # sparsify's folders are found by their names; one above them is given, since there may be others
        folder = row.folder(layer, kind)
        above = folder.rpartition("/")[0] if row.format == "sparsify" else folder
        sae = [("sae.repo", f"{row.repo}/{above}" if above else row.repo)]
    else:
        release, sae_id = row.release or row.repo, row.ids[kind].format(layer=layer)
        sae = [("sae", source), ("sae.release", release), ("sae.id", sae_id)]
    name = row.hooks.get(kind)
    place: list[Override] = (
        [("hookpoint", "custom"), ("hookpoint.name", name.format(layer=layer))]
        if name
        else _hookpoint(layer, kind)
    )
    return _command([*shape.overrides, *place, *sae])


def train_command(shape: Shape, layer: int, kind: str, expansion: int, k: int) -> str:
    """The command that trains an SAE and measures with it; on the Pile, except for the embedded model."""
    sae: list[Override] = [("sae", "train"), ("sae.expansion_factor", expansion), ("sae.k", k)]
    corpus: list[Override] = [] if shape.catalogue_name == "embedded" else [("corpus", "pile")]
    return _command([*shape.overrides, *_hookpoint(layer, kind), *sae, *corpus])


def _hookpoint(layer: int, kind: str) -> list[Override]:
    group: list[Override] = [] if kind == "resid" else [("hookpoint", kind)]
    return [*group, ("hookpoint.layer", layer)]


def _command(overrides: Iterable[Override]) -> str:
    return " ".join(["saescope", *(shlex.quote(f"{key}={_value(value)}") for key, value in overrides)])


def _value(value: str | int | bool) -> str:
    """The value spelled so that Hydra reads the same value back."""
    if isinstance(value, int):
        return str(value).lower()
    if PLAIN.fullmatch(value) and value.lower() not in RESERVED:
        return value
    # Hydra halves backslashes only in front of a quote or the closing quote
    escaped = re.sub(r'(\\*)"', lambda m: m[1] * 2 + '\\"', value)
    escaped = re.sub(r"(\\+)$", lambda m: m[1] * 2, escaped)
    return f'"{escaped}"'
