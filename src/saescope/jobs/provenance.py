"""Where the numbers of a run come from, and warnings for their reader."""

import contextlib
import importlib.metadata
import logging
import platform
import resource
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch

from saescope.activations.key import windows_digest
from saescope.analysis.reconstruction import Metrics
from saescope.config import AppConfig, TrainSae
from saescope.extraction.codes import Codes
from saescope.extraction.nonfinite import nonfinite_message
from saescope.extraction.setup import Setup
from saescope.metrics import SAE_FVU
from saescope.report.evidence import shortage
from saescope.sae.base import Sae
from saescope.version import __version__

log = logging.getLogger(__name__)


def warnings_of(
    coder: Sae, cfg: AppConfig, setup: Setup, codes: Codes, metrics: Metrics, si_p_F: npt.NDArray[Any]
) -> list[str]:
    """Warnings that the metrics alone do not give; those from the numbers are in `report.words`.

    `si_p_F`: the permutation p of every latent, NaN without support.
    """
    windows = setup.windows
    warnings: list[str] = []
    fvu = metrics.get(SAE_FVU.key)
    if coder.control:
        match cfg.sae:
            case TrainSae(freeze=freeze):
                warnings.append(f"sae.freeze={freeze} is a control, not a wholly trained SAE.")
            case _:
                warnings.append(f"sae={cfg.sae.source} is a control, not a trained SAE.")
    elif cfg.sae.source != "train" and fvu is not None and fvu > 1:
        warnings.append(
            "an FVU above 1 means that this pre-trained SAE does not belong here: "
            "it is of another hookpoint or model variant, or expects scaled activations."
        )
    if cfg.model.random_init:
        warnings.append("model.random_init=true is a control: the model has random weights.")
    trained_k = coder.provenance().get("trained_k")
    if trained_k is not None and coder.k is not None and coder.k != trained_k:
        consequence = (
            "outside its training"
            if coder.k > trained_k
            else "fewer latents per token than it was trained with"
        )
        warnings.append(f"read at k={coder.k}, trained at k={trained_k}: {consequence}.")
    if coder.prepend_bos is not None and coder.prepend_bos != windows.has_bos:
        warnings.append(
            f"the SAE was trained {'with' if coder.prepend_bos else 'without'} a BOS token before every "
            f"context, the probes have {'one' if windows.has_bos else 'none'}: "
            f"probes.prepend_bos={str(coder.prepend_bos).lower()} repeats its training."
        )
    warnings += coder.warnings
    warnings += shortage(metrics, asdict(cfg.metrics), si_p_F).sentences
    if len(codes.left_out):
        place = setup.hookpoint.label
        where = nonfinite_message(codes.left_out, windows.doc_W, windows.task_D, windows.tasks, place)
        warnings.append(f"{where}: left out.")
    for warning in warnings:
        log.warning("%s", warning)
    return [*windows.warnings, *warnings]  # those of the windows were logged when the text was read


def provenance_of(cfg: AppConfig, setup: Setup, coder: Sae) -> dict[str, Any]:
    """Contents of `provenance.json`."""
    lm, hookpoint, windows, machine = setup.lm, setup.hookpoint, setup.windows, setup.machine
    packages = ("torch", "transformers", "lightning", "eai-sparsify", "scikit-network", "numpy", "wandb")
    return {
        "model": {
            "name": lm.name if lm.name != "embedded" else "saescope embedded GPT-NeoX",
            "class": type(lm.model).__name__,
            "revision": cfg.model.revision,
            "num_parameters": lm.num_parameters,
            "num_layers": hookpoint.num_layers,
            "random_init": cfg.model.random_init,
        },
        "hookpoint": {
            "name": hookpoint.label,
            "kind": hookpoint.kind,
            "layer": hookpoint.layer,
            "width": coder.d_in,
        },
        "sae": coder.provenance() | ({"control": True} if coder.control else {}),
        "probes": {
            "tasks": list(windows.tasks),
            "documents": len(windows.task_D),
            "digest": windows_digest(windows),
            "counted_tokens": windows.num_tokens,
            "left_unread": windows.truncated,
            "origins": windows.origins,
            "chats": windows.chats,
        },
        "machine": {
            "device": machine.device,
            "dtype": machine.dtype_name,
            "batch_tokens": machine.batch_tokens,
            "threads": torch.get_num_threads(),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "versions": {
            "saescope": __version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in packages},
        },
    }


def reset_peak(device: str) -> None:
    """Forget the memory peak of what this process did before, such as earlier jobs of a sweep."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):  # Linux only
        Path("/proc/self/clear_refs").write_text("5")


def peak_mem_mb(device: str) -> float:
    """Peak memory in MiB: of the accelerator, or of this process on CPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    with contextlib.suppress(OSError):  # getrusage would include a parent's peak
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
