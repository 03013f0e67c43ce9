"""How many blocks a model has, how wide it is, and how to name it on the command line."""

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from saescope.errors import ConfigError, HubError, ModelError, NoRepositoryError, choices, nearest

DEDUPED = "-deduped"
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
WIDTHS = ("hidden_size", "n_embd", "d_model")
"""Keys under which a `config.json` states its blocks and its width."""

Override = tuple[str, str | int | bool]
"""Key and value on the command line."""


@dataclass(frozen=True)
class Shape:
    """The sizes of a model, and how to choose it on the command line."""

    name: str
    """As the table calls it: `pythia-70m-deduped`, a Hub id, or a folder."""

    num_layers: int
    """Blocks."""

    width: int
    """Width of the residual stream, which the outputs of MLP and attention have too."""

    overrides: tuple[Override, ...]
    """Overrides that choose it on the command line."""

    catalogue_name: str | None = None
    """Name in the table of models (`models.yaml`); None where the model is not in it."""

    model_type: str | None = None
    """Architecture that its config states; None where no config was read."""


def shape(model: str) -> Shape:
    """Sizes of the model with this name, Hub id or folder.

    Folders and unknown Hub ids are read by their `config.json`. Raises ConfigError for a name that is
    neither known nor a Hub id nor a folder, ModelError for a `config.json` that cannot be had.
    """
    name = canonical(model)
    path = Path(model).expanduser()
    if name is not None and not ("/" in model and path.is_dir()):
        base = name.removesuffix(DEDUPED)
        entry = _table()[base]
        overrides: tuple[Override, ...] = (
            (("model", entry["option"]),)
            if "option" in entry
            else (("model", "local"), ("model.name", entry["hub"]))
        )
        if name != base:
            overrides += (("model.deduped", True),)
        return Shape(name, entry["layers"], entry["width"], overrides, name)
    if path.is_dir():
        described = _described(model, path / "config.json")
        folder_name = canonical(path.resolve().name)
        entry = _table().get((folder_name or "").removesuffix(DEDUPED), {})
        if (entry.get("layers"), entry.get("width")) != (described.num_layers, described.width):
            return described
        return replace(described, catalogue_name=folder_name)
    if model.startswith(("/", ".", "~")):
        raise ModelError(f"model folder {model} does not exist; give a Hugging Face folder or a Hub id")
    names = list(_table())
    if model.count("/") != 1 or not all(model.split("/")):
        raise ConfigError(
            f"models={model} is not known: {nearest(model, names)}"
            f"valid: a Hub id (owner/name), a folder, or one of {choices(names)}"
        )
    return _described(model, _from_hub(model))


def canonical(name: str) -> str | None:
    """Name in the table of models for any spelling of a model; None where it is not in the table."""
    low = name.strip().lower()
    base = low.removesuffix(DEDUPED)
    for listed, entry in _table().items():
        if base in (listed, entry["hub"].lower(), *entry.get("aliases", ())) and (
            base == low or listed.startswith("pythia")
        ):
            return listed + low.removeprefix(base)
    return None


def known_layers(model: str) -> int | None:
    """Blocks of a model in the table, by name or Hub id; None where it is not in it."""
    name = canonical(model)
    layers: int | None = None if name is None else _table()[name.removesuffix(DEDUPED)]["layers"]
    return layers


def covered_kinds() -> dict[str, list[str]]:
    """Model type → kinds of hookpoint that are tested in it (`architectures.yaml`; docs/models.md)."""
    import yaml

    text = (Path(__file__).parent / "architectures.yaml").read_text(encoding="utf-8")
    kinds: dict[str, list[str]] = yaml.safe_load(text)
    return kinds


def suite_names() -> list[str]:
    """Names in the table of models."""
    return list(_table())


@cache
def _table() -> dict[str, dict[str, Any]]:
    import yaml

    text = (Path(__file__).parent / "models.yaml").read_text(encoding="utf-8")
    return {entry["name"]: entry for entry in yaml.safe_load(text)["models"]}


def _from_hub(model: str) -> Path:
    """`config.json` from the client's cache or the Hub."""
    from saescope import hub

    cached = hub.cached_file(model, "config.json")
    if cached is not None:
        return cached
    try:
        if "config.json" not in hub.list_files(model).files:
            raise ModelError(f"Hub repository {model} has no config.json; it is no language model's")
        return hub.download(model, "config.json")
    except NoRepositoryError as error:
        raise ModelError(f"no Hub model {model} (or it is private: log in with `hf auth login`)") from error
    except HubError as error:
        raise ModelError(
            f"the Hub gives no config.json of {model} ({error.reason}); "
            f"give a local folder, or one of {choices(_table())}"
        ) from error


def _described(model: str, path: Path) -> Shape:
    """The sizes that a `config.json` states. Raises ModelError where it cannot be read or states none."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(
            f"folder {model} holds no model: config.json is missing (a Hugging Face folder is needed)"
        ) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}") from error
    text = config.get("text_config", config) if isinstance(config, dict) else {}
    layers = next((text[key] for key in LAYERS if key in text), None)
    width = next((text[key] for key in WIDTHS if key in text), None)
    if not isinstance(layers, int) or not isinstance(width, int) or min(layers, width) < 1:
        raise ModelError(f"{path} does not say num_hidden_layers and hidden_size; it is no language model's")
    overrides: tuple[Override, ...] = (("model", "local"), ("model.name", model))
    return Shape(model, layers, width, overrides, model_type=config.get("model_type"))
