"""One model shape, hookpoint and SAE with random weights, and four ways to get its feature statistics."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from saescope.activations import ActivationStore, LiveWindows
from saescope.analysis.features import supported
from saescope.config import HookpointConfig, RuntimeConfig
from saescope.config.corpus import CorpusConfig
from saescope.config.model import ModelConfig
from saescope.extraction.engine import Engine
from saescope.extraction.setup import Setup
from saescope.model.capture import Capture
from saescope.model.hookpoints import resolve
from saescope.model.load import LanguageModel, load_tokenizer
from saescope.runtime.hardware import Hardware
from saescope.sae.coder import CoderSae, SparseCoder, SparseCoderConfig
from saescope.text.token_rows import token_rows
from saescope.text.windows import Windows, batches

CTX, K, TASKS = 256, 32, 6


@dataclass(frozen=True)
class Shape:
    """A GPT-NeoX model by its sizes, and the block whose output is read."""

    width: int
    blocks: int
    heads: int
    layer: int
    vocabulary: int = 50304

    @property
    def config(self) -> GPTNeoXConfig:
        return GPTNeoXConfig(
            vocab_size=self.vocabulary, hidden_size=self.width, intermediate_size=4 * self.width,
            num_hidden_layers=self.blocks, num_attention_heads=self.heads, max_position_embeddings=2048,
        )  # fmt: skip


PYTHIA = {
    "70m": Shape(512, 6, 8, 3),
    "160m": Shape(768, 12, 12, 6),
    "410m": Shape(1024, 24, 16, 6),
    "1.4b": Shape(2048, 24, 16, 12),
    "6.9b": Shape(4096, 32, 32, 16),
}
TINY = Shape(32, 3, 2, 1)


def random_coder(width: int, latents: int) -> SparseCoder:
    torch.manual_seed(1)
    return SparseCoder(width, SparseCoderConfig(num_latents=latents, k=K)).requires_grad_(False)


def packed_windows(rows: np.ndarray) -> Windows:
    """Full contexts, one document a row, documents dealt to the tasks in turn."""
    counted = np.ones(rows.shape[1], dtype=bool)
    counted[0] = False
    docs = np.arange(len(rows))
    return Windows(
        list(rows.astype(np.int32)), [counted] * len(rows), docs, np.zeros_like(docs), docs % TASKS,
        tuple(f"task{t}" for t in range(TASKS)), 0, {},
    )  # fmt: skip


@lru_cache(maxsize=1)
def random_model(shape: Shape, dtype: torch.dtype, device: str) -> GPTNeoXForCausalLM:
    """The same weights each time; settings that differ in their tokens share them."""
    with torch.device(device):
        torch.manual_seed(0)
        return GPTNeoXForCausalLM(shape.config).to(dtype).eval().requires_grad_(False)


class Setting:
    """`dtype` is that of the language model and the encoder product; contexts are full, nothing is padded."""

    def __init__(
        self,
        shape: Shape,
        expansion: int,
        dtype: torch.dtype,
        tokens: int,
        batch_tokens: int,
        device: str = "cpu",
    ) -> None:
        self.shape, self.dtype, self.device, self.batch_tokens = shape, dtype, device, batch_tokens
        self.latents = expansion * shape.width
        self.model = random_model(shape, dtype, device)
        self.hookpoint = resolve(HookpointConfig("resid", layer=shape.layer), self.model)
        self.capture = Capture(self.model, self.hookpoint)
        corpus = CorpusConfig("embedded", ctx_len=CTX, holdout_tokens=CTX)
        wanted = max(tokens, CTX)
        found = token_rows(corpus, load_tokenizer(ModelConfig("embedded")), wanted, None).train
        self.windows = packed_windows(np.resize(found, (wanted // CTX, CTX)))
        self.sae = CoderSae(random_coder(shape.width, self.latents), dtype, {}).to(device)
        machine = Hardware(device, dtype, batch_tokens)
        source = LiveWindows(self.capture, self.windows, batch_tokens, device, shape.width)
        lm = LanguageModel(self.model, None, "random")
        store = ActivationStore("off", 0.0, self.model, dtype)
        setup = Setup(lm, self.hookpoint, self.windows, machine, store, RuntimeConfig(device))
        self.engine = Engine(setup, self.sae, source)
        self.batches = [
            b.input_ids_BT.to(device) for b in batches(self.windows, self.windows.doc_W, batch_tokens)
        ]

    @property
    def tokens(self) -> int:
        return len(self.windows.ids) * CTX

    def saescope(self) -> Any:
        """Capture, codes, reconstruction sums and the statistics of every latent."""
        codes, sums = self.engine.extract()
        live = supported(codes.count_F, codes.docs_F)
        self._wait()
        return codes.count_F, codes.mean_act_F, codes.max_act_F, live, sums

    def activations(self, ids_BT: Tensor) -> Tensor:
        with torch.inference_mode():
            return self.capture(ids_BT).flatten(0, 1)

    @torch.inference_mode()
    def floor(self) -> None:
        """The language model up to the hookpoint and the encoder product, nothing else."""
        weight = self.sae.coder.encoder.weight
        size = 2048 if self.device == "cpu" else self.batch_tokens
        out = torch.empty(size, self.latents, dtype=self.dtype, device=self.device)
        for ids_BT in self.batches:
            for rows in self.activations(ids_BT).split(size):
                torch.mm(rows, weight.T, out=out[: len(rows)])
        self._wait()

    def recipe(self) -> Any:
        """What notebooks do: all hidden states of the whole model, sparsify's `encode`, a dense matrix."""
        coder = self.sae.coder
        count = torch.zeros(TASKS, self.latents, device=self.device)
        total, largest = torch.zeros(2, self.latents, device=self.device)
        task_W = torch.from_numpy(self.windows.task_W)
        at = 0
        with torch.no_grad():
            for ids_BT in self.batches:
                hidden = self.model(ids_BT, output_hidden_states=True).hidden_states
                found = coder.encode(
                    hidden[self.shape.layer + 1].flatten(0, 1).to(coder.encoder.weight.dtype)
                )
                acts_NF = torch.zeros(ids_BT.numel(), self.latents, device=self.device)
                acts_NF.scatter_(1, found.top_indices, found.top_acts.float())
                task_N = task_W[at : at + len(ids_BT)].repeat_interleave(CTX).to(self.device)
                for task in range(TASKS):
                    count[task] += (acts_NF[task_N == task] > 0).sum(0)
                total += acts_NF.sum(0)
                largest = torch.maximum(largest, acts_NF.amax(0))
                at += len(ids_BT)
        self._wait()
        return count, total, largest

    @cached_property
    def _lens(self) -> tuple[Any, Any]:
        from sae_lens import TopKSAE, TopKSAEConfig
        from transformer_lens import HookedTransformer, HookedTransformerConfig
        from transformer_lens.pretrained.weight_conversions import convert_neox_weights

        shape, cfg = self.shape, self.shape.config
        head = shape.width // shape.heads
        lens = HookedTransformer(
            HookedTransformerConfig(
                n_layers=shape.blocks, d_model=shape.width, n_heads=shape.heads, d_head=head,
                d_mlp=4 * shape.width, n_ctx=2048, d_vocab=shape.vocabulary, act_fn="gelu",
                eps=cfg.layer_norm_eps, parallel_attn_mlp=True, positional_embedding_type="rotary",
                rotary_adjacent_pairs=False, rotary_dim=head // 4, normalization_type="LN",
                default_prepend_bos=False, dtype=self.dtype, device=self.device,
            )
        )  # fmt: skip
        lens.load_state_dict(convert_neox_weights(self.model, lens.cfg), strict=False)
        name = str(self.dtype).removeprefix("torch.")
        sae = TopKSAE(
            TopKSAEConfig(d_in=shape.width, d_sae=self.latents, k=K, dtype=name, device=self.device)
        )
        coder = self.sae.coder
        with torch.no_grad():
            sae.W_enc.copy_(coder.encoder.weight.T)
            sae.b_enc.copy_(coder.encoder.bias)
            sae.W_dec.copy_(coder.W_dec)
            sae.b_dec.copy_(coder.b_dec)
        return lens.eval().requires_grad_(False), sae.requires_grad_(False)

    def saelens(self) -> Tensor | None:
        """TransformerLens up to the hookpoint and sae_lens' `encode`; no statistics are made of it."""
        lens, sae = self._lens
        name, acts = f"blocks.{self.shape.layer}.hook_resid_post", None
        with torch.no_grad():
            for ids_BT in self.batches:
                _, cache = lens.run_with_cache(ids_BT, stop_at_layer=self.shape.layer + 1, names_filter=name)
                acts = sae.encode(cache[name].flatten(0, 1))
        self._wait()
        return acts

    def check(self) -> None:
        """All sides see the same activations, and fire the same latents."""
        ids = self.batches[-1]
        x = self.activations(ids)
        hidden = self.model(ids, output_hidden_states=True).hidden_states[self.shape.layer + 1].flatten(0, 1)
        assert torch.equal(x, hidden)
        dense = torch.zeros(len(x), self.latents, device=self.device)
        codes = self.sae.encode(x)
        rows = torch.arange(len(x), device=self.device).repeat_interleave(codes.sizes_N)
        dense[rows, codes.latents] = codes.acts
        lens = self.saelens()
        assert lens is not None
        same = ((lens > 0) == (dense > 0)).float().mean().item()
        assert same > 1 - 1e-3, f"sae_lens fires other latents: {1 - same:.2%}"

    def _wait(self) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize()
