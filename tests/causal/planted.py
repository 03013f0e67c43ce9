"""Networks and texts in which it is known what a latent of the residual stream does to which task."""

import numpy as np
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from saescope.activations import ActivationStore
from saescope.config import (
    AppConfig,
    CorpusConfig,
    HookpointConfig,
    MetricsConfig,
    ModelConfig,
    NeuronSae,
    ProbesConfig,
    RuntimeConfig,
    TrackingConfig,
)
from saescope.extraction.engine import Engine
from saescope.extraction.setup import Setup
from saescope.model.hookpoints import resolve
from saescope.model.load import LanguageModel
from saescope.runtime.hardware import Hardware
from saescope.sae.base import Sae, SparseCodes, compress, weighted_rows
from saescope.text.windows import Windows
from tests.dynamic_k.planted import windows as windows_of

VOCAB, WIDTH = 32, 52
METRICS = MetricsConfig(permutations=99, bootstraps=40, null_tokens=0, min_count=20, min_docs=5)


class FixedLatents(Sae):
    """Latents whose codes are read off the token that is there: `acts_VF` of token v, any decoder."""

    def __init__(self, embedding_VD: Tensor, acts_VF: Tensor, rows_FD: Tensor) -> None:
        super().__init__()
        self.d_in, self.num_latents, self.k = rows_FD.shape[1], rows_FD.shape[0], None
        self.embedding_VD, self.acts_VF, self.rows_FD = embedding_VD, acts_VF, rows_FD

    def encode_rows(self, x_ND: Tensor) -> SparseCodes:
        token_N = torch.cdist(x_ND, self.embedding_VD).argmin(1)
        return compress(self.acts_VF[token_N], torch.arange(self.num_latents).expand(len(x_ND), -1))

    def decode(self, codes: SparseCodes) -> Tensor:
        return weighted_rows(codes, self.rows_FD)

    def provenance(self):
        return {"source": "planted"}


def model(seed: int = 0) -> LlamaForCausalLM:
    """Two blocks whose writes are zero: what leaves block 0 is the embedding, and the logits read it.

    Tokens 0 to 15 occur in the first task and predict through coordinates 32 to 39 alone, tokens 16 to 31 in
    the second through 40 to 47; 48 and 49 say which task it is, so that only its own tokens are predicted.
    Coordinates 0 to 31 are the token's own; no logit reads them.
    """
    torch.manual_seed(seed)
    network = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCAB, hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=8, bos_token_id=0, eos_token_id=0,
        )
    ).eval().requires_grad_(False)  # fmt: skip
    for layer in network.model.layers:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    embedding = network.get_input_embeddings().weight
    embedding.zero_()
    embedding[:, :VOCAB] = torch.eye(VOCAB)
    embedding[:16, 32:40] = torch.randn(16, 8)
    embedding[16:, 40:48] = torch.randn(16, 8)
    embedding[:16, 48] = embedding[16:, 49] = 1.0
    unembedding = network.get_output_embeddings().weight
    unembedding.zero_()
    unembedding[:16, 32:40] = torch.randn(16, 8)
    unembedding[16:, 40:48] = torch.randn(16, 8)
    unembedding[:16, 48] = unembedding[16:, 49] = 8.0
    return network


def texts(documents: int = 30, length: int = 24, mixed: bool = False, seed: int = 0) -> Windows:
    """Documents of two tasks: of the tokens of their task, or, if `mixed`, of all tokens alike."""
    rng = np.random.default_rng(seed)
    labels = [0] * documents + [1] * documents
    ids = [
        rng.integers(0, 32, length) if mixed else 16 * task + rng.integers(0, 16, length) for task in labels
    ]
    return windows_of(ids, labels, ("first", "second"))


def setup(network, token_windows, batch_tokens=512) -> Setup:
    return Setup(
        LanguageModel(network, None, "planted"),
        resolve(HookpointConfig("custom", name="layers.0"), network, quiet=True),
        token_windows,
        Hardware("cpu", torch.float32, batch_tokens),
        ActivationStore("off", 0, network, torch.float32),
        RuntimeConfig("cpu"),
    )


def codes_of(job: Setup, coder: Sae):
    with job.probe_activations() as source:
        return Engine(job, coder, source).extract()[0]


def config(causal) -> AppConfig:
    """Of a job on such a network; its model, SAE and probes are given by hand."""
    return AppConfig(
        model=ModelConfig("planted"),
        sae=NeuronSae(k=4),
        hookpoint=HookpointConfig("resid", layer=0),
        probes=ProbesConfig("embedded"),
        corpus=CorpusConfig("embedded"),
        metrics=METRICS,
        causal=causal,
        runtime=RuntimeConfig("cpu"),
        tracking=TrackingConfig("disabled"),
    )
