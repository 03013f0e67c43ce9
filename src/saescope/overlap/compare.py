"""Two SAEs: which latents they share, how often these fire, and their part in SI and Q."""

from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from saescope.errors import ReportError
from saescope.overlap.pairs import Member
from saescope.overlap.sae_file import DECODER, ENCODER, read_rows
from saescope.runfolder.run import Columns
from saescope.runtime.meter import Meter
from saescope.stats.arrays import BoolArray, FloatArray, IntArray
from saescope.stats.assignment import Matching, match
from saescope.stats.cosine_search import unit_rows
from saescope.stats.groups import MIN_GROUP, mean_difference, modularity_shares
from saescope.stats.overlap import Overlap, RandomOverlap, overlap, random_overlap, strata
from saescope.stats.threads import in_threads

Interval = tuple[float, float, float]


@dataclass(frozen=True)
class Stratum:
    """Latents of one firing frequency in both SAEs together."""

    latents: int = 0
    shared: int = 0
    best: float = 0.0
    """Mean largest decoder cosine with the other SAE."""


@dataclass(frozen=True)
class Groups:
    """Shared latents and orphans, supported ones only, both SAEs pooled."""

    nodes: tuple[int, int] = (0, 0)
    """Numbers of shared and orphan latents."""
    si: tuple[float | None, float | None] = (None, None)
    si_difference: Interval | None = None
    si_difference_matched: Interval | None = None
    """The same at equal firing frequency (half decades)."""
    degree: tuple[float | None, float | None] = (None, None)
    q_share: float | None = None
    """Part of Q that the shared latents contribute."""
    partner_si_correlation: float | None = None
    """Spearman correlation of SI between decoder partners, both supported, whether shared or not."""


@dataclass(frozen=True)
class Comparison:
    """All results on one pair."""

    a: Member
    b: Member
    overlap: Overlap
    chance: RandomOverlap
    strata: dict[int, Stratum] = field(default_factory=dict)
    groups: Groups = field(default_factory=Groups)


def compare(a: Member, b: Member) -> Comparison:
    """Match the two SAEs and describe both groups. Raises ValueError when weights cannot be read."""
    encoder, decoder, d = _match(a, b)
    measured = overlap(encoder, decoder, d)
    chance = random_overlap(measured.latents, d)
    features = [
        _Features.read(member, latents) for member, latents in zip((a, b), measured.latents, strict=True)
    ]
    if features[0] is None or features[1] is None:
        return Comparison(a, b, measured, chance)
    first, second = features[0], features[1]
    density = np.concatenate([first.density, second.density])
    shared, best = (
        np.concatenate([measured.shared_A, measured.shared_B]),
        np.concatenate([measured.best_A, measured.best_B]),
    )
    stratum = strata(density)
    by_frequency = {
        int(s): Stratum(int(here.sum()), int(shared[here].sum()), float(best[here].mean()))
        for s in np.unique(stratum)
        if (here := stratum == s).any()
    }
    return Comparison(a, b, measured, chance, by_frequency, _groups(first, second, shared, decoder.partner_A))


def _match(a: Member, b: Member) -> tuple[Matching, Matching, int]:
    """Encoder and decoder matched side by side: an assignment works on one core."""
    sides = []
    for name in (ENCODER, DECODER):
        rows_a, rows_b = (unit_rows(read_rows(member.weights, name)) for member in (a, b))
        if rows_a.shape[1] != rows_b.shape[1]:
            raise ValueError(f"{a.name} and {b.name} have rows of different length in {name}")
        sides.append((rows_a, rows_b))
    total = sum(min(map(len, rows)) for rows in sides)
    with Meter(f"overlap of {a.name} and {b.name}", total, "latents") as meter:
        encoder, decoder = in_threads(lambda rows: match(*rows, progress=meter.advance), sides)
    return encoder, decoder, sides[0][0].shape[1]


@dataclass(frozen=True)
class _Features:
    """Columns of one job's `features.parquet`, and the modularity parts of its latents."""

    density: FloatArray
    supported: BoolArray
    si: FloatArray
    degree: FloatArray
    q: FloatArray

    @staticmethod
    def read(member: Member, latents: int) -> "_Features | None":
        """None when the table is missing, unreadable or of another SAE."""
        table = _columns(member, "features", ["density", "supported", "si", "community", "degree"])
        if table is None or len(table["density"]) != latents:
            return None
        edges = _columns(member, "edges", ["source", "target", "pmi"])
        q = np.zeros(latents)
        if edges is not None:
            ends: list[IntArray] = [edges[name].astype(np.int64) for name in ("source", "target")]
            resolution = float(member.run.section("metrics").get("resolution") or 1.0)
            q = modularity_shares(
                ends[0],
                ends[1],
                edges["pmi"].astype(np.float64),
                table["community"].astype(np.int64),
                resolution,
            )
        number = {name: table[name].astype(np.float64) for name in ("density", "si", "degree")}
        return _Features(
            number["density"], table["supported"].astype(np.bool_), number["si"], number["degree"], q
        )


def _columns(member: Member, table: str, names: list[str]) -> Columns | None:
    try:
        return member.run.columns(table, names)
    except ReportError:
        return None


def _groups(a: _Features, b: _Features, shared: BoolArray, partner_A: IntArray) -> Groups:
    def pooled(name: str) -> FloatArray:
        return np.concatenate([getattr(a, name), getattr(b, name)])

    si = pooled("si")
    counted = pooled("supported").astype(np.bool_) & np.isfinite(si)
    si, first, density, q = si[counted], shared[counted], pooled("density")[counted], pooled("q")[counted]
    degree, frequency = pooled("degree")[counted], np.floor(2.0 * np.log10(density)).astype(np.int64)
    mean = [(_mean(value[first]), _mean(value[~first])) for value in (si, degree)]
    at = np.flatnonzero(partner_A >= 0)
    both = a.supported[at] & b.supported[partner_A[at]]
    pairs = (a.si[at[both]], b.si[partner_A[at[both]]])
    varies = both.sum() >= MIN_GROUP and all(np.ptp(values) > 0.0 for values in pairs)
    correlation = float(stats.spearmanr(*pairs).statistic) if varies else np.nan
    return Groups(
        nodes=(int(first.sum()), int((~first).sum())),
        si=mean[0],
        si_difference=mean_difference(si, first),
        si_difference_matched=mean_difference(si, first, stratum_F=frequency),
        degree=mean[1],
        q_share=float(q[first].sum() / q.sum()) if q.sum() > 0 else None,
        partner_si_correlation=correlation if np.isfinite(correlation) else None,
    )


def _mean(values: FloatArray) -> float | None:
    return float(values.mean()) if values.size else None
