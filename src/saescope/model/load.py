"""The language model and its tokenizer: from the package, a folder, the Hub, or with random weights."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
)
from transformers.utils import logging as hf_logging

from saescope.config import ModelConfig
from saescope.errors import ConfigError, ModelError, choices, library_words
from saescope.model.blocks import text_config

log = logging.getLogger(__name__)

EMBEDDED = Path(__file__).parents[1] / "assets" / "model"


@dataclass(frozen=True)
class LanguageModel:
    """A frozen causal language model with its tokenizer."""

    model: Any
    """`transformers.PreTrainedModel`, in eval mode, no gradients."""

    tokenizer: Any
    """`transformers.PreTrainedTokenizerBase`."""

    name: str
    """`embedded`, or the folder or Hub id it was loaded from."""

    @property
    def num_parameters(self) -> int:
        """All weights, embeddings included, tied ones once."""
        return sum(p.numel() for p in self.model.parameters())


def location(cfg: ModelConfig) -> str:
    """Folder or Hub id behind `model.name`. Raises ModelError for a path that does not exist."""
    if cfg.name == "embedded":
        return str(EMBEDDED)
    path = Path(cfg.name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(
                f"folder {path} holds no model: config.json is missing (a Hugging Face folder is needed)"
            )
        return str(path)
    if cfg.name.startswith(("/", ".", "~")):
        raise ModelError(f"model folder {cfg.name} does not exist; give a Hugging Face folder or a Hub id")
    return cfg.repo


def load_skeleton(cfg: ModelConfig) -> Any:
    """The model's modules without weights (meta device): enough to resolve a hookpoint in a moment."""
    with torch.device("meta"):
        return _build(cfg)


def load_tokenizer(cfg: ModelConfig) -> Any:
    """The model's fast tokenizer. Raises ModelError when it cannot be had."""
    where = location(cfg)
    try:
        return AutoTokenizer.from_pretrained(
            where, revision=cfg.revision or "main", trust_remote_code=cfg.trust_remote_code
        )
    except Exception as error:  # a broken tokenizer.json raises nearly anything
        raise ModelError(f"cannot load the tokenizer of '{where}': {library_words(error)}") from error


def load_model(cfg: ModelConfig, dtype: torch.dtype, seed: int) -> LanguageModel:
    """Load weights (or draw them, `random_init`) in `dtype`, frozen.

    Raises ModelError when the model cannot be had.
    """
    tokenizer = load_tokenizer(cfg)
    where = location(cfg)
    if cfg.random_init:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = _build(cfg).to(dtype)
    else:
        model = _pretrained(cfg, where, dtype)
    model.eval()
    model.requires_grad_(False)
    loaded = LanguageModel(model, tokenizer, cfg.name if cfg.name == "embedded" else where)
    log.info(
        "model %s: %s, %.1f M parameters%s",
        loaded.name,
        type(model).__name__,
        loaded.num_parameters / 1e6,
        ", weights at random" if cfg.random_init else "",
    )
    return loaded


def _pretrained(cfg: ModelConfig, where: str, dtype: torch.dtype) -> Any:
    """The model with its weights; transformers fills weights that are missing with random numbers."""
    auto_class = _auto_class(_config(cfg))
    try:
        loaded: Any = auto_class.from_pretrained(
            where,
            revision=cfg.revision or "main",
            dtype=dtype,
            trust_remote_code=cfg.trust_remote_code,
            output_loading_info=True,
        )
    except Exception as error:  # a damaged file raises nearly anything
        raise ModelError(f"cannot load the weights of '{where}': {library_words(error)}") from error
    model, info = loaded
    if missing := sorted(info["missing_keys"]):
        raise ModelError(
            f"the weights of '{where}' lack {choices(missing, 4)}; download or save the model again"
        )
    return model


def _build(cfg: ModelConfig) -> Any:
    """The model as its config says, without weights from a file."""
    config = _config(cfg)
    try:
        return _auto_class(config).from_config(config, trust_remote_code=cfg.trust_remote_code)
    except Exception as error:  # sizes that do not go together, and architectures that are no causal LM
        raise ModelError(
            f"the config of '{location(cfg)}' gives no causal language model: {library_words(error)}"
        ) from error


def _auto_class(config: Any) -> Any:
    """What loads the model: models of text and images (Mistral 3, Qwen-VL) are run on text alone."""
    only_with_images = (
        type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
        and type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING
    )
    return AutoModelForImageTextToText if only_with_images else AutoModelForCausalLM


def _config(cfg: ModelConfig) -> Any:
    """The model's config. Raises ModelError when it cannot be had."""
    where = location(cfg)
    try:
        return AutoConfig.from_pretrained(
            where, revision=cfg.revision or "main", trust_remote_code=cfg.trust_remote_code
        )
    except Exception as error:  # values of a wrong type raise nearly anything
        raise ModelError(
            f"cannot load model '{where}': {library_words(error)} "
            "Give a Hub id (model=pythia-70m), or a folder: model=local model.name=FOLDER"
        ) from error


def check_context(model_config: Any, setting: str, tokens: int, remedy: str | None = None) -> None:
    """Raises ConfigError where `setting`, a text of `tokens` tokens, is longer than the model's context.

    A model whose config names no limit takes any length.
    """
    config = text_config(model_config)
    limits = (getattr(config, key, None) for key in ("max_position_embeddings", "max_seq_len"))
    limit = next((value for value in limits if value is not None), None)
    if limit is not None and tokens > limit:
        raise ConfigError(
            f"{setting} exceeds the model's context of {limit} tokens; {remedy or f'choose {limit} or less'}"
        )


def quiet_transformers() -> None:
    """Keep transformers' own bars and advice out of our output; errors still come through."""
    hf_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    hf_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
