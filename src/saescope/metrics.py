"""The catalogue of metrics: every key of `metrics.json`, what it is called and what it means.

Console, pages, the W&B workspace and docs/definitions.md are made from it. Constants are named after their
keys: `SI_MEAN.key` is `si/mean`, `TASK_FVU.of("code")` is `task/code/fvu`. Where a metric is shown, what
chance gives and which interval it has are attributes: a table takes `shown("sweep")` and lists no keys. A new
metric is one entry here; its position here is that in every table, apart from those that
lead every table (`_LEADING`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

Direction = Literal["higher", "lower", "none"]
Place = Literal["terminal", "page", "sweep", "axes"]
"""`terminal`: the table at the end of a run. `page`: the headline table of its page. `sweep`: the columns of
a sweep's tables. `axes`: what is followed along the axes of a sweep."""

_TASK = "<task>"


@dataclass(frozen=True)
class Metric:
    """One metric; `<task>` in its key stands for the name of a task."""

    key: str
    label: str
    """A row of a table, understood without the sentence."""
    sentence: str
    """What the metric is, in one sentence; plain text."""
    group: str
    """The first part of the key, after a dot a part of that group; `matched`: between the jobs of a sweep."""
    short: str = ""
    """Short label, for sentences and narrow places; `label` where not given."""
    unit: str = ""
    """`count`, `share` (0 to 1), `nats`, `s`, …; empty for a number without one."""
    direction: Direction = "none"
    """Which way is better; `none` for what is measured and not judged."""
    null: str | None = None
    """Key of what chance gives."""
    sd: str | None = None
    """Key of the standard deviation over the draws behind the null, or behind the metric itself."""
    chance: str = ""
    """What chance gives, in words, where no key has it."""
    low: str | None = None
    """Key of the lower end of its 95 % interval."""
    high: str | None = None
    """Key of the upper end."""
    draws: str | int | None = None
    """Of a permutation p-value: the key of the metric with its number of draws, or that number."""
    shown: tuple[Place, ...] = ()
    naive: bool = False
    """A number that the usual recipe reports; for comparison only."""
    losses: bool = False
    """From the language model's losses: null with `metrics.lm_tokens=0`."""

    def __post_init__(self) -> None:
        """Without a short label, the label is used."""
        if not self.short:
            object.__setattr__(self, "short", self.label)

    @property
    def per_task(self) -> bool:
        """One for each task."""
        return _TASK in self.key

    @property
    def between_jobs(self) -> bool:
        """A column of a sweep's table and no key of `metrics.json`."""
        return self.group == "matched"

    def of(self, task: str) -> str:
        """The key for one task."""
        return self.key.replace(_TASK, task)


# The SAE's reconstruction: x activation, x̂ reconstruction, e = x − x̂, over all counted tokens

SAE_FVU = Metric(
    "sae/fvu",
    "Variance unexplained (FVU)",
    "E‖e‖² / (E‖x‖² − ‖E x‖²); 1 is what the mean activation does.",
    "sae",
    short="FVU",
    direction="lower",
    chance="1",
    shown=("terminal", "sweep"),
)
SAE_EXPLAINED_VARIANCE = Metric(
    "sae/explained_variance",
    "Explained variance",
    "1 − FVU, all probe tokens.",
    "sae",
    direction="higher",
    chance="0",
    shown=("page",),
)
SAE_MSE = Metric(
    "sae/mse",
    "Squared error",
    "E‖e‖² per token, summed over dimensions.",
    "sae",
    direction="lower",
)
SAE_COSINE = Metric("sae/cosine", "Cosine", "Mean cos(x, x̂).", "sae", direction="higher")
SAE_L0 = Metric(
    "sae/l0",
    "L0, active latents a token",
    "Mean number of latents with an activation above 0.",
    "sae",
    short="L0",
    shown=("terminal", "page", "sweep"),
)
SAE_L2_RATIO = Metric("sae/l2_ratio", "Norm ratio", "Mean ‖x̂‖/‖x‖; 1: nothing shrinks.", "sae")
SAE_RECONSTRUCTION_BIAS = Metric(
    "sae/reconstruction_bias",
    "Reconstruction bias",
    "E‖x̂‖²/E[x·x̂]; 1 is unbiased (Rajamanoharan et al. 2024, arXiv 2404.16014, eq. 10).",
    "sae",
)

SAE_VARIANCE_TOP_TOKENS = Metric(
    "sae/variance_top_tokens",
    "Variance in the 0.1 % of tokens of largest norm",
    "Σ‖x − E x‖² over the 0.1 % of tokens of largest ‖x‖, as a share of that over all; FVU weighs tokens so.",
    "sae",
    short="variance in 0.1 % of tokens",
    unit="share",
)

# The language model's losses, over about metrics.lm_tokens tokens spread over tasks

LM_CE = Metric(
    "lm/ce",
    "CE",
    "Next-token loss of the untouched model at counted positions.",
    "lm",
    unit="nats",
    losses=True,
)
LM_CE_SPLICED = Metric(
    "lm/ce_spliced",
    "CE, SAE spliced in",
    "The loss with x̂ in place of x.",
    "lm",
    unit="nats",
    direction="lower",
    losses=True,
)
LM_CE_ZERO = Metric(
    "lm/ce_zero", "CE, zero ablation", "The loss with zeros in place of x.", "lm", unit="nats", losses=True
)
LM_CE_MEAN = Metric(
    "lm/ce_mean",
    "CE, mean ablation",
    "The loss with the mean activation in place of x.",
    "lm",
    unit="nats",
    losses=True,
)
LM_CE_SCORE = Metric(
    "lm/ce_score",
    "CE score (1 = no loss)",
    "With the SAE spliced in, (CE_zero − CE_spliced) / (CE_zero − CE); 0: as bad as zero ablation.",
    "lm",
    short="CE score",
    direction="higher",
    chance="0",
    shown=("terminal", "page", "sweep"),
    losses=True,
)
LM_CE_DELTA = Metric(
    "lm/ce_delta",
    "CE increase",
    "Nats a token lost by splicing the SAE in.",
    "lm",
    unit="nats",
    direction="lower",
    shown=("page",),
    losses=True,
)
LM_KL = Metric(
    "lm/kl",
    "KL divergence",
    "KL(clean ‖ spliced) of the next token's distribution.",
    "lm",
    unit="nats",
    direction="lower",
    losses=True,
)
LM_KL_SCORE = Metric(
    "lm/kl_score",
    "KL score",
    "(KL_zero − KL) / KL_zero; 0: as bad as zero ablation, 1: no divergence.",
    "lm",
    direction="higher",
    chance="0",
    losses=True,
)

# Each task's own tokens

