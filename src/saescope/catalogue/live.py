"""The rows of the catalogue compared with the Hub: the rows as they are now, and what differs."""

import dataclasses
import json
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from saescope.catalogue.plan import HookpointPlan
from saescope.catalogue.repositories import CatalogueRow
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
    """Something to report about one repository."""

    repo: str
    state: str
    text: str


def refresh(rows: Sequence[CatalogueRow]) -> tuple[list[CatalogueRow], list[Finding]]:
    """The rows as the Hub has them now, and at least one finding for each repository listed.

    Rows about the package itself or about families of repositories (`*`) stay as they are. A repository
    that cannot be reached keeps its rows, marked.
    """
    repos = list(dict.fromkeys(r.repo for r in rows))
    real = [repo for repo in repos if "/" in repo and "*" not in repo]
    answers = dict(zip(real, _parallel(_listing, real), strict=True))
    current: list[CatalogueRow] = []
    findings: list[Finding] = []
    for repo in repos:
        recorded = [r for r in rows if r.repo == repo]
        if repo not in answers:
            current += recorded
            continue
        answer = answers[repo]
        updated, differences = _compare(recorded, answer)
        current += updated
        changed = "" if isinstance(answer, HubError) else answer.changed
        findings += differences or [Finding(repo, RECORDED, f"last commit {changed}" if changed else "")]
    return current, findings


def mark_lost(recorded: Sequence[HookpointPlan], current: Sequence[HookpointPlan]) -> list[HookpointPlan]:
    """`current`, with hookpoints marked that have lost their SAE. Both are plans for the same hookpoints."""
    return [
        dataclasses.replace(new, live=VANISHED if old.state == "covered" else ABSENT)
        if old.row is not None and new.row is None
        else new
        for old, new in zip(recorded, current, strict=True)
    ]


def reread(plans: Sequence[HookpointPlan]) -> tuple[list[HookpointPlan], list[Finding]]:
    """`num_latents` and `k` of the chosen SAEs from their own `cfg.json`, a file of about 100 bytes each."""
    chosen = [plan for plan in plans if plan.row and plan.live not in (None, UNREACHED)]
    files = [(plan.row.repo, f"{plan.folder}/cfg.json") for plan in chosen if plan.row]
    cfg_of = {id(plan): cfg for plan, cfg in zip(chosen, _parallel(_config, files), strict=True) if cfg}
    updated, findings = [], []
    for plan in plans:
        if plan.row is None or id(plan) not in cfg_of:
            updated.append(plan)
            continue
        cfg = cfg_of[id(plan)]
        latents, k = _sizes(cfg)
        for key, recorded, value in (("num_latents", plan.num_latents, latents), ("k", plan.k, k)):
            if None not in (value, recorded) and value != recorded:
                text = f"{plan.folder}: {key} is {value}, recorded was {recorded}"
                findings.append(Finding(plan.row.repo, CHANGED, text))
        if cfg.get("d_in", plan.shape.width) != plan.shape.width:
            text = f"{plan.folder}: d_in is {cfg['d_in']}, but {plan.shape.name} has width {plan.shape.width}"
            findings.append(Finding(plan.row.repo, CHANGED, text))
        stated = {name for name, value in (("num_latents", latents), ("k", k)) if value is not None}
        unverified = tuple(name for name in plan.row.unverified if name not in stated)
        row = dataclasses.replace(plan.row, unverified=unverified)
        updated.append(
            dataclasses.replace(plan, row=row, num_latents=latents or plan.num_latents, k=k or plan.k)
        )
    return updated, findings


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


