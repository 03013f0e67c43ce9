"""docs/numbers.md: every measured number of README and docs with its command, date and commit.

    python scripts/quoted_numbers.py            what has no source, or is not in the list (exit code 1)
    python scripts/quoted_numbers.py --write    writes the list

scripts/quoted_numbers.yaml says which block of which page comes from which command, and what is a setting.
Numbers are told from settings like this: on the pages named there under `every number counts` each number
in figures is measured unless it is listed as a setting; on the others only what has the shape of a
measurement (`MEASURED`). Code, addresses, names that hold digits, years and dates count nowhere, numbers in
words neither.
(The file is not called numbers.py: that would hide Python's own module from every script beside it.)
"""

import argparse
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from saescope.files import write_text

ROOT = Path(__file__).resolve().parents[1]
LIST = "docs/numbers.md"
CONTENTS = Path(__file__).with_suffix(".yaml")
SHOWN = "shown there"
"""In place of a command: the first of the shell block in the number's section."""
ONCE = "not reproducible by a command here: measured once"

LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
CODE = re.compile(r"`[^`]*`")
FENCE = re.compile(r"^\s*```(\w*)\s*$")
MONTH = "January|February|March|April|May|June|July|August|September|October|November|December"
NOT_A_NUMBER = re.compile(
    rf"https?://\S+|\d+ (?:{MONTH}) \d{{4}}|\b(?:19|20)\d\d\b(?![,.]\d)|arXiv \S+|commit [0-9a-f]{{7,}}"
)
NUMBER = re.compile(
    r"(?<![\w.,#])(?<![A-Za-z0-9)]-)(?<!\d/)"
    r"([+\-−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[-+]?\d+)?(?:/\d+)?)"
    r"(?![\d⁰¹²³⁴⁵⁶⁷⁸⁹⁻]|\.\d|,\d{3}|(?!(?:s|ms|[GM]i?B)\b)[A-Za-z_]|-[A-Za-z])"
)
UNIT = r"(?:%|(?:s|ms|min|seconds?|minutes?|hours?|[KMG]i?B|tokens/s|nats|µs|TFLOP/s|times)\b)"
MEASURED = re.compile(rf"\S*(?:\.\d|,\d\d\d|e-\d)|\S+?(?:\s?(?:–|to|and|±)\s?[\d.,]+)?\s?{UNIT}")
"""From the number on: decimals, thousands with a comma, or a unit of time, size, share or speed."""
MADE = re.compile(rf"[Mm]ade by .* on (\d+ (?:{MONTH}) \d{{4}}) at commit (\w+)")


@dataclass(frozen=True)
class Number:
    """One number of a page, with the words by which it is found."""

    page: str
    line: int
    section: str
    block: int
    text: str
    where: str
    column: str
    is_label: bool
    rest: str = field(compare=False)
    """The text from the number on."""
    around: str = field(compare=False)
    start: int = field(compare=False)
    """`around[start:]` is `rest`."""

    @property
    def found_by(self) -> tuple[str, str]:
        return self.where, self.text


@dataclass
class Source:
    """A block, a section or a page whose numbers one command makes."""

    page: str
    command: str = ""
    section: str = ""
    words: str = ""
    file: str = ""
    once: str = ""
    labels: bool = False
    """Whether numbers in the first column, which names the rows, are measured too."""
    row: str = ""
    """A pattern that the words of a table's number begin with."""
    settings: list[str] = field(default_factory=list)
    """Heads of the columns of a table that say what was set."""

    def covers(self, number: Number, blocks: dict[int, str]) -> bool:
        return (
            self.page == number.page
            and (not self.section or self.section == number.section)
            and (not self.words or self.words in blocks[number.block])
            and (not self.row or re.match(self.row, number.where) is not None)
        )


@dataclass(frozen=True)
class Page:
    """A page in blocks (paragraph, list item, table, code block), and the numbers in them."""

    blocks: dict[int, str]
    numbers: tuple[Number, ...]
    shown: dict[str, str]
    """The first saescope command of each section's shell block."""


def plain(text: str) -> tuple[str, list[tuple[int, int]]]:
    """Text without marks of links and code, and the places in it where digits are no numbers."""
    text = LINK.sub(r"\1", text)
    out, spans, last = "", [], 0
    for code in CODE.finditer(text):
        out += text[last : code.start()]
        spans.append((len(out), len(out) + len(code[0]) - 2))
        out += code[0][1:-1]
        last = code.end()
    out += text[last:]
    spans += [match.span() for match in NOT_A_NUMBER.finditer(out)]
    return out, spans


