"""Names of communities: the tokens that set the firing of their latents apart."""

import numpy as np
import numpy.typing as npt

PRIOR = 10.0
"""Latents' worth of firing that the prior weighs: a token seen in one latent alone names nothing."""
TOKENS = 4
"""Tokens in a name."""


def characteristic_words(
    word_E: npt.NDArray[np.int64],
    share_E: npt.NDArray[np.float64],
    group_E: npt.NDArray[np.int64],
    limit: int = TOKENS,
) -> dict[int, list[int]]:
    """The words of each group that its latents fire on more than all others do, most telling first.

    One entry for each latent and word: the word, the share of the latent's firings on it, and the group of
    the latent, -1 for none (these count among the others only). A group without such a word has an empty
    list. Ranked by the z-score of the log-odds against all others, with a prior of `PRIOR` spread as the
    words are over all latents (Monroe, Colaresi and Quinn, Political Analysis 2008, equations 15 to 22).
    """
    groups = np.unique(group_E[group_E >= 0])
    names: dict[int, list[int]] = {int(group): [] for group in groups}
    if not len(groups):
        return names
    words, at_E = np.unique(word_E, return_inverse=True)
    total_V = np.asarray(np.bincount(at_E, share_E, len(words)), dtype=np.float64)
    whole = float(total_V.sum())
    if whole <= 0:
        return names
    prior_V: npt.NDArray[np.float64] = PRIOR * total_V / whole
    for group in groups:
        own = group_E == group
        own_V = np.asarray(np.bincount(at_E[own], share_E[own], len(words)), dtype=np.float64)
        other_V: npt.NDArray[np.float64] = np.maximum(total_V - own_V, 0.0)
        seen = np.flatnonzero(own_V > 0)
        odds = [_log_odds(mass_V, prior_V)[seen] for mass_V in (own_V, other_V)]
        spread = np.sqrt(1 / (own_V + prior_V)[seen] + 1 / (other_V + prior_V)[seen])
        z = (odds[0] - odds[1]) / spread
        order = np.lexsort((words[seen], -own_V[seen], -z))
        names[int(group)] = [int(words[seen[place]]) for place in order if z[place] > 1e-9][:limit]
    return names


def _log_odds(mass_V: npt.NDArray[np.float64], prior_V: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """log((y + a) / (n + a0 - y - a)), of each word against all other words."""
    weight_V = mass_V + prior_V
    with np.errstate(divide="ignore"):
        rest_V = np.maximum(weight_V.sum() - weight_V, 1e-12)
        odds_V: npt.NDArray[np.float64] = np.log(weight_V) - np.log(rest_V)
    return odds_V
