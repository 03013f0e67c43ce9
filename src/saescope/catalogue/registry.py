"""SAEs that the installed sae_lens registers, as rows of the catalogue.

Read from the YAML file of the package: importing sae_lens takes nine seconds and torch. Only the releases of
one model are parsed. Where an SAE reads, and how wide it is, follows from ids and paths as in sae_lens' own
readers (`sae_lens/loading/pretrained_sae_loaders.py`).
"""

import importlib.metadata
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache
from math import inf, log2
from typing import Any

from saescope import compat
from saescope.catalogue.repositories import CatalogueRow, registered_sizes
from saescope.catalogue.shapes import Shape, canonical

TRANSCODER = "transcoder"
PLACES = {
    "hook_resid_post": ("resid", None, None),
    "hook_resid_pre": ("resid", None, None),
    "hook_mlp_out": ("mlp", "blocks.{layer}.hook_mlp_out", None),
    "hook_attn_out": ("attention", "blocks.{layer}.hook_attn_out", None),
    "hook_z": (
        "attention",
        "blocks.{layer}.attn.hook_z",
        "reads the concatenated heads (attn.hook_z), not what the attention computes from them",
    ),
    TRANSCODER: ("mlp", "blocks.{layer}.hook_mlp_out", "transcoder, reads the MLP's input"),
}
"""Where an SAE reads → kind of hookpoint, its name where the kind does not say it, a caution.

By name, because models with a norm behind the MLP and attention (Gemma 2 and 3) add another activation to the
stream than the module gives.
"""

ARCHITECTURES = {
    "gemma_2": "jumprelu",
    "gemma_3": "jumprelu",
    "llama_scope": "jumprelu",
    "llama_scope_r1_distill": "jumprelu",
    "qwen_scope": "topk",
    "goodfire": "standard",
    "deepseek_r1": "standard",
    "connor_rob_hook_z": "standard",
    "gemma_2_transcoder": "jumprelu_transcoder",
    "mwhanna_transcoder": "transcoder",
    "mntss_clt_layer_transcoder": "transcoder",
    "temporal": "temporal",
}
"""sae_lens' reader → architecture; the others find it in the SAE's own config."""
NOT_READ = {"temporal": "temporal SAE"}
"""Architecture that saescope does not read → what the table calls it."""

LAYER_OF_ID = re.compile(r"(?:blocks\.|layer_?|^l)(\d+)(?=\D|$)")
LAYER_OF_PATH = re.compile(r"(?:blocks\.|layer_?|(?:^|[/_-])L)(\d+)(?=\D|$)|^(\d+)(?=-|$)")
LENS = re.compile(r"blocks\.\d+\.(?:attn\.)?(hook_\w+?)(?:_\d+|__trainer.*)?")
MODEL = re.compile(r"^  model: *[\"']?(.+?)[\"']? *$", re.MULTILINE)
"""In the YAML text of a release; deeper ones are links."""
FOLDERS = {"resid_post": "hook_resid_post", "mlp_out": "hook_mlp_out", "attn_out": "hook_z"}
"""First part of a Gemma Scope 2 path → where it reads."""
REPOS = {"-res": "hook_resid_post", "-mlp": "hook_mlp_out", "-att": "hook_z"}
"""Last part of a Gemma Scope 1 repository → where it reads."""
LETTERS = {"r": "hook_resid_post", "m": "hook_mlp_out", "a": "hook_attn_out"}
"""Letter in a Llama Scope id → where it reads."""


@dataclass(frozen=True)
class _Registered:
    """One registered SAE."""

    kind: str
    layer: int
    """Block whose output, MLP or attention it reconstructs."""
    id_pattern: str
    path_pattern: str
    hook: str | None
    caution: str | None
    architecture: str | None
    num_latents: int | None
    k: int | None
    l0: float | None
    fvu: float | None


def installed_version() -> str | None:
    """Version of sae_lens; None where it is not installed."""
    return None if compat.sae_lens_registry() is None else importlib.metadata.version("sae-lens")


def registered_rows(shape: Shape) -> tuple[CatalogueRow, ...]:
    """Rows of the SAEs of a model, best first; none where sae_lens is not installed.

    Left out are SAEs between attention and MLP (`hook_resid_mid`) and of embeddings: no kind of hookpoint.
    """
    name = shape.catalogue_name or shape.name
    source = f"sae_lens {installed_version()} pretrained_saes.yaml"
    rows: list[tuple[tuple[Any, ...], CatalogueRow]] = []
    for model, text in _releases():
        if (canonical(model) or model.lower()) == (shape.catalogue_name or name.lower()):
            for release, values in _parsed(text).items():
                rows += _rows_of(release, values, shape, source)
    rows.sort(key=lambda ranked: ranked[0])
    return tuple(row for _, row in rows)


