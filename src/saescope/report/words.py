"""The result in words: sentences that follow the numbers, also when there is nothing to report."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from saescope.metrics import (
    CATALOGUE,
    FEATURES_DEAD_FRAC,
    FEATURES_NUM_LATENTS,
    FEATURES_SUPPORTED,
    LM_CE_SCORE,
    Q_AMI_TASK,
    Q_MODULARITY,
    Q_N_COMMUNITIES,
    Q_N_EDGES,
    Q_NULL_EDGES,
    Q_NULL_MEAN,
    Q_P,
    Q_WITHIN_TASK,
    Q_Z,
    SAE_EXPLAINED_VARIANCE,
    SAE_FVU,
    SAE_VARIANCE_TOP_TOKENS,
    SI_BEYOND_BIGRAM_MEAN,
    SI_BEYOND_BIGRAM_NULL_MEAN,
    SI_BEYOND_TOKEN_MEAN,
    SI_BEYOND_TOKEN_NULL_MEAN,
    SI_CI_HIGH,
    SI_CI_LOW,
    SI_LEXICAL_SHARE,
    SI_MEAN,
    SI_MUTUAL_INFO,
    SI_MUTUAL_INFO_CI_HIGH,
    SI_MUTUAL_INFO_CI_LOW,
    SI_MUTUAL_INFO_NULL_MEAN,
    SI_NULL_MEAN,
    SI_SIGNIFICANT_FRAC,
)
from saescope.report.controls import control_labels
from saescope.report.evidence import draws_of
from saescope.report.numbers import count, figure, interval, p_value, percent
from saescope.runfolder.values import finite

EV_FLOOR = 0.5
"""Explained variance below which SI and Q are called uninterpretable."""
CE_FLOOR = 0.8
"""CE score below which SI and Q are called uninterpretable."""
BESIDE_AT_MOST = 3
"""Controls that a result is set beside in the headline."""
TOP_TOKENS_CEILING = 0.1
"""Share of the variance in the 0.1 % of tokens of largest norm above which FVU is theirs."""

Metrics = Mapping[str, Any]


@dataclass(frozen=True)
class Sentence:
    """One plain sentence, and whether it is a warning."""

    kind: Literal["finding", "warning", "comparison", "beside"]
    """`comparison`: the usual recipe's numbers; `beside`: further controls. Pages fold these two away."""
    text: str

    def __str__(self) -> str:
        return self.text


def headline(
    metrics: Metrics, status: Metrics, config: Metrics | None = None, beside: Sequence[str] = ()
) -> list[Sentence]:
    """The result as sentences: warnings first, then what tells a trained SAE from a control best.

    That is what a firing tells of its task, and how much of it is vocabulary; the result beside its controls
    (`beside`); SI beyond words; what the latents do to the model; Q beyond words. Then SI and Q as they are,
    the quality of the SAE, and the naive numbers last.

    `config` (the resolved run config) is read for the FDR level, and whether the run is a control.
    """
    config = config or {}
    fdr = finite((config.get("metrics") or {}).get("si_fdr")) or 0.05
    is_control = bool(control_labels(config, {}))
    warnings = [Sentence("warning", text) for text in _warnings(metrics, status, is_control)]
    rewirings = draws_of(Q_P, metrics)
    findings = [
        *_information(metrics),
        *beside[:BESIDE_AT_MOST],
        *_beyond_words(metrics),
        *_causal(metrics),
        *_modularity_beyond_words(metrics),
        *_specialisation(metrics, fdr),
        *_modularity(metrics, status, rewirings),
        *_quality(metrics),
    ]
    further = [Sentence("beside", text) for text in beside[BESIDE_AT_MOST:]]
    return warnings + [Sentence("finding", text) for text in findings] + further + _naive(metrics)