TASK_TOKENS = Metric("task/<task>/tokens", "Tokens", "Counted tokens of the task.", "task", unit="count")
TASK_DOCS = Metric("task/<task>/docs", "Documents", "Documents of the task.", "task", unit="count")
TASK_FVU = Metric(
    "task/<task>/fvu", "FVU", "FVU against the task's own variance.", "task", direction="lower", chance="1"
)
TASK_CE = Metric(
    "task/<task>/ce",
    "CE",
    "Next-token loss of the untouched model on the task.",
    "task",
    unit="nats",
    losses=True,
)
TASK_CE_DELTA = Metric(
    "task/<task>/ce_delta",
    "CE increase",
    "Nats a token lost on the task by splicing the SAE in.",
    "task",
    unit="nats",
    direction="lower",
    losses=True,
)

# How often latents fire

FEATURES_NUM_LATENTS = Metric(
    "features/num_latents", "Latents", "Latents of the SAE.", "features", unit="count"
)
FEATURES_ALIVE_FRAC = Metric(
    "features/alive_frac",
    "Latents alive",
    "Share that fired on the probes.",
    "features",
    unit="share",
    direction="higher",
    shown=("terminal",),
)
FEATURES_DEAD_FRAC = Metric(
    "features/dead_frac",
    "Dead latents",
    "Share that never fired on the probes; they count nowhere.",
    "features",
    unit="share",
    direction="lower",
    shown=("page",),
)
FEATURES_SUPPORTED = Metric(
    "features/supported",
    "Supported latents",
    "Latents that fired often enough, in enough documents, to have an SI.",
    "features",
    short="supported latents",
    unit="count",
    direction="higher",
    shown=("terminal", "page", "sweep"),
)
FEATURES_LOG10_DENSITY_MEAN = Metric(
    "features/log10_density_mean",
    "Mean log10 density",
    "Mean over live latents of log10 of the share of tokens they fire on.",
    "features",
)
FEATURES_DENSITY_GT_1PCT_FRAC = Metric(
    "features/density_gt_1pct_frac",
    "Latents denser than 1 %",
    "Share of latents that fire on more than 1 % of tokens.",
    "features",
    unit="share",
)
FEATURES_DENSITY_GT_10PCT_FRAC = Metric(
    "features/density_gt_10pct_frac",
    "Latents denser than 10 %",
    "Share of latents that fire on more than 10 % of tokens.",
    "features",
    unit="share",
)

# Specialisation

SI_MEAN = Metric(
    "si/mean",
    "SI, mean",
    "Mean over supported latents; 0: fires at the same rate on every task, 1: on one task only.",
    "si",
    short="SI",
    null="si/null_mean",
    low="si/ci_low",
    high="si/ci_high",
    shown=("terminal", "page", "sweep", "axes"),
)
SI_NULL_MEAN = Metric(
    "si/null_mean",
    "SI by chance",
    "Mean SI when task labels are permuted over documents (metrics.permutations).",
    "si",
)
SI_EXCESS = Metric(
    "si/excess",
    "SI excess",
    "Mean SI above each latent's own permutation null.",
    "si",
    chance="0",
    shown=("page", "sweep"),
)
SI_CI_LOW = Metric(
    "si/ci_low",
    "SI, lower end",
    "Lower end of the 95 % interval of si/mean over documents: jackknife and bootstrap (metrics.bootstraps).",
    "si",
)
SI_CI_HIGH = Metric(
    "si/ci_high", "SI, upper end", "Upper end of the 95 % interval of si/mean, in the same way.", "si"
)
SI_SIGNIFICANT_FRAC = Metric(
    "si/significant_frac",
    "Significant latents",
    "Share of supported latents whose SI beats the document permutation at the FDR metrics.si_fdr.",
    "si",
    unit="share",
    chance="about 0 %",
    shown=("terminal", "page"),
)
SI_MEDIAN = Metric("si/median", "SI, median", "Median over supported latents.", "si")
SI_WEIGHTED = Metric(
    "si/weighted",
    "SI, firing-weighted",
    "Mean over supported latents, each counted by its firings.",
    "si",
    shown=("page",),
)
SI_MUTUAL_INFO = Metric(
    "si/mutual_info",
    "SI, mean by rate",
    "Mean over live latents by their rates: what a firing tells of its task, over ln K.",
    "si",
    short="SI by rate",
    null="si/mutual_info_null_mean",
    low="si/mutual_info_ci_low",
    high="si/mutual_info_ci_high",
    shown=("terminal", "page", "sweep", "axes"),
)
SI_MUTUAL_INFO_NULL_MEAN = Metric(
    "si/mutual_info_null_mean",
    "SI by rate, by chance",
    "si/mutual_info when task labels are permuted over documents.",
    "si",
)
SI_MUTUAL_INFO_EXCESS = Metric(
    "si/mutual_info_excess",
    "SI by rate, excess",
    "si/mutual_info above the mean of its permutations.",
    "si",
    chance="0",
    shown=("page",),
)
SI_MUTUAL_INFO_CI_LOW = Metric(
    "si/mutual_info_ci_low",
    "SI by rate, lower end",
    "Lower end of the 95 % interval of si/mutual_info over documents: jackknife and bootstrap.",
    "si",
)
SI_MUTUAL_INFO_CI_HIGH = Metric(
    "si/mutual_info_ci_high",
    "SI by rate, upper end",
    "Upper end of the 95 % interval of si/mutual_info, in the same way.",
    "si",
)
SI_BEYOND_TOKEN_MEAN = Metric(
    "si/beyond_token_mean",
    "SI beyond token",
    "Mean SI given the token id: how much more a latent fires on some task than its tokens explain.",
    "si",
    null="si/beyond_token_null_mean",
    shown=("terminal", "page", "sweep", "axes"),
)
SI_BEYOND_TOKEN_WEIGHTED = Metric(
    "si/beyond_token_weighted",
    "SI beyond token, by rate",
    "The same SI averaged over supported latents by their rates, to be read beside si/mutual_info.",
    "si",
    shown=("page",),
)
SI_BEYOND_TOKEN_NULL_MEAN = Metric(
    "si/beyond_token_null_mean",
    "SI beyond token, by chance",
    "The same mean when the evidence of every document has a random sign (metrics.word_draws).",
    "si",
)
SI_BEYOND_TOKEN_SIGNIFICANT_FRAC = Metric(
    "si/beyond_token_significant_frac",
    "Significant beyond token",
    "Share of supported latents that prefer a task given the token id, at the FDR metrics.si_fdr.",
    "si",
    unit="share",
    chance="about 0 %",
    shown=("page",),
)
SI_BEYOND_TOKEN_IDENTIFIED = Metric(
    "si/beyond_token_identified",
    "Firings on shared tokens",
    "Share of firings on tokens that occur in two tasks or more: the others say nothing beyond tokens.",
    "si",
    unit="share",
)
SI_BEYOND_BIGRAM_MEAN = Metric(
    "si/beyond_bigram_mean",
    "SI beyond bigram",
    "Mean SI given the last two token ids: how much more a latent fires on some task than they explain.",
    "si",
    null="si/beyond_bigram_null_mean",
    shown=("page",),
)
SI_BEYOND_BIGRAM_WEIGHTED = Metric(
    "si/beyond_bigram_weighted",
    "SI beyond bigram, by rate",
    "The same SI averaged over supported latents by their rates, to be read beside si/mutual_info.",
    "si",
    shown=("page",),
)
SI_BEYOND_BIGRAM_NULL_MEAN = Metric(
    "si/beyond_bigram_null_mean",
    "SI beyond bigram, by chance",
    "The same mean when the evidence of every document has a random sign (metrics.word_draws).",
    "si",
)
SI_BEYOND_BIGRAM_SIGNIFICANT_FRAC = Metric(
    "si/beyond_bigram_significant_frac",
    "Significant beyond bigram",
    "Share of supported latents that prefer a task given the last two token ids, at the FDR metrics.si_fdr.",
    "si",
    unit="share",
    chance="about 0 %",
    shown=("page",),
)
SI_BEYOND_BIGRAM_IDENTIFIED = Metric(
    "si/beyond_bigram_identified",
    "Firings on shared bigrams",
    "Share of firings on bigrams that occur in two tasks or more: the others say nothing beyond bigrams.",
    "si",
    unit="share",
)
SI_LEXICAL = Metric(
    "si/lexical",
    "SI from token ids alone",
    "Mean SI of the firings expected when those on a token id are dealt anew among all its occurrences.",
    "si",
    shown=("page",),
)
SI_LEXICAL_SHARE = Metric(
    "si/lexical_share",
    "Share of SI that is vocabulary",
    "(si/lexical − si/null_mean) / (si/mean − si/null_mean); 1 for latents that only read the token.",
    "si",
    unit="share",
    shown=("terminal", "page", "sweep"),
)
SI_NAIVE_MEAN = Metric(
    "si/naive_mean",
    "SI, naive (do not report)",
    "Plug-in entropy of raw counts over all latents that fired; for comparison only.",
    "si",
    short="naive SI",
    shown=("terminal",),
    naive=True,
)

