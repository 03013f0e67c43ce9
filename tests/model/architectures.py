"""Architectures at a tiny size, with the modules where each position lies, by hand from their source.

`docs/models.md` has the same table for readers; `test_architectures.py` holds the two together.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
import transformers as hf

VOCABULARY = 97
LAYERS = 2
WIDTH = 32
SIZES = {
    "vocab_size": VOCABULARY, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 48, "max_position_embeddings": 64,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "sliding_window": 4,
}  # fmt: skip
"""Keys that configs share; each config takes those it has."""
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2,
           "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16, "n_group": 1, "topk_group": 1,
           "first_k_dense_replace": 1, "moe_num_experts": 4, "moe_k": 2}  # fmt: skip
LATENT_ATTENTION = {
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8,
    "head_dim": 8, "num_key_value_heads": 4,
}  # fmt: skip
LINEAR_ATTENTION = {
    "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8,
    "linear_value_head_dim": 8, "layer_types": ["linear_attention", "full_attention"],
}  # fmt: skip
VISION = {
    "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "intermediate_size": 48,
    "depth": LAYERS, "embed_dim": WIDTH, "num_heads": 4, "out_hidden_size": WIDTH, "image_size": 28,
    "patch_size": 14, "fullatt_block_indexes": [1], "num_position_embeddings": 16,
    "deepstack_visual_indexes": [0],
}  # fmt: skip
"""Vision towers as deep as the text model."""


@dataclass(frozen=True)
class Architecture:
    """One kind of model; modules are named within a block, `.input` is the module's input, None: refused."""

    model_type: str
    changed: dict[str, Any] = field(default_factory=dict)
    """Settings of its text config, beside those of `SIZES` it takes."""
    blocks: str = "layers"
    mlp: str | None = "mlp"
    attention: str | None = "self_attn"
    resid_mid: str | None = "post_attention_layernorm.input"
    mlp_out: str | None = "="
    """`=`: where `mlp` is."""
    attn_out: str | None = "="
    attn_z: str | None = "self_attn.o_proj.input"
    mlp_post: str | None = "mlp.down_proj.input"
    other_blocks: dict[int, dict[str, str | None]] = field(default_factory=dict)
    """Block → what is different there."""
    scale: float = 1.0
    """Factor of what is added to the stream."""
    adds_up: bool = True
    """Nothing but these two sums happens to the stream in a block."""
    note: str = ""

    @property
    def name(self) -> str:
        """For test ids and the docs."""
        return f"{self.model_type} ({self.note})" if self.note else self.model_type

    def places(self, layer: int) -> dict[str, str | None]:
        """Position → module in the model (with `.input`), None where the position is refused."""
        of = replace(self, **self.other_blocks.get(layer, {}))
        block = f"{self.blocks}.{layer}"
        inside = {
            "mlp": of.mlp,
            "attention": of.attention,
            "resid_mid": of.resid_mid,
            "mlp_out": of.mlp if of.mlp_out == "=" else of.mlp_out,
            "attn_out": of.attention if of.attn_out == "=" else of.attn_out,
            "attn_z": of.attn_z,
            "mlp_post": of.mlp_post,
        }
        return {
            "resid_pre": f"{block}.input",
            "resid_post": block,
            **{position: None if part is None else f"{block}.{part}" for position, part in inside.items()},
        }

    def build(self) -> Any:
        """The model with random weights, norms and biases too: a forgotten norm would show."""
        torch.manual_seed(len(self.model_type))
        model = self.auto_class.from_config(self.config()).eval().requires_grad_(False)
        generator = torch.Generator().manual_seed(1)
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
        return model

    @property
    def auto_class(self) -> Any:
        """What a user of transformers loads it with."""
        causal = hf.CONFIG_MAPPING[self.model_type] in hf.MODEL_FOR_CAUSAL_LM_MAPPING
        return hf.AutoModelForCausalLM if causal else hf.AutoModelForImageTextToText

    def config(self) -> Any:
        """Its config at this size."""
        default = hf.CONFIG_MAPPING[self.model_type]()
        text = default.get_text_config()
        settings = {key: value for key, value in SIZES.items() if key in text.to_dict()} | self.changed
        if text is default:
            return type(default)(**settings)
        vision = {key: v for key, v in VISION.items() if key in default.vision_config.to_dict()}
        return type(default)(text_config=settings, vision_config=vision)