def _warnings(m: Metrics, status: Metrics, is_control: bool) -> Iterator[str]:
    # running: the report is written before the final status
    if status.get("state", "ok") not in ("ok", "running"):
        error = " ".join(str(status.get("error") or "no reason recorded").split())
        yield f"The run did not finish ({status['state']}): {error.rstrip('.')}."
    if not is_control:  # a control is a yardstick however it reconstructs
        yield from _bad_reconstruction(m)
    supported, latents = finite(m.get(FEATURES_SUPPORTED.key)), finite(m.get(FEATURES_NUM_LATENTS.key))
    if supported and latents and supported < 0.1 * latents:
        yield (
            f"Only {count(supported)} of {count(latents)} latents have enough support: "
            "SI and Q describe a small part of this SAE. More probe text helps."
        )
    edges, null_edges = finite(m.get(Q_N_EDGES.key)), finite(m.get(Q_NULL_EDGES.key))
    if edges and null_edges and null_edges > 0.05 * edges:
        yield (
            f"Randomised firing still yields {count(null_edges)} validated edges (real: {count(edges)}): "
            "some of the graph behind Q is not evidence of co-activation."
        )
    yield from (" ".join(str(text).split()) for text in status.get("warnings") or ())


def _bad_reconstruction(m: Metrics) -> Iterator[str]:
    ev, ce = finite(m.get(SAE_EXPLAINED_VARIANCE.key)), finite(m.get(LM_CE_SCORE.key))
    fvu = finite(m.get(SAE_FVU.key))
    if fvu is not None and fvu > 1:
        yield (
            f"FVU is {figure(fvu)}: the SAE reconstructs worse than the mean activation does. "
            "SI and Q of these features are uninterpretable."
        )
    elif ev is not None and ev < EV_FLOOR:
        yield (
            f"The SAE explains only {percent(ev)} of the variance (below {percent(EV_FLOOR)}): "
            "SI and Q are uninterpretable, they describe what little it captures."
        )
    top = finite(m.get(SAE_VARIANCE_TOP_TOKENS.key))
    if top is not None and top > TOP_TOKENS_CEILING:
        yield (
            f"The 0.1 % of tokens of largest norm carry {percent(top)} of the variance: FVU tells how well "
            "these few are reconstructed rather than the others; probes.exclude_first leaves out first "
            "tokens."
        )
    if ce is not None and ce < CE_FLOOR:
        yield (
            f"The CE score is {figure(ce)} (below {CE_FLOOR}): with the SAE spliced in, the model loses much "
            "of what this hookpoint does. SI and Q are uninterpretable."
        )


def _quality(m: Metrics) -> Iterator[str]:
    ev, fvu, ce = m.get(SAE_EXPLAINED_VARIANCE.key), m.get(SAE_FVU.key), m.get(LM_CE_SCORE.key)
    if finite(ev) is not None:
        text = f"The SAE explains {percent(ev)} of the activation variance (FVU {figure(fvu)})"
        if (finite(ev) or 0) < 0:
            text = f"The SAE explains none of the activation variance (FVU {figure(fvu)})"
        if finite(ce) is not None:
            text += (
                f", and the model with the SAE spliced in has a CE score of {figure(ce)} "
                "(1 = no loss, 0 = zero ablation)"
            )
        yield text + "."
    latents, supported = m.get(FEATURES_NUM_LATENTS.key), m.get(FEATURES_SUPPORTED.key)
    if finite(latents) is not None:
        yield (
            f"{count(supported)} of {count(latents)} latents fired often enough to be measured; "
            f"{percent(m.get(FEATURES_DEAD_FRAC.key))} never fired."
        )


