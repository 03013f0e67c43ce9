"""The rules of the house, checked in the source: who may import what."""

import ast
import subprocess
import sys

import pytest
from scripts.graph import PACKAGE, circles, file_graph, modules, of_one_house, room_graph

from tests.support.imports import imported

MODULES = modules()
TORCH_FREE = [
    "saescope.cli.main", "saescope.cli.console", "saescope.cli.report", "saescope.cli.catalogue",
    "saescope.config", "saescope.stats", "saescope.report.page", "saescope.report.sweep.page",
    "saescope.runfolder.run", "saescope.overlap", "saescope.jobs.sweep", "saescope.jobs.job",
    "saescope.extraction.codes", "saescope.analysis.features", "saescope.text.probes",
    "saescope.text.synthetic",
    "saescope.catalogue.show",
]  # fmt: skip
HYDRA = {"saescope.config.compose"}
"""Beside `cli/` the only place that knows Hydra."""

COMPAT = {"saescope.compat", "saescope.stats.compat"}
"""Where private parts of other libraries may be used; tests/test_compat.py has a test for each."""
INTERNAL = (
    "sknetwork.clustering.louvain_core", "sparsify.utils", "sparsify.muon", "sae_lens.loading",
    "sae_lens.registry", "huggingface_hub.file_download", "wandb.sdk", "wandb_workspaces.workspaces.internal",
)  # fmt: skip
"""Modules that their libraries neither export nor document."""
DOCUMENTED = {"_replace", "_asdict", "_fields"}
"""Of named tuples and of `ast`, in Python's own documentation."""


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


def names_of_ours() -> set[str]:
    """Every name with an underscore that the package itself gives to something."""
    names = set()
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                    names.add(name)
                case ast.Name(id=name, ctx=ast.Store()):
                    names.add(name)
                case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                    names.add(name)
    return names


def test_private_parts_of_other_libraries_are_used_in_compat_only():
    """An attribute `x._name` has to be one that we define somewhere; nothing internal is imported."""
    ours, strange = names_of_ours() | DOCUMENTED, []
    for module in sorted(MODULES.keys() - COMPAT):
        path = MODULES[module]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            private = isinstance(node, ast.Attribute) and node.attr[0] == "_" and node.attr[:2] != "__"
            if private and node.attr not in ours:
                strange.append(f"{module}:{node.lineno} {ast.unparse(node)}")
            bases = isinstance(node, ast.Attribute) and node.attr in ("__bases__", "__mro__", "__globals__")
            if bases:
                strange.append(f"{module}:{node.lineno} {ast.unparse(node)}")
        for target in imported(path):
            foreign = not target.startswith(("saescope", "__future__"))
            internal = target.startswith(INTERNAL) or any(part[0] == "_" for part in target.split("."))
            if foreign and internal:
                strange.append(f"{module} imports {target}")
    assert strange == []
