"""The rules of the house, checked in the source: who may import what, and which fact has one owner."""

import ast
import re
import subprocess
import sys

import pytest
from scripts.graph import PACKAGE, circles, file_graph, modules, of_one_house, room_graph

from saescope.metrics import metric
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
    "saescope.metrics",
]  # fmt: skip
HYDRA = {"saescope.config.compose"}
"""Beside `cli/` the only place that knows Hydra."""
COMPUTES_METRICS = re.compile(
    r"saescope\.(metrics"
    r"|stats\.(density|reconstruction|graph_metrics|word_graphs|(modularity|within|specialization|beyond_words)_summary)"
    r"|analysis\.reconstruction|jobs\.pipeline|report\.sweep\.matching|(dynamic_k|causal)\..*)"
)
"""Where keys of metrics may be written out: the catalogue, and where they are computed."""
GROUP = re.compile(r"(sae|lm|task|features|si|q|dynk|causal|cost)/")
KEY = re.compile(GROUP.pattern + r"[a-z_0-9]+")

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


def keys_written_out(source: str) -> set[str]:
    """String literals that are keys of metrics, and f-strings that make some; docstrings do not count."""
    tree = ast.parse(source)
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts, starts = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            texts.add(node.value)
        elif isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
            starts.add(node.values[0].value)
    whole = {text for text in texts if KEY.fullmatch(text) or metric(text)}
    return whole | {start for start in starts if GROUP.match(start)}


@pytest.mark.parametrize("name", [name for name in MODULES if not COMPUTES_METRICS.fullmatch(name)])
def test_keys_of_metrics_stand_in_the_catalogue(name):
    assert keys_written_out(MODULES[name].read_text(encoding="utf-8")) == set()


def test_keys_are_seen_wherever_they_stand():
    source = '"""q/p"""\nx = m["si/mean"], f"task/{t}/fvu", f"dynk/k_{p}", "matched_si", "a q/p", "hist/si"'
    assert keys_written_out(source) == {"si/mean", "task/", "dynk/k_", "matched_si"}


def test_the_catalogue_imports_nothing_of_ours():
    assert imported(MODULES["saescope.metrics"]) <= {"collections.abc", "dataclasses", "typing"}


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
NOT_OURS = {
    ("saescope.config.location", "config.yaml"),
    ("saescope.sae.formats.marks", "config.yaml"),
    ("saescope.activations.cached", ".lock"),
}
"""Hydra's main config, circuit-tracer's, and the lock of a cached folder have names of a run folder too."""


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