def _specialisation(m: Metrics, fdr: float) -> Iterator[str]:
    supported = finite(m.get(FEATURES_SUPPORTED.key))
    if not supported:
        yield "No latent fired often enough to be measured, so there is no SI and no Q to report."
        return
    share, latents = finite(m.get(SI_SIGNIFICANT_FRAC.key)), f"{count(supported)} supported latents"
    test = f"(document-permutation null, FDR {percent(fdr)})"
    if share == 0:
        yield f"None of the {latents} is more task-specific than chance allows {test}."
    elif share is not None:
        yield f"{percent(share)} of the {latents} prefer one task more than chance allows {test}."
    mean, null = finite(m.get(SI_MEAN.key)), finite(m.get(SI_NULL_MEAN.key))
    if mean is None:
        return
    low = finite(m.get(SI_CI_LOW.key))
    ci = interval(m.get(SI_CI_LOW.key), m.get(SI_CI_HIGH.key))
    text = f"Their mean SI is {figure(mean)}" + (f" (95 % CI {ci})" if ci else "")
    if null is None:
        yield text + "; no null was computed, so it cannot be told from chance."
    elif (mean if low is None else low) <= null:
        yield f"{text}, no more than shuffled task labels give ({figure(null)})."
    else:
        yield f"{text}; shuffled task labels give {figure(null)}."


def _information(m: Metrics) -> Iterator[str]:
    """What one firing tells of its task (rare latents carry the plain mean), and how much is vocabulary."""
    by_rate, null = finite(m.get(SI_MUTUAL_INFO.key)), finite(m.get(SI_MUTUAL_INFO_NULL_MEAN.key))
    if by_rate is not None:
        ci = interval(m.get(SI_MUTUAL_INFO_CI_LOW.key), m.get(SI_MUTUAL_INFO_CI_HIGH.key))
        text = f"Averaged by rate, what one firing tells of its task, SI is {figure(by_rate)}"
        chance = "" if null is None else f"; shuffled task labels give {figure(null)}"
        yield text + (f" (95 % CI {ci})" if ci else "") + chance + "."
    share = finite(m.get(SI_LEXICAL_SHARE.key))
    if share is not None:
        yield f"Of the SI, {percent(share)} is vocabulary: token ids alone give that much of its excess."


def _beyond_words(m: Metrics) -> Iterator[str]:
    """SI given the token, and given the last two."""
    parts = []
    for given, value, null in (
        ("given the token, mean SI is", SI_BEYOND_TOKEN_MEAN, SI_BEYOND_TOKEN_NULL_MEAN),
        ("given the last two tokens", SI_BEYOND_BIGRAM_MEAN, SI_BEYOND_BIGRAM_NULL_MEAN),
    ):
        if (beyond := finite(m.get(value.key))) is not None:
            chance = finite(m.get(null.key))
            parts.append(
                f"{given} {figure(beyond)}" + ("" if chance is None else f" (by chance {figure(chance)})")
            )
    if parts:
        yield f"Beyond words: {', '.join(parts)}."


def _causal(m: Metrics) -> Iterator[str]:
    """What taking a task's latents out of the model does to it, where that was measured."""
    ratio = _measured(m, "causal", "ratio")
    if ratio is None:
        return
    text = (
        "Taking out a task's most specialised latents changes what the model predicts there "
        f"{figure(ratio)} times as much as elsewhere"
    )
    over_norm, matched = _measured(m, "causal", "ratio_over_norm"), _measured(m, "causal", "ratio_matched")
    if over_norm is not None:
        text += f", {figure(over_norm)} times what the size of the removed part explains"
    if matched is not None:
        text += f"; random latents of equal density: {figure(matched)}"
    least = _measured(m, "causal", "own_ce_ci_low")
    if least is not None and least <= 0:
        text += "; but the task loses nothing beyond noise"
    yield text + "."


def _modularity_beyond_words(m: Metrics) -> Iterator[str]:
    """Q of the graph that token ids do not explain, beside what they alone give."""
    within, null = _measured(m, "q", "within_token"), _measured(m, "q", "within_token_null_mean")
    if within is not None:
        chance = "" if null is None else f", against {figure(null)} for graphs with the same degrees"
        yield f"Joint firing that token ids do not explain has modularity Q = {figure(within)}{chance}."
    lexical, share = _measured(m, "q", "lexical"), _measured(m, "q", "word_share")
    if lexical is not None:
        text = f"Firings dealt anew among the occurrences of their token give a plain Q of {figure(lexical)}"
        if share is not None:
            text += f"; of the joint firing above chance, {percent(share)} is vocabulary"
        yield text + "."


