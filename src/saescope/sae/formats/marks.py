"""Which format a folder is in, by the names of its files; and what is known of formats that are not read."""

import re
from collections.abc import Collection, Iterable

SPARSIFY = "sparsify"
OPENAI_FILE = re.compile(r"\d+\.pt")

FILES = {
    SPARSIFY: ("cfg.json", "sae.safetensors"),
    "dictionary_learning": ("ae.pt", "config.json"),
    "Gemma Scope": ("params.npz",),
    "Gemma Scope 2": ("params.safetensors",),
    "mlsae": ("config.json", "model.safetensors"),
    "circuit-tracer": ("config.yaml", "layer_N.safetensors"),
    "circuit-tracer CLT": ("config.yaml", "W_enc_N.safetensors", "W_dec_N.safetensors"),
    "OpenAI": ("N.pt",),
}
"""Format → its files, in the order in which a folder is tried. N is a number."""

CLT = "a cross-layer transcoder, which writes to all later layers; not supported"
OTHERS = {
    r"(^|/)sae_weights\.safetensors$": "SAELens format: use sae=saelens sae.release={repo} sae.id={folder}",
    r"(^|/)sae\.json$": "sae.json transcoders of jacobdunefsky/transcoder_circuits, which are not supported",
    r"(^|/)W_enc_\d+\.safetensors$": f"{CLT} without the config.yaml of circuit-tracer, by which one layer "
    "is read as a transcoder",
    r"(^|/)params_layer_\d+\.safetensors$": CLT,
    r"(?i)cross_?coder|(^|/)cc_weights": "a crosscoder, which codes the activations of several layers or "
    "models at once; not supported",
    r"(^|/)layer\d+\.sae\.pt$": "Qwen-Scope, read by sae=saelens sae.release=qwen-scope-… sae.id=layerN",
    r"\.(pt|pth|bin|pkl)$": "pickled weights of an unknown layout, which are not read",
}
"""Path of a file → what it belongs to, and what to do; the first that fits is said."""


def format_of(names: Collection[str]) -> str | None:
    """The format of a folder with these files; None where it is none of `FILES`."""
    numbered = {re.sub(r"\d+(?=\.)", "N", name) for name in names} | set(names)
    return next((kind for kind, files in FILES.items() if numbered.issuperset(files)), None)


def looked_for() -> str:
    """All formats with their files, for messages."""
    return ", ".join(f"{kind} ({', '.join(files)})" for kind, files in FILES.items())


def other_format(paths: Iterable[str], repo: str) -> str | None:
    """A sentence on the format of the files that is not read here; None for unknown files."""
    listed = sorted(paths)
    for pattern, words in OTHERS.items():
        for path in listed:
            if re.search(pattern, path):
                return words.replace("{repo}", repo).replace("{folder}", path.rpartition("/")[0] or ".")
    return None
