"""The picture of the house: rooms, the imports between them, and circles.

    python scripts/graph.py [--longest]      (make graph)

A room is a folder of `src/saescope`; the files beside `__init__.py` are the doorstep. Every import counts,
also one inside a function or for type checkers only. `--longest` adds lines and the longest functions.
Exit code 1 when rooms or files import each other in a circle.
"""

import argparse
import ast
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import networkx as nx

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "saescope"
DOORSTEP = "(doorstep)"


def modules(package: Path = PACKAGE) -> dict[str, Path]:
    """Dotted name → file of every module of the package."""
    named = {}
    for path in sorted(package.rglob("*.py")):
        parts = [package.name, *path.relative_to(package).with_suffix("").parts]
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


def imports(path: Path, known: Iterable[str]) -> set[str]:
    """The modules of the package that a file imports, wherever in the file the import stands."""
    known = set(known)
    targets = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets |= {alias.name for alias in node.names} & known
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            targets |= below & known
            if below - known:
                targets.add(node.module)
    return targets


def file_graph(package: Path = PACKAGE) -> "nx.DiGraph[str]":
    """An edge from each module to every module that it imports."""
    named = modules(package)
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(named)
    for name, path in named.items():
        graph.add_edges_from((name, target) for target in imports(path, named) - {name})
    return graph


def room(name: str, package: Path = PACKAGE) -> str:
    """The folder a module lies in; the public face and other files beside it are the doorstep."""
    parts = name.split(".")[1:]
    if not package.joinpath(*parts).is_dir():
        parts = parts[:-1]
    return "/".join(parts) or DOORSTEP


def room_graph(files: "nx.DiGraph[str]", package: Path = PACKAGE) -> "nx.DiGraph[str]":
    """The same edges between rooms. The doorstep is left out: all rooms may use it."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(room(name, package) for name in files)
    graph.add_edges_from((a, b) for x, y in files.edges if (a := room(x, package)) != (b := room(y, package)))
    graph.remove_nodes_from([DOORSTEP])
    return graph


def of_one_house(rooms: "nx.DiGraph[str]") -> "nx.DiGraph[str]":
    """Without the imports between a room and the rooms inside it, such as `sae` and `sae/saelens`."""
    inner = [(a, b) for a, b in rooms.edges if f"{b}/".startswith(f"{a}/") or f"{a}/".startswith(f"{b}/")]
    graph = rooms.copy()
    graph.remove_edges_from(inner)
    return graph


def circles(graph: "nx.DiGraph[str]") -> list[list[str]]:
    """Groups that import each other."""
    return [sorted(group) for group in nx.strongly_connected_components(graph) if len(group) > 1]


def functions(paths: Iterable[Path]) -> Iterator[tuple[int, str, Path]]:
    """Lines, name and file of every function."""
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.end_lineno is not None:
                yield node.end_lineno - node.lineno + 1, node.name, path


def main() -> int:
    """Print the picture."""
    parser = argparse.ArgumentParser(description="Rooms, arrows and circles of src/saescope.")
    parser.add_argument("--longest", action="store_true", help="lines of code and the ten longest functions")
    chosen = parser.parse_args()
    files = file_graph()
    rooms = room_graph(files)
    sizes: dict[str, int] = defaultdict(int)
    for name in files:
        sizes[room(name)] += 1
    order = sorted(rooms, key=lambda name: (-len(nx.descendants(rooms, name)), name))
    for name in order:
        uses = ", ".join(sorted(rooms.successors(name))) or "nothing of ours"
        print(f"{name:24} {sizes[name]:3} files → {uses}")
    print(f"\n{rooms.number_of_nodes()} rooms, {rooms.number_of_edges()} arrows, {len(files)} files")
    loops = circles(of_one_house(rooms)) + circles(files)
    for loop in loops:
        print(f"circle: {' ↔ '.join(loop)}")
    print(f"circles: {len(loops) or 'none'}")
    if chosen.longest:
        paths = [path for path in modules().values() if "embedded" not in path.parts]
        print(f"lines without text/embedded: {sum(len(p.read_text().splitlines()) for p in paths):,}")
        for length, name, path in sorted(functions(paths), reverse=True)[:10]:
            print(f"{length:5} {name:32} {path.relative_to(PACKAGE)}")
    return 1 if loops else 0


if __name__ == "__main__":
    sys.exit(main())
