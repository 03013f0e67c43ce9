"""Config group `metrics`."""

from dataclasses import dataclass

from saescope.config.check import at_least, between, one_of
from saescope.errors import ConfigError

UNITS = ("token", "chunk", "document")
STRATA = ("task", "token_task", "bigram", "position")


@dataclass(frozen=True)
class MetricsConfig:
    """Settings of SI, Q and the quality measures; definitions in docs/definitions.md."""

    min_count: int = 50
    """Supported latents have at least this many activations …"""

    min_docs: int = 10
    """… in at least this many documents."""

    permutations: int = 1000
    """Document-label permutations for the SI test, more where a few latents stand at its smallest p; 100 of
    them give the means by chance."""

    bootstraps: int = 1000
    """Document resamples for the intervals of si/mean and si/mutual_info."""

    document_groups: int = 12
    """Groups of documents, each left out once, behind the intervals of differences between jobs in Q, SI
    beyond words and the SAE's quality; 0 leaves these intervals out."""

    matched_draws: int = 10
    """Draws behind matched SI and Q of sweeps, at each of up to twelve amounts of evidence; 0: neither."""

    word_draws: int = 10
    """Draws behind the means by chance of si/beyond_*; 0 leaves these, si/lexical*, q/within_token*,
    q/lexical and q/word_share out."""

    si_fdr: float = 0.05
    """Benjamini–Hochberg level behind si/significant_frac."""

    graph_tokens: int = 1_000_000
    """Tokens behind the graph of joint firings, about: whole documents, of every task the same share; 0: all.
    Time and memory of Q grow faster than these; SI is of all tokens."""

    unit: str = "token"
    """Co-activation is counted per `token`, `chunk` or `document`."""

    chunk_tokens: int = 32
    """Length of a chunk in tokens."""

    min_joint: int = 5
    """Fewest joint activations of an edge."""

    edge_fdr: float = 0.01
    """Benjamini–Hochberg level of edges over all pairs of supported latents."""

    resolution: float = 1.0
    """Resolution of the modularity."""

    within: tuple[str, ...] = ()
    """More graphs of joint firings beyond what a stratum gives, each with its rewirings: some of `task` (the
    rewirings and edges of q/within_task), `token_task`, `bigram`, `position`."""

    leiden_seeds: int = 5
    """Leiden runs per graph."""

    rewirings: int = 20
    """Degree-preserving rewirings of the validated graph, at least; up to 100 where it is small."""

    null_tokens: int = 50_000
    """Tokens used for q/null_edges."""

    curveball_passes: int = 12
    """Trades per token in the curveball null."""

    block_tokens: int = 32
    """Block length of the block-permutation null."""

    lm_tokens: int = 10_000
    """Counted tokens, spread evenly over tasks, for losses with the SAE spliced in; 0 leaves lm/* out."""

    allow_nonfinite: bool = False
    """Leave tokens out whose activations are NaN or infinite, with a warning; false: they end the run."""

    example_latents: int = 8
    """Latents shown per task."""

    example_contexts: int = 8
    """Contexts shown per latent."""

    def __post_init__(self) -> None:
        one_of("metrics.unit", self.unit, UNITS)
        for stratum in self.within:
            one_of("metrics.within", stratum, STRATA)
        if len(set(self.within)) < len(self.within):
            raise ConfigError(f"metrics.within={list(self.within)} names one twice; give each once")
        for key in (
            "min_count",
            "min_docs",
            "min_joint",
            "chunk_tokens",
            "leiden_seeds",
            "block_tokens",
            "curveball_passes",
        ):
            at_least(f"metrics.{key}", getattr(self, key), 1)
        for key in ("permutations", "bootstraps", "rewirings"):
            at_least(f"metrics.{key}", getattr(self, key), 20)
        for key in (
            "document_groups",
            "matched_draws",
            "word_draws",
            "lm_tokens",
            "example_latents",
            "example_contexts",
            "null_tokens",
            "graph_tokens",
        ):
            at_least(f"metrics.{key}", getattr(self, key), 0)
        between("metrics.si_fdr", self.si_fdr, 1e-6, 0.5)
        between("metrics.edge_fdr", self.edge_fdr, 1e-12, 0.05)
        for key in ("chunk_tokens", "block_tokens"):
            between(f"metrics.{key}", getattr(self, key), 1, 2**20)
        between("metrics.resolution", self.resolution, 1e-3, 1e3)
