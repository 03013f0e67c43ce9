"""Comparisons → rows of `overlap.csv` and the tables of the sweep page."""

from collections.abc import Sequence
from typing import Any

from saescope.overlap.compare import Comparison, Stratum
from saescope.overlap.pairs import replicas
from saescope.stats.overlap import STRATUM_NAMES, THRESHOLDS

Cell = str | int | float | None
Table = dict[str, Any]
"""`title`, `sentences`, `columns`, `rows`; of the first table also `matrix`."""

PAIR = {"job_a": "SAE A", "job_b": "SAE B"}


def row_of(comparison: Comparison) -> dict[str, Cell]:
    """One row of `overlap.csv`; shares are of all latents of that SAE, None where nothing was measured."""
    a, b = comparison.a, comparison.b
    overlap, chance, groups = comparison.overlap, comparison.chance, comparison.groups
    row: dict[str, Cell] = {
        "job_a": a.name,
        "job_b": b.name,
        "place": a.place,
        "replicas": int(replicas(a, b)),
        "latents_a": overlap.latents[0],
        "latents_b": overlap.latents[1],
        "k_a": a.k,
        "k_b": b.k,
        "shared_a": float(overlap.shared_A.mean()),
        "shared_b": float(overlap.shared_B.mean()),
        "shared_random": chance.shared,
        "same_partner": overlap.same_partner,
        "pw_mcc": overlap.pw_mcc,
        "pw_mcc_bound": overlap.pw_mcc_bound,
        "pw_mcc_random": chance.pw_mcc,
        "mmcs_ab": overlap.mmcs_ab,
        "mmcs_ba": overlap.mmcs_ba,
        "mmcs_random": chance.mmcs_ab,
        "mmcs_ba_random": chance.mmcs_ba,
        "unsettled": overlap.unsettled,
    }
    row |= {f"shared_at_{t:g}": overlap.shared_at(t) for t in THRESHOLDS}
    row |= {"shared_supported": groups.nodes[0], "orphan_supported": groups.nodes[1]}
    row |= {"si_shared": groups.si[0], "si_orphan": groups.si[1]}
    for name, interval in (
        ("si_difference", groups.si_difference),
        ("si_difference_matched", groups.si_difference_matched),
    ):
        values = (None, None, None) if interval is None else interval
        row |= dict(zip((name, f"{name}_lo", f"{name}_hi"), values, strict=True))
    row |= {
        "degree_shared": groups.degree[0],
        "degree_orphan": groups.degree[1],
        "q_share_shared": groups.q_share,
    }
    return row | {"si_partner_correlation": groups.partner_si_correlation}


def tables(comparisons: Sequence[Comparison], sentences: Sequence[str]) -> list[Table]:
    """Pairs, thresholds, firing frequency, and SI and Q of both groups."""
    rows = [row_of(comparison) for comparison in comparisons]
    definitions = (
        "Shared: the same one-to-one partner on encoder and decoder, both cosines above 0.7. PW-MCC: mean "
        "cosine of matched decoder rows. MMCS: mean largest decoder cosine, from the first SAE to the second "
        "and back. Random: what dictionaries of random directions of these sizes give."
    )
    sparse = [it for it in comparisons if it.overlap.unsettled]
    bounds = [
        f"Above 8,192 latents the matching is sparse: {it.a.name}–{it.b.name} has {it.overlap.unsettled:,} "
        f"partners not proven optimal, and a PW-MCC of at most {it.overlap.pw_mcc_bound:.4f}."
        for it in sparse
    ]
    return [
        _table(
            "Overlap of SAEs",
            [*sentences, definitions, *bounds],
            rows,
            {
                **PAIR, "latents_a": "latents A", "latents_b": "latents B",
                "shared_a": "shared of A", "shared_b": "shared of B", "shared_random": "random at most",
                "same_partner": "same partner", "pw_mcc": "PW-MCC", "pw_mcc_random": "PW-MCC random",
                "mmcs_ab": "MMCS A→B", "mmcs_ba": "MMCS B→A", "mmcs_random": "MMCS random",
            },
        )
        | {"matrix": shared_matrix(comparisons)},
        _table(
            "Shared latents by threshold",
            ["Share of the narrower SAE's latents whose partner has both cosines above the threshold."],
            rows,
            {**PAIR, **{f"shared_at_{t:g}": f"cosine > {t:g}" for t in THRESHOLDS}},
        ),
        _by_frequency(comparisons),
        _table(
            "SI and Q of shared latents and orphans",
            [
                "Supported latents of both SAEs together. Intervals: 95 % bootstrap over latents; none below "
                "10 latents in either group. At equal frequency: the difference within half decades of "
                "firing frequency. Q share: part of the modularity that shared latents contribute. Partner "
                "correlation: Spearman correlation of SI between matched latents, shared or not."
            ],
            rows,
            {
                **PAIR, "shared_supported": "shared", "orphan_supported": "orphans",
                "si_shared": "SI shared", "si_orphan": "SI orphans", "si_difference": "difference",
                "si_difference_lo": "low", "si_difference_hi": "high",
                "si_difference_matched": "at equal frequency", "si_difference_matched_lo": "low ",
                "si_difference_matched_hi": "high ", "degree_shared": "degree shared",
                "degree_orphan": "degree orphans", "q_share_shared": "Q share",
                "si_partner_correlation": "partner correlation",
            },
        ),
    ]  # fmt: skip


def shared_matrix(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """`names` [S] and `shared` [S, S]: share of the latents of SAE s that SAE t shares.

    None on the diagonal and where two SAEs were not compared.
    """
    names = list(dict.fromkeys(it.name for comparison in comparisons for it in (comparison.a, comparison.b)))
    place = {name: at for at, name in enumerate(names)}
    shared: list[list[Cell]] = [[None] * len(names) for _ in names]
    for comparison in comparisons:
        a, b, overlap = place[comparison.a.name], place[comparison.b.name], comparison.overlap
        shared[a][b] = _rounded(float(overlap.shared_A.mean()))
        shared[b][a] = _rounded(float(overlap.shared_B.mean()))
    return {"names": names, "shared": shared}


def _table(title: str, sentences: list[str], rows: list[dict[str, Cell]], columns: dict[str, str]) -> Table:
    cells = [[_rounded(row[name]) for name in columns] for row in rows]
    return {"title": title, "sentences": sentences, "columns": list(columns.values()), "rows": cells}


def _by_frequency(comparisons: Sequence[Comparison]) -> Table:
    columns = ["firing frequency", "pairs", "latents", "shared", "largest decoder cosine", "random"]
    rows: list[list[Cell]] = []
    for stratum, name in enumerate(STRATUM_NAMES):
        parts = [(it, it.strata[stratum]) for it in comparisons if stratum in it.strata]
        total = sum(part.latents for _, part in parts)
        if not total:
            continue

        def weighted(values: list[tuple[Stratum, float]], total: int = total) -> float:
            return sum(part.latents * value for part, value in values) / total

        rows.append(
            [
                name,
                len(parts),
                total,
                _rounded(sum(part.shared for _, part in parts) / total),
                _rounded(weighted([(part, part.best) for _, part in parts])),
                _rounded(
                    weighted([(part, (it.chance.mmcs_ab + it.chance.mmcs_ba) / 2) for it, part in parts])
                ),
            ]
        )
    about = "Latents of all pairs (each counts once for every pair), by the share of tokens they fire on."
    return {"title": "Overlap by firing frequency", "sentences": [about], "columns": columns, "rows": rows}


def _rounded(value: Cell) -> Cell:
    return float(f"{value:.4g}") if isinstance(value, float) else value