def inside(start: int, end: int, spans: list[tuple[int, int]]) -> bool:
    return any(start < high and low < end for low, high in spans)


def blocks_of(text: str) -> Iterator[tuple[int, str, str, list[str]]]:
    """First line, section, kind and lines of each block."""
    section, kind, lines, first = "", "", [], 0
    fence: str | None = None
    for number, line in enumerate([*text.splitlines(), ""], 1):
        mark = FENCE.match(line)
        if fence is not None:
            if mark:
                yield first, section, {"": "output", "sh": "shell"}.get(fence, "code"), lines
                fence, lines = None, []
            else:
                lines.append(line)
            continue
        table = line.startswith("|")
        new = (
            not line.strip()
            or mark
            or line.startswith(("#", "<!--", "- ", "* "))
            or re.match(r"\d+\. ", line)
        )
        if lines and (new or table != (kind == "table")):
            yield first, section, kind, lines
            lines = []
        if mark:
            fence, first = mark[1], number
        elif line.startswith("#"):
            section = plain(line.lstrip("# "))[0]
        elif line.startswith("<!--"):
            yield number, section, "comment", [line]
        elif line.strip():
            if not lines:
                kind = "table" if table else "shell" if line.startswith("    ") else "text"
                first = number
            lines.append(line)


def read(page: str, text: str) -> Page:
    """The blocks and all numbers of a page."""
    blocks: dict[int, str] = {}
    numbers: list[Number] = []
    shown: dict[str, str] = {}
    generated = ""
    for first, section, kind, lines in blocks_of(text):
        if kind == "comment":
            start = re.match(r"<!-- (metrics|coverage|models)\b", lines[0])
            generated = start[1] if start else "" if lines[0].startswith("<!-- end") else generated
            continue
        if generated or kind == "code":
            continue
        if kind == "shell" and (
            command := re.search(r"^saescope [^#\n]*", "\n".join(lines).replace("\\\n", " "), re.M)
        ):
            shown.setdefault(section, " ".join(command[0].split()))
        blocks[first] = " ".join(" ".join(lines).split())
        for line, where, column, is_label, piece in pieces(kind, lines):
            words, spans = plain(piece)
            for match in NUMBER.finditer(words):
                if not inside(match.start(1), match.end(1), spans):
                    numbers.append(
                        Number(
                            page, first + line, section, first, match[1],
                            where or around(words, *match.span(1)), column, is_label,
                            words[match.start(1) :], words, match.start(1),
                        )
                    )  # fmt: skip
    return Page(blocks, tuple(numbers), shown)


def pieces(kind: str, lines: list[str]) -> Iterator[tuple[int, str, str, bool, str]]:
    """Line in the block, words of a cell (empty: those around the number), column, is it the first, text."""
    if kind == "text":
        yield 0, "", "", False, " ".join(" ".join(lines).split())
    elif kind == "shell":
        for place, line in enumerate(lines):
            code, mark, comment = line.partition("# ")
            if mark:
                yield place + 1, plain(" ".join(code.split()))[0], "", False, comment
    elif kind == "table":
        heads = cells(lines[0], "|")
        for place, line in enumerate(lines[2:], 2):
            yield from row(place, heads, cells(line, "|"))
    elif kind == "output":
        heads = []
        for place, line in enumerate(lines, 1):
            if line.startswith("┃"):
                heads = cells(line, "┃")
            elif line.startswith("│"):
                yield from row(place, heads, cells(line, "│"))
        prose = " ".join(" ".join(line for line in lines if not line.startswith(tuple("┏┃┡│└"))).split())
        yield 1, "", "", False, prose


def cells(line: str, border: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip(border).split(border)]


def row(place: int, heads: list[str], texts: list[str]) -> Iterator[tuple[int, str, str, bool, str]]:
    name = plain(texts[0])[0]
    for head, text in zip(heads, texts, strict=False):
        head = plain(head)[0]
        yield place, "" if text is texts[0] else f"{name} · {head}".strip(" ·"), head, text is texts[0], text


