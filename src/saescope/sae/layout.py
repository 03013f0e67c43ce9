"""Names of SAE folders: which hookpoint a folder is of, and which names are near."""

import re


def holds(folder: str, hookpoint: str) -> bool:
    """Whether the folder is of the hookpoint by its name.

    Known names: sparsify's (`layers.3`), with a module prefix (`gpt_neox.layers.3`), that of its first
    versions (`layer_3`, renamed in sparsify pull request 8), each with `/seedN` below it or not.
    """
    name = hookpoint_part(folder)
    block = re.fullmatch(r"(?:layers|h)\.(\d+)", hookpoint)
    legacy = f"layer_{block[1]}" if block else None
    return name in (hookpoint, legacy) or name.endswith(f".{hookpoint}")


def contradicts(folder: str, hookpoint: str) -> bool:
    """Whether the name says that the folder is of another hookpoint; many names say nothing."""
    named = re.search(r"(layers?|h|blocks)[._]\d+", hookpoint_part(folder))
    return bool(named) and not holds(folder, hookpoint)


def hookpoint_part(folder: str) -> str:
    """The part of the path that names the hookpoint: the last, or the one before sparsify's `seedN`."""
    parts = folder.split("/")
    return parts[-2] if len(parts) > 1 and re.fullmatch(r"seed\d+", parts[-1]) else parts[-1]


def natural(name: str) -> list[tuple[int, int | str]]:
    """Sort key by which layers.2 comes before layers.10."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name) if part]


def nearest_first(folders: list[str], hookpoint: str) -> list[str]:
    """Sorted by layers between, the same kind of module first."""
    wanted = re.findall(r"\d+", hookpoint)

    def distance(folder: str) -> int:
        name = hookpoint_part(folder)
        numbers = re.findall(r"\d+", name)
        same_kind = re.sub(r"\d+", "#", name).endswith(re.sub(r"\d+", "#", hookpoint))
        gap = abs(int(numbers[-1]) - int(wanted[-1])) if numbers and wanted else 1000
        return gap + (0 if same_kind else 500)

    return sorted(folders, key=lambda folder: (distance(folder), natural(folder)))