_LLAMA = Architecture("llama")
_MIXTURE = replace(_LLAMA, changed=EXPERTS, mlp_post=None)
_PARALLEL = replace(_LLAMA, resid_mid=None)
_GPT2 = Architecture(
    "gpt2", blocks="h", attention="attn", resid_mid="ln_2.input", attn_z="attn.c_proj.input",
    mlp_post="mlp.c_proj.input", changed={"n_embd": WIDTH, "n_layer": LAYERS, "n_head": 4, "n_positions": 64},
)  # fmt: skip
_GPTJ = replace(
    _GPT2, model_type="gptj", changed=_GPT2.changed | {"rotary_dim": 8}, resid_mid=None,
    attn_z="attn.out_proj.input", mlp_post="mlp.fc_out.input",
)  # fmt: skip
_NEOX = Architecture(
    "gpt_neox", attention="attention", resid_mid=None, attn_z="attention.dense.input",
    mlp_post="mlp.dense_4h_to_h.input",
)  # fmt: skip
_FALCON = Architecture(
    "falcon", blocks="h", attention="self_attention", resid_mid=None, attn_z="self_attention.dense.input",
    mlp_post="mlp.dense_4h_to_h.input",
)  # fmt: skip
_BOTH_NORMED = {
    "attn_out": "post_attention_layernorm", "mlp_out": "post_feedforward_layernorm",
    "resid_mid": "pre_feedforward_layernorm.input",
}  # fmt: skip
_GEMMA2 = replace(
    _LLAMA, model_type="gemma2", changed={"query_pre_attn_scalar": 8}, **_BOTH_NORMED  # type: ignore[arg-type]
)  # fmt: skip
_OLMO2 = replace(
    _LLAMA, model_type="olmo2", **_BOTH_NORMED | {"resid_mid": "mlp.input"}  # type: ignore[arg-type]
)  # fmt: skip
_SPLIT = Architecture(
    "opt", blocks="decoder.layers", mlp="fc2", resid_mid="final_layer_norm.input", mlp_post=None,
    attn_z="self_attn.out_proj.input", changed={"ffn_dim": 48, "word_embed_proj_dim": WIDTH},
)  # fmt: skip
_LINEAR_FIRST = {0: {"attention": "linear_attn", "attn_z": "linear_attn.out_proj.input"}}
_QWEN3_5 = replace(_LLAMA, model_type="qwen3_5_text", changed=LINEAR_ATTENTION, other_blocks=_LINEAR_FIRST)
_NO_ATTENTION: dict[str, str | None] = {"attention": None, "attn_out": None, "attn_z": None}


def _like(base: Architecture, *model_types: str, **changed: Any) -> list[Architecture]:
    return [replace(base, model_type=model_type, **changed) for model_type in model_types]