def around(words: str, start: int, end: int) -> str:
    """The number with four words on each side."""
    before, after = words[:start].split(" "), words[end:].split(" ")
    left = " ".join(before[-5:])
    right = " ".join(after[:5])
    return f"{left}{words[start:end]}{right}".strip()


class Sources:
    """scripts/quoted_numbers.yaml."""

    def __init__(self, contents: dict[str, Any]) -> None:
        self.every = set(contents["every number counts"])
        self.without = [Source(**entry) for entry in contents["nothing measured"]]
        self.sources = [Source(**entry) for entry in contents["sources"]]
        patterns = contents["settings"]
        self.patterns = {page: [re.compile(words) for words in patterns[page]] for page in patterns}

    def is_setting(self, number: Number) -> bool:
        at = number.start, number.start + len(number.text)
        patterns = [*self.patterns.get("everywhere", ()), *self.patterns.get(number.page, ())]
        return any(
            inside(*at, [match.span() for match in pattern.finditer(number.around)]) for pattern in patterns
        )

    def measured(self, number: Number, source: Source | None) -> bool:
        """Whether the number is to be in the list; a source's table is whole, but for labels and settings."""
        if self.is_setting(number):
            return False
        if number.is_label and not (source and source.labels):
            return False
        if source and number.column:
            return number.column not in source.settings
        return number.page in self.every or bool(MEASURED.match(number.rest))


@dataclass(frozen=True)
class Row:
    """One line of docs/numbers.md, but for date and commit."""

    page: str
    text: str
    where: str
    made_by: str
    file: str


def pages() -> dict[str, str]:
    """README and docs, but for the list itself."""
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    named = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    named.pop(LIST, None)
    return named


def contents() -> Sources:
    return Sources(yaml.safe_load(CONTENTS.read_text(encoding="utf-8")))


def rows(texts: dict[str, str], sources: Sources) -> tuple[list[Row], list[str]]:
    """A row for each measured number, and a sentence for each without a source and each idle source."""
    out: list[Row] = []
    faults: list[str] = []
    used: set[int] = set()
    for name, text in texts.items():
        page = read(name, text)
        for number in page.numbers:
            idle = next((entry for entry in sources.without if entry.covers(number, page.blocks)), None)
            if idle is not None:
                used.add(id(idle))
                continue
            source = next((entry for entry in sources.sources if entry.covers(number, page.blocks)), None)
            if not sources.measured(number, source):
                continue
            if source is None:
                faults.append(
                    f"{name}:{number.line}: {number.text} ({number.where}): no source in {CONTENTS.name}"
                )
                continue
            used.add(id(source))
            command = source.command
            if command == SHOWN:
                command = page.shown.get(number.section, "")
            made_by = f"`{command}`" if command else f"{ONCE}, {source.once}"
            out.append(Row(name, number.text, number.where, made_by, source.file))
    for source in [*sources.without, *sources.sources]:
        if id(source) not in used:
            faults.append(f"{CONTENTS.name}: nothing on {source.page} is from this source: {source}")
    return out, faults