# matched_*: between the jobs of a sweep, columns of sweep.csv, no keys of metrics.json
MATCHED_SI = Metric(
    "matched_si",
    "SI at equal firings",
    "Mean SI of the latents that carry 75 % of firings, each thinned to metrics.min_count of its own.",
    "matched",
    short="matched SI",
    low="si/ci_low",
    high="si/ci_high",
    shown=("sweep", "axes"),
)
MATCHED_SI_COUNT = Metric(
    "matched_si_count", "Matched firings", "The firings each latent is thinned to.", "matched", unit="count"
)
# Modularity

Q_MODULARITY = Metric(
    "q/modularity",
    "Modularity Q",
    "Weighted Newman modularity of the best Leiden partition; null: graphs of the same degrees.",
    "q",
    short="Q",
    null="q/null_mean",
    sd="q/null_sd",
    shown=("terminal", "page", "sweep", "axes"),
)
Q_NULL_MEAN = Metric(
    "q/null_mean",
    "Q by chance",
    "Mean Q of degree-preserving rewirings of the graph with shuffled weights.",
    "q",
)
Q_NULL_SD = Metric("q/null_sd", "Q by chance, spread", "Standard deviation of Q over the rewirings.", "q")
Q_EXCESS = Metric(
    "q/excess", "Q excess", "Q above the mean of its rewirings.", "q", chance="0", shown=("page", "sweep")
)
Q_Z = Metric(
    "q/z", "Q, z", "Q above its rewirings in their standard deviations, each after local moving alone.", "q"
)
Q_P = Metric(
    "q/p",
    "Q, p",
    "(1 + rewirings whose Q is at least as large) / (rewirings + 1), each after local moving alone.",
    "q",
    draws="q/rewirings",
)
Q_REWIRINGS = Metric("q/rewirings", "Rewirings", "Rewirings behind q/p.", "q", unit="count")
Q_N_EDGES = Metric(
    "q/n_edges",
    "Validated edges",
    "Pairs that fire together more than chance; null: the same test on randomised firing.",
    "q",
    unit="count",
    null="q/null_edges",
    shown=("terminal", "page"),
)
Q_NULL_EDGES = Metric(
    "q/null_edges",
    "Edges by chance",
    "Edges the same rule still finds in randomised firing, the larger of two ways; expected: 0.",
    "q",
    unit="count",
    direction="lower",
)
Q_EDGES_BY_DOCUMENT_FRAC = Metric(
    "q/edges_by_document_frac",
    "Edges by document",
    "Share of edges that hold with documents as the observations: p at most 5 %.",
    "q",
    unit="share",
    shown=("page",),
)
Q_N_COMMUNITIES = Metric(
    "q/n_communities",
    "Communities",
    "Communities of five or more latents.",
    "q",
    unit="count",
    shown=("terminal",),
)
Q_COVERAGE = Metric(
    "q/coverage", "Latents with an edge", "Share of supported latents that have an edge.", "q", unit="share"
)
Q_WITHIN_TASK = Metric(
    "q/within_task",
    "Q within tasks",
    "Q of the graph whose expected joint counts are taken task by task: what the task mix does not explain.",
    "q",
    shown=("terminal", "page"),
)
Q_WITHIN_TASK_NULL_MEAN = Metric(
    "q/within_task_null_mean",
    "Q within tasks, by chance",
    "Mean Q of degree-preserving rewirings of that graph (metrics.within).",
    "q.within",
)
Q_WITHIN_TASK_N_EDGES = Metric(
    "q/within_task_n_edges",
    "Edges within tasks",
    "Pairs that fire together within a task more than chance (metrics.within).",
    "q.within",
    unit="count",
)


def _within(stratum: str, title: str, words: str) -> tuple[Metric, ...]:
    """The metrics of a graph that is made where `metrics.within` names it."""
    key = f"q/within_{stratum}"
    return (
        Metric(
            key,
            f"Q within {title}",
            f"Q of the graph whose expected joint counts are taken {words} (metrics.within).",
            "q.within",
            null=f"{key}_null_mean",
        ),
        Metric(
            f"{key}_null_mean",
            f"Q within {title}, by chance",
            "Mean Q of degree-preserving rewirings of that graph.",
            "q.within",
        ),
        Metric(f"{key}_n_edges", f"Edges within {title}", "Edges of that graph.", "q.within", unit="count"),
    )


