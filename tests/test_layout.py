"""The rules of the house, checked in the source."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import saescope

PACKAGE = Path(saescope.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
TORCH_FREE = [
    "saescope.cli", "saescope.config", "saescope.stats", "saescope.report.page", "saescope.report.sweep.page",
    "saescope.overlap", "saescope.sweeps",
    "saescope.codes",
    "saescope.features", "saescope.jobs", "saescope.console", "saescope.text.probes",
    "saescope.text.synthetic", "saescope.coverage.show",
]  # fmt: skip


def imports(path: Path) -> set[str]:
    """Top-level packages and saescope modules a file imports, lazily or not."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_rules(path):
    room = path.relative_to(PACKAGE).parts[0]
    names = imports(path)
    top = {name.split(".")[0] for name in names}
    if path.name != "cli.py":
        assert not top & {"hydra", "omegaconf"}
        assert "saescope.cli" not in names or path.name == "__main__.py"
    if room == "stats":
        allowed = {"numpy", "scipy", "sknetwork", "sklearn", "networkx", "threadpoolctl"}
        allowed |= set(sys.stdlib_module_names)
        assert top <= allowed, top - allowed
    if room == "report":
        assert not top & {"torch", "transformers", "lightning"}
    if room in ("text", "sae") or path.name == "capture.py":
        assert not any(
            name.startswith(("saescope.stats", "saescope.report", "saescope.tracking")) for name in names
        )
    assert path.name != "utils.py"
    assert len(path.read_text().splitlines()) <= 250


def test_torch_free_modules_stay_torch_free():
    code = (
        f"import importlib, sys\nfor m in {TORCH_FREE}: importlib.import_module(m)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