def lacking(sources: Sources, texts: dict[str, str]) -> list[str]:
    """A sentence for each command that does not exist, and each result file."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    shown = " ".join(" ".join(texts.values()).replace("\\\n", " ").split())
    out = []
    for source in sources.sources:
        if source.file and not (ROOT / source.file).exists():
            out.append(f"{CONTENTS.name}: there is no file {source.file}")
        if source.command in ("", SHOWN):
            continue
        first, second, *_ = [*shlex.split(source.command), ""]
        fine = {
            "make": re.search(rf"^{re.escape(second)}:", makefile, re.MULTILINE) is not None,
            "python": (ROOT / second).is_file(),
            "pytest": all(
                (ROOT / word.partition("::")[0]).exists() for word in source.command.split() if "/" in word
            ),
        }.get(first, source.command in shown)
        if not fine:
            out.append(f"{CONTENTS.name}: no such command, or it stands in no page: {source.command}")
    return out


def git(*words: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *words], check=True, capture_output=True, text=True).stdout


@cache
def keys_of(page: str, blob: str) -> frozenset[tuple[str, str]]:
    return frozenset(number.found_by for number in read(page, git("cat-file", "blob", blob)).numbers)


def first_commits(wanted: set[tuple[str, str]]) -> dict[tuple[str, str], tuple[str, str]]:
    """For each number with its words the commit since which they stand in README or docs, wherever there."""
    today, since = git("log", "-1", "--date=format:%Y-%m-%d", "--format=%h %cs").split(), {}
    open_keys = set(wanted)
    for line in git("log", "--first-parent", "--format=%h %cs", "--", "README.md", "docs").splitlines():
        commit, date = line.split()
        there: set[tuple[str, str]] = set()
        for entry in git("ls-tree", commit, "README.md", "docs/").splitlines():
            _, _, blob, path = entry.split(maxsplit=3)
            if path.endswith(".md") and path != LIST:
                there |= keys_of(path, blob)
        open_keys &= there
        since |= dict.fromkeys(open_keys, (commit, date))
        if not open_keys:
            break
    return {key: since.get(key, (today[0], today[1])) for key in wanted}


def commit_of(file: str) -> tuple[str, str]:
    """The commit that last changed a result file; of one not committed yet, the commit before it."""
    changed = git("status", "--porcelain", "--", file)
    commit, date = git("log", "-1", "--format=%h %cs", *([] if changed else ["--", file])).split()
    return commit, date


def written(texts: dict[str, str], listed: list[Row]) -> str:
    """The page docs/numbers.md."""
    since = first_commits({(row.where, row.text) for row in listed})
    out = [HEAD]
    for page in dict.fromkeys(row.page for row in listed):
        made = MADE.search(texts[page])
        out += [
            f"## {page}",
            "",
            "| number | where | made by | result in | date | commit |",
            "|---|---|---|---|---|---|",
        ]
        for entry in (row for row in listed if row.page == page):
            commit, date = commit_of(entry.file) if entry.file else since[entry.where, entry.text]
            if made:
                date, commit = made[1], made[2]
            where = entry.where.replace("|", r"\|")
            made_by = entry.made_by.replace("|", r"\|")
            out.append(f"| {entry.text} | `{where}` | {made_by} | {entry.file} | {date} | {commit} |")
        out.append("")
    return "\n".join(out)


HEAD = f"""# Every number and its command

Written by `python scripts/quoted_numbers.py --write` from README, docs and `scripts/quoted_numbers.yaml`,
which says what makes the numbers of each block; a test fails when a measured number of README or docs is
not here, or one that is here is no longer there. *Commit*: where a result file holds the number, the last
that changed the file; where the page says at which commit it was made, that one; else the one since which
number and words stand in README or docs, on whichever page. What was not committed when this was written
has the commit before it.

README, first run, dynamic k, calibration, audit, reliability, tables with a source: every number in figures
that is not listed as a setting. Elsewhere: what has decimals, thousands with a comma, or a unit of time,
size, share or speed. Numbers in words are not found, and code, names, years and dates are not read.
*{ONCE.capitalize()}*: on the date beside it.
"""


ROW = re.compile(r"^\| (\S+) \| `(.*)` \| (.*?) \| (\S*) \| [^|]* \| [^|]* \|$")


def listed_in(text: str) -> list[Row]:
    """The rows of docs/numbers.md as it is."""
    out, page = [], ""
    for line in text.splitlines():
        if line.startswith("## "):
            page = line.removeprefix("## ")
        elif match := ROW.match(line):
            number, where, made_by, file = match.groups()
            out.append(Row(page, number, where.replace(r"\|", "|"), made_by.replace(r"\|", "|"), file))
    return out


def differences(now: list[Row], listed: list[Row]) -> list[str]:
    """A sentence for each number of the pages that is not in the list, and the other way round."""
    new, gone = Counter(now) - Counter(listed), Counter(listed) - Counter(now)
    return [f"{row.page}: {row.text} ({row.where}) is not in {LIST}" for row in new] + [
        f"{LIST}: {row.text} ({row.where}) is no longer so in {row.page}" for row in gone
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help=f"write {LIST}")
    args = parser.parse_args()
    texts, sources = pages(), contents()
    now, faults = rows(texts, sources)
    faults += lacking(sources, texts)
    path = ROOT / LIST
    if args.write:
        write_text(path, written(texts, now))
    faults += differences(now, listed_in(path.read_text(encoding="utf-8")) if path.exists() else [])
    print(*faults, f"{len(now)} numbers, {len(faults)} to mend", sep="\n")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
