"""The `dynk/*` keys that every run has. Free of torch."""

MLP_METRICS = (
    "k_at_ppl_1pct",
    "k_at_ppl_5pct",
    "k",
    "ce_delta",
    "kl",
    "random_ce_delta",
    "static_ce_delta",
    "task_ce_delta",
    "flops_saved_at_ppl_1pct",
    "speedup_at_ppl_1pct",
)
SAE_METRICS = (
    "sae_k",
    "sae_fvu",
    "sae_ce_delta",
    "sae_kl",
    "sae_k_at_ppl_1pct",
    "sae_k_at_ppl_5pct",
    "sae_threshold_gain",
    "sae_top_p_gain",
    "sae_rel_max_gain",
)
TRANSFER_METRICS = (
    "transfer_gain",
    "transfer_gain_lo",
    "transfer_gain_hi",
    "transfer_p",
    "transfer_null_mean",
    "transfer_over_generic",
    "transfer_si_gain",
)
ETA_METRICS = ("eta", "eta_lo", "eta_hi", "eta_p", "eta_kmeans")
BLOCK_METRICS = (*ETA_METRICS, "neuron_modularity")
UNION_METRICS = tuple(
    f"union_{kind}_{size}"
    for size in (8, 64)
    for kind in ("same_task", "same_community", "mixed", "independent")
)
STRUCTURE_METRICS = (*TRANSFER_METRICS, *BLOCK_METRICS, *UNION_METRICS)
METRICS = tuple(f"dynk/{name}" for name in (*MLP_METRICS, *SAE_METRICS, *STRUCTURE_METRICS))
