"""The structure experiments as tables with their sentences: `dynamic_k_structure.json`. Free of torch."""

from typing import Any

import numpy as np

from saescope.stats.arrays import FloatArray

Section = dict[str, Any]
"""`title`, `sentences`, `columns`, `rows`."""


def transfer_section(found: Any, tasks: tuple[str, ...], k: float) -> Section:
    """Masks (rows) by tasks they run on (columns): CE minus the dense model's, nats per token."""
    rows = [[f"{task} mask", *found.delta["own"][at]] for at, task in enumerate(tasks)]
    rows += [[f"{task} mask by SI", *found.delta["si"][at]] for at, task in enumerate(tasks)]
    rows += [["generic mask", *found.delta["generic"][0]], ["random mask", *found.delta["random"][0]]]
    low, high = found.gain_interval
    generic_low, generic_high = found.over_generic_interval
    return {
        "title": f"Task masks at k = {k:g}: CE above the dense model's",
        "sentences": [
            "A mask keeps the neurons with the largest mean |a|·‖w_down‖ on one task's calibration "
            "documents; it is run on other documents of every task.",
            f"Another task's mask costs {found.gain:.4f} nats per token more than the own one "
            f"[{low:.4f}, {high:.4f}]; with the task labels of calibration documents permuted "
            f"{found.null_P.mean():.4f} (largest of {found.null_P.size}: {found.null_P.max():.4f}; "
            f"paired difference {found.paired:.4f}, p = {found.p:.3g}).",
            f"Generic mask less the own one: {found.over_generic:+.4f} nats "
            f"[{generic_low:.4f}, {generic_high:.4f}]; "
            "above 0, the own mask is worth having.",
            "By SI: firing rate on the task times the neuron's SI; another task's mask then costs "
            f"{found.si_gain:.4f} nats more.",
        ],
        "columns": ["mask", *tasks],
        "rows": _plain(rows),
    }


def block_section(results: list[Any], neurons: list[Any]) -> Section:
    """eta by k: the share of the random-to-neuron gap that whole blocks recover."""
    rows = []
    for one in results:
        community, kmeans = one.eta["community"], one.eta["kmeans"]
        rows.append(
            [
                one.k,
                *(one.ce_delta[kind] for kind in ("random", "kmeans", "community", "neuron")),
                *(
                    (None,) * 4
                    if community is None
                    else (community.eta, community.low, community.high, community.p)
                ),
                None if kmeans is None else kmeans.eta,
                one.draws,
            ]
        )
    found = [one.communities for one in neurons]
    linked = np.mean([(part.community_F >= 0).mean() for part in found])
    return {
        "title": "Whole blocks of neurons: CE above the dense model's, and eta",
        "sentences": [
            "Blocks are the communities of the neurons' co-activation graph, cut to at most a sixteenth of "
            "d_ff; random and k-means (rows of W_up) blocks have the same sizes. An oracle runs the "
            "blocks of the largest energy of each token until k is filled.",
            "eta = (random − blocks) / (random − single neurons): 0 is chance, 1 the neuron-level bound; "
            "95 % interval over documents; p against random partitions.",
            f"Mean over {len(found)} MLPs: Q {np.mean([part.modularity for part in found]):.3f}, "
            f"{np.mean([part.community_F.max(initial=-1) + 1 for part in found]):.1f} communities, "
            f"{np.mean([part.block_F.max() + 1 for part in found]):.1f} blocks, "
            f"{linked:.0%} of neurons with an edge.",
        ],
        "columns": [
            "k", "random", "k-means", "community", "neuron", "eta", "eta_lo", "eta_hi", "p", "eta k-means",
            "random partitions",
        ],
        "rows": _plain(rows),
    }  # fmt: skip


def union_section(growth: dict[str, FloatArray], k: float) -> Section:
    """U(B) by how batches are put together."""
    from saescope.dynamic_k.union import SIZES

    rows = [[kind.replace("_", " "), *values] for kind, values in growth.items()]
    return {
        "title": f"Neurons a batch needs together, each token its top {k:.0%}",
        "sentences": [
            "Share of d_ff in the union of the tokens' sets, mean over MLPs. Batches of one task, of one "
            "dominant community, or mixed; independent: every neuron at its own rate, 1 − (1 − r)^B.",
            f"Were every neuron as likely as any other, 8 tokens would need {1 - (1 - k) ** 8:.3f}.",
        ],
        "columns": ["batch", *(f"B = {size}" for size in SIZES)],
        "rows": _plain(rows),
    }


def _plain(rows: list[list[Any]]) -> list[list[Any]]:
    """Numbers as JSON has them; NaN is null."""

    def plain(value: Any) -> Any:
        if isinstance(value, float | np.floating):
            return float(value) if np.isfinite(value) else None
        return int(value) if isinstance(value, np.integer) else value

    return [[plain(value) for value in row] for row in rows]
