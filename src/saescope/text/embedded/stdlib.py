"""Source code and prose of the Python standard library that runs this program."""

from __future__ import annotations

import ast
import functools
import inspect
import random
import re
import sysconfig
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from saescope.text.embedded.probe_split import Split, split_of

SHORTEST, LONGEST = 200, 1500
"""Length of a document in characters."""

SHARED = 80
"""Characters of a run of lines that a probe document may not have in common with training text."""

_SKIPPED_FOLDERS = {"test", "tests", "idle_test", "site-packages", "dist-packages", "encodings", "pydoc_data",
                    "__pycache__", "__phello__"}  # fmt: skip
_LETTERS = re.compile(r"[A-Za-z ]")

Definition = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
_HAS_STATEMENTS = ast.stmt | ast.ExceptHandler | ast.match_case


@functools.cache
def source_files() -> tuple[tuple[str, Path], ...]:
    """Return (name inside the library, path) of the library's files, without tests, tables and build records."""
    root = Path(sysconfig.get_path("stdlib"))
    files = []
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        skipped = _SKIPPED_FOLDERS.intersection(relative.parts) or relative.parts[0].startswith(
            ("config-", "lib-")
        )
        if not skipped and not relative.name.startswith("_sysconfigdata"):
            files.append((relative.as_posix(), path))
    if not files:
        raise FileNotFoundError("This Python has no standard library sources on disk; use another corpus.")
    return tuple(files)


def code_documents(split: Split, seed: int) -> Iterator[str]:
    """Yield pieces of source code of the split's files once each, in an order set by the seed."""
    yield from _shuffled(_unshared(_code, split), seed)


def reference_documents(split: Split, seed: int) -> Iterator[str]:
    """Yield pieces of manual and docstring prose of the split once each, in an order set by the seed."""
    yield from _shuffled(_unshared(_reference, split), seed)


def _code(split: Split) -> tuple[str, ...]:
    return _pieces(split)[0]


def _reference(split: Split) -> tuple[str, ...]:
    return _pieces(split)[1]


@functools.cache
def _pieces(split: Split) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(code, prose) of the split, each text once."""
    code: dict[str, None] = {}
    prose: dict[str, None] = {}
    for name, path in source_files():
        tree = _parsed(path) if split_of(name) == split else None
        if tree is not None:
            lines = path.read_text(encoding="utf-8").split("\n")
            code.update(dict.fromkeys(_chunks(_blocks(tree.body, lines))))
            for node in _definitions(tree):
                docstring = ast.get_docstring(node) or ""
                if len(docstring) >= SHORTEST:
                    prose.update(dict.fromkeys(_prose(docstring)))
    for topic, text in sorted(_topics().items()):
        if split_of(f"topic {topic}") == split:
            prose.update(dict.fromkeys(_prose(text)))
    return tuple(code), tuple(prose)


def _unshared(pieces: Callable[[Split], tuple[str, ...]], split: Split) -> tuple[str, ...]:
    """Return the split's pieces; probe pieces with a long run of lines that training text has too are left out."""
    if split == "train":
        return pieces(split)
    return tuple(piece for piece in pieces(split) if not _training_runs().intersection(_runs(piece)))


@functools.cache
def _training_runs() -> frozenset[str]:
    return frozenset(
        run for pieces in (_code("train"), _reference("train")) for piece in pieces for run in _runs(piece)
    )


def _runs(text: str) -> Iterator[str]:
    """Yield every run of up to three lines, without indentation, that has at least 80 characters."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    for position in range(len(lines)):
        for length in (1, 2, 3):
            run = " ".join(lines[position : position + length])
            if len(run) >= SHARED:
                yield run
                break


def _topics() -> dict[str, str]:
    try:
        from pydoc_data import topics
    except ImportError:
        return {}
    return dict(topics.topics)


def _parsed(path: Path) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return None


def _definitions(tree: ast.Module) -> Iterator[Definition]:
    """The module, its classes and functions in the order of `ast.walk`, which also visits every expression."""
    queue: deque[ast.AST] = deque([tree])
    while queue:
        node = queue.popleft()
        for field in node._fields:
            children = getattr(node, field, None)
            if isinstance(children, list):
                queue.extend(child for child in children if isinstance(child, _HAS_STATEMENTS))
        if isinstance(node, Definition):
            yield node


def _blocks(body: list[ast.stmt], lines: list[str]) -> Iterator[str]:
    """Yield functions, methods and other statements of a module without module, class and long docstrings."""
    for position, node in enumerate(body):
        if position == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        if isinstance(node, ast.ClassDef) and node.body:
            yield "\n".join(lines[first - 1 : max(node.lineno, node.body[0].lineno - 1)])
            yield from _blocks(node.body, lines)
        else:
            written = lines[first - 1 : node.end_lineno]
            if (
                isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                and len(node.body) > 1
                and _is_prose(node)
            ):
                docstring = node.body[0]
                del written[docstring.lineno - first : (docstring.end_lineno or docstring.lineno) - first + 1]
            yield "\n".join(written)


def _is_prose(node: ast.AST) -> bool:
    """Return whether a definition's docstring is long enough to be read as reference prose instead of code."""
    return isinstance(node, Definition) and len(ast.get_docstring(node) or "") >= SHORTEST


def _chunks(blocks: Iterator[str]) -> Iterator[str]:
    """Join short blocks and cut long ones at line ends, so that each piece has a usual document's length."""
    pending = ""
    for block in blocks:
        for piece in _cut(block):
            joined = f"{pending}\n{piece}" if pending else piece
            if len(joined) > LONGEST:
                yield from _usable(pending)
                pending = piece
            else:
                pending = joined
            if len(pending) > LONGEST // 2:
                yield from _usable(pending)
                pending = ""
    yield from _usable(pending)


def _usable(text: str) -> Iterator[str]:
    """Yield the text, dedented, unless it is too short, not ASCII, or a table of numbers."""
    text = _dedented(text)
    if len(text) >= SHORTEST and text.isascii() and text.count("\\x") + text.count("0x") < 12:
        yield text


def _dedented(text: str) -> str:
    lines = text.replace("\t", "    ").split("\n")
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "\n".join(line[margin:].rstrip() for line in lines).strip("\n")


def _cut(text: str) -> Iterator[str]:
    """Yield the text in pieces of at most LONGEST characters that end where a line ends."""
    part: list[str] = []
    size = 0
    for line in text.splitlines():
        if part and size + len(line) > LONGEST:
            yield "\n".join(part)
            part, size = [], 0
        part.append(line[:LONGEST])
        size += len(line) + 1
    if part:
        yield "\n".join(part)


def _prose(text: str) -> Iterator[str]:
    """Yield runs of paragraphs that are mostly letters."""
    text = inspect.cleandoc(text)
    pending = ""
    for paragraph in re.split(r"\n\s*\n", text):
        if len(_LETTERS.findall(paragraph)) < 0.8 * len(paragraph) or ">>>" in paragraph:
            continue
        paragraph = _dedented(paragraph)
        if pending and len(pending) + len(paragraph) > 600:
            yield from (piece for piece in _cut(pending) if len(piece) >= SHORTEST and piece.isascii())
            pending = paragraph
        else:
            pending = f"{pending}\n\n{paragraph}" if pending else paragraph
    yield from (piece for piece in _cut(pending) if len(piece) >= SHORTEST and piece.isascii())


def _shuffled(pieces: tuple[str, ...], seed: int) -> list[str]:
    return random.Random(f"saescope-stdlib-{seed}").sample(pieces, len(pieces))
