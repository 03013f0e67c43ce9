"""docs/config-keys.md: every configuration key with type, default and what it sets, from the dataclasses.

    python scripts/config_keys.py

A test fails when the page is not what this writes.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from saescope.files import write_text

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "config-keys.md"
CONFIG = ROOT / "src" / "saescope" / "config"
GROUPS = {
    "model": "model", "hookpoint": "hookpoint", "sae": "sae", "probes": "probes", "corpus": "corpus",
    "metrics": "metrics", "causal": "causal", "dynamic_k": "dynamic_k", "runtime": "runtime",
    "tracking": "tracking", "catalogue": "",
}  # fmt: skip
"""Files of the room in the order of the page, with the group that their keys stand in."""
COMMAND = "`saescope-coverage`"


@dataclass(frozen=True)
class Key:
    """One field of a config dataclass."""

    name: str
    kind: str
    default: str
    words: str


def classes(path: Path) -> dict[str, ast.ClassDef]:
    """The dataclasses of a file, in its order."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        node.name: node
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        and any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)
    }


def keys(node: ast.ClassDef) -> Iterator[Key]:
    """The fields, each with the string that follows it."""
    for field, after in zip(node.body, [*node.body[1:], None], strict=True):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if "ClassVar" in ast.unparse(field.annotation):
            continue
        words = ""
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            words = " ".join(str(after.value.value).split())
        default = "" if field.value is None else ast.unparse(field.value)
        yield Key(field.target.id, ast.unparse(field.annotation), default, words)


def page() -> str:
    """The whole page."""
    out = [
        "# Every config key",
        "",
        "Written by `python scripts/config_keys.py` from the dataclasses in `src/saescope/config/`. On the",
        "command line a key stands behind its group: `metrics.permutations=200`. `saescope --cfg job` prints",
        "the values.",
    ]
    recipe = classes(CONFIG / "recipe.py")["Recipe"]
    for file, group in GROUPS.items():
        if not (CONFIG / f"{file}.py").is_file():
            continue
        out += ["", f"## {group or COMMAND}"]
        for name, node in classes(CONFIG / f"{file}.py").items():
            rows = list(keys(node))
            if any(isinstance(base, ast.Name) and base.id == "Recipe" for base in node.bases):
                rows += keys(recipe)
            if not rows:
                continue
            first = (ast.get_docstring(node) or name).split("\n\n")[0]
            out += [
                "",
                " ".join(first.split()),
                "",
                "| key | type | default | what it sets |",
                "|---|---|---|---|",
            ]
            out += [
                "| " + " | ".join(cell.replace("|", r"\|") for cell in (
                    f"`{group}.{key.name}`" if group else f"`{key.name}`",
                    f"`{key.kind}`", f"`{key.default}`" if key.default else "required", key.words,
                )) + " |"
                for key in rows
            ]  # fmt: skip
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    write_text(PAGE, page())
