"""The blocks of a language model, and where in a block each position of the residual stream is read.

With i the block, the model computes (sequential; parallel residual has no resid_mid)

    resid_mid  = resid_pre + attn_out
    resid_post = resid_mid + mlp_out

`attn_out` and `mlp_out` are what is added to the stream, as in TransformerLens: Gemma 2 and 3 norm the
output of attention and MLP before it is added, so there they are outputs of those norms, not of the modules.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn

from saescope.errors import HookpointError, choices

SUBLAYERS = {
    "mlp": ("mlp", "feed_forward", "ffn", "block_sparse_moe"),
    "attention": ("attention", "self_attn", "attn", "self_attention"),
}
"""Kind → names of the module in a block, in the models that transformers has."""
LAST_PROJECTION = {
    "mlp": ("down_proj", "c_proj", "dense_4h_to_h"),
    "attention": ("o_proj", "c_proj", "dense"),
}
"""Kind → names of the last projection in the module."""
POSITIONS = (
    "resid_pre",
    "resid_mid",
    "resid_post",
    "attention",
    "attn_out",
    "mlp",
    "mlp_out",
    "attn_z",
    "mlp_in",
    "mlp_post",
    "mlp_norm_in",
)
"""Places in a block, named as in TransformerLens; `attention` and `mlp` are sparsify's: a module as it is.
`mlp_in` is what the MLP reads, `mlp_norm_in` what the norm before it reads."""


@dataclass(frozen=True)
class Norms:
    """How the blocks of one model type are wired."""

    before_mlp: str
    """Norm between the stream and the MLP: its input is resid_mid."""

    after_attention: str | None = None
    """Norm between attention and the stream."""

    after_mlp: str | None = None
    """Norm between the MLP and the stream."""


_LLAMA = Norms("post_attention_layernorm")
_GEMMA2 = Norms("pre_feedforward_layernorm", "post_attention_layernorm", "post_feedforward_layernorm")
WIRING = {
    "gpt2": Norms("ln_2"),
    "gpt_neox": _LLAMA,
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "gemma": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma2": _GEMMA2,
    "gemma3_text": _GEMMA2,
}
"""`config.model_type` → its norms, read in the models' source. Types that are not listed have `resid_pre`,
`resid_post`, `attention` and `mlp` only."""


@dataclass(frozen=True)
class Place:
    """A module and the side of it that is read."""

    name: str
    """Module name relative to `model.base_model`."""

    side: str
    """`output` or `input`."""

    kind: str
    """`resid`, `mlp`, `attention` or `custom`."""


class Blocks:
    """The transformer blocks of a model (weights not needed)."""

    def __init__(self, base: Any) -> None:
        """Raises HookpointError when `base` has no list of blocks."""
        self.base = base
        config: Any = getattr(base, "config", None)
        self.config: Any = config.get_text_config() if hasattr(config, "get_text_config") else config
        num_layers = getattr(self.config, "num_hidden_layers", None)
        lists = [(name, m) for name, m in base.named_modules() if isinstance(m, nn.ModuleList)]
        blocks = next(((name, m) for name, m in lists if len(m) == num_layers), None)
        if blocks is None:
            raise HookpointError(
                f"{type(base).__name__} has no list of {num_layers} blocks; "
                f"its lists: {choices(f'{name} ({len(m)})' for name, m in lists) or 'none'}"
            )
        self.prefix: str = blocks[0]
        self.modules: nn.ModuleList = blocks[1]

    def __len__(self) -> int:
        return len(self.modules)

    def name(self, layer: int) -> str:
        """Module name of a block."""
        return f"{self.prefix}.{layer}"

    def place(self, layer: int, position: str) -> Place:
        """Where `position` is read in block `layer`.

        Raises HookpointError, saying why and what to use, for one this model does not have.
        """
        block = self.name(layer)
        match position:
            case "resid_pre":
                return Place(block, "input", "resid")
            case "resid_post":
                return Place(block, "output", "resid")
            case "mlp" | "attention":
                return Place(f"{block}.{self._sublayer(layer, position)}", "output", position)
            case "mlp_in":
                return Place(f"{block}.{self._sublayer(layer, 'mlp')}", "input", "custom")
        norms = self._wiring(layer, position)
        match position:
            case "resid_mid":
                if getattr(self.config, "use_parallel_residual", False):
                    raise HookpointError(
                        f"{block} has no resid_mid: attention and MLP of this model both read the block's "
                        f"input (parallel residual); choose blocks.{layer}.hook_resid_pre or "
                        f"blocks.{layer}.hook_resid_post"
                    )
                return Place(f"{block}.{norms.before_mlp}", "input", "resid")
            case "attn_out":
                part = norms.after_attention or self._sublayer(layer, "attention")
                return Place(f"{block}.{part}", "output", "attention")
            case "mlp_out":
                return Place(f"{block}.{norms.after_mlp or self._sublayer(layer, 'mlp')}", "output", "mlp")
            case "attn_z":
                return Place(f"{block}.{self._last_projection(layer, 'attention')}", "input", "custom")
            case "mlp_norm_in":
                parallel = getattr(self.config, "use_parallel_residual", False)
                return Place(f"{block}.{norms.before_mlp}", "input", "custom" if parallel else "resid")
            case "mlp_post":
                return Place(f"{block}.{self._last_projection(layer, 'mlp')}", "input", "custom")
            case other:
                raise AssertionError(f"{other} is no position")

    def embedding(self) -> Place:
        """The token embeddings, scaled where the model scales them; positions are not in them."""
        tokens = self.base.get_input_embeddings()
        return Place(next(n for n, m in self.base.named_modules() if m is tokens), "output", "custom")

    def places(self, layer: int) -> dict[str, Place]:
        """Every position that block `layer` has."""
        places = {}
        for position in POSITIONS:
            try:
                places[position] = self.place(layer, position)
            except HookpointError:
                continue
        return places

    def _wiring(self, layer: int, position: str) -> Norms:
        """The norms of this model type. Raises HookpointError for a type whose wiring is not recorded."""
        model_type = str(getattr(self.config, "model_type", "unknown"))
        if model_type not in WIRING:
            raise HookpointError(
                f"where {position} lies in a block of model type '{model_type}' is not known (known for: "
                f"{choices(WIRING)}); name a module instead: {self.name(layer)} has "
                f"{choices(self._children(layer))}"
            )
        return WIRING[model_type]

    def _sublayer(self, layer: int, kind: str) -> str:
        """Name, in the block, of its MLP or attention module. Raises HookpointError where it has none."""
        children = self._children(layer)
        names = [child for child in SUBLAYERS[kind] if child in children]
        if not names:
            raise HookpointError(
                f"block {self.name(layer)} has no {kind} module; its parts are {choices(children)}; "
                f"choose one with hookpoint=custom hookpoint.name={self.name(layer)}.PART"
            )
        return names[0]

    def _last_projection(self, layer: int, kind: str) -> str:
        """Name, in the block, of the last projection of its MLP or attention. Raises HookpointError."""
        part = self._sublayer(layer, kind)
        children = [child for child, _ in self.modules[layer].get_submodule(part).named_children()]
        names = [child for child in LAST_PROJECTION[kind] if child in children]
        if not names:
            raise HookpointError(
                f"{self.name(layer)}.{part} has no known last projection; its parts are {choices(children)}"
            )
        return f"{part}.{names[0]}"

    def _children(self, layer: int) -> list[str]:
        return [child for child, _ in self.modules[layer].named_children()]
