"""Model and SAE of a finished run, once more on the user's own text."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from saescope import sae
from saescope.config import AppConfig, HubSae, from_mapping
from saescope.errors import ReportError
from saescope.model.capture import Capture
from saescope.model.hookpoints import resolve
from saescope.model.load import load_model
from saescope.runfolder.names import SAE
from saescope.runfolder.run import open_run
from saescope.runtime.hardware import choose
from saescope.sae.base import token_of_each


def activations_on_text(folder: Path, latent: int, text: str) -> tuple[list[str], list[float]]:
    """The tokens of `text` as words, and the latent's activation on each (0: not active).

    Raises ReportError for a folder without a finished run, SaescopeError where model or SAE cannot be loaded.
    """
    run = open_run(folder)
    cfg = _config(run.config)
    machine = choose(cfg.runtime)
    lm = load_model(cfg.model, machine.dtype, cfg.seed)
    lm.model.to(machine.device)
    hookpoint = resolve(cfg.hookpoint, lm.model)
    reader = Capture(lm.model, hookpoint)
    width = reader.width()
    # a trained SAE lies in the run folder
    trained = (run.path / SAE).is_dir()
    coder = sae.load(
        HubSae(repo=str(run.path / SAE)) if trained else cfg.sae,
        d_in=width,
        hookpoint=hookpoint.label,
        model_sae_repo=cfg.model.sae_repo,
        model_name=lm.name,
        dtype=machine.dtype,
        at=hookpoint,
        model=lm.model,
    ).to(machine.device)
    if not 0 <= latent < coder.num_latents:
        raise ReportError(f"there is no latent {latent}: the SAE has 0 to {coder.num_latents - 1}")
    if coder.transcodes:
        raise ReportError("a transcoder's own text is not read yet; choose the latent without --text")
    ids = lm.tokenizer(text)["input_ids"]
    if not ids:
        raise ReportError("the text has no token")
    limit = cfg.probes.ctx_len
    if len(ids) > limit:
        raise ReportError(
            f"the text has {len(ids)} tokens; one context of the run has probes.ctx_len={limit}"
        )
    with torch.inference_mode():
        x_BTD = reader(torch.tensor([ids], device=machine.device))
        codes = coder.encode(x_BTD[0].float())
    acts = torch.zeros(len(ids), device=codes.acts.device)
    mine = codes.latents == latent
    acts[token_of_each(codes)[mine]] = codes.acts[mine]
    return [lm.tokenizer.decode([number]) for number in ids], acts.cpu().tolist()


def _config(values: Mapping[str, Any]) -> AppConfig:
    """The run's configuration. Raises ReportError where it is of another version."""
    try:
        return from_mapping(AppConfig, values)
    except ValueError as error:
        raise ReportError(f"the run's config.yaml is of another version of saescope: {error}") from error
