"""A job on a small model, as the parts of the dynamic-k stage get it."""

import torch

from saescope.activations import ActivationStore
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
from saescope.extraction.setup import Setup
from saescope.model.hookpoints import resolve
from saescope.model.load import LanguageModel, load_model
from saescope.runtime.hardware import Hardware
from saescope.sae import load
from saescope.sae.base import Sae
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


def setup_of(cfg: AppConfig, *, batch_tokens=512) -> Setup:
    """Load the model and tokenise the probes."""
    lm: LanguageModel = load_model(cfg.model, torch.float32, cfg.seed)
    hookpoint = resolve(cfg.hookpoint, lm.model)
    windows: Windows = tokenize_probes(cfg.probes, lm.tokenizer)
    machine = Hardware("cpu", torch.float32, batch_tokens)
    store = ActivationStore("off", 0, lm.model, torch.float32)
    return Setup(lm, hookpoint, windows, machine, store, cfg.runtime)


def sae_of(cfg: AppConfig, setup: Setup) -> Sae:
    """The SAE that `cfg.sae` names."""
    return load(
        cfg.sae,
        d_in=setup.width,
        hookpoint=setup.hookpoint.label,
        model_sae_repo=None,
        model_name=setup.lm.name,
        dtype=torch.float32,
        at=setup.hookpoint,
        model=setup.lm.model,
    )
