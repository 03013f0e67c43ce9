"""Are these SAEs stable enough for SI and Q? In sentences that follow the numbers."""

import statistics
from collections.abc import Iterator, Sequence

from saescope.metrics import Q_MODULARITY, SI_MEAN
from saescope.overlap.compare import Comparison, Interval
from saescope.overlap.pairs import Member, Plan, replicas
from saescope.report.numbers import figure, percent
from saescope.runfolder.values import finite

HALF = 0.5
"""Share of shared latents from which most of a dictionary recurs."""


def sentences_of(plan: Plan, comparisons: Sequence[Comparison]) -> list[str]:
    """The answer for each place and recipe with more than one seed, then the jobs and pairs left out."""
    sentences: list[str] = []
    groups: dict[str, list[Comparison]] = {}
    for it in comparisons:
        if replicas(it.a, it.b):
            groups.setdefault(it.a.recipe, []).append(it)
    for group in groups.values():
        sentences += _answer(group, several=len(groups) > 1)
    others = [it for it in comparisons if not replicas(it.a, it.b)]
    if others:
        shares = [
            float(share.mean()) for it in others for share in (it.overlap.shared_A, it.overlap.shared_B)
        ]
        sentences.append(
            f"SAEs that differ in more than their seed ({_count(len(others), 'pair')}) share "
            f"{_range(shares)} of their latents."
        )
    if not groups and others:
        sentences.append("No two SAEs differ in their seed only, so stability across seeds is not known.")
    if not comparisons:
        sentences.append(
            "No two different SAEs of the same model and hookpoint are at hand, so there is no overlap."
        )
    if plan.left_out:
        sentences.append(
            f"{_count(plan.left_out, 'further pair')} not compared: {len(plan.pairs)} is the limit."
        )
    return sentences + plan.remarks


def _answer(group: Sequence[Comparison], several: bool) -> Iterator[str]:
    members = {it.name: it for pair in group for it in (pair.a, pair.b)}
    where = (
        f" at {group[0].a.place}, {group[0].overlap.latents[0]:,} latents, k {group[0].a.k}"
        if several
        else ""
    )
    shared = [float(it.overlap.shared_A.mean()) for it in group]
    mean = statistics.fmean(shared)
    chance = max(it.chance.shared for it in group)
    verdict = (
        "most latents recur under another seed, so SI of a single latent says something about the model"
        if mean >= HALF
        else "most latents do not recur under another seed, so SI of a single latent is a property of this "
        "SAE and not of the model"
    )
    yield (
        f"{len(members)} SAEs that differ only in their seeds{where} share {_range(shared)} of their latents "
        f"(random directions: {'below 0.1 %' if chance < 0.001 else 'up to ' + percent(chance)}): {verdict}."
    )
    yield (
        f"Their PW-MCC is {_mean(it.overlap.pw_mcc for it in group)} "
        f"({_mean(it.chance.pw_mcc for it in group)} for random directions), their MMCS "
        f"{_mean(value for it in group for value in (it.overlap.mmcs_ab, it.overlap.mmcs_ba))} "
        f"({_mean(it.chance.mmcs_ab for it in group)})."
    )
    correlation = [c for it in group if (c := it.groups.partner_si_correlation) is not None]
    if correlation:
        yield (
            f"SI of a latent and of its partner under another seed have a rank correlation of "
            f"{figure(statistics.fmean(correlation))}."
        )
    yield from _spread(list(members.values()))
    yield from _difference(group)


def _spread(members: Sequence[Member]) -> Iterator[str]:
    parts = []
    for name, key in (("mean SI", SI_MEAN.key), ("Q", Q_MODULARITY.key)):
        values = [value for it in members if (value := finite(it.run.metrics.get(key))) is not None]
        if len(values) > 1:
            sd = statistics.stdev(values)
            parts.append(
                f"{name} is {figure(statistics.fmean(values))} with a standard deviation of {figure(sd, 2)}"
            )
    if parts:
        yield f"Between the seeds, {' and '.join(parts)}: smaller differences are not the model's."


def _difference(group: Sequence[Comparison]) -> Iterator[str]:
    differences = [(it, it.groups.si_difference) for it in group]
    clear = [(it, interval) for it, interval in differences if interval is not None]
    if not clear:
        yield "There are too few shared latents or too few orphans to compare their SI."
        return
    up = sum(interval[1] > 0 for _, interval in clear)
    down = sum(interval[2] < 0 for _, interval in clear)
    means = [f"{figure(it.groups.si[0])} against {figure(it.groups.si[1])}" for it, _ in clear[:3]]
    text = f"SI of shared latents against orphans: {', '.join(means)}{', …' if len(clear) > 3 else ''}; "
    if max(up, down) < len(clear):
        yield text + "not told apart in every pair (95 % intervals)."
        return
    matched = [interval for it, _ in clear if (interval := it.groups.si_difference_matched) is not None]
    also_matched = bool(matched) and all(_same_sign(interval, up > 0) for interval in matched)
    frequency = "also" if also_matched else "but not"
    yield f"{text}{'higher' if up else 'lower'} in every pair, {frequency} at equal firing frequency."


def _same_sign(interval: Interval, positive: bool) -> bool:
    return interval[1] > 0 if positive else interval[2] < 0


def _range(shares: Sequence[float]) -> str:
    low, high = percent(min(shares)), percent(max(shares))
    return low if low == high else f"{low} to {high}"


def _mean(values: Iterator[float]) -> str:
    return figure(statistics.fmean(values))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