def _compare(
    rows: list[CatalogueRow], answer: "Listing | HubError"
) -> tuple[list[CatalogueRow], list[Finding]]:
    """Rows of one repository after the Hub's answer, and what differs."""
    repo, named_only = rows[0].repo, not any(r.exists for r in rows)
    if isinstance(answer, HubError) and not isinstance(answer, NoRepositoryError):
        unreached = [dataclasses.replace(r, live=UNREACHED) for r in rows]
        return unreached, [Finding(repo, UNREACHED, answer.reason)]
    if isinstance(answer, HubError):
        if named_only:
            return rows, [Finding(repo, RECORDED, "no such repository")]
        certain = any(r.seen and "folders" not in r.unverified for r in rows)
        return [], [Finding(repo, VANISHED if certain else ABSENT, "no such repository, or it is private")]
    folders = _sparsify_folders(answer.files)
    current: list[CatalogueRow] = []
    findings = [Finding(repo, NEW, "the repository exists now")] if named_only else []
    for row in rows:
        for kind in row.folders:
            of_kind, differences = _compare_kind(row, kind, answer.files, folders)
            current += of_kind
            findings += differences
        if not row.folders and row.exists:
            current.append(dataclasses.replace(row, live=RECORDED))
    recorded = {kind for row in rows for kind in row.folders}
    for (kind, pattern), layers in folders.items():
        if kind not in recorded:
            recorded.add(kind)
            findings.append(Finding(repo, NEW, f"{pattern} for {kind}, layers {span(layers)}"))
            unverified = tuple(name for name in rows[0].unverified if name == "model")
            current.append(
                dataclasses.replace(
                    rows[0], format="sparsify", folders={kind: pattern}, layers=layers, seen=layers,
                    num_latents=None, k=None, architecture=None, l0={}, fvu={}, release=None, ids={},
                    hooks={}, exists=True, live=NEW, unverified=unverified,
                )
            )  # fmt: skip
    return current, findings


def _compare_kind(
    row: CatalogueRow, kind: str, files: Iterable[str], folders: Folders
) -> tuple[list[CatalogueRow], list[Finding]]:
    """Rows of one kind of hookpoint of `row`: those recorded, those new; and what differs."""
    pattern = row.folders[kind]
    if row.format == "sparsify":
        layers = folders.get((kind, pattern), frozenset())
    else:
        paths = {"/".join(f.split("/")[:n]) for f in files for n in range(1, f.count("/") + 2)}
        layers = frozenset(layer for layer in row.layers if pattern.format(layer=layer) in paths)
    unverified = tuple(name for name in row.unverified if name not in ("folders", "layers"))
    elsewhere = next((p for k, p in folders if k == kind), None) if row.format == "sparsify" else None
    if not layers and elsewhere is not None:
        layers, state = folders[kind, elsewhere], MOVED
        text = f"{kind}: {pattern} is now {elsewhere}, layers {span(layers)}"
        updated = dataclasses.replace(
            row, folders={kind: elsewhere}, layers=layers, seen=layers, live=MOVED, unverified=unverified
        )
        return [updated], [Finding(row.repo, MOVED, text)]
    rows, findings = [], []
    certain = "folders" not in row.unverified and "layers" not in row.unverified
    for missing, state in ((row.seen - layers, VANISHED), (row.layers - row.seen - layers, ABSENT)):
        if missing:
            state = state if certain else ABSENT
            findings.append(Finding(row.repo, state, f"{pattern}, layers {span(missing)}"))
    for part, state in ((row.layers & layers, RECORDED), (layers - row.layers, NEW)):
        if part:
            updated = dataclasses.replace(
                row, folders={kind: pattern}, layers=part, seen=part, live=state, unverified=unverified
            )
            rows.append(updated)
            if state == NEW:
                findings.append(Finding(row.repo, NEW, f"{pattern}, layers {span(part)}"))
    return rows, findings


def _sparsify_folders(files: Iterable[str]) -> Folders:
    """The folders that hold both files of an SAE, by kind and pattern."""
    names = set(files)
    layers_of: Folders = {}
    for file in sorted(names):
        folder, _, name = file.rpartition("/")
        match = FOLDER.fullmatch(folder)
        if name == "cfg.json" and match is not None and f"{folder}/sae.safetensors" in names:
            end = f".{match['kind']}" if match["kind"] else ""
            key = (match["kind"] or "resid", match["front"] + "{layer}" + end)
            layers_of[key] = layers_of.get(key, frozenset()) | {int(match["layer"])}
    return layers_of


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
