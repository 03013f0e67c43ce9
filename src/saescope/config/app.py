"""The whole configuration of one job."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from saescope.config.applicable import READS_CORPUS, applicable
from saescope.config.causal import METHOD_VERSION, CausalConfig, NoCausal
from saescope.config.check import is_seed
from saescope.config.corpus import CorpusConfig
from saescope.config.dynamic_k import DynamicKConfig
from saescope.config.hookpoint import HookpointConfig
from saescope.config.metrics import MetricsConfig
from saescope.config.model import ModelConfig
from saescope.config.probes import ProbesConfig
from saescope.config.recipe import identifies
from saescope.config.runtime import RuntimeConfig
from saescope.config.sae import HubSae, PythonSae, SaeConfig, SaeLensSae, TrainSae
from saescope.config.target import file_of
from saescope.config.tracking import TrackingConfig
from saescope.errors import ConfigError, nearest
from saescope.metrics import CATALOGUE, metric


@dataclass(frozen=True, kw_only=True)
class AppConfig:
    """One job: model → hookpoint → SAE → probes → metrics."""

    model: ModelConfig
    sae: SaeConfig
    hookpoint: HookpointConfig
    probes: ProbesConfig
    corpus: CorpusConfig = field(default_factory=lambda: CorpusConfig("embedded"))
    """Training text; read by `sae=train`, `sae=pca` and `sae=directions` only."""

    metrics: MetricsConfig
    dynamic_k: DynamicKConfig = field(default_factory=DynamicKConfig)
    causal: CausalConfig = field(default_factory=NoCausal)
    runtime: RuntimeConfig
    tracking: TrackingConfig

    seed: int = 0
    """Permutations, bootstraps, graph nulls, Leiden, random-init weights."""

    force: bool = False
    """Measure again although a finished result of the same config exists."""

    objective: str | None = None
    """Metric that the job returns to a sweeper that searches, such as Optuna's; null: none."""

    def __post_init__(self) -> None:
        is_seed("seed", self.seed)
        if self.objective is not None:
            known = metric(self.objective)
            if known is None or known.between_jobs:
                near = nearest(self.objective, (entry.key for entry in CATALOGUE if not entry.between_jobs))
                raise ConfigError(
                    f"objective={self.objective} is no metric of a job: {near}"
                    "give a key of metrics.json, such as objective=si/excess"
                )
        if isinstance(self.sae, TrainSae):
            batch = self.sae.batch_tokens // self.corpus.ctx_len * self.corpus.ctx_len or self.corpus.ctx_len
            if self.sae.tokens < batch:
                raise ConfigError(
                    f"sae.tokens={self.sae.tokens} is less than one batch of {batch} tokens; raise it, or "
                    "lower sae.batch_tokens"
                )

    def as_dict(self) -> dict[str, Any]:
        """Plain nested dictionary, nested as on the command line, with the values that apply to this job."""
        return applicable(dataclasses.asdict(self))

    def scientific(self) -> dict[str, Any]:
        """What decides the numbers: no tracking, force or objective, no device or batch settings.

        `dtype` stays in: bfloat16 and float32 give slightly different numbers.
        """
        values = self.as_dict()
        for key in ("tracking", "force", "objective"):
            del values[key]
        values["sae"] = {
            key: value
            for key, value in values["sae"].items()
            if key != "save_every" and identifies(key, value)
        }
        if self.dynamic_k.target == "none":
            del values["dynamic_k"]
        if self.causal.method == "none":
            del values["causal"]
        else:  # what does not apply is null: results of versions without the key stay valid
            values["causal"] = {key: value for key, value in values["causal"].items() if value is not None}
            values["causal"]["version"] = METHOD_VERSION
        values["runtime"] = {"dtype": self.runtime.dtype}
        return values

    def inputs(self) -> dict[str, str]:
        """Names of the files, folders and Hub repositories that the job reads, probe texts left out."""
        names: dict[str, str | None] = {"model": self.model.name}
        match self.sae:
            case HubSae(repo=repo):
                names["sae"] = repo or self.model.sae_repo
            case SaeLensSae(release=release):
                names["sae"] = release
            case PythonSae(target=target):
                names["sae"] = file_of(target)
            case TrainSae(finetune=finetune):
                names["finetune"] = finetune
        if self.sae.source in READS_CORPUS:
            names["corpus"] = self.corpus.path or self.corpus.name
        return {key: name for key, name in names.items() if name}
