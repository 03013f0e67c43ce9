"""Every position in every architecture, against plain forward hooks and by what must add up."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from saescope.catalogue.shapes import covered_kinds
from saescope.config import HookpointConfig
from saescope.errors import HookpointError, SaescopeError
from saescope.model.capture import Capture
from saescope.model.hookpoints import resolve
from saescope.model.losses import scored_logits
from saescope.model.proof import proved_width
from tests.model.architectures import (
    ARCHITECTURES,
    LAYERS,
    REFUSED,
    VOCABULARY,
    Architecture,
    build_refused,
    covered,
    docs_table,
)

KINDS = {"resid_post": "resid", "mlp": "mlp", "attention": "attention"}
LENS = {
    "resid_pre": "hook_resid_pre", "resid_mid": "hook_resid_mid", "mlp_out": "hook_mlp_out",
    "attn_out": "hook_attn_out", "attn_z": "attn.hook_z", "mlp_post": "mlp.hook_post",
}  # fmt: skip


def chosen(position: str, layer: int) -> HookpointConfig:
    if position in LENS:
        return HookpointConfig("custom", name=f"blocks.{layer}.{LENS[position]}")
    return HookpointConfig(KINDS[position], layer=layer)


@cache
def ids() -> torch.Tensor:
    return torch.randint(3, VOCABULARY, (2, 11), generator=torch.Generator().manual_seed(5))


def watched(model: Any) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Inputs (`name.input`) and outputs of all modules in an ordinary pass, and the logits."""
    seen: dict[str, torch.Tensor] = {}
    handles = []
    for name, module in model.base_model.named_modules():

        def before(_module, args, kwargs, name=name):
            given = args[0] if args else kwargs.get("hidden_states")
            if isinstance(given, torch.Tensor):
                seen.setdefault(name + ".input", given.clone())

        def after(_module, _args, output, name=name):
            value = output[0] if isinstance(output, tuple | list) else output
            if isinstance(value, torch.Tensor):
                seen.setdefault(name, value.clone())

        handles += [
            module.register_forward_pre_hook(before, with_kwargs=True),
            module.register_forward_hook(after),
        ]
    with torch.inference_mode():
        logits = model(input_ids=ids(), use_cache=False).logits
    for handle in handles:
        handle.remove()
    return seen, logits


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.name)
def test_every_position(architecture: Architecture):
    model = architecture.build()
    seen, logits = watched(model)
    for layer in range(LAYERS):
        captured = {}
        for position, module in architecture.places(layer).items():
            if module is None:
                with pytest.raises(HookpointError) as info:
                    proved_width(Capture(model, resolve(chosen(position, layer), model)))
                assert "\n" not in str(info.value)
                continue
            hookpoint = resolve(chosen(position, layer), model)
            assert (hookpoint.label, hookpoint.layer) == (module, layer)
            capture = Capture(model, hookpoint)
            width = proved_width(capture)
            with torch.inference_mode():
                captured[position] = capture(ids())
            assert captured[position].shape == (*ids().shape, width)
            assert torch.equal(captured[position].flatten(), seen[module].flatten()), position
        _adds_up(architecture, captured)
    _edits_and_losses(architecture, model, logits)


def _adds_up(architecture: Architecture, captured: dict[str, torch.Tensor]) -> None:
    """The stream is what is computed, whatever the modules are called."""
    pre, post = captured["resid_pre"], captured["resid_post"]
    mlp, attention, middle = (captured.get(name) for name in ("mlp_out", "attn_out", "resid_mid"))
    if middle is not None:
        assert attention is None or _close(middle, pre + architecture.scale * attention)
        assert mlp is not None
        assert _close(post, middle + architecture.scale * mlp)
    elif architecture.adds_up and mlp is not None and attention is not None:
        assert _close(post, pre + architecture.scale * (mlp + attention))


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a, b, atol=2e-5 * float(a.abs().max()), rtol=1e-5)


def _edits_and_losses(architecture: Architecture, model: Any, logits: torch.Tensor) -> None:
    """An edit to the same changes no logit, one to zeros does; scored logits are the logits."""
    scored = torch.ones(ids().shape[0], ids().shape[1] - 1, dtype=torch.bool)
    scored[0, ::2] = False
    with torch.inference_mode():
        assert torch.allclose(scored_logits(model, ids(), scored), logits[:, :-1][scored], atol=1e-4)
        for position in ("resid_post", "mlp", "resid_mid"):
            if architecture.places(0)[position] is None:
                continue
            capture = Capture(model, resolve(chosen(position, 0), model))
            with capture.replaced(lambda x, old: old.clone()):
                assert torch.equal(model(input_ids=ids(), use_cache=False).logits, logits)
            with capture.replaced(lambda x, old: torch.zeros_like(old)):
                assert not torch.allclose(model(input_ids=ids(), use_cache=False).logits, logits, atol=1e-3)


def test_the_docs_have_this_table():
    text = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    assert docs_table() in text, f"put this into docs/models.md:\n{docs_table()}"


def test_the_catalogue_has_these_architectures():
    assert covered_kinds() == covered(), "write catalogue/architectures.yaml anew"


@pytest.mark.parametrize("model_type", REFUSED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_has_no_causal_residual_stream_is_refused_in_one_line(model_type, dtype):
    model = build_refused(model_type).to(dtype)
    for layer in range(LAYERS):
        with pytest.raises(SaescopeError, match=REFUSED[model_type]) as info:
            proved_width(Capture(model, resolve(chosen("resid_post", layer), model)))
        assert "\n" not in str(info.value)


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.name)
def test_the_proof_holds_in_low_precision(architecture: Architecture):
    model = architecture.build().to(torch.bfloat16)
    for position, module in architecture.places(1).items():
        if module is not None:
            proved_width(Capture(model, resolve(chosen(position, 1), model)))
