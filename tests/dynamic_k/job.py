"""A job on a small model: what a part of the dynamic-k stage gets."""

import torch

from saescope.config import (
    AppConfig,
    CorpusConfig,
    DynamicKConfig,
    HookpointConfig,
    MetricsConfig,
    ModelConfig,
    NeuronSae,
    ProbesConfig,
    RuntimeConfig,
    TrackingConfig,
)
from saescope.dynamic_k.part import Inputs
from saescope.model.capture import Capture
from saescope.model.hookpoints import resolve
from saescope.model.load import LanguageModel, load_model
from saescope.runtime.hardware import Hardware
from saescope.sae import load
from saescope.text.windows import Windows, tokenize_probes


def config(model, probes, *, sae=None, layer=2, ctx_len=64, seed=0, **dynamic_k) -> AppConfig:
    """`probes`: a folder, or "embedded"."""
    folder = None if str(probes) == "embedded" else str(probes)
    return AppConfig(
        model=ModelConfig(str(model)),
        sae=sae or NeuronSae(k=4),
        hookpoint=HookpointConfig("resid", layer=layer),
        probes=ProbesConfig("folder" if folder else "embedded", path=folder, ctx_len=ctx_len),
        corpus=CorpusConfig("embedded"),
        metrics=MetricsConfig(permutations=20, bootstraps=20, null_tokens=0),
        dynamic_k=DynamicKConfig(**dynamic_k),
        runtime=RuntimeConfig("cpu"),
        tracking=TrackingConfig("disabled"),
        seed=seed,
    )


def inputs(cfg: AppConfig, *, lm=None, windows=None, sae=None, batch_tokens=512) -> Inputs:
    """Load and tokenise; what is given is taken."""
    lm: LanguageModel = lm or load_model(cfg.model, torch.float32, cfg.seed)
    hookpoint = resolve(cfg.hookpoint, lm.model)
    windows: Windows = windows or tokenize_probes(cfg.probes, lm.tokenizer)
    width = Capture(lm.model, hookpoint).width()
    sae = sae or load(
        cfg.sae,
        d_in=width,
        hookpoint=hookpoint.label,
        model_sae_repo=None,
        model_name=lm.name,
        dtype=torch.float32,
        at=hookpoint,
        model=lm.model,
    )
    return Inputs(lm, windows, Hardware("cpu", torch.float32, batch_tokens), hookpoint, sae)
