"""What structure saves: task masks from the neurons' use by task, blocks from Q, and how unions grow.

All of it on MLP neurons, whatever the target. Choices are made on calibration documents, losses measured on
others.
"""

import logging

import numpy as np

from saescope.config import AppConfig
from saescope.dynamic_k.blocks import BlockResult, block_section, measure_blocks
from saescope.dynamic_k.mlps import find_mlps
from saescope.dynamic_k.neurons import Neurons, study
from saescope.dynamic_k.part import Part, middle_k
from saescope.dynamic_k.passes import calibration_and_evaluation
from saescope.dynamic_k.transfer import Transfer, measure_transfer, transfer_section
from saescope.dynamic_k.union import SIZES, union_section
from saescope.errors import ConfigError
from saescope.extraction.setup import Setup
from saescope.metrics import keys

log = logging.getLogger(__name__)

PERMUTATIONS = 19
"""Of calibration documents' task labels, and random partitions at the middle k: the smallest p is 0.05."""

FEW_DRAWS = 4
"""Random partitions at other k."""


def run_structure(cfg: AppConfig, setup: Setup) -> Part:
    """Task masks, community blocks and union growth; `dynk/*` scalars at the middle k of the grid.

    A model without MLPs gives null metrics with their reason. Raises ProbeError for a task of one document.
    """
    job, windows, part = cfg.dynamic_k, setup.windows, Part()
    try:
        mlps = find_mlps(setup.lm.model, job.layers)
    except ConfigError as error:
        _null(part, keys("dynk.structure"), str(error))
        return part
    calibration, evaluation = calibration_and_evaluation(setup, job)
    k, needed_k = middle_k(job.k), min(job.k)
    neurons = study(mlps, calibration, needed_k, cfg.seed)
    log.info("structure: %d MLPs, k %g", len(mlps), k)
    _unions(part, neurons, needed_k)
    if k == 1:
        _null(
            part, keys("dynk.structure.transfer") + keys("dynk.structure.blocks"), "the grid has no k below 1"
        )
        return part
    draws = {at: PERMUTATIONS if at == k else FEW_DRAWS for at in job.k if at < 1}
    blocks = measure_blocks(neurons, evaluation, draws, resamples=job.bootstraps, seed=cfg.seed)
    _blocks(part, neurons, blocks, k)
    if len(windows.tasks) < 2:
        _null(part, keys("dynk.structure.transfer"), "a single task has no other to transfer to")
        return part
    transfer = measure_transfer(
        neurons,
        calibration.tokens_D,
        evaluation,
        k,
        permutations=PERMUTATIONS,
        resamples=job.bootstraps,
        seed=cfg.seed,
    )
    _transfer(part, transfer, windows.tasks, k)
    return part


def _transfer(part: Part, transfer: Transfer, tasks: tuple[str, ...], k: float) -> None:
    part.metrics |= {
        "dynk/transfer_gain": transfer.gain,
        "dynk/transfer_gain_lo": transfer.gain_interval[0],
        "dynk/transfer_gain_hi": transfer.gain_interval[1],
        "dynk/transfer_p": transfer.p,
        "dynk/transfer_null_mean": float(transfer.null_P.mean()),
        "dynk/transfer_over_generic": transfer.over_generic,
        "dynk/transfer_si_gain": transfer.si_gain,
    }
    part.sections.append(transfer_section(transfer, tasks, k))


def _blocks(part: Part, neurons: list[Neurons], results: list[BlockResult], k: float) -> None:
    result = next(result for result in results if result.k == k)
    community, kmeans = result.eta["community"], result.eta["kmeans"]
    part.metrics["dynk/neuron_modularity"] = float(
        np.mean([mlp_neurons.communities.modularity for mlp_neurons in neurons])
    )
    if community is None:
        _null(part, keys("dynk.structure.blocks.eta"), f"at k={k:g} single neurons do not beat random blocks")
    else:
        part.metrics |= {
            "dynk/eta": community.eta,
            "dynk/eta_lo": community.low,
            "dynk/eta_hi": community.high,
            "dynk/eta_p": community.p,
            "dynk/eta_kmeans": None if kmeans is None else kmeans.eta,
        }
    part.sections.append(block_section(results, neurons))


def _unions(part: Part, neurons: list[Neurons], k: float) -> None:
    names = {
        "same_task": "task",
        "same_community": "community",
        "mixed": "mixed",
        "independent": "independent",
    }
    growth = {
        kind: np.mean([mlp_neurons.growth[source] for mlp_neurons in neurons], axis=0)
        for kind, source in names.items()
    }
    for key in keys("dynk.structure.unions"):
        kind, size = key.removeprefix("dynk/union_").rsplit("_", 1)
        value = float(growth[kind][SIZES.index(int(size))])
        part.metrics[key] = value if np.isfinite(value) else None
        if not np.isfinite(value):
            part.notes[key] = f"no {kind.removeprefix('same_')} has {size} calibration tokens"
    part.sections.append(union_section(growth, k))


def _null(part: Part, null_keys: tuple[str, ...], why: str) -> None:
    part.metrics |= dict.fromkeys(null_keys)
    part.notes |= dict.fromkeys(null_keys, why)