@cache
def _releases() -> tuple[tuple[str, str], ...]:
    """Model and YAML text of each release, not parsed."""
    path = compat.sae_lens_registry()
    if path is None:
        return ()
    blocks = re.split(r"^(?=[^\s#])", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    models = ((MODEL.search(block), block) for block in blocks)
    return tuple((match[1], block) for match, block in models if match)


def _parsed(text: str) -> dict[str, Any]:
    import yaml

    # libyaml's where it is built in: it is much faster
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        values: dict[str, Any] = loader.get_single_data()
    finally:
        loader.dispose()
    return values


def _rows_of(
    release: str, values: dict[str, Any], shape: Shape, source: str
) -> list[tuple[tuple[Any, ...], CatalogueRow]]:
    """Rank and row of each part of a release whose ids differ by the block only."""
    converter, repo = values.get("conversion_func") or "", values["repo_id"]
    saes = list(_saes(release, repo, converter, values["saes"], shape.width))
    alternatives = Counter((sae.kind, sae.layer) for sae in saes)
    parts: dict[tuple[Any, ...], list[_Registered]] = {}
    for sae in saes:
        same = (
            sae.id_pattern,
            sae.path_pattern,
            sae.kind,
            sae.hook,
            sae.architecture,
            sae.num_latents,
            sae.k,
        )
        parts.setdefault(same, []).append(sae)
    rows = []
    for part in parts.values():
        first = part[0]
        layers = frozenset(sae.layer for sae in part)
        row = CatalogueRow(
            repo=repo,
            model=shape.catalogue_name or shape.name,
            format=NOT_READ.get(first.architecture or "", "saelens"),
            basis="registry" + ("; width by name" if first.num_latents else ""),
            source=source,
            date=date.today().isoformat(),
            folders={first.kind: first.path_pattern},
            layers=layers,
            seen=layers,
            num_latents=first.num_latents,
            k=first.k,
            architecture=first.architecture,
            l0={sae.layer: sae.l0 for sae in part if sae.l0 is not None},
            fvu={sae.layer: sae.fvu for sae in part if sae.fvu is not None},
            release=release,
            ids={first.kind: first.id_pattern},
            hooks={first.kind: first.hook} if first.hook else {},
            unverified=("num_latents",) if first.num_latents else (),
            caution=first.caution,
        )
        rank = (
            "canonical" not in release,
            # a release with one SAE of a hookpoint before one with many, of which none is the one to take
            max(alternatives[sae.kind, sae.layer] for sae in part),
            first.num_latents or inf,
        )
        rows.append((rank, row))
    return rows


def _saes(
    release: str, repo: str, converter: str, saes: list[dict[str, Any]], width: int
) -> Iterator[_Registered]:
    """The SAEs of a release that belong to a kind of hookpoint."""
    sizes = registered_sizes()
    for sae in saes:
        sae_id, path = str(sae["id"]), str(sae["path"])
        number, hook = LAYER_OF_ID.search(sae_id), _reads(repo, converter, sae_id, path)
        if number is None or hook not in PLACES:
            continue
        layer = int(number[1])
        id_pattern, path_pattern = _pattern(LAYER_OF_ID, sae_id, layer), _pattern(LAYER_OF_PATH, path, layer)
        if hook == "hook_resid_pre" or "{layer}" not in path_pattern:
            # what block i reads is what block i − 1 gives, so that the number in the id is not the block's
            id_pattern, path_pattern = sae_id, path
        layer -= hook == "hook_resid_pre"
        if layer < 0:
            continue
        kind, name, caution = PLACES[hook]
        l0, explained = sae.get("l0"), sae.get("variance_explained")
        average = re.search(r"average_l0_(\d+)", path)
        yield _Registered(
            kind=kind,
            layer=layer,
            id_pattern=id_pattern,
            path_pattern=path_pattern,
            hook=name,
            caution="a checkpoint in training" if "_step_" in sae_id else caution,
            architecture=_architecture(converter, sae_id, path),
            num_latents=sizes.get(release) or _num_latents(f"{repo} {release} {path}", sae_id, width),
            k=int(repo.rpartition("_")[2]) if converter == "qwen_scope" else None,
            l0=float(l0 or (average[1] if average else 0)) or None,
            fvu=None if explained is None else round(1 - float(explained), 4),
        )


def _reads(repo: str, converter: str, sae_id: str, path: str) -> str | None:
    """Where an SAE reads, a key of `PLACES` or another hook; None for what is in no block."""
    if TRANSCODER in converter or TRANSCODER in path:
        return TRANSCODER
    lens = LENS.fullmatch(sae_id)
    match converter:
        case "gemma_2":
            return next(
                (hook for end, hook in REPOS.items() if end in repo and "embedding" not in path), None
            )
        case "gemma_3":
            return next((hook for start, hook in FOLDERS.items() if path.startswith(start)), None)
        case "llama_scope" | "llama_scope_r1_distill":
            return next((LETTERS[m[1]] for m in [re.match(r"l\d+([rma])_", sae_id)] if m), None)
    return lens[1] if lens else "hook_resid_post"


def _pattern(number: re.Pattern[str], text: str, layer: int) -> str:
    """The text with `{layer}` for the number of the block; unchanged where it does not hold that number."""
    for match in number.finditer(text):
        group = next(n for n in range(1, number.groups + 1) if match[n] is not None)
        if int(match[group]) == layer:
            return text[: match.start(group)] + "{layer}" + text[match.end(group) :]
    return text


def _architecture(converter: str, sae_id: str, path: str) -> str | None:
    if converter == "gemma_3" and TRANSCODER in path:
        return "jumprelu_skip_transcoder" if "affine" in sae_id else "jumprelu_transcoder"
    return ARCHITECTURES.get(converter)


def _num_latents(names: str, sae_id: str, width: int) -> int | None:
    """Width as the names say it; None where they do not."""
    if power := re.search(r"width-2pow(\d+)", names):
        return int(2 ** int(power[1]))
    if rounded := re.search(r"width_(\d+)([km])", names):  # 65k is 65,536, 131k 131,072
        return int(2 ** int(log2(int(rounded[1]) * (1024 if rounded[2] == "k" else 1024**2))))
    if kilo := re.search(r"-W(\d+)K-|-v5-(\d+)k|-w-(\d+)k", names):
        return 1024 * int(kilo[1] or kilo[2] or kilo[3])
    if times := re.match(r"l\d+[rma]_(\d+)x$", sae_id):
        return width * int(times[1])
    exact = re.search(r"(?:resid_pre_|_ds|_)(\d{5})(?=\D|$)", names) or re.search(r"resid_pre_(\d+)$", sae_id)
    return int(exact[1]) if exact else None