Q_WITHIN_OTHERS = (
    *_within("token_task", "tokens and tasks", "for each token id in each task"),
    *_within("bigram", "bigrams", "for each pair of a token id and the one before it"),
    *_within("position", "positions", "for each position in the window"),
)
Q_WITHIN_TOKEN = Metric(
    "q/within_token",
    "Q within tokens",
    "Q of the graph whose expected joint counts are taken token id by token id: what words do not explain.",
    "q",
    null="q/within_token_null_mean",
    shown=("page", "sweep"),
)
Q_WITHIN_TOKEN_NULL_MEAN = Metric(
    "q/within_token_null_mean",
    "Q within tokens, by chance",
    "Mean Q of degree-preserving rewirings of that graph with shuffled weights.",
    "q",
)
Q_WITHIN_TOKEN_EXCESS = Metric(
    "q/within_token_excess",
    "Q within tokens, excess",
    "q/within_token above the mean of its rewirings.",
    "q",
    chance="0",
    shown=("page", "sweep"),
)
Q_WITHIN_TOKEN_N_EDGES = Metric(
    "q/within_token_n_edges",
    "Edges within tokens",
    "Pairs that fire together on the same token id more than chance.",
    "q",
    unit="count",
    chance="about 0",
    shown=("page",),
)
Q_WITHIN_TOKEN_N_COMMUNITIES = Metric(
    "q/within_token_n_communities",
    "Communities within tokens",
    "Communities of five or more latents in that graph.",
    "q",
    unit="count",
)
Q_WITHIN_TOKEN_EDGES_BY_DOCUMENT_FRAC = Metric(
    "q/within_token_edges_by_document_frac",
    "Edges within tokens by document",
    "Share of these edges that hold with documents as the observations: p at most 5 %.",
    "q",
    unit="share",
)
Q_LEXICAL = Metric(
    "q/lexical",
    "Q from token ids alone",
    "Q of the plain graph when each latent's firings on a token id are dealt anew among its occurrences.",
    "q",
    shown=("page", "sweep"),
)
Q_WORD_SHARE = Metric(
    "q/word_share",
    "Share of joint firing that is vocabulary",
    "On the plain edges, the share of the joint firing above chance that token ids explain.",
    "q",
    unit="share",
    shown=("page", "sweep"),
)
Q_LEXICAL_N_EDGES = Metric(
    "q/lexical_n_edges",
    "Edges from token ids alone",
    "Edges of the graph behind q/lexical.",
    "q",
    unit="count",
)
Q_TASK_PARTITION = Metric(
    "q/task_partition",
    "Q of the task grouping",
    "Q with latents grouped by the task they prefer.",
    "q",
    chance="about 0",
    shown=("page",),
)
Q_AMI_TASK = Metric(
    "q/ami_task",
    "AMI with top task",
    "Adjusted mutual information of communities and preferred tasks; 1: the same.",
    "q",
    chance="0",
    shown=("page",),
)
Q_AMI_TASK_WITHIN = Metric(
    "q/ami_task_within",
    "AMI with top task, within tasks",
    "Adjusted mutual information of the communities within tasks and preferred tasks.",
    "q",
    chance="0",
)
Q_AMI_WITHIN_TOKEN = Metric(
    "q/ami_within_token",
    "AMI of both kinds of communities",
    "Adjusted mutual information of the communities within tokens and the plain ones; 1: the same.",
    "q",
    chance="0",
    shown=("page",),
)
Q_AMI_WITHIN_TOKEN_TASK = Metric(
    "q/ami_within_token_task",
    "AMI with top task, within tokens",
    "Adjusted mutual information of the communities within tokens and preferred tasks.",
    "q",
    chance="0",
)
Q_AMI_LEXICAL = Metric(
    "q/ami_lexical",
    "AMI with communities of token ids alone",
    "Adjusted mutual information of the communities and those of the graph behind q/lexical.",
    "q",
    chance="0",
)
Q_SEED_ARI = Metric(
    "q/seed_ari",
    "Agreement over seeds",
    "ARI between Leiden runs: says the search is stable, not that modules are real.",
    "q",
    chance="high on noise too",
    shown=("page",),
)
Q_SEED_AMI = Metric(
    "q/seed_ami",
    "Agreement over seeds, AMI",
    "Adjusted mutual information of the communities of two Leiden runs, mean over pairs.",
    "q",
    chance="high on noise too",
)
Q_NAIVE = Metric(
    "q/naive",
    "Q, naive (do not report)",
    "Greedy modularity of the 200 largest entries of the dense PMI matrix; for comparison only.",
    "q",
    short="naive Q",
    shown=("terminal",),
    naive=True,
)

MATCHED_Q = Metric(
    "matched_q",
    "Q at equal evidence",
    "Leiden Q of graphs of equal latents, firings a latent and mean degree, the mean of 10 draws.",
    "matched",
    short="matched Q",
    null="matched_q_null_mean",
    sd="matched_q_sd",
    shown=("sweep", "axes"),
)
MATCHED_Q_SD = Metric(
    "matched_q_sd", "Q at equal evidence, spread", "Standard error of matched_q over its draws.", "matched"
)
MATCHED_Q_NULL_MEAN = Metric(
    "matched_q_null_mean",
    "Q at equal evidence, by chance",
    "Mean Q of a degree-preserving rewiring of each of the graphs, weights shuffled.",
    "matched",
)
MATCHED_Q_EXCESS = Metric(
    "matched_q_excess",
    "Q excess at equal evidence",
    "matched_q above its rewirings.",
    "matched",
    chance="0",
    shown=("sweep",),
)
MATCHED_Q_LATENTS = Metric(
    "matched_q_latents",
    "Matched latents",
    "Latents of each graph: the most of 100, 200 and 400 that every comparable job has.",
    "matched",
    unit="count",
)
MATCHED_Q_FIRINGS = Metric(
    "matched_q_firings",
    "Matched firings of Q",
    "Firings each of these latents is thinned to: the most that every comparable job allows.",
    "matched",
    unit="count",
)
MATCHED_Q_LATENTS_ONLY = Metric(
    "matched_q_latents_only",
    "Q at matched latents only",
    "matched_q of saescope 0.1, for one more release: it rises when latents are split at random.",
    "matched",
)

# Dynamic k on MLPs; CE increases are over the untouched model

