"""Config group `causal`: whether the latents of a task matter to the model on that task."""

from dataclasses import dataclass
from typing import Literal

from saescope.config.check import at_least, between, one_of
from saescope.errors import ConfigError

SELECTS = ("si", "si_token", "mutual_info", "rate")
REPLACEMENTS = ("zero", "mean", "resample")

METHOD_VERSION = 2
"""Goes up with every change of what the stage computes of the same settings: results and sums of killed jobs
of another version are made anew. 1: in the precision of the job; 2: in float32."""


@dataclass(frozen=True, kw_only=True)
class NoCausal:
    """`causal=none`: nothing is ablated."""

    method: Literal["none"] = "none"
    """Names this class."""


@dataclass(frozen=True, kw_only=True)
class Attribute:
    """`causal=attribute`: the effect of every latent on every task, estimated from gradients."""

    method: Literal["attribute"] = "attribute"
    """Names this class."""

    tokens: int = 16384
    """Counted tokens of the measured documents, spread over tasks."""

    bootstraps: int = 200
    """Document resamples behind the interval."""

    def __post_init__(self) -> None:
        _check_tokens(self.tokens, self.bootstraps)


@dataclass(frozen=True, kw_only=True)
class Ablate:
    """`causal=ablate`: the latents of each task are taken out of the model, and the losses measured."""

    method: Literal["ablate"] = "ablate"
    """Names this class."""

    select: str = "si"
    """What ranks the latents of a task, on documents that are not measured: `si`, `si_token` (SI beyond the
    token id), `mutual_info` (SI times rate) or `rate` (firing rate on the task)."""

    sizes: tuple[float, ...] = (0.05, 0.1, 0.2)
    """Sizes of a task's set: shares of the task's activation mass, each in (0, 1]. The middle is the
    headline's."""

    num_latents: int | None = None
    """Latents of a task's set, in place of `sizes`: 1 is the task's first latent alone; null: by `sizes`."""

    to: str = "zero"
    """What an ablated activation becomes: `zero`, the `mean` off the set's task, or (`resample`) that of a
    random token off the task."""

    tokens: int = 2048
    """Counted tokens of the measured documents, spread over tasks."""

    draws: int = 50
    """Random sets matched to each task's own, behind causal/p."""

    ablated_draws: int = 2
    """Of these, and of each other kind of control set, how many are ablated on all tokens."""

    draw_tokens: int = 512
    """Counted tokens on which all draws are ablated beside the task's own sets, where `to` is not zero; with
    zero they are compared by attribution."""

    attribution_tokens: int = 8192
    """Counted tokens on which the effect of every latent is estimated from gradients."""

    bootstraps: int = 1000
    """Document resamples behind the intervals."""

    layers: tuple[int, ...] | None = None
    """Further layers, 0-based, each with an SAE of the job's source: the latents of a task at all of them and
    at the job's own hookpoint are ablated together, and each layer's alone; null: none."""

    def __post_init__(self) -> None:
        one_of("causal.select", self.select, SELECTS)
        one_of("causal.to", self.to, REPLACEMENTS)
        if not self.sizes:
            raise ConfigError("causal.sizes=[] is empty: give shares of activation mass, such as [0.05,0.1]")
        for size in self.sizes:
            if not 0 < size <= 1:
                raise ConfigError(
                    f"causal.sizes={size:g} is out of range: a size is a share of the task's activation "
                    "mass, above 0 and at most 1"
                )
        if len(set(self.sizes)) < len(self.sizes):
            raise ConfigError(f"causal.sizes={list(self.sizes)} names a size twice; give each once")
        object.__setattr__(self, "sizes", tuple(sorted(self.sizes)))
        _check_tokens(self.tokens, self.bootstraps)
        at_least("causal.num_latents", self.num_latents, 1)
        if self.layers is not None:
            if not self.layers or len(set(self.layers)) < len(self.layers):
                raise ConfigError(
                    f"causal.layers={list(self.layers)}: name each further layer once, such as [1,3], or null"
                )
            for layer in self.layers:
                at_least("causal.layers", layer, 0)
        at_least("causal.draws", self.draws, 20)
        between("causal.ablated_draws", self.ablated_draws, 1, self.draws)
        at_least("causal.draw_tokens", self.draw_tokens, 64)
        if self.to != "zero":
            between("causal.draw_tokens", self.draw_tokens, 64, self.tokens)
        at_least("causal.attribution_tokens", self.attribution_tokens, 64)

    @property
    def set_sizes(self) -> tuple[float, ...]:
        """Shares of activation mass, or the one number of latents."""
        return self.sizes if self.num_latents is None else (float(self.num_latents),)

    @property
    def headline_size(self) -> float:
        """The size whose numbers are metrics: the middle one, the lower of two."""
        return self.set_sizes[(len(self.set_sizes) - 1) // 2]


CausalConfig = NoCausal | Attribute | Ablate


def _check_tokens(tokens: int, bootstraps: int) -> None:
    at_least("causal.tokens", tokens, 64)
    at_least("causal.bootstraps", bootstraps, 20)
