"""What each word on the page means: one formula and one sentence each."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Definition:
    """A term, its formula, and a sentence of explanation."""

    term: str
    formula: str
    text: str


DEFINITIONS = (
    Definition(
        "Active",
        "activation > 0 after the SAE's own TopK or ReLU",
        "Padding, special tokens and the first positions of a window are not counted.",
    ),
    Definition(
        "SI",
        "SI = 1 − H(q) / ln K,  q(t) = r(t) / Σ r,  r(t) = c(t) / T(t)",
        "c(t): tokens of task t on which the latent is active, T(t): tokens of task t, K: tasks; "
        "q is shrunk towards uniform (James–Stein). Rates, not counts, so larger tasks do not win.",
    ),
    Definition(
        "Supported",
        "activations ≥ min_count and documents ≥ min_docs",
        "Rare latents score a high SI by accident; only supported ones are averaged.",
    ),
    Definition(
        "SI null",
        "task labels permuted over documents",
        "Tokens of one document stay together, so a bursty latent is not mistaken for a specialised one. "
        "p a latent, then Benjamini–Hochberg.",
    ),
    Definition(
        "Validated edge",
        "joint count above the hypergeometric null at the edge FDR, over all pairs; weight = PMI > 0",
        "PMI = ln( c(a,b) · N / (c(a) · c(b)) ). Checked on firing randomised in two ways: "
        "both margins kept, and token blocks permuted.",
    ),
    Definition(
        "Q",
        "Q = Σ_c [ L(c) / m − ( d(c) / 2m )² ]",
        "L: edge weight inside community c, d: its total degree, m: all edge weight. Best of several Leiden "
        "runs; the null rewires the graph, keeping every degree.",
    ),
    Definition(
        "Q within tasks",
        "E(a,b) = Σ_t a(t) · b(t) / T(t)",
        "The same graph and Q, with the expected joint count taken task by task.",
    ),
    Definition(
        "Q within tokens",
        "E(a,b) = Σ_w a(w) · b(w) / N(w)",
        "The same with the expected joint count taken token id by token id: edges between latents that fire "
        "together on the same word more often than each does on its own. Plain communities are, in the main, "
        "groups of words.",
    ),
    Definition(
        "FVU, CE score",
        "FVU = Σ‖x − x̂‖² / Σ‖x − x̄‖²;  score = (CE_zero − CE_spliced) / (CE_zero − CE)",
        "Explained variance is 1 − FVU. CE is the language model's loss in nats a token.",
    ),
)