DYNK_K_AT_PPL_1PCT = Metric(
    "dynk/k_at_ppl_1pct",
    "k within 1 %",
    "Smallest k of the grid that keeps the perplexity within 1 % of the untouched model's, "
    "and every larger k too.",
    "dynk.mlp",
    unit="share",
    direction="lower",
)
DYNK_K_AT_PPL_5PCT = Metric(
    "dynk/k_at_ppl_5pct",
    "k within 5 %",
    "Smallest k of the grid that keeps the perplexity within 5 % of the untouched model's, "
    "and every larger k too.",
    "dynk.mlp",
    unit="share",
    direction="lower",
)
DYNK_K = Metric(
    "dynk/k",
    "Middle k",
    "Middle k below 1 of the grid, where the single numbers are read.",
    "dynk.mlp",
    unit="share",
)
DYNK_CE_DELTA = Metric(
    "dynk/ce_delta",
    "CE increase at the middle k",
    "CE above the untouched model's at dynk/k, for the first selector, score and granularity of the config.",
    "dynk.mlp",
    unit="nats",
    direction="lower",
    null="dynk/random_ce_delta",
)
DYNK_KL = Metric(
    "dynk/kl",
    "KL divergence at the middle k",
    "KL(clean ‖ sparse) of the next token's distribution, where dynk/ce_delta is read.",
    "dynk.mlp",
    unit="nats",
    direction="lower",
)
DYNK_RANDOM_CE_DELTA = Metric(
    "dynk/random_ce_delta",
    "CE increase, random masks",
    "CE increase of a random mask per token at dynk/k.",
    "dynk.mlp",
    unit="nats",
)
DYNK_STATIC_CE_DELTA = Metric(
    "dynk/static_ce_delta",
    "CE increase, one static mask",
    "CE increase of one mask for all tokens at dynk/k.",
    "dynk.mlp",
    unit="nats",
    direction="lower",
)
DYNK_TASK_CE_DELTA = Metric(
    "dynk/task_ce_delta",
    "CE increase, one mask a task",
    "CE increase of one mask per task at dynk/k.",
    "dynk.mlp",
    unit="nats",
    direction="lower",
)
DYNK_FLOPS_SAVED_AT_PPL_1PCT = Metric(
    "dynk/flops_saved_at_ppl_1pct",
    "FLOPs saved within 1 %",
    "1 − realised total_flops_frac at dynk/k_at_ppl_1pct.",
    "dynk.mlp",
    unit="share",
    direction="higher",
)
DYNK_SPEEDUP_AT_PPL_1PCT = Metric(
    "dynk/speedup_at_ppl_1pct",
    "Speed-up within 1 %",
    "Largest measured decoding speed-up at batch 1 among timed masks within 1 %; "
    "1 where it is no larger than what the dense control differs by.",
    "dynk.mlp",
    direction="higher",
    chance="1",
)

# Dynamic k on the SAE

DYNK_SAE_K = Metric(
    "dynk/sae_k",
    "k of the SAE",
    "k of the SAE, its mean L0 where that varies; fractions are of it.",
    "dynk.sae",
)
DYNK_SAE_FVU = Metric(
    "dynk/sae_fvu", "FVU, full read", "FVU of the SAE read in full.", "dynk.sae", direction="lower"
)
DYNK_SAE_CE_DELTA = Metric(
    "dynk/sae_ce_delta",
    "CE increase, full read",
    "CE increase with the SAE read in full.",
    "dynk.sae",
    unit="nats",
    direction="lower",
)
DYNK_SAE_KL = Metric(
    "dynk/sae_kl",
    "KL divergence, full read",
    "KL(clean ‖ spliced) with the SAE read in full.",
    "dynk.sae",
    unit="nats",
    direction="lower",
)
DYNK_SAE_K_AT_PPL_1PCT = Metric(
    "dynk/sae_k_at_ppl_1pct",
    "Share of k within 1 %",
    "Smallest fraction of k that keeps the perplexity within 1 % of the full read's.",
    "dynk.sae",
    unit="share",
    direction="lower",
)
DYNK_SAE_K_AT_PPL_5PCT = Metric(
    "dynk/sae_k_at_ppl_5pct",
    "Share of k within 5 %",
    "Smallest fraction of k that keeps the perplexity within 5 % of the full read's.",
    "dynk.sae",
    unit="share",
    direction="lower",
)
DYNK_SAE_THRESHOLD_GAIN = Metric(
    "dynk/sae_threshold_gain",
    "Gain of a threshold",
    "CE of topk − CE of threshold at the middle k; the cut gives topk's mean L0 on calibration documents.",
    "dynk.sae",
    unit="nats",
    direction="higher",
    chance="0",
)
DYNK_SAE_TOP_P_GAIN = Metric(
    "dynk/sae_top_p_gain",
    "Gain of top-p",
    "CE of topk − CE of top_p (by activation²) at the middle k and the same mean L0.",
    "dynk.sae",
    unit="nats",
    direction="higher",
    chance="0",
)
DYNK_SAE_REL_MAX_GAIN = Metric(
    "dynk/sae_rel_max_gain",
    "Gain of a share of the maximum",
    "CE of topk − CE of rel_max at the middle k and the same mean L0.",
    "dynk.sae",
    unit="nats",
    direction="higher",
    chance="0",
)

# What structure saves, on MLP neurons: masks of tasks, blocks of communities, unions over tokens

DYNK_TRANSFER_GAIN = Metric(
    "dynk/transfer_gain",
    "Worth of the own task's mask",
    "CE under the mean of the other tasks' masks − under the own task's, at the middle k.",
    "dynk.structure.transfer",
    unit="nats",
    chance="0",
    low="dynk/transfer_gain_lo",
    high="dynk/transfer_gain_hi",
)
DYNK_TRANSFER_GAIN_LO = Metric(
    "dynk/transfer_gain_lo",
    "Worth of the own task's mask, lower end",
    "Lower end of the 95 % interval of dynk/transfer_gain: bootstrap over documents.",
    "dynk.structure.transfer",
    unit="nats",
)
DYNK_TRANSFER_GAIN_HI = Metric(
    "dynk/transfer_gain_hi",
    "Worth of the own task's mask, upper end",
    "Upper end of the 95 % interval of dynk/transfer_gain: bootstrap over documents.",
    "dynk.structure.transfer",
    unit="nats",
)
DYNK_TRANSFER_P = Metric(
    "dynk/transfer_p",
    "Worth of the own task's mask, p",
    "The gain over one other task per document, against 19 permutations of the calibration documents' "
    "task labels; p = (1 + reached)/20.",
    "dynk.structure.transfer",
    draws=19,
)
DYNK_TRANSFER_NULL_MEAN = Metric(
    "dynk/transfer_null_mean",
    "Worth of a mask by chance",
    "Mean gain over those permutations.",
    "dynk.structure.transfer",
    unit="nats",
)
DYNK_TRANSFER_OVER_GENERIC = Metric(
    "dynk/transfer_over_generic",
    "Worth over a generic mask",
    "CE under the mask of the mean over tasks − under the own task's.",
    "dynk.structure.transfer",
    unit="nats",
    chance="0",
)
DYNK_TRANSFER_SI_GAIN = Metric(
    "dynk/transfer_si_gain",
    "Worth of a mask by SI",
    "As dynk/transfer_gain, neurons ranked by rate on the task × SI.",
    "dynk.structure.transfer",
    unit="nats",
    chance="0",
)
DYNK_ETA = Metric(
    "dynk/eta",
    "Gain of community blocks",
    "(random − blocks)/(random − neurons), of CE increases at the middle k; 0: chance, 1: the bound.",
    "dynk.structure.blocks.eta",
    direction="higher",
    chance="0",
    low="dynk/eta_lo",
    high="dynk/eta_hi",
)
DYNK_ETA_LO = Metric(
    "dynk/eta_lo",
    "Gain of community blocks, lower end",
    "Lower end of the 95 % interval of dynk/eta: bootstrap over documents.",
    "dynk.structure.blocks.eta",
)
DYNK_ETA_HI = Metric(
    "dynk/eta_hi",
    "Gain of community blocks, upper end",
    "Upper end of the 95 % interval of dynk/eta: bootstrap over documents.",
    "dynk.structure.blocks.eta",
)
DYNK_ETA_P = Metric(
    "dynk/eta_p",
    "Gain of community blocks, p",
    "(1 + random partitions at least as good)/20, among 19 with blocks of the same sizes.",
    "dynk.structure.blocks.eta",
    draws=19,
)
DYNK_ETA_KMEANS = Metric(
    "dynk/eta_kmeans",
    "Gain of k-means blocks",
    "As dynk/eta, with blocks of the same sizes by k-means on rows of W_up.",
    "dynk.structure.blocks.eta",
    direction="higher",
    chance="0",
)
DYNK_NEURON_MODULARITY = Metric(
    "dynk/neuron_modularity",
    "Q of neurons",
    "Q of the communities of neurons, mean over MLPs.",
    "dynk.structure.blocks",
)
DYNK_UNIONS = tuple(
    Metric(
        f"dynk/union_{kind}_{size}",
        f"Union of {size} tokens, {label}",
        f"Share of d_ff that {size} {sentence}",
        "dynk.structure.unions",
        unit="share",
        direction="lower",
        null=None if kind == "independent" else f"dynk/union_independent_{size}",
    )
    for size in (8, 64)
    for kind, label, sentence in (
        (
            "same_task",
            "one task",
            "tokens of one task need together, each its top at the smallest k of the grid.",
        ),
        ("same_community", "one community", "tokens of one community need together."),
        ("mixed", "mixed", "tokens of any kind need together."),
        (
            "independent",
            "independent",
            "independent tokens would need: mean over neurons of 1 − (1 − rate)^B.",
        ),
    )
)

