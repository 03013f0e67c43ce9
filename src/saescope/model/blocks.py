"""The blocks of a language model, and where in a block each position of the residual stream is read.

With i the block, the model computes (sequential; parallel residual has no resid_mid)

    resid_mid  = resid_pre + attn_out
    resid_post = resid_mid + mlp_out

`attn_out` and `mlp_out` are what is added to the stream, as in TransformerLens: Gemma 2 and 3, OLMo 2 and 3
and others norm the output of attention and MLP before it is added, so there they are outputs of those norms,
not of the modules. Where a position lies is told by the names of a block's parts; whether it does is proved
on the loaded model (`proof.py`).
"""

import inspect
from dataclasses import dataclass
from typing import Any

from torch import nn

from saescope.errors import HookpointError, ModelError, choices

SUBLAYERS = {
    "mlp": ("mlp", "feed_forward", "ffn", "block_sparse_moe", "moe", "mlp_block", "shared_mlp"),
    "attention": ("attention", "self_attn", "attn", "self_attention", "linear_attn", "multi_head_attention"),
}
"""Kind → names of the module in a block, in the models that transformers has."""
SPLIT_MLP = ("fc1", "fc2")
"""Up- and down-projection that lie in the block itself: the MLP of OPT, XGLM and BioGPT."""
LAST_PROJECTION = {
    "mlp": ("down_proj", "c_proj", "dense_4h_to_h", "fc_out", "fc2", "w2"),
    "attention": ("o_proj", "c_proj", "dense", "out_proj"),
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

PARALLEL = ("use_parallel_residual", "parallel_attn")
"""Settings of a config that make attention and MLP both read the block's input."""
AFTER_MLP = ("post_feedforward_layernorm", "post_mlp_layernorm", "post_ffn_norm", "post_norm2")
AFTER_ATTENTION = ("post_self_attn_layernorm", "post_operator_norm", "post_norm1")
BEFORE_MLP = (
    "pre_feedforward_layernorm",
    "pre_mlp_layernorm",
    "pre_ff_layernorm",
    "feedforward_layernorm",
    "ffn_norm",
    "mlp_norm",
    "channel_pre_norm",
    "norm_2",
    "layernorm2",
    "ln_2",
    "ln2",
    "final_layer_norm",
)
"""Names of norms that have one meaning in every block. `post_attention_layernorm` has two: see `_norms`."""


@dataclass(frozen=True)
class Norms:
    """The norms of a block around its MLP and after its attention; None where there is none."""

    before_mlp: str | None
    """Norm between the stream and the MLP: its input is resid_mid."""

    after_attention: str | None
    """Norm between attention and the stream."""

    after_mlp: str | None
    """Norm between the MLP and the stream."""


def _norms(children: list[str]) -> Norms:
    """The norms among the parts of a block."""

    def first_of(names: tuple[str, ...]) -> str | None:
        return next((name for name in names if name in children), None)

    both = "post_attention_layernorm" if "post_attention_layernorm" in children else None
    before_mlp, after_attention = first_of(BEFORE_MLP), first_of(AFTER_ATTENTION)
    after_mlp = first_of(AFTER_MLP)
    # after attention where the MLP's output is normed too (Gemma 2, OLMo 2), else before the MLP (Llama)
    if before_mlp is None and (after_mlp is None or after_attention is not None):
        before_mlp = both
    elif after_mlp is not None and after_attention is None:
        after_attention = both
    return Norms(before_mlp, after_attention, after_mlp)


def text_config(config: Any) -> Any:
    """The config of the language model: of a composite model the part for text.

    Raises ModelError where a config has several such parts.
    """
    if not hasattr(config, "get_text_config"):
        return config
    try:
        return config.get_text_config(decoder=True)
    except ValueError as error:
        raise ModelError(
            f"the config of type '{config.model_type}' has several text models; choose a model of one"
        ) from error


def embeddings(base: Any) -> nn.Module:
    """The module that embeds the tokens."""
    try:
        module: nn.Module = base.get_input_embeddings()
    except NotImplementedError:  # decoders cut out of encoder-decoder models
        module = next(m for m in base.modules() if isinstance(m, nn.Embedding))
    return module


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
        self.config: Any = text_config(getattr(base, "config", None))
        # a decoder cut out of an encoder-decoder model keeps both depths in its config
        num_layers = getattr(self.config, "decoder_layers", None) or getattr(
            self.config, "num_hidden_layers", None
        )
        lists = [(name, m) for name, m in base.named_modules() if isinstance(m, nn.ModuleList)]
        of_that_length = [(name, m) for name, m in lists if len(m) == num_layers]
        # a vision tower may be as deep as the text model
        of_text = [(name, m) for name, m in of_that_length if self._is_text(base, name)]
        blocks = next(iter(of_text or of_that_length), None)
        if blocks is None:
            raise HookpointError(
                f"{type(base).__name__} has no list of {num_layers} blocks; "
                f"its lists: {choices(f'{name} ({len(m)})' for name, m in lists) or 'none'}"
            )
        self.prefix: str = blocks[0]
        self.modules: nn.ModuleList = blocks[1]

    def _is_text(self, base: nn.Module, name: str) -> bool:
        """Whether the nearest module around `name` that has a config has the text model's."""
        while name:
            name = name.rpartition(".")[0]
            config = getattr(base.get_submodule(name), "config", None)
            if config is not None:
                text_type = getattr(self.config, "model_type", None)
                return config is self.config or getattr(config, "model_type", None) == text_type
        return False

    def __len__(self) -> int:
        return len(self.modules)

    def name(self, layer: int) -> str:
        """Module name of a block."""
        return f"{self.prefix}.{layer}"

    def holds(self, name: str) -> bool:
        """Whether the module of this name is a block or lies in one."""
        return name.startswith(self.prefix + ".")

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
                return Place(f"{block}.{self._writer(layer, position)}", "output", position)
            case "mlp_in":
                return Place(self.mlp_reader(layer), "input", "custom")
        norms = _norms(self._children(layer))
        match position:
            case "resid_mid":
                self._writer(layer, "mlp")  # where there is no MLP, nothing lies before it
                if self.is_parallel(layer):
                    raise HookpointError(
                        f"{block} has no resid_mid: attention and MLP of this model both read the block's "
                        f"input (parallel residual); choose blocks.{layer}.hook_resid_pre or "
                        f"blocks.{layer}.hook_resid_post"
                    )
                return Place(f"{block}.{norms.before_mlp or self._sublayer(layer, 'mlp')}", "input", "resid")
            case "attn_out":
                part = norms.after_attention or self._writer(layer, "attention")
                return Place(f"{block}.{part}", "output", "attention")
            case "mlp_out":
                return Place(f"{block}.{norms.after_mlp or self._writer(layer, 'mlp')}", "output", "mlp")
            case "attn_z":
                return Place(f"{block}.{self._last_projection(layer, 'attention')}", "input", "custom")
            case "mlp_norm_in":
                before = f"{block}.{norms.before_mlp}" if norms.before_mlp else self.mlp_reader(layer)
                return Place(before, "input", "custom" if self.is_parallel(layer) else "resid")
            case "mlp_post":
                return Place(f"{block}.{self._last_projection(layer, 'mlp')}", "input", "custom")
            case other:
                raise AssertionError(f"{other} is no position")

    def embedding(self) -> Place:
        """The token embeddings, scaled where the model scales them; positions are not in them."""
        tokens = embeddings(self.base)
        return Place(next(n for n, m in self.base.named_modules() if m is tokens), "output", "custom")

    def is_parallel(self, layer: int) -> bool:
        """Whether attention and MLP of the block both read its input, so that it has no resid_mid."""
        norms = _norms(self._children(layer))
        # OLMo 2 has no norm before the MLP, and one behind it
        normed = norms.before_mlp or norms.after_mlp
        return normed is None or any(getattr(self.config, flag, False) for flag in PARALLEL)

    def places(self, layer: int) -> dict[str, Place]:
        """Every position that block `layer` has."""
        places = {}
        for position in POSITIONS:
            try:
                places[position] = self.place(layer, position)
            except HookpointError:
                continue
        return places

    def mlp_reader(self, layer: int) -> str:
        """Name of the module that is given what the MLP reads. Raises HookpointError where there is none."""
        if set(SPLIT_MLP) <= set(self._children(layer)):
            return f"{self.name(layer)}.{SPLIT_MLP[0]}"
        return f"{self.name(layer)}.{self._sublayer(layer, 'mlp')}"

    def _writer(self, layer: int, kind: str) -> str:
        """Name, in the block, of the module whose output is what MLP or attention computes.

        A module that is given the residual adds it itself (BLOOM, MPT); there it is the last projection.
        Raises HookpointError where the block has none.
        """
        if kind == "mlp" and set(SPLIT_MLP) <= set(self._children(layer)):
            return SPLIT_MLP[1]
        part = self._sublayer(layer, kind)
        adds_residual = "residual" in inspect.signature(self._part(layer, part).forward).parameters
        return self._last_projection(layer, kind) if adds_residual else part

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
        if kind == "mlp" and set(SPLIT_MLP) <= set(self._children(layer)):
            return SPLIT_MLP[1]
        part = self._sublayer(layer, kind)
        module = self._part(layer, part)
        if kind == "attention" and isinstance(getattr(module, "attention", None), nn.Module):
            part += ".attention"  # GPT-Neo wraps its attention
            module = self._part(layer, part)
        children = [child for child, _ in module.named_children()]
        names = [child for child in LAST_PROJECTION[kind] if child in children]
        if not names:
            raise HookpointError(
                f"{self.name(layer)}.{part} has no known last projection; its parts are {choices(children)}"
            )
        return f"{part}.{names[0]}"

    def _part(self, layer: int, part: str) -> nn.Module:
        module: nn.Module = self.modules[layer].get_submodule(part)
        return module

    def _children(self, layer: int) -> list[str]:
        return [child for child, _ in self.modules[layer].named_children()]
