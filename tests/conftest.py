"""Shared fixtures: no network, no account, a tiny random model with a tokenizer, small probe folders."""

import json
import os
import sys
from pathlib import Path

os.environ.update(
    HF_HUB_OFFLINE="1",
    SPARSIFY_DISABLE_TRITON="1",
    WANDB_SILENT="true",
    TOKENIZERS_PARALLELISM="false",
)
for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_PROJECT", "WANDB_RUN_GROUP", "SAESCOPE_DEBUG"):
    os.environ.pop(name, None)

import numpy as np  # noqa: E402 - the environment comes first
import pytest  # noqa: E402

TASKS = ("letters", "numbers", "shouts")


@pytest.fixture(autouse=True)
def _own_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test in its own folder, W&B's folders included, its random numbers its own."""
    monkeypatch.chdir(tmp_path)
    if "torch" in sys.modules:  # else what ran before would decide a test's tensors
        sys.modules["torch"].manual_seed(0)
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb-home"))
    monkeypatch.delenv("WANDB_DATA_DIR", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


def probe_text(task: str, rng: np.random.Generator, words: int) -> str:
    """A text whose words belong to its task."""
    pools = {
        "letters": [f"{a}{b}{c}" for a in "bcd" for b in "aeiou" for c in "lmnrst"],
        "numbers": [str(n) for n in range(10, 99)],
        "shouts": [f"{a}{b}!" for a in "ABCDEFGHIJ" for b in "AEIOU"],
    }
    shared = ["and", "the", "of", "so", "then"]
    return " ".join(str(rng.choice(pools[task] if rng.random() < 0.7 else shared)) for _ in range(words))


def write_probes(folder: Path, documents: int = 30, words: int = 40, seed: int = 0) -> Path:
    """A folder of three tasks."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for task in TASKS:
        lines = [
            json.dumps({"text": probe_text(task, rng, int(rng.integers(words // 2, words * 2)))})
            for _ in range(documents)
        ]
        (folder / f"{task}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="session")
def probes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_probes(tmp_path_factory.mktemp("probes"))


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE tokenizer of 400 tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    rng = np.random.default_rng(1)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>"],
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator([probe_text(t, rng, 300) for t in TASKS for _ in range(5)], trainer)
    folder = tmp_path_factory.mktemp("tokenizer")
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|endoftext|>",
        bos_token="<|endoftext|>",
        unk_token="<|endoftext|>",
    )
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> Path:
    """A random GPT-NeoX of four layers, width 32, as an ordinary Hugging Face folder."""
    import shutil

    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=400,
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=128,
        bos_token_id=0,
        eos_token_id=0,
    )
    GPTNeoXForCausalLM(config).save_pretrained(folder)
    for file in tokenizer_folder.iterdir():
        shutil.copy(file, folder)
    return folder


@pytest.fixture(scope="session")
def sae_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained sparsify SAEs for layers.2 and layers.2.mlp of that model."""
    import torch

    from saescope.sae.coder import SparseCoder, SparseCoderConfig

    folder = tmp_path_factory.mktemp("saes")
    torch.manual_seed(1)
    for name in ("layers.2", "layers.2.mlp", "layers.1"):
        coder = SparseCoder(32, SparseCoderConfig(expansion_factor=8, k=8))
        torch.nn.init.normal_(coder.encoder.bias, std=0.02)
        torch.nn.init.normal_(coder.b_dec, std=0.02)
        coder.save_to_disk(folder / name)
    return folder
