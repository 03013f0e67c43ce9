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
FEATURES = "features.parquet"
EDGES = "edges.parquet"
EDGES_WITHIN_TOKEN = "edges_within_token.parquet"
"""Edges that token ids do not explain."""
EXAMPLES = "examples.parquet"
HISTORY = "history.csv"
"""Training curves."""
DYNAMIC_K = "dynamic_k.csv"
STRUCTURE = "dynamic_k_structure.json"
"""Tables with their words: task masks, blocks and shared sets under dynamic k."""
REPORT = "report.html"
FIGURES = "figures"
SAE = "sae"
"""Folder of the trained SAE, one folder a hookpoint below it."""
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
SWEEP_CSV = "sweep.csv"
SWEEP_PARQUET = "sweep.parquet"
SWEEP_HTML = "sweep.html"
SYNC = "sync.sh"
OVERLAP_CSV = "overlap.csv"
OVERLAP_JSON = "overlap.json"
"""The tables of the overlap with their words, for the sweep page."""
OUTCOMES = ".outcomes"
"""What the jobs of a command did, while the command runs: a folder a command, a file a job."""
WORKSPACE = "wandb_workspace.json"
MATCHED = ".matched.json"
"""Numbers at matched firing counts and matched latents, valid while their tables are unchanged."""

TABLES = {
    "features": FEATURES,
    "edges": EDGES,
    "edges_within_token": EDGES_WITHIN_TOKEN,
    "examples": EXAMPLES,
    "history": HISTORY,
    "dynamic_k": DYNAMIC_K,
}
"""Tables of a run folder by the name `Run` gives them."""
