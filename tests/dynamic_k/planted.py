"""Networks whose structure is known: one block, no attention, one MLP written by hand."""

import numpy as np
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from saescope.dynamic_k.mlps import find_mlps
from saescope.dynamic_k.neurons import study
from saescope.dynamic_k.passes import Passes, split
from saescope.model.load import LanguageModel
from saescope.text.windows import Windows


def bare(vocab: int, width: int, d_ff: int) -> GPTNeoXForCausalLM:
    """One block whose attention writes nothing, weights to be filled in."""
    config = GPTNeoXConfig(
        vocab_size=vocab,
        hidden_size=width,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=d_ff,
        max_position_embeddings=64,
        use_parallel_residual=True,
    )
    model = GPTNeoXForCausalLM(config).eval().requires_grad_(False)
    attention = model.gpt_neox.layers[0].attention.dense
    attention.weight.zero_()
    attention.bias.zero_()
    return model


def grouped(groups: int, tokens: int, neurons: int, shared: bool = True, seed: int = 0) -> LanguageModel:
    """Tokens follow each other in a circle within their group; only the group's neurons know who is next.

    All of a group's neurons are active on each of its tokens and exactly 0 elsewhere; the prediction needs
    every one of them. Not `shared`: each token has a neuron of its own.
    """
    vocab, d_ff = groups * tokens, groups * neurons
    model = bare(vocab, 2 * vocab, d_ff)
    model.gpt_neox.embed_in.weight.zero_()
    model.gpt_neox.embed_in.weight[:, :vocab] = torch.eye(vocab)
    mlp = model.gpt_neox.layers[0].mlp
    normed = model.gpt_neox.layers[0].post_attention_layernorm(model.gpt_neox.embed_in.weight)
    noise = torch.Generator().manual_seed(seed)
    mlp.dense_h_to_4h.weight.zero_()
    mlp.dense_h_to_4h.bias.fill_(-20.0)  # GELU(−20) is exactly 0
    for group in range(groups):
        mine, own = slice(group * tokens, (group + 1) * tokens), slice(group * neurons, (group + 1) * neurons)
        wanted = 26 + 6 * torch.rand(neurons, tokens, generator=noise)
        if not shared:
            wanted = wanted * torch.eye(tokens)
        mlp.dense_h_to_4h.weight[own, mine] = wanted / normed.max()
    acts = torch.nn.functional.gelu(mlp.dense_h_to_4h(normed))
    mlp.dense_4h_to_h.weight.zero_()
    mlp.dense_4h_to_h.bias.zero_()
    for group in range(groups):
        mine, own = slice(group * tokens, (group + 1) * tokens), slice(group * neurons, (group + 1) * neurons)
        target = 10 * torch.roll(torch.eye(tokens), 1, dims=1)
        rows = slice(vocab + group * tokens, vocab + (group + 1) * tokens)
        mlp.dense_4h_to_h.weight[rows, own] = (torch.linalg.pinv(acts[mine, own]) @ target).T
    model.get_output_embeddings().weight.zero_()
    model.get_output_embeddings().weight[:, vocab:] = 3 * torch.eye(vocab)
    return LanguageModel(model, None, "planted")


def unstructured(vocab: int = 4096, width: int = 64, seed: int = 0) -> LanguageModel:
    """As many neurons as dimensions, reading orthogonal directions of random embeddings: all independent.

    Few tokens would not do: those two neurons share by chance are the same in all documents, and count
    as structure (eta 0.2 with 128 tokens).
    """
    model = bare(vocab, width, width)
    noise = torch.Generator().manual_seed(seed)
    model.gpt_neox.embed_in.weight.copy_(torch.randn(vocab, width, generator=noise))
    mlp = model.gpt_neox.layers[0].mlp
    for linear, scale in ((mlp.dense_h_to_4h, 1.0), (mlp.dense_4h_to_h, 3.0)):
        q, _ = torch.linalg.qr(torch.randn(width, width, generator=noise))
        linear.weight.copy_(scale * q)
        linear.bias.zero_()
    model.get_output_embeddings().weight.copy_(torch.randn(vocab, width, generator=noise) * 0.3)
    return LanguageModel(model, None, "unstructured")


def windows(documents: list[np.ndarray], task_D: list[int], tasks: tuple[str, ...]) -> Windows:
    """One window per document, the first position not counted."""
    return Windows(
        [ids.astype(np.int32) for ids in documents],
        [np.arange(len(ids)) > 0 for ids in documents],
        np.arange(len(documents)),
        np.zeros(len(documents), dtype=np.int64),
        np.array(task_D, dtype=np.int64),
        tasks,
        0,
        {},
    )


def circles(groups_of_task: list[list[int]], tokens: int, documents: int, length=24, seed=0) -> Windows:
    """Documents that walk the circle of one group of their task."""
    rng = np.random.default_rng(seed)
    texts, labels = [], []
    for task, groups in enumerate(groups_of_task):
        for at in range(documents):
            start = rng.integers(tokens)
            texts.append(groups[at // 2 % len(groups)] * tokens + (start + np.arange(length)) % tokens)
            labels.append(task)
    return windows(texts, labels, tuple(f"task{t}" for t in range(len(groups_of_task))))


def own_texts(lm: LanguageModel, documents: int, length=48, seed=0) -> Windows:
    """Texts the model itself draws, so that no change to it can help; two tasks that differ in name only."""
    rng = np.random.default_rng(seed)
    vocab = lm.model.config.vocab_size
    with torch.inference_mode():
        logits = lm.model(input_ids=torch.arange(vocab)[:, None]).logits[:, 0].double()
    cumulative = torch.softmax(logits, -1).cumsum(-1).numpy()
    texts = np.empty((2 * documents, length), dtype=np.int64)
    texts[:, 0] = rng.integers(0, vocab, 2 * documents)
    for at in range(1, length):
        drawn = rng.random(2 * documents)[:, None]
        texts[:, at] = (cumulative[texts[:, at - 1]] < drawn).sum(1).clip(max=vocab - 1)
    return windows(list(texts), [0] * documents + [1] * documents, ("one", "two"))


def studied(lm, token_windows, k, tokens=1200):
    """Neurons studied on calibration documents, evaluation passes, calibration tokens per document."""
    calibration, evaluation = (
        Passes(lm.model, token_windows, order, 256, "cpu") for order in split(token_windows, tokens, tokens)
    )
    return study(find_mlps(lm.model), calibration, k, seed=0), evaluation, calibration.tokens_D