def _measured(m: Metrics, group: str, name: str) -> float | None:
    """A metric that not every run has."""
    return finite(m.get(f"{group}/{name}"))


def _modularity(m: Metrics, status: Metrics, rewirings: int | None) -> Iterator[str]:
    if not finite(m.get(FEATURES_SUPPORTED.key)):
        return
    edges, q = finite(m.get(Q_N_EDGES.key)), finite(m.get(Q_MODULARITY.key))
    if not edges:
        yield "The co-activation graph has no validated edge, so there is no modularity to report."
        return
    noun = "edge" if edges == 1 else "edges"
    graph = f"The co-activation graph has {count(edges)} validated {noun} ({_survivors(m)})"
    if q is None:
        why = (status.get("notes") or {}).get(Q_MODULARITY.key, "no reason recorded")
        yield f"{graph}, but no modularity: {str(why).rstrip('.')}."
        return
    graph += f" and modularity Q = {figure(q)}"
    null, p = finite(m.get(Q_NULL_MEAN.key)), finite(m.get(Q_P.key))
    if null is None:
        yield f"{graph}; no null was computed, so it cannot be told from chance."
    else:
        z = finite(m.get(Q_Z.key))
        chance = f"{figure(null)} for graphs with the same degrees"
        beside = f"({'' if z is None else f'z = {figure(z)}, '}{p_value(p, rewirings)})"
        if q <= null or (p is not None and p > 0.05):
            yield f"{graph}, no more than its degrees explain: {chance} {beside}."
        else:
            yield f"{graph}, against {chance} {beside}."
    yield from _task_mix(m, q)


def _survivors(m: Metrics) -> str:
    null_edges = finite(m.get(Q_NULL_EDGES.key))
    if null_edges is None:
        return "not checked against randomised firing"
    return f"{count(null_edges)} {'survives' if null_edges == 1 else 'survive'} randomised firing"


def _task_mix(m: Metrics, q: float) -> Iterator[str]:
    within = finite(m.get(Q_WITHIN_TASK.key))
    if within is not None and q > 0:
        remaining = within / q
        if remaining >= 0.75:
            yield f"Within tasks Q is still {figure(within)}, so most of it is not the task mix."
        elif remaining >= 0.25:
            yield f"Within tasks Q falls to {figure(within)}, so part of it is the task mix."
        else:
            yield f"Within tasks Q falls to {figure(within)}: nearly all of it is the task mix."
    ami, communities = finite(m.get(Q_AMI_TASK.key)), finite(m.get(Q_N_COMMUNITIES.key))
    if ami is not None and communities:
        degree = next(word for bound, word in _AGREEMENT if ami < bound)
        noun = "community" if communities == 1 else "communities"
        yield (
            f"Leiden finds {count(communities)} {noun} of five or more latents; membership agrees "
            f"{degree} with the task a latent prefers (AMI {figure(ami)}; 0 = chance, 1 = identical)."
        )


_AGREEMENT = ((0.05, "hardly"), (0.25, "weakly"), (0.6, "partly"), (float("inf"), "closely"))
"""Upper bound of AMI (adjusted mutual information) → adverb."""


def _naive(m: Metrics) -> list[Sentence]:
    parts = [
        f"{metric.short} {figure(m.get(metric.key))}"
        for metric in CATALOGUE
        if metric.naive and finite(m.get(metric.key)) is not None
    ]
    if not parts:
        return []
    text = f"For comparison only: {', '.join(parts)} — what the usual recipe prints, and noise gives too."
    return [Sentence("comparison", text)]