# Ablation of the latents of each task (causal=ablate): effects on documents that did not choose them

CAUSAL_SELECTIVITY = Metric(
    "causal/selectivity",
    "Causal selectivity",
    "own/(own + others) of the CE rise when a task's latents are ablated: on its own task, and the mean of "
    "the others; mean over tasks, rises below 0 count as 0; 0.5 where all tasks are hurt alike.",
    "causal.ablate",
    direction="none",
    chance="0.5",
    low="causal/selectivity_ci_low",
    high="causal/selectivity_ci_high",
    shown=("sweep", "axes"),
)
CAUSAL_SELECTIVITY_CI_LOW = Metric(
    "causal/selectivity_ci_low",
    "Causal selectivity, lower end",
    "Lower end of the 95 % interval of causal/selectivity: bootstrap over documents.",
    "causal.ablate",
)
CAUSAL_SELECTIVITY_CI_HIGH = Metric(
    "causal/selectivity_ci_high",
    "Causal selectivity, upper end",
    "Upper end of the 95 % interval of causal/selectivity: bootstrap over documents.",
    "causal.ablate",
)
CAUSAL_OWN_CE = Metric(
    "causal/own_ce",
    "CE rise on the own task",
    "CE rise a token on the task whose latents are ablated, mean over tasks.",
    "causal.ablate",
    unit="nats",
    null="causal/others_ce",
    low="causal/own_ce_ci_low",
    high="causal/own_ce_ci_high",
    shown=("sweep",),
)
CAUSAL_OWN_CE_CI_LOW = Metric(
    "causal/own_ce_ci_low",
    "CE rise on the own task, lower end",
    "Lower end of the 95 % interval of causal/own_ce: bootstrap over documents.",
    "causal.ablate",
    unit="nats",
)
CAUSAL_OWN_CE_CI_HIGH = Metric(
    "causal/own_ce_ci_high",
    "CE rise on the own task, upper end",
    "Upper end of the 95 % interval of causal/own_ce: bootstrap over documents.",
    "causal.ablate",
    unit="nats",
)
CAUSAL_OTHERS_CE = Metric(
    "causal/others_ce",
    "CE rise on the other tasks",
    "CE rise a token on the other tasks, mean over them and over the ablated sets.",
    "causal.ablate",
    unit="nats",
)
CAUSAL_OWN_WORST = Metric(
    "causal/own_worst",
    "Own set hurts most",
    "Share of tasks whose CE no task's set raises more than their own.",
    "causal.ablate",
    unit="share",
)
CAUSAL_RATIO = Metric(
    "causal/ratio",
    "Causal ratio",
    "KL(untouched ‖ ablated) a token on the own task over the mean of the others, geometric mean over tasks; "
    "1e-7 nats are added to both.",
    "causal.ablate",
    null="causal/ratio_matched",
    low="causal/ratio_ci_low",
    high="causal/ratio_ci_high",
    shown=("sweep", "axes"),
)
CAUSAL_RATIO_CI_LOW = Metric(
    "causal/ratio_ci_low",
    "Causal ratio, lower end",
    "Lower end of the 95 % interval of causal/ratio: bootstrap over documents.",
    "causal.ablate",
)
CAUSAL_RATIO_CI_HIGH = Metric(
    "causal/ratio_ci_high",
    "Causal ratio, upper end",
    "Upper end of the 95 % interval of causal/ratio: bootstrap over documents.",
    "causal.ablate",
)
CAUSAL_RATIO_OVER_NORM = Metric(
    "causal/ratio_over_norm",
    "Causal ratio over removed norm",
    "causal/ratio divided by the same ratio of the removed squared norm; 1: a set matters on a task as much "
    "as it is active there.",
    "causal.ablate",
    chance="1",
)
CAUSAL_RATIO_MATCHED = Metric(
    "causal/ratio_matched",
    "Causal ratio of matched sets",
    "causal/ratio of random sets of the same density, activation mass and norm, geometric mean over draws.",
    "causal.ablate",
)
CAUSAL_EXCESS = Metric(
    "causal/excess",
    "Causal selectivity above matched sets",
    "causal/selectivity − its mean over the matched sets that are ablated.",
    "causal.ablate",
    short="Causal excess",
    chance="0",
    low="causal/excess_ci_low",
    high="causal/excess_ci_high",
    shown=("sweep", "axes"),
)
CAUSAL_EXCESS_CI_LOW = Metric(
    "causal/excess_ci_low",
    "Causal selectivity above matched sets, lower end",
    "Lower end of the 95 % interval of causal/excess: bootstrap over documents.",
    "causal.ablate",
)
CAUSAL_EXCESS_CI_HIGH = Metric(
    "causal/excess_ci_high",
    "Causal selectivity above matched sets, upper end",
    "Upper end of the 95 % interval of causal/excess: bootstrap over documents.",
    "causal.ablate",
)
CAUSAL_P = Metric(
    "causal/p",
    "Causal ratio, p",
    "(1 + matched draws whose KL ratio reaches that of the own sets)/(draws + 1), all measured alike.",
    "causal.ablate",
    direction="lower",
    draws="causal/draws",
)
CAUSAL_DRAWS = Metric(
    "causal/draws", "Matched draws", "Matched draws behind causal/p.", "causal.ablate", unit="count"
)
CAUSAL_SETS_ATTRIBUTION_R = Metric(
    "causal/sets_attribution_r",
    "Attribution of sets against ablation",
    "Spearman correlation of attributed effects with the KL of the ablated sets, the matched ones too, on "
    "every task.",
    "causal.ablate",
    direction="higher",
    chance="0",
)
CAUSAL_PER_FIRING = Metric(
    "causal/per_firing",
    "Causal selectivity per firing",
    "As causal/selectivity, the CE rise on each task divided by the set's firings there.",
    "causal.ablate",
    chance="0.5",
)
CAUSAL_PER_NORM = Metric(
    "causal/per_norm",
    "Causal selectivity per norm",
    "As causal/selectivity, the CE rise on each task divided by the squared norm removed there.",
    "causal.ablate",
    chance="0.5",
)

