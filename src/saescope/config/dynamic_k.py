"""Config group `dynamic_k`."""

from dataclasses import dataclass

from saescope.config.check import at_least, between, one_of
from saescope.errors import ConfigError, choices

TARGETS = ("none", "mlp", "sae")
SELECTORS = ("topk", "threshold", "top_p", "rel_max")
SCORES = ("abs_act", "abs_act_x_wnorm", "random")
GRANULARITIES = ("token", "sequence", "task", "static")
COMPENSATIONS = ("none", "mean")
PHASES = ("all", "generation")
IMPLS = ("mask", "gather", "sliced")


@dataclass(frozen=True)
class DynamicKConfig:
    """Execute only part of the network: what it costs in quality, what it saves in compute."""

    target: str = "none"
    """`none`, `mlp` (neurons of the MLPs) or `sae` (latents of the SAE)."""

    k: tuple[float, ...] = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
    """Kept fractions, each in (0, 1]: of d_ff for `mlp`, of the SAE's own k for `sae`."""

    selectors: tuple[str, ...] = SELECTORS
    """`topk`: the same number everywhere; `threshold`, `top_p`, `rel_max`: as many as the token needs,
    calibrated to the mean k. The first is the headline's."""

    scores: tuple[str, ...] = SCORES
    """What ranks neurons: |a|, |a|·‖w_down‖, or chance. The first is the headline's."""

    granularities: tuple[str, ...] = GRANULARITIES
    """What shares a mask: a `token`; a `sequence` (its first half chooses, its second half is scored); a
    `task` or everything (`static`), chosen on calibration documents. The first is the headline's."""

    compensation: str = "none"
    """`mean`: the calibration mean of what is dropped is added to the down-projection's bias."""

    phase: str = "all"
    """Sparse positions: `all`, or `generation`, the second half of each window after a dense first half."""

    layers: tuple[int, ...] | None = None
    """Layers made sparse; null: all."""

    impls: tuple[str, ...] = IMPLS
    """Ways to execute a mask: `mask` saves nothing and is the reference; `gather` and `sliced` are timed."""

    tokens: int = 4096
    """Tokens evaluated, spread over tasks."""

    calibration_tokens: int = 8192
    """Tokens of other documents, which set cuts, static masks and means."""

    structure: bool = True
    """Masks chosen by SI and Q: task transfer, community blocks, union growth."""

    bootstraps: int = 1000
    """Document resamples behind ce_delta_lo and ce_delta_hi."""

    rounds: int = 9
    """Interleaved timing rounds; 0: no timings."""

    batch_sizes: tuple[int, ...] = (1, 8)
    """Sequences timed at once."""

    prompt_tokens: int = 128
    """Length of the timed prefill."""

    new_tokens: int = 16
    """Timed decoding steps after it, with KV cache."""

    def __post_init__(self) -> None:
        one_of("dynamic_k.target", self.target, TARGETS)
        one_of("dynamic_k.compensation", self.compensation, COMPENSATIONS)
        one_of("dynamic_k.phase", self.phase, PHASES)
        for key, valid in (("selectors", SELECTORS), ("scores", SCORES), ("granularities", GRANULARITIES)):
            self._subset(key, valid, empty=False)
        self._subset("impls", IMPLS, empty=True)
        if not self.k:
            raise ConfigError("dynamic_k.k=[] is empty: give kept fractions in (0, 1], such as [0.3,0.5,1.0]")
        for k in self.k:
            if not 0 < k <= 1:
                raise ConfigError(
                    f"dynamic_k.k={k:g} is out of range: k is the kept fraction, above 0 and at most 1 "
                    "(0.3 keeps 30 %)"
                )
        if len(set(self.k)) < len(self.k):
            raise ConfigError(f"dynamic_k.k={list(self.k)} names a fraction twice; give each once")
        object.__setattr__(self, "k", tuple(sorted(self.k)))
        if self.layers is not None:
            if not self.layers:
                raise ConfigError("dynamic_k.layers=[] is empty: list layers, such as [0,1], or null for all")
            for layer in self.layers:
                at_least("dynamic_k.layers", layer, 0)
        if not self.batch_sizes and self.rounds:
            raise ConfigError("dynamic_k.batch_sizes=[] is empty: list sizes, such as [1,8], or set rounds=0")
        for size in self.batch_sizes:
            at_least("dynamic_k.batch_sizes", size, 1)
        for key in ("tokens", "calibration_tokens"):
            at_least(f"dynamic_k.{key}", getattr(self, key), 64)
        at_least("dynamic_k.bootstraps", self.bootstraps, 20)
        between("dynamic_k.rounds", self.rounds, 0, 10_000)
        at_least("dynamic_k.prompt_tokens", self.prompt_tokens, 2)
        at_least("dynamic_k.new_tokens", self.new_tokens, 1)

    def _subset(self, key: str, valid: tuple[str, ...], empty: bool) -> None:
        values: tuple[str, ...] = getattr(self, key)
        if not values and not empty:
            raise ConfigError(f"dynamic_k.{key}=[] is empty: list some of {choices(valid)}")
        for value in values:
            one_of(f"dynamic_k.{key}", value, valid)
        if len(set(values)) < len(values):
            raise ConfigError(f"dynamic_k.{key}={list(values)} names one twice; give each once")
