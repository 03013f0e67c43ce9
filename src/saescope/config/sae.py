"""Config group `sae`: one class for each source an SAE can come from."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from saescope.config.check import at_least, is_seed, one_of
from saescope.config.recipe import Recipe
from saescope.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class HubSae:
    """`sae=hub`: a Hub repository or folder, in sparsify layout or another that docs/saes.md lists."""

    source: Literal["hub"] = "hub"
    """Names this class."""

    repo: str | None = None
    """Hub id, `owner/name/folder` inside a Hub repository, local folder or file; null: the model's
    `sae_repo`."""

    revision: str | None = None
    """Branch, tag or commit of the SAE repository."""

    k: int | None = None
    """Active latents per token; null: as trained."""

    expansion_factor: int | None = None
    """num_latents / d_in; only checked against the SAE's own."""

    num_latents: int | None = None
    """Number of latents; only checked against the SAE's own."""

    def __post_init__(self) -> None:
        _check_sizes(self.k, self.expansion_factor, self.num_latents)


@dataclass(frozen=True, kw_only=True)
class SaeLensSae:
    """`sae=saelens`: an SAE that sae_lens reads."""

    source: Literal["saelens"] = "saelens"
    """Names this class."""

    release: str
    """A release of sae_lens, a Hub id in its layout, or a folder (also of formats that `sae=hub` reads)."""

    id: str | None = None
    """The SAE in the release; below a folder, the subfolder."""

    k: int | None = None
    """Active latents per token; null: as trained."""

    expansion_factor: int | None = None
    """num_latents / d_in; only checked against the SAE's own."""

    num_latents: int | None = None
    """Number of latents; only checked against the SAE's own."""

    def __post_init__(self) -> None:
        if not self.release:
            raise ConfigError(
                "sae=saelens needs sae.release, such as sae.release=gpt2-small-res-jb "
                "sae.id=blocks.8.hook_resid_pre, or a folder"
            )
        _check_sizes(self.k, self.expansion_factor, self.num_latents)


@dataclass(frozen=True, kw_only=True)
class TrainSae(Recipe):
    """`sae=train`: an SAE trained by this job, with a recipe."""

    prefix: ClassVar[str] = "sae."

    source: Literal["train"] = "train"
    """Names this class."""

    expansion_factor: int | None = 8
    """num_latents / d_in."""

    num_latents: int | None = None
    """Number of latents; overrides `expansion_factor`."""

    finetune: str | None = None
    """Hub id or folder of an SAE to start from, which decides the number of latents."""

    revision: str | None = None
    """Branch, tag or commit of the repository `finetune`."""

    data_seed: int = 0
    """Seed of the order of training rows."""

    tokens: int = 1_000_000
    """Training tokens."""

    batch_tokens: int = 8192
    """Tokens per step."""

    encoder_dtype: str = "auto"
    """Precision of the encoder product: `auto` (bfloat16 where the language model runs in it), `float32` or
    `bfloat16`; weights, activations and gradients are float32."""

    save_every: int = 200
    """Steps between checkpoints."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_sizes(self.k, self.expansion_factor, self.num_latents)
        if self.finetune is None:
            self.check_new()
            _needs_width("train", self.expansion_factor, self.num_latents)
            if self.revision is not None:
                raise ConfigError(f"sae.revision={self.revision} is that of sae.finetune; give it too")
        is_seed("sae.data_seed", self.data_seed)
        for key in ("tokens", "batch_tokens", "save_every"):
            at_least(f"sae.{key}", getattr(self, key), 1)
        one_of("sae.encoder_dtype", self.encoder_dtype, ("auto", "float32", "bfloat16"))


@dataclass(frozen=True, kw_only=True)
class NeuronSae:
    """`sae=neurons`, a control: the hookpoint's own basis, TopK by magnitude."""

    source: Literal["neurons"] = "neurons"
    """Names this class."""

    k: int = 32
    """Active neurons per token."""

    def __post_init__(self) -> None:
        at_least("sae.k", self.k, 1)


@dataclass(frozen=True, kw_only=True)
class RandomSae:
    """`sae=random`, a control: an untrained SparseCoder."""

    source: Literal["random"] = "random"
    """Names this class."""

    k: int = 32
    """Active latents per token."""

    expansion_factor: int | None = 8
    """num_latents / d_in."""

    num_latents: int | None = None
    """Number of latents; overrides `expansion_factor`."""

    init_seed: int = 0
    """Seed of the untrained weights."""

    def __post_init__(self) -> None:
        _check_sizes(self.k, self.expansion_factor, self.num_latents)
        _needs_width("random", self.expansion_factor, self.num_latents)
        is_seed("sae.init_seed", self.init_seed)


@dataclass(frozen=True, kw_only=True)
class PcaSae:
    """`sae=pca`, a control: principal components of the activations of training text, both signs of each."""

    source: Literal["pca"] = "pca"
    """Names this class."""

    k: int = 32
    """Active latents per token."""

    tokens: int = 1_000_000
    """Training tokens of mean and covariance."""

    def __post_init__(self) -> None:
        at_least("sae.k", self.k, 1)
        at_least("sae.tokens", self.tokens, 1)


@dataclass(frozen=True, kw_only=True)
class DirectionsSae:
    """`sae=directions`, a control: random unit directions around the mean activation of training text."""

    source: Literal["directions"] = "directions"
    """Names this class."""

    k: int = 32
    """Active latents per token."""

    expansion_factor: int | None = 8
    """num_latents / d_in."""

    num_latents: int | None = None
    """Number of latents; overrides `expansion_factor`."""

    init_seed: int = 0
    """Seed of the directions."""

    tokens: int = 1_000_000
    """Training tokens of the mean."""

    def __post_init__(self) -> None:
        _check_sizes(self.k, self.expansion_factor, self.num_latents)
        _needs_width("directions", self.expansion_factor, self.num_latents)
        is_seed("sae.init_seed", self.init_seed)
        at_least("sae.tokens", self.tokens, 1)


@dataclass(frozen=True, kw_only=True)
class PythonSae:
    """`sae=python`: an object that the user's own Python code creates."""

    source: Literal["python"] = "python"
    """Names this class."""

    target: str
    """`my.module:make`, a function (or class) that returns an object with `encode` and `decode`."""

    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the target."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w+(\.\w+)*:\w+(\.\w+)*", self.target):
            raise ConfigError(
                f"sae.target={self.target} is no place in Python code: give MODULE:FUNCTION, "
                "such as sae.target=my.module:make"
            )


SaeConfig = HubSae | SaeLensSae | TrainSae | NeuronSae | RandomSae | PcaSae | DirectionsSae | PythonSae
"""Where the sparse autoencoder comes from; `source` tells them apart."""


def _check_sizes(k: int | None, expansion_factor: int | None, num_latents: int | None) -> None:
    at_least("sae.k", k, 1)
    at_least("sae.expansion_factor", expansion_factor, 1)
    at_least("sae.num_latents", num_latents, 1)


def _needs_width(source: str, expansion_factor: int | None, num_latents: int | None) -> None:
    if expansion_factor is None and num_latents is None:
        raise ConfigError(f"sae={source} needs a width; set sae.expansion_factor=8 or sae.num_latents=4096")