ARCHITECTURES = [
    _GPT2,
    replace(
        _GPT2, model_type="gpt_neo", attn_z="attn.attention.out_proj.input",
        changed={"num_layers": LAYERS, "num_heads": 4, "attention_types": [[["global", "local"], 1]],
                 "window_size": 4},
    ),
    _NEOX,
    replace(
        _NEOX, changed={"use_parallel_residual": False}, resid_mid="post_attention_layernorm.input",
        note="sequential",
    ),
    _GPTJ,
    Architecture(
        "bloom", blocks="h", mlp="mlp.dense_4h_to_h", attention="self_attention.dense",
        attn_z="self_attention.dense.input", mlp_post="mlp.dense_4h_to_h.input",
        changed={"n_layer": LAYERS, "n_head": 4},
    ),
    Architecture(
        "mpt", blocks="blocks", mlp="ffn.down_proj", attention="attn", resid_mid="norm_2.input",
        attn_z="attn.out_proj.input", mlp_post="ffn.down_proj.input",
        changed={"d_model": WIDTH, "n_layers": LAYERS, "n_heads": 4, "max_seq_len": 64},
    ),
    _SPLIT,
    replace(
        _SPLIT, changed=_SPLIT.changed | {"do_layer_norm_before": False}, resid_mid=None, adds_up=False,
        note="350m, post-norm",
    ),
    _FALCON,
    replace(_FALCON, changed={"new_decoder_architecture": True, "num_kv_heads": 2}, note="40B"),
    replace(
        _FALCON, changed={"parallel_attn": False, "alibi": True}, resid_mid="post_attention_layernorm.input",
        note="RW",
    ),
    replace(
        _PARALLEL, model_type="phi", attn_z="self_attn.dense.input", mlp_post="mlp.fc2.input"
    ),
    *_like(_LLAMA, "phi3", "llama", "mistral", "ministral", "gemma", "olmo", "qwen2", "qwen3", "smollm3"),
    *_like(_LLAMA, "glm", "stablelm", "nemotron", "ernie4_5", "hunyuan_v1_dense"),
    replace(_LLAMA, model_type="starcoder2", mlp_post="mlp.c_proj.input"),
    replace(_PARALLEL, model_type="stablelm", changed={"use_parallel_residual": True}, note="parallel"),
    *_like(_PARALLEL, "cohere", "cohere2"),
    replace(_LLAMA, model_type="granite", changed={"residual_multiplier": 0.22}, scale=0.22),
    replace(_LLAMA, model_type="apertus", resid_mid="feedforward_layernorm.input"),
    replace(
        _LLAMA, model_type="glm4", attn_out="post_self_attn_layernorm", mlp_out="post_mlp_layernorm"
    ),
    _GEMMA2,
    replace(_GEMMA2, model_type="gemma3_text"),
    replace(_GEMMA2, model_type="gemma3", blocks="language_model.layers", note="with a vision tower"),
    replace(
        _GEMMA2, model_type="gemma4_text",
        changed={"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": VOCABULARY,
                 "global_head_dim": 8, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    replace(
        _GEMMA2, model_type="gemma4_text",
        changed={"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": VOCABULARY,
                 "global_head_dim": 8, "layer_types": ["sliding_attention", "full_attention"]},
        resid_mid=None, adds_up=False, note="E2B, E4B: per-layer inputs",
    ),
    replace(
        _GEMMA2, model_type="gemma4_text", mlp=None,
        changed={"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": VOCABULARY,
                 "global_head_dim": 8, "layer_types": ["sliding_attention", "full_attention"],
                 "enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 16},
        note="an MLP beside experts",
    ),
    _OLMO2,
    *_like(_OLMO2, "olmo3", "exaone4"),
    *_like(_MIXTURE, "mixtral", "olmoe", "qwen3_moe", "gpt_oss"),
    replace(_MIXTURE, model_type="qwen2_moe", changed=EXPERTS | {"decoder_sparse_step": 1}),
    replace(_MIXTURE, model_type="phimoe"),
    replace(_MIXTURE, model_type="glm4_moe", other_blocks={0: {"mlp_post": "mlp.down_proj.input"}}),
    replace(
        _MIXTURE, model_type="granitemoe", mlp="block_sparse_moe",
        changed=EXPERTS | {"residual_multiplier": 0.22}, scale=0.22,
    ),
    *_like(
        _MIXTURE, "deepseek_v2", "deepseek_v3", changed=EXPERTS | LATENT_ATTENTION,
        other_blocks={0: {"mlp_post": "mlp.down_proj.input"}},
    ),
    _QWEN3_5,
    *_like(_QWEN3_5, "qwen3_next", "qwen3_5_moe_text", changed=LINEAR_ATTENTION | EXPERTS, mlp_post=None),
    replace(_MIXTURE, model_type="llama4_text", blocks="model.layers", mlp="feed_forward"),
    replace(_QWEN3_5, model_type="qwen3_5", note="with a vision tower"),
    *_like(_LLAMA, "mistral3", "qwen3_vl", blocks="language_model.layers", note="with a vision tower"),
    *_like(
        _LLAMA, "qwen2_vl", "qwen2_5_vl", blocks="language_model.layers", note="with a vision tower",
        changed={"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}},
    ),
    replace(_GPT2, model_type="gpt_bigcode", attn_z="attn.c_proj.input"),
    replace(_GPTJ, model_type="codegen"),
    replace(
        _GPT2, model_type="openai-gpt", resid_mid=None, adds_up=False, note="post-norm",
    ),
    replace(
        _SPLIT, model_type="xglm", blocks="layers", mlp_post="fc2.input",
        changed={"d_model": WIDTH, "num_layers": LAYERS, "attention_heads": 4, "ffn_dim": 48},
    ),
    replace(_SPLIT, model_type="biogpt", blocks="layers", mlp_post="fc2.input", changed={}),
    replace(
        _LLAMA, model_type="modernbert-decoder", attention="attn", resid_mid="mlp_norm.input", attn_z=None,
        mlp_post=None,
    ),
    replace(
        _LLAMA, model_type="granitemoehybrid", mlp="shared_mlp", mlp_post=None, scale=0.22,
        changed={"num_local_experts": 0, "residual_multiplier": 0.22, "shared_intermediate_size": 48,
                 "layer_types": ["full_attention", "full_attention"], "mamba_n_heads": 4, "mamba_d_head": 16,
                 "mamba_d_state": 8},
        note="Granite 4 without experts",
    ),
    Architecture("mamba", mlp=None, resid_mid=None, mlp_post=None, **_NO_ATTENTION),  # type: ignore[arg-type]
    Architecture(
        "falcon_mamba", mlp=None, resid_mid=None, mlp_post=None, **_NO_ATTENTION  # type: ignore[arg-type]
    ),
    replace(
        _LLAMA, model_type="falcon_h1", mlp="feed_forward", resid_mid="pre_ff_layernorm.input",
        attention=None, attn_out=None, mlp_post="feed_forward.down_proj.input",
        changed={"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8},
        note="a Mamba beside attention",
    ),
    replace(
        _LLAMA, model_type="lfm2", mlp="feed_forward", resid_mid="ffn_norm.input",
        attn_z="self_attn.out_proj.input", mlp_post="feed_forward.w2.input",
        changed={"layer_types": ["conv", "full_attention"]}, other_blocks={0: _NO_ATTENTION},
    ),
    replace(
        _LLAMA, model_type="recurrent_gemma", mlp="mlp_block", resid_mid="channel_pre_norm.input",
        mlp_post="mlp_block.down_proj.input", **_NO_ATTENTION,  # type: ignore[arg-type]
    ),
    replace(_LLAMA, model_type="nanochat", mlp_post="mlp.fc2.input"),
    replace(
        _SPLIT, model_type="bart", resid_mid=None, adds_up=False, mlp_post="fc2.input", note="its decoder",
        changed={"d_model": WIDTH, "decoder_layers": LAYERS, "encoder_layers": 3, "decoder_ffn_dim": 48,
                 "decoder_attention_heads": 4},
    ),
]  # fmt: skip
"""Architectures with public SAEs, the most used ones, and one of each unusual wiring."""

COLUMNS = ("mlp", "attention", "resid_mid", "mlp_out", "attn_out", "attn_z", "mlp_post")


def modules_of(architecture: Architecture, position: str) -> list[str]:
    """Where a position lies in a block, the last block first; empty where no block has it."""
    found = []
    for layer in reversed(range(LAYERS)):
        place = architecture.places(layer)[position]
        if place is not None:
            found.append(place.removeprefix(f"{architecture.blocks}.{layer}."))
    return list(dict.fromkeys(found))


def docs_table() -> str:
    """The table of docs/models.md."""
    lines = [
        f"| architecture | blocks | {' | '.join(f'`{name}`' for name in COLUMNS)} |",
        "|---" * (2 + len(COLUMNS)) + "|",
    ]
    for architecture in sorted(ARCHITECTURES, key=lambda a: a.name):
        cells = [
            " or ".join(f"`{module}`" for module in modules_of(architecture, position)) or "–"
            for position in COLUMNS
        ]
        lines.append(f"| {architecture.name} | `{architecture.blocks}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def covered() -> dict[str, list[str]]:
    """Model type → the kinds of hookpoint that all its variants have, as in catalogue/architectures.yaml."""
    kinds = {"resid": "resid_post", "mlp": "mlp", "attention": "attention"}
    result: dict[str, list[str]] = {}
    for architecture in sorted(ARCHITECTURES, key=lambda a: a.model_type):
        has = [kind for kind, position in kinds.items() if modules_of(architecture, position)]
        before = result.get(architecture.model_type, has)
        result[architecture.model_type] = [kind for kind in before if kind in has]
    return result


REFUSED = {
    "bert": "is not causal", "roberta": "is not causal", "electra": "is not causal",
    "roformer": "is not causal", "xlm": "is not causal",
    "gemma3n_text": r"of shape \[4, 1, 2, 32\]",
    "deepseek_v4": r"of shape \[1, 2, 4, 32\]",
}  # fmt: skip
"""Model type → why its residual stream is refused: later tokens are seen, or there are several streams."""


def build_refused(model_type: str) -> Any:
    """A tiny model of one of `REFUSED`, its residual stream wide enough for the proof."""
    changed = {
        "gemma3n_text": {"num_kv_shared_layers": 0, "layer_types": ["sliding_attention", "full_attention"],
                         "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": VOCABULARY,
                         "laurel_rank": 8, "activation_sparsity_pattern": [0.0, 0.0]},
        "deepseek_v4": EXPERTS | {"q_lora_rank": 16, "head_dim": 16, "o_groups": 2, "o_lora_rank": 16},
        "electra": {"embedding_size": WIDTH}, "roformer": {"embedding_size": WIDTH},
        "xlm": {"emb_dim": WIDTH, "n_layers": LAYERS, "n_heads": 4},
    }.get(model_type, {})  # fmt: skip
    return Architecture(model_type, changed).build()