# Effects of every latent, from gradients (causal=attribute, causal=ablate)

CAUSAL_SI_RANK_CORR = Metric(
    "causal/si_rank_corr",
    "SI against causal SI",
    "Spearman correlation over latents of SI on one half of the documents and causal SI on the other.",
    "causal.latents",
    direction="higher",
    chance="0",
    low="causal/si_rank_corr_ci_low",
    high="causal/si_rank_corr_ci_high",
)
CAUSAL_SI_RANK_CORR_CI_LOW = Metric(
    "causal/si_rank_corr_ci_low",
    "SI against causal SI, lower end",
    "Lower end of the 95 % interval of causal/si_rank_corr: bootstrap over documents, recentred.",
    "causal.latents",
)
CAUSAL_SI_RANK_CORR_CI_HIGH = Metric(
    "causal/si_rank_corr_ci_high",
    "SI against causal SI, upper end",
    "Upper end of the 95 % interval of causal/si_rank_corr: bootstrap over documents, recentred.",
    "causal.latents",
)
CAUSAL_SI_RANK_CORR_GIVEN_FIRING = Metric(
    "causal/si_rank_corr_given_firing",
    "SI against causal SI, firing set aside",
    "Partial Spearman correlation of the same two, given the index of firing on the tokens of causal SI.",
    "causal.latents",
    direction="higher",
    chance="0",
)
CAUSAL_BEYOND_RANK_CORR = Metric(
    "causal/beyond_rank_corr",
    "SI beyond words against causal SI",
    "Spearman correlation over latents of SI given the token id, of all documents, and causal SI.",
    "causal.latents",
    direction="higher",
    chance="0",
)
CAUSAL_SCORED = Metric(
    "causal/scored",
    "Latents with a causal SI",
    "Supported latents with at least 20 firings in at least 5 documents of the attributed tokens.",
    "causal.latents",
    unit="count",
)
CAUSAL_ATTRIBUTION_R = Metric(
    "causal/attribution_r",
    "Attribution against ablation",
    "Spearman correlation of attributed effects with the KL of 64 random latents taken out one at a time.",
    "causal.latents",
    direction="higher",
    chance="0",
)
CAUSAL_ATTRIBUTION_RATIO = Metric(
    "causal/attribution_ratio",
    "True effect over attributed",
    "Median over the same latents of the KL when taken out over the attributed effect.",
    "causal.latents",
)
CAUSAL_ATTRIBUTION_RATIO_HIGH = Metric(
    "causal/attribution_ratio_high",
    "True effect over attributed, 95 % quantile",
    "95 % quantile of the same ratio: how much too small the attribution can be.",
    "causal.latents",
)

# Communities of latents taken out whole (causal=ablate)


def _modules(start: str, group: str, title: str, graph: str) -> tuple[Metric, ...]:
    """The metrics of the communities of one graph."""
    entries: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
        (
            "selectivity",
            "selectivity",
            "KL on the own task over the sum of that and the mean KL on the others when one of the 8 largest "
            f"communities of {graph} is taken out, mean over these.",
            {
                "direction": "higher",
                "chance": "0.5 for sets without a task",
            },
        ),
        (
            "excess",
            "selectivity above random sets",
            f"causal/{start}_selectivity above that of random sets of like size, firings, mass and norm.",
            {
                "direction": "higher",
                "chance": "0",
                "low": f"causal/{start}_excess_ci_low",
                "high": f"causal/{start}_excess_ci_high",
            },
        ),
        (
            "excess_ci_low",
            "excess, lower end",
            f"Lower end of the 95 % interval of causal/{start}_excess.",
            {},
        ),
        (
            "excess_ci_high",
            "excess, upper end",
            f"Upper end of the 95 % interval of causal/{start}_excess.",
            {},
        ),
        (
            "excess_decoder",
            "selectivity above like decoder rows",
            f"causal/{start}_selectivity above that of sets of the same sizes by k-means on decoder rows.",
            {"direction": "higher", "chance": "0"},
        ),
        (
            "p",
            "p among random sets",
            "(1 + draws whose selectivity by attribution reaches that of the modules)/101, of 100 draws.",
            {"draws": 100},
        ),
        (
            "synergy",
            "synergy",
            "KL of the modules over the sum of the KL of their members one by one; above 1: more together.",
            {"direction": "none", "chance": "1 where members do not meet"},
        ),
        (
            "attribution_r",
            "attribution against ablation",
            "Spearman correlation of attributed effects with the KL of these sets on every task.",
            {"direction": "higher", "chance": "0"},
        ),
    )
    return tuple(
        Metric(f"causal/{start}_{name}", f"{title}, {label}", sentence, group, **more)
        for name, label, sentence, more in entries
    )


CAUSAL_MODULES = _modules("module", "causal.module", "Communities", "the graph")
CAUSAL_MODULES_WITHIN_TOKEN = _modules(
    "module_within_token", "causal.within", "Communities within token", "the graph within token ids"
)

# The latents of a task at several hookpoints taken out together (causal.layers)

