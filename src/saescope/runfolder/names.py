"""Every file and folder name of a run folder and of a sweep folder, written down once.

Names below `RUN` are relative to a run folder (one job), those below `SWEEP` to a sweep folder.
"""

# RUN
STATUS = "status.json"
"""How far the run got, notes on null metrics, warnings. Written last."""
METRICS = "metrics.json"
CONFIG = "config.yaml"
"""The resolved configuration."""
PROVENANCE = "provenance.json"
"""Model, hookpoint, SAE and texts as resolved, versions."""
TRACKING = "tracking.json"
HISTOGRAMS = "histograms.json"
MATCHED = "matched.json"
"""SI and Q at standard amounts of evidence, from which a sweep takes what all its jobs have."""
FEATURES = "features.parquet"
EDGES = "edges.parquet"
BESIDE = "beside_controls.json"
"""Sentences on the result beside the controls of its sweep: written by the sweep, shown on the run page."""
EDGES_WITHIN_TOKEN = "edges_within_token.parquet"
"""Edges that token ids do not explain."""
EXAMPLES = "examples.parquet"
RESAMPLES = "resamples.parquet"
"""Metrics with the documents drawn anew, a row a draw: the same draws in jobs on the same documents."""
HISTORY = "history.csv"
"""Training curves."""
DYNAMIC_K = "dynamic_k.csv"
CAUSAL = "causal.parquet"
"""What ablating each task's latents does to every task."""
STRUCTURE = "dynamic_k_structure.json"
"""Tables with their words: task masks, blocks and shared sets under dynamic k."""
REPORT = "report.html"
LATENTS = "latents.npz"
"""Contexts, tokens and neighbours of every supported latent."""
FEATURES_PAGE = "features.html"
"""Every supported latent by address."""
FEATURES_SHARDS = "features"
"""Contexts and tokens of the latents that `features.html` has no room for, as scripts that it reads."""
FIGURES = "figures"
SAE = "sae"
"""Folder of the trained SAE, one folder a hookpoint below it."""
CAUSAL_MODULES = "causal_modules.parquet"
"""What taking communities of latents out whole does to every task."""
CAUSAL_LAYERS = "causal_layers.parquet"
"""What ablating the latents of each task at several hookpoints does to every task."""
TOGETHER = "together"
"""In its column `hookpoint`: all of them at once."""
PARTIAL = ".partial-{name}.npz"
"""Sums of a long pass, while the job runs."""
LOG = "saescope.log"
LOCK = ".lock"
"""Held while a process works in the run folder."""
HYDRA = ".hydra"
HYDRA_CONFIG = ".hydra/config.yaml"
HYDRA_SETTINGS = ".hydra/hydra.yaml"
OVERRIDES = ".hydra/overrides.yaml"
WANDB = "wandb"
"""Logs of W&B runs."""
ARTIFACTS = "artifacts"
"""W&B's staging of offline artifacts."""

# SWEEP
MULTIRUN = "multirun.yaml"
"""Hydra's record of the command of a sweep."""
SWEEP_CSV = "sweep.csv"
SWEEP_PARQUET = "sweep.parquet"
SWEEP_HTML = "sweep.html"
SWEEP_JSON = "sweep.json"
"""How many jobs the command had, and how many of them are left out: without a result, or not there."""
DIFFERENCES = "differences.csv"
"""Every difference between jobs, with an interval that holds for all of them at once."""
SYNC = "sync.sh"
SWEEP_LOCK = ".sweep.lock"
"""Held while a process writes the files of the sweep."""
OVERLAP_CSV = "overlap.csv"
OVERLAP_JSON = "overlap.json"
"""The tables of the overlap with their words, for the sweep page."""
OUTCOMES = ".outcomes"
"""What the jobs of a command did, while the command runs: a folder a command, a file a job."""
WORKSPACE = "wandb_workspace.json"
MATCHED_LATENTS_ONLY = ".matched.json"
"""Q at matched latents only, valid while the tables of the jobs are unchanged."""

TABLES = {
    "features": FEATURES,
    "edges": EDGES,
    "edges_within_token": EDGES_WITHIN_TOKEN,
    "examples": EXAMPLES,
    "resamples": RESAMPLES,
    "history": HISTORY,
    "dynamic_k": DYNAMIC_K,
    "causal": CAUSAL,
    "causal_modules": CAUSAL_MODULES,
    "causal_layers": CAUSAL_LAYERS,
}
"""Tables of a run folder by the name `Run` gives them."""
