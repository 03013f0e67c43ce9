"""The known rows as the Hub has them now, and what differs."""

import dataclasses
import json
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from saescope.catalogue.known import Known
from saescope.catalogue.plan import Wanted
from saescope.errors import HubError, NoRepositoryError

if TYPE_CHECKING:
    from saescope.hub import Listing

A = TypeVar("A")
B = TypeVar("B")

WORKERS = 8
"""Questions to the Hub at a time."""

RECORDED, NEW, MOVED, CHANGED = "unchanged", "new", "moved", "changed"
VANISHED, ABSENT, UNREACHED = "vanished", "not there", "no answer"
FOLDER = re.compile(r"(?P<front>(?:.*[./])?layers\.)(?P<layer>\d+)(?:\.(?P<kind>mlp|attention))?")
"""Folder of a sparsify SAE: any prefix or folder above, block, kind."""

Folders = dict[tuple[str, str], frozenset[int]]
"""(kind, pattern) → blocks."""


@dataclass(frozen=True)
class Finding:
    """What is to be said about one repository."""

    repo: str
    state: str
    text: str


def refresh(rows: Sequence[Known]) -> tuple[list[Known], list[Finding]]:
    """The rows as the Hub has them now, and at least one finding for each repository asked.

    Rows about the package itself or about families of repositories (`*`) stay as they are. A repository
    that cannot be reached keeps its rows, marked.
    """
    repos = list(dict.fromkeys(r.repo for r in rows))
    real = [repo for repo in repos if "/" in repo and "*" not in repo]
    answers = dict(zip(real, _parallel(_listing, real), strict=True))
    now: list[Known] = []
    findings: list[Finding] = []
    for repo in repos:
        mine = [r for r in rows if r.repo == repo]
        if repo not in answers:
            now += mine
            continue
        answer = answers[repo]
        fresh, differences = _compare(mine, answer)
        now += fresh
        changed = "" if isinstance(answer, HubError) else answer.changed
        findings += differences or [Finding(repo, RECORDED, f"last commit {changed}" if changed else "")]
    return now, findings


def mark_lost(recorded: Sequence[Wanted], now: Sequence[Wanted]) -> list[Wanted]:
    """`now`, where hookpoints that have no SAE any more say so. Both are plans for the same hookpoints."""
    return [
        dataclasses.replace(new, live=VANISHED if old.state == "covered" else ABSENT)
        if old.known is not None and new.known is None
        else new
        for old, new in zip(recorded, now, strict=True)
    ]


def reread(wanted: Sequence[Wanted]) -> tuple[list[Wanted], list[Finding]]:
    """`num_latents` and `k` of the chosen SAEs from their own `cfg.json`, a file of about 100 bytes each."""
    chosen = [w for w in wanted if w.known and w.live not in (None, UNREACHED)]
    files = [(w.known.repo, f"{w.folder}/cfg.json") for w in chosen if w.known]
    read = {id(w): cfg for w, cfg in zip(chosen, _parallel(_config, files), strict=True) if cfg}
    now, findings = [], []
    for w in wanted:
        if w.known is None or id(w) not in read:
            now.append(w)
            continue
        cfg = read[id(w)]
        latents, k = _sizes(cfg)
        for key, recorded, value in (("num_latents", w.num_latents, latents), ("k", w.k, k)):
            if None not in (value, recorded) and value != recorded:
                text = f"{w.folder}: {key} is {value}, recorded was {recorded}"
                findings.append(Finding(w.known.repo, CHANGED, text))
        if cfg.get("d_in", w.shape.width) != w.shape.width:
            text = f"{w.folder}: d_in is {cfg['d_in']}, but {w.shape.name} has width {w.shape.width}"
            findings.append(Finding(w.known.repo, CHANGED, text))
        settled = {name for name, value in (("num_latents", latents), ("k", k)) if value is not None}
        open_still = tuple(name for name in w.known.unverified if name not in settled)
        known = dataclasses.replace(w.known, unverified=open_still)
        now.append(dataclasses.replace(w, known=known, num_latents=latents or w.num_latents, k=k or w.k))
    return now, findings


def _listing(repo: str) -> "Listing | HubError":
    from saescope import hub

    try:
        return hub.list_files(repo)
    except HubError as error:
        return error


def _config(file: tuple[str, str]) -> dict[str, Any] | None:
    """The JSON object in (repository, path); None where it cannot be had."""
    from saescope import hub

    try:
        value = json.loads(hub.download(*file).read_text(encoding="utf-8"))
    except (HubError, OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _parallel(call: Callable[[A], B], items: Sequence[A]) -> list[B]:
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(call, items))


