"""The rules of the house, checked in the source: who may import what."""

import ast
import subprocess
import sys

import pytest
from scripts.graph import PACKAGE, circles, file_graph, modules, of_one_house, room_graph

from saescope.runfolder import names
from tests.support.imports import imported

MODULES = modules()
TORCH_FREE = [
    "saescope.cli.main", "saescope.cli.console", "saescope.cli.report", "saescope.cli.catalogue",
    "saescope.config", "saescope.stats", "saescope.report.page", "saescope.report.sweep.page",
    "saescope.runfolder.run", "saescope.runfolder.sweep", "saescope.runfolder.write",
    "saescope.overlap", "saescope.jobs.sweep", "saescope.jobs.job",
    "saescope.extraction.codes", "saescope.analysis.features", "saescope.text.probes",
    "saescope.text.embedded_corpus",
    "saescope.catalogue.terminal",
]  # fmt: skip
HYDRA = {"saescope.config.compose"}
"""Beside `cli/` the only place that knows Hydra."""


@pytest.mark.parametrize("name", MODULES)
def test_who_may_import_what(name):
    names = imported(MODULES[name])
    top = {module.split(".")[0] for module in names}
    room = name.split(".")[1] if "." in name else ""

    def uses(*rooms: str) -> set[str]:
        return {module for module in names if module.startswith(tuple(f"saescope.{room}" for room in rooms))}

    if room != "cli" and name not in HYDRA:
        assert not top & {"hydra", "omegaconf"}
        assert not uses("cli") or name == "saescope.__main__"
    if room == "stats":
        assert not {module for module in names if module.startswith("saescope") and room not in module}
        allowed = {"numpy", "scipy", "sknetwork", "sklearn", "networkx", "threadpoolctl", "saescope"}
        assert top <= allowed | set(sys.stdlib_module_names), top - allowed
    if room == "report":
        assert not top & {"torch", "transformers", "lightning"}
    if room in ("text", "model", "sae"):
        assert not uses("stats", "analysis", "tracking", "report", "runfolder", "jobs")
    assert not name.endswith("utils")


def test_no_circle():
    files = file_graph()
    rooms = room_graph(files)
    assert circles(files) == []
    assert circles(of_one_house(rooms)) == []
    assert rooms.number_of_nodes() <= 30, sorted(rooms)


def test_torch_free_modules_stay_torch_free():
    code = (
        f"import importlib, sys\nfor m in {TORCH_FREE}: importlib.import_module(m)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PACKAGE.parents[1])


FILES = {
    value for key, value in vars(names).items() if key.isupper() and isinstance(value, str) and "." in value
}
"""Of run folders and sweep folders; folders without a dot are everyday words."""
NOT_OURS = {("saescope.config.location", "config.yaml")}
"""Hydra's main config has the name of a run folder's too."""


def named_files(tree):
    """Strings of the code, docstrings left out, that are such a name or end a path with one."""
    nodes = list(ast.walk(tree))
    passed = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    passed |= {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in nodes:
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        if id(node) in passed or not isinstance(parts[-1], ast.Constant):
            continue
        path = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)
        if not any(c.isspace() for c in path) and any(f"/{path}".endswith(f"/{file}") for file in FILES):
            yield path


def test_the_search_for_file_names_notices_them():
    code = """
a = f"{folder}/report.html", "x/metrics.json", "sweep.csv"
b = "see sweep.csv", "my_sweep.csv", f"{key}.lock"
"sync.sh"
"""
    assert list(named_files(ast.parse(code))) == ["{}/report.html", "x/metrics.json", "sweep.csv"]


@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith("saescope.runfolder")])
def test_only_runfolder_names_its_files(name):
    files = set(named_files(ast.parse(MODULES[name].read_text(encoding="utf-8"))))
    assert not {file for file in files if (name, file) not in NOT_OURS}
