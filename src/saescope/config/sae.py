"""Config group `sae`."""

from dataclasses import dataclass

from saescope.config.check import at_least, is_seed, one_of
from saescope.errors import ConfigError

SOURCES = ("hub", "saelens", "train", "neurons", "random")


@dataclass(frozen=True)
class SaeConfig:
    """Where the sparse autoencoder comes from, and at which k it is read."""

    source: str
    """`hub` (Hub id or folder in sparsify layout), `saelens`, `train`, `neurons` or `random` (controls)."""

    repo: str | None = None
    """Hub id, `owner/name/folder` inside a Hub repository, or local folder; null: the model's `sae_repo`."""

    revision: str | None = None
    """Branch, tag or commit of the SAE repository."""

    release: str | None = None
    """`saelens`: a release of sae_lens, a Hub id in its layout, or a folder (also of dictionary_learning)."""

    id: str | None = None
    """`saelens`: the SAE in the release; below a folder, the subfolder."""

    k: int | None = None
    """Active latents per token; null: as trained."""

    expansion_factor: int | None = None
    """num_latents / d_in; for a pre-trained SAE only checked."""

    num_latents: int | None = None
    """Number of latents; for a pre-trained SAE only checked."""

    encoder_dtype: str = "auto"
    """`train`: precision of the encoder product: `auto` (bfloat16 where the language model runs in it),
    `float32` or `bfloat16`; weights, activations and gradients are float32."""

    init_seed: int = 0
    """Seed of untrained or initial weights."""

    data_seed: int = 0
    """`train`: seed of the order of training rows."""

    tokens: int = 1_000_000
    """`train`: training tokens."""

    batch_tokens: int = 8192
    """`train`: tokens per step."""

    optimizer: str = "signum"
    """`train`: `signum` (schedule-free), `adam` or `muon`."""

    lr: float | None = None
    """`train`: null: by the number of latents."""

    lr_warmup_steps: int = 1000
    """`train`: linear warm-up of `adam`, and of the vectors under `muon`."""

    auxk_alpha: float = 0.0
    """`train`: weight of the AuxK term."""

    dead_feature_threshold: int = 10_000_000
    """`train`: tokens without firing after which a latent is dead."""

    multi_topk: bool = False
    """`train`: add an eighth of the FVU at 4k latents."""

    activation: str = "topk"
    """`train`: `topk` or `groupmax`."""

    k_decay_steps: int = 0
    """`train`: steps over which k falls from 10 × d_in."""

    grad_acc_steps: int = 1
    """`train`: batches per optimiser step."""

    micro_acc_steps: int = 1
    """`train`: parts a batch is split into for forward and backward; less memory, the same gradient."""

    finetune: str | None = None
    """`train`: Hub id or folder of an SAE to start from."""

    save_every: int = 200
    """`train`: steps between checkpoints."""

    def __post_init__(self) -> None:
        one_of("sae.source", self.source, SOURCES)
        at_least("sae.k", self.k, 1)
        at_least("sae.expansion_factor", self.expansion_factor, 1)
        at_least("sae.num_latents", self.num_latents, 1)
        is_seed("sae.init_seed", self.init_seed)
        is_seed("sae.data_seed", self.data_seed)
        if self.source == "saelens":
            self._check_saelens()
        elif self.release or self.id:
            raise ConfigError(f"sae.release and sae.id need sae=saelens, not sae={self.source}")
        if self.source not in ("hub", "saelens") and self.k is None:
            raise ConfigError(f"sae={self.source} needs a k; set it on the command line: sae.k=32")
        no_width = self.expansion_factor is None and self.num_latents is None
        if self.source in ("random", "train") and no_width and self.finetune is None:
            raise ConfigError(
                f"sae={self.source} needs a width; set sae.expansion_factor=8 or sae.num_latents=4096"
            )
        if self.source == "train":
            one_of("sae.optimizer", self.optimizer, ("signum", "adam", "muon"))
            one_of("sae.activation", self.activation, ("topk", "groupmax"))
            one_of("sae.encoder_dtype", self.encoder_dtype, ("auto", "float32", "bfloat16"))
            for key in ("tokens", "batch_tokens", "save_every", "grad_acc_steps", "micro_acc_steps"):
                at_least(f"sae.{key}", getattr(self, key), 1)
            for key in ("auxk_alpha", "lr", "lr_warmup_steps", "k_decay_steps", "dead_feature_threshold"):
                at_least(f"sae.{key}", getattr(self, key), 0)

    def _check_saelens(self) -> None:
        if not self.release:
            raise ConfigError(
                "sae=saelens needs sae.release, such as sae.release=gpt2-small-res-jb "
                "sae.id=blocks.8.hook_resid_pre, or a folder"
            )
        if self.repo:
            raise ConfigError(
                f"sae.repo={self.repo} is for sae=hub; sae=saelens takes sae.release and sae.id"
            )
        if self.revision:
            raise ConfigError(
                "sae.revision is for sae=hub; sae_lens always reads the main branch of a release"
            )