def _compare(mine: list[Known], answer: "Listing | HubError") -> tuple[list[Known], list[Finding]]:
    """Rows of one repository after the Hub's answer, and what differs."""
    repo, named_only = mine[0].repo, not any(r.exists for r in mine)
    if isinstance(answer, HubError) and not isinstance(answer, NoRepositoryError):
        rows = [dataclasses.replace(r, live=UNREACHED) for r in mine]
        return rows, [Finding(repo, UNREACHED, answer.reason)]
    if isinstance(answer, HubError):
        if named_only:
            return mine, [Finding(repo, RECORDED, "no such repository")]
        certain = any(r.seen and "folders" not in r.unverified for r in mine)
        return [], [Finding(repo, VANISHED if certain else ABSENT, "no such repository, or it is private")]
    there = _sparsify_folders(answer.files)
    now: list[Known] = []
    findings = [Finding(repo, NEW, "the repository exists now")] if named_only else []
    for row in mine:
        for kind in row.folders:
            fresh, found = _kind(row, kind, answer.files, there)
            now += fresh
            findings += found
        if not row.folders and row.exists:
            now.append(dataclasses.replace(row, live=RECORDED))
    recorded = {kind for row in mine for kind in row.folders}
    for (kind, pattern), layers in there.items():
        if kind not in recorded:
            recorded.add(kind)
            findings.append(Finding(repo, NEW, f"{pattern} for {kind}, layers {span(layers)}"))
            model_open = tuple(name for name in mine[0].unverified if name == "model")
            now.append(
                dataclasses.replace(
                    mine[0], format="sparsify", folders={kind: pattern}, layers=layers, seen=layers,
                    num_latents=None, k=None, exists=True, live=NEW, unverified=model_open,
                )
            )  # fmt: skip
    return now, findings


def _kind(row: Known, kind: str, files: Iterable[str], there: Folders) -> tuple[list[Known], list[Finding]]:
    """Rows of one kind of hookpoint of `row`: those recorded, those new; and what differs."""
    pattern = row.folders[kind]
    if row.format == "sparsify":
        layers = there.get((kind, pattern), frozenset())
    else:
        paths = {"/".join(f.split("/")[:n]) for f in files for n in range(1, f.count("/") + 2)}
        layers = frozenset(layer for layer in row.layers if pattern.format(layer=layer) in paths)
    settled = tuple(name for name in row.unverified if name not in ("folders", "layers"))
    elsewhere = next((p for k, p in there if k == kind), None) if row.format == "sparsify" else None
    if not layers and elsewhere is not None:
        layers, state = there[kind, elsewhere], MOVED
        text = f"{kind}: {pattern} is now {elsewhere}, layers {span(layers)}"
        fresh = dataclasses.replace(
            row, folders={kind: elsewhere}, layers=layers, seen=layers, live=MOVED, unverified=settled
        )
        return [fresh], [Finding(row.repo, MOVED, text)]
    fresh_rows, findings = [], []
    certain = "folders" not in row.unverified and "layers" not in row.unverified
    for gone, state in ((row.seen - layers, VANISHED), (row.layers - row.seen - layers, ABSENT)):
        if gone:
            state = state if certain else ABSENT
            findings.append(Finding(row.repo, state, f"{pattern}, layers {span(gone)}"))
    for part, state in ((row.layers & layers, RECORDED), (layers - row.layers, NEW)):
        if part:
            fresh = dataclasses.replace(
                row, folders={kind: pattern}, layers=part, seen=part, live=state, unverified=settled
            )
            fresh_rows.append(fresh)
            if state == NEW:
                findings.append(Finding(row.repo, NEW, f"{pattern}, layers {span(part)}"))
    return fresh_rows, findings


def _sparsify_folders(files: Iterable[str]) -> Folders:
    """The folders that hold both files of an SAE, by kind and pattern."""
    names = set(files)
    found: Folders = {}
    for file in sorted(names):
        folder, _, name = file.rpartition("/")
        match = FOLDER.fullmatch(folder)
        if name == "cfg.json" and match is not None and f"{folder}/sae.safetensors" in names:
            end = f".{match['kind']}" if match["kind"] else ""
            key = (match["kind"] or "resid", match["front"] + "{layer}" + end)
            found[key] = found.get(key, frozenset()) | {int(match["layer"])}
    return found


def _sizes(cfg: dict[str, Any]) -> tuple[int | None, int | None]:
    """num_latents (0 or absent: d_in × expansion_factor) and k, None where the file does not say."""
    latents = cfg.get("num_latents") or cfg.get("d_sae")
    d_in, factor = cfg.get("d_in"), cfg.get("expansion_factor")
    if not latents and isinstance(d_in, int) and isinstance(factor, int):
        latents = d_in * factor
    k = cfg.get("k")
    return (latents if isinstance(latents, int) else None), (k if isinstance(k, int) else None)


def span(layers: Iterable[int]) -> str:
    """{0, 1, 2, 5} → `0–2, 5`."""
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(f"{r[0]}–{r[-1]}" if len(r) > 1 else str(r[0]) for r in runs)
