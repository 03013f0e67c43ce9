"""Names of SAE folders: which hookpoint a folder is of, and which folders are nearest to a hookpoint."""

import re


def is_of_hookpoint(folder: str, hookpoint: str) -> bool:
    """Whether the folder, by its name, has the SAE of the hookpoint.

    Names: sparsify's (`layers.3`), with a module prefix (`gpt_neox.layers.3`), or of its first versions
    (`layer_3`, renamed in sparsify pull request 8); each with or without `/seedN` below it.
    """
    name = hookpoint_part(folder)
    block = re.fullmatch(r"(?:layers|h)\.(\d+)", hookpoint)
    legacy = f"layer_{block[1]}" if block else None
    return name in (hookpoint, legacy) or name.endswith(f".{hookpoint}")


def contradicts(folder: str, hookpoint: str) -> bool:
    """Whether the folder is named after another hookpoint; False for a name without a hookpoint."""
    named = re.search(r"(layers?|h|blocks)[._]\d+", hookpoint_part(folder))
    return bool(named) and not is_of_hookpoint(folder, hookpoint)


def hookpoint_part(folder: str) -> str:
    """The part of the path that names the hookpoint: the last, or the one before sparsify's `seedN`."""
    parts = folder.split("/")
    return parts[-2] if len(parts) > 1 and re.fullmatch(r"seed\d+", parts[-1]) else parts[-1]


def natural_key(name: str) -> list[tuple[int, int | str]]:
    """Sort key by which layers.2 comes before layers.10."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name) if part]


def nearest_first(folders: list[str], hookpoint: str) -> list[str]:
    """Folders by distance in layers, the same kind of module first."""
    target_numbers = re.findall(r"\d+", hookpoint)

    def distance(folder: str) -> int:
        name = hookpoint_part(folder)
        numbers = re.findall(r"\d+", name)
        same_kind = re.sub(r"\d+", "#", name).endswith(re.sub(r"\d+", "#", hookpoint))
        gap = abs(int(numbers[-1]) - int(target_numbers[-1])) if numbers and target_numbers else 1000
        return gap + (0 if same_kind else 500)

    return sorted(folders, key=lambda folder: (distance(folder), natural_key(folder)))
