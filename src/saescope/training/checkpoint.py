"""Training checkpoints: one file, replaced as a whole; and the SAE in it."""

import glob
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from saescope.errors import SaeError
from saescope.files import whole
from saescope.sae.coder import SparseCoder, SparseCoderConfig
from saescope.training.signum import average

FILES = ("sae.safetensors", "cfg.json")  # the config last: without it the folder is no SAE


def write(path: Path, state: dict[str, Any]) -> None:
    """Write the checkpoint. Raises SaeError when it cannot be written; the one before is then intact."""
    try:
        with whole(path) as temporary:
            torch.save(state, temporary)
    except (OSError, RuntimeError) as error:  # torch.save raises RuntimeError on a full disk
        remaining = "the checkpoint before it is intact" if path.exists() else "there was none before"
        reason = (
            (error.strerror or str(error)) if isinstance(error, OSError) else "the disk is full or failing"
        )
        raise SaeError(
            f"the checkpoint of step {state['step']} cannot be written to {path}: {reason}; {remaining}; "
            "make room and start the same command again"
        ) from error


def read(path: Path) -> dict[str, Any] | None:
    """The checkpoint on the CPU, or None when there is none. Raises SaeError when it is damaged."""
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {**state, "step": int(state["step"])}
    except Exception as error:  # a damaged pickle raises nearly anything
        raise SaeError(
            f"{path} is no readable training checkpoint; delete it to train from the start"
        ) from error


def averaged_coder(state: dict[str, Any]) -> SparseCoder:
    """The SAE of a checkpoint: the running average of the weights where the optimiser keeps one."""
    cfg = SparseCoderConfig.from_dict(state["cfg"])
    coder = SparseCoder(state["d_in"], cfg, "meta", dtype=state["coder"]["b_dec"].dtype)  # no new weights
    coder.load_state_dict(
        {name: weight.to("cpu", copy=True) for name, weight in state["coder"].items()}, assign=True
    )
    first = state["optimizers"][0]["state"]
    trained = [weight for name, weight in coder.named_parameters() if name not in state.get("frozen", ())]
    with torch.no_grad():
        for number, parameter in enumerate(trained):
            # only the schedule-free optimiser has z; its state numbers the trained parameters in order
            if "z" in first.get(number, {}):
                parameter.copy_(average(parameter, {"z": first[number]["z"].cpu()}))
    return coder.requires_grad_(False)


def save_coder(coder: SparseCoder, folder: Path) -> None:
    """Write an SAE folder in sparsify's layout, each file whole. Raises SaeError when that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.parent.glob(f".{glob.escape(folder.name)}.*"):  # of a process that was killed
            shutil.rmtree(leftover, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
            coder.save_to_disk(temporary)
            load_file(
                Path(temporary) / FILES[0]
            )  # a file that cannot be read back must not replace a good one
            for name in FILES:
                (Path(temporary) / name).replace(folder / name)
    except (OSError, RuntimeError, SafetensorError) as error:  # safetensors raises its own on a full disk
        raise SaeError(
            f"the SAE cannot be saved to {folder}: {error}; correct that and start the same command again"
        ) from error
