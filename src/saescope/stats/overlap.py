"""Which latents two sparse autoencoders have in common, given how their rows were matched."""

from dataclasses import dataclass

import numpy as np

from saescope.stats.arrays import BoolArray, FloatArray, IntArray
from saescope.stats.assignment import Matching
from saescope.stats.random_cosines import expected_best_cosine, expected_matched_cosine, share_reaching

SHARED = 0.7
"""Cosine above which a latent counts as shared (Paulo & Belrose 2025, arXiv 2501.16615)."""
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
STRATA = (1e-4, 1e-3, 1e-2)
"""Edges of the strata of firing frequency (share of tokens)."""
STRATUM_NAMES = ("never fired", "below 0.01 %", "0.01 % to 0.1 %", "0.1 % to 1 %", "1 % and above")


@dataclass(frozen=True)
class Overlap:
    """What two dictionaries A and B of widths `latents`, over d dimensions, have in common."""

    latents: tuple[int, int]
    d: int
    shared_A: BoolArray
    """Same partner on encoder and decoder, both cosines above SHARED."""
    shared_B: BoolArray
    same_partner: float
    """Share of the narrower dictionary's latents with the same partner on encoder and decoder."""
    level_A: FloatArray
    """The smaller of the two cosines where the partner is the same, else -1: shared at t is level > t."""
    pw_mcc: float
    """Mean signed cosine of matched decoder rows (Song et al. 2025, arXiv 2505.20254)."""
    mmcs_ab: float
    """Mean over A of the largest decoder cosine with any latent of B."""
    mmcs_ba: float
    best_A: FloatArray
    best_B: FloatArray
    unsettled: int
    """Latents, encoder or decoder, whose partner is not proven optimal; see `assignment.match`."""
    pw_mcc_bound: float
    """The exact PW-MCC is at most this."""

    def shared_at(self, threshold: float) -> float:
        """Latents of A shared at another threshold, as a share of the narrower dictionary."""
        return float((self.level_A > threshold).sum()) / min(self.latents)


@dataclass(frozen=True)
class RandomOverlap:
    """What random directions give at the same sizes."""

    shared: float
    """Upper bound: the chance that a latent has any cosine above SHARED."""
    pw_mcc: float
    mmcs_ab: float
    mmcs_ba: float


def overlap(encoder: Matching, decoder: Matching, d: int) -> Overlap:
    """Compare the matching of encoder rows with that of decoder rows.

    Cosines are signed: a latent whose rows point the other way is another latent, as ReLU and TopK read it.
    """
    latents = (encoder.best_A.size, encoder.best_B.size)
    same_A = (encoder.partner_A == decoder.partner_A) & (encoder.partner_A >= 0)
    level_A = np.where(same_A, np.minimum(encoder.cosine_A, decoder.cosine_A), -1.0)
    shared_A = level_A > SHARED
    shared_B = np.zeros(latents[1], dtype=np.bool_)
    shared_B[decoder.partner_A[shared_A]] = True
    return Overlap(
        latents=latents,
        d=d,
        shared_A=shared_A,
        shared_B=shared_B,
        same_partner=float(same_A.sum()) / min(latents),
        level_A=level_A,
        pw_mcc=float(np.nanmean(decoder.cosine_A)),
        mmcs_ab=float(decoder.best_A.mean()),
        mmcs_ba=float(decoder.best_B.mean()),
        best_A=decoder.best_A,
        best_B=decoder.best_B,
        unsettled=encoder.unsettled + decoder.unsettled,
        pw_mcc_bound=decoder.bound,
    )


def random_overlap(latents: tuple[int, int], d: int) -> RandomOverlap:
    """The same statistics for random dictionaries; no simulation."""
    a, b = latents
    return RandomOverlap(
        shared=share_reaching(SHARED, max(a, b), d),
        pw_mcc=expected_matched_cosine(a, b, d),
        mmcs_ab=expected_best_cosine(b, d),
        mmcs_ba=expected_best_cosine(a, d),
    )


def strata(density_F: FloatArray) -> IntArray:
    """Stratum of firing frequency of every latent, an index of STRATUM_NAMES."""
    fired = np.searchsorted(STRATA, density_F, side="right") + 1
    return np.where(density_F > 0.0, fired, 0).astype(np.int64)