CAUSAL_LAYERS_SELECTIVITY = Metric(
    "causal/layers_selectivity",
    "Causal selectivity of all layers",
    "As causal/selectivity, the task's latents at the job's hookpoint and at those of causal.layers ablated "
    "together.",
    "causal.layers",
    direction="higher",
    chance="0.5",
    low="causal/layers_selectivity_ci_low",
    high="causal/layers_selectivity_ci_high",
)
CAUSAL_LAYERS_SELECTIVITY_CI_LOW = Metric(
    "causal/layers_selectivity_ci_low",
    "Causal selectivity of all layers, lower end",
    "Lower end of the 95 % interval of causal/layers_selectivity: bootstrap over documents.",
    "causal.layers",
)
CAUSAL_LAYERS_SELECTIVITY_CI_HIGH = Metric(
    "causal/layers_selectivity_ci_high",
    "Causal selectivity of all layers, upper end",
    "Upper end of the 95 % interval of causal/layers_selectivity: bootstrap over documents.",
    "causal.layers",
)
CAUSAL_LAYERS_SELECTIVITY_ALONE = Metric(
    "causal/layers_selectivity_alone",
    "Causal selectivity of one layer",
    "The same of each of these hookpoints ablated alone, mean over them.",
    "causal.layers",
    chance="0.5",
)
CAUSAL_LAYERS_OWN_CE = Metric(
    "causal/layers_own_ce",
    "CE rise on the own task, all layers",
    "As causal/own_ce, all layers together.",
    "causal.layers",
    unit="nats",
    null="causal/layers_others_ce",
)
CAUSAL_LAYERS_OTHERS_CE = Metric(
    "causal/layers_others_ce",
    "CE rise on other tasks, all layers",
    "As causal/others_ce, all layers together.",
    "causal.layers",
    unit="nats",
)
CAUSAL_LAYERS_OWN_WORST = Metric(
    "causal/layers_own_worst",
    "Tasks hurt most by their own latents, all layers",
    "As causal/own_worst, all layers together.",
    "causal.layers",
    unit="share",
)
CAUSAL_LAYERS_RATIO = Metric(
    "causal/layers_ratio",
    "KL ratio of all layers",
    "As causal/ratio, all layers together.",
    "causal.layers",
    null="causal/layers_ratio_matched",
)
CAUSAL_LAYERS_RATIO_MATCHED = Metric(
    "causal/layers_ratio_matched",
    "KL ratio of matched sets, all layers",
    "The same of random sets of the same density, activation mass and norm at every one of the layers, "
    "geometric mean over draws.",
    "causal.layers",
)
CAUSAL_LAYERS_EXCESS = Metric(
    "causal/layers_excess",
    "Causal selectivity of all layers above matched sets",
    "causal/layers_selectivity − its mean over matched sets at every one of the layers.",
    "causal.layers",
    direction="higher",
    chance="0",
)
CAUSAL_LAYERS_ADDITIVITY = Metric(
    "causal/layers_additivity",
    "How far layers add up",
    "KL on the own task, all layers together, over the sum of that of each layer alone, summed over tasks; "
    "1: they add up, 1/layers: they do the same, above 1: one makes up for another.",
    "causal.layers",
    null="causal/layers_additivity_matched",
    low="causal/layers_additivity_ci_low",
    high="causal/layers_additivity_ci_high",
)
CAUSAL_LAYERS_ADDITIVITY_CI_LOW = Metric(
    "causal/layers_additivity_ci_low",
    "How far layers add up, lower end",
    "Lower end of the 95 % interval of causal/layers_additivity: bootstrap over documents.",
    "causal.layers",
)
CAUSAL_LAYERS_ADDITIVITY_CI_HIGH = Metric(
    "causal/layers_additivity_ci_high",
    "How far layers add up, upper end",
    "Upper end of the 95 % interval of causal/layers_additivity: bootstrap over documents.",
    "causal.layers",
)
CAUSAL_LAYERS_ADDITIVITY_OTHERS = Metric(
    "causal/layers_additivity_others",
    "How far layers add up on other tasks",
    "As causal/layers_additivity, of the mean KL on the other tasks.",
    "causal.layers",
)
CAUSAL_LAYERS_ADDITIVITY_CE = Metric(
    "causal/layers_additivity_ce",
    "How far layers add up, of CE",
    "As causal/layers_additivity, of the CE rise on the own task.",
    "causal.layers",
)
CAUSAL_LAYERS_ADDITIVITY_MATCHED = Metric(
    "causal/layers_additivity_matched",
    "How far matched sets of layers add up",
    "As causal/layers_additivity, of the matched sets.",
    "causal.layers",
)

# What the job cost

COST_WALL_S = Metric("cost/wall_s", "Time", "Wall time of the job after its checks.", "cost", unit="s")
COST_TOKENS = Metric(
    "cost/tokens", "Counted tokens", "Tokens that count, over all tasks.", "cost", unit="count"
)
COST_TOKENS_PER_S = Metric(
    "cost/tokens_per_s",
    "Tokens/s",
    "Counted tokens per second of extraction.",
    "cost",
    unit="tokens/s",
    direction="higher",
    shown=("terminal",),
)
COST_PEAK_MEM_MB = Metric(
    "cost/peak_mem_mb", "Peak memory", "Largest memory of the device, or of the process on a CPU.", "cost",
    unit="MB", direction="lower",
)  # fmt: skip


def _defined(values: object) -> Iterator[Metric]:
    if isinstance(values, Metric):
        yield values
    elif isinstance(values, tuple):
        for value in values:
            yield from _defined(value)


CATALOGUE: tuple[Metric, ...] = tuple(
    metric for value in tuple(globals().values()) for metric in _defined(value)
)
"""Every metric, in the order above."""
_BY_KEY = {metric.key: metric for metric in CATALOGUE}


def metric(key: str) -> Metric | None:
    """The metric of a key (`task/code/fvu` too); None for a key that is not in the catalogue."""
    group, _, rest = key.partition("/")
    if group == "task" and "/" in rest:
        key = f"task/{_TASK}/{rest.rpartition('/')[2]}"
    return _BY_KEY.get(key)


def at_floor(p: Any, draws: int) -> Any:
    """Whether a permutation p-value is the smallest that its draws allow.

    p is (1 + draws that reach the observed)/(draws + 1).
    `p`: a number or an array of numbers, NaN is not at the floor. With more draws such a p could be smaller,
    so it is an upper bound and printed as `p ≤ 1/(draws + 1)`.
    """
    return p * (draws + 1) < 1.5


def in_group(group: str) -> tuple[Metric, ...]:
    """The metrics of a group and of its parts: `dynk` has those of `dynk.sae` too."""
    return tuple(entry for entry in CATALOGUE if f"{entry.group}.".startswith(f"{group}."))


def keys(group: str) -> tuple[str, ...]:
    """The keys of the metrics of a group."""
    return tuple(entry.key for entry in in_group(group))


_LEADING = (
    "si/mutual_info", "si/lexical_share", "si/beyond_token_mean", "si/beyond_bigram_mean",
    "causal/ratio", "causal/ratio_over_norm", "causal/ratio_matched",
    "q/within_token", "q/lexical", "q/word_share",
)  # fmt: skip
"""What tells a trained SAE from a control best comes first: what a firing tells of its task, how much of it
is vocabulary, then context, then what the latents do to the model, then modularity beyond words."""


def shown(place: Place) -> tuple[Metric, ...]:
    """The metrics shown in a place: those of `_LEADING` first, naive ones last, else as in the catalogue."""
    rank = {key: at for at, key in enumerate(_LEADING)}
    entries = [entry for entry in CATALOGUE if place in entry.shown]
    return tuple(sorted(entries, key=lambda entry: (entry.naive, rank.get(entry.key, len(rank)))))
