"""Proof, on the loaded model, that a hookpoint is what its name says: four passes of a few tokens.

The names in `blocks.py` may be wrong for a model nobody has tried here, and that must not pass in silence.
Proved are

- the early stop: capture gives what the module gives in a full pass, seen by plain hooks;
- causality: other tokens later in the text leave earlier activations as they are, so that padding is unseen;
- the position, where one was chosen: the residual stream is what the next block reads (or the previous one
  writes), and what attention and MLP compute is what takes the stream from one place to the next.

It costs as much as about thirty tokens of text, and nothing of it is cached.
"""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from saescope.errors import HookpointError, ModelError, choices, library_words
from saescope.model.blocks import Blocks, embeddings, text_config
from saescope.model.capture import Capture, NoActivationError, first, first_input
from saescope.model.hookpoints import Hookpoint

TOKENS = 8
"""Tokens of the text; in the second text the later half is another."""
CARRIED = 0.05
"""How far the stream's own factor may be from 1, or from the factor of what is added to it."""


def proved_width(capture: Capture) -> int:
    """Width d_in of the activations of `capture` (see `Capture.width`), once its hookpoint is proved.

    Raises ModelError for a model that is not causal or does not run on text alone, HookpointError where the
    hookpoint is not the position it was chosen as.
    """
    base, label = capture.base, capture.hookpoint.label
    blocks = Blocks(base)
    text, other = _texts(base)
    with torch.inference_mode():
        seen = _full_pass(base, blocks, _watched(capture, blocks), text)
        width = capture.width()
        caught = capture(text)
        if not caught.isfinite().all():
            return width  # reported with its tokens when the probes are read
        expected = seen.activation(capture.hookpoint)
        if not _same(expected, caught):
            raise HookpointError(
                f"hookpoint {label} gives other activations in a full pass than in one that stops there; "
                "choose another hookpoint, such as hookpoint=resid"
            )
        change = _difference(caught[:, : TOKENS // 2], capture(other)[:, : TOKENS // 2])
    if change > 0 and _sees_later(capture, text, change):
        raise ModelError(
            f"{type(base).__name__} is not causal: at {label} other tokens later in the text change earlier "
            f"activations by {change:.2g} of their size, so padding and the next token would be seen; choose "
            "a causal (decoder-only) language model"
        )
    _prove_position(capture, blocks, seen)
    return width


@dataclass
class _Seen:
    """What modules were given and gave in one pass, copied: blocks may add in place."""

    inputs: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    after_blocks: list[Tensor] = field(default_factory=list)
    """What modules outside the blocks were given, and what the model without its head returns."""

    def value(self, name: str, side: str) -> Tensor | None:
        """The activation at one side of a module; None where it did not run."""
        return self.inputs.get(name) if side == "input" else self.outputs.get(name)

    def activation(self, hookpoint: Hookpoint) -> Tensor | None:
        """What capture reads at a hookpoint: one activation, or a transcoder's two side by side."""
        if hookpoint.side != "both":
            return self.value(hookpoint.name, hookpoint.side)
        reads, output = hookpoint.reads, self.outputs.get(hookpoint.name)
        given = self.value(reads.name, reads.side) if reads else self.inputs.get(hookpoint.name)
        return None if given is None or output is None else torch.cat([given, output], dim=-1)


def _full_pass(base: Any, blocks: Blocks, names: Iterable[str], text: Tensor) -> _Seen:
    """Run all blocks, with plain hooks on the modules of these names; of several calls the first counts."""
    seen = _Seen()

    def outside(_module: Any, args: Any, kwargs: Any) -> None:
        given = first_input(args, kwargs)
        if given is not None:
            seen.after_blocks.append(given.clone())

    def watch(name: str) -> Iterable[Any]:
        def before(_module: Any, args: Any, kwargs: Any) -> None:
            given = first_input(args, kwargs)
            if given is not None:
                seen.inputs.setdefault(name, given.clone())

        def after(_module: Any, _args: Any, output: Any) -> None:
            try:
                seen.outputs.setdefault(name, first(output).clone())
            except NoActivationError:
                return

        module = base.get_submodule(name)
        return (
            module.register_forward_pre_hook(before, with_kwargs=True),
            module.register_forward_hook(after),
        )

    with ExitStack() as stack:
        for name in names:
            for handle in watch(name):
                stack.callback(handle.remove)
        for name, module in base.named_modules():
            if name and not blocks.holds(name):
                handle = module.register_forward_pre_hook(outside, with_kwargs=True)
                stack.callback(handle.remove)
        try:
            result = base(input_ids=text, use_cache=False)
        except Exception as error:  # whatever the model's code raises
            raise ModelError(
                f"{type(base).__name__} does not run on a text of {TOKENS} tokens: {library_words(error)}"
            ) from error
    last = getattr(result, "last_hidden_state", None)
    if isinstance(last, Tensor):
        seen.after_blocks.append(last)
    return seen


def _watched(capture: Capture, blocks: Blocks) -> set[str]:
    """Modules that the proof looks at: the hookpoint, its block with its parts, and what stands around it."""
    reads = capture.hookpoint.reads
    names = {capture.hookpoint.name, *([reads.name] if reads else [])}
    layer = capture.hookpoint.layer
    if layer is None:
        return names
    for number in (layer - 1, layer, layer + 1):
        if 0 <= number < len(blocks):
            names.add(blocks.name(number))
    names |= {f"{blocks.name(layer)}.{part}" for part, _ in blocks.modules[layer].named_children()}
    return names | {place.name for place in blocks.places(layer).values()}


def _prove_position(capture: Capture, blocks: Blocks, seen: _Seen) -> None:
    """Raises HookpointError where the activation is not that of the position the hookpoint was chosen as."""
    position, layer = capture.hookpoint.position, capture.hookpoint.layer
    if position is None or layer is None:
        return
    block = blocks.name(layer)
    stream = _Stream(blocks, layer, seen)
    checks: dict[str, Callable[[], str | None]] = {
        "resid_pre": stream.not_from_the_block_before,
        "resid_post": stream.not_to_the_block_after,
        "resid_mid": lambda: stream.not_added("mlp_out", carried_on=True),
        "mlp": lambda: stream.not_normed("mlp") or stream.not_added("mlp_out"),
        "mlp_out": lambda: stream.not_added("mlp_out"),
        "attention": lambda: stream.not_normed("attention") or stream.not_added("attn_out"),
        "attn_out": lambda: stream.not_added("attn_out"),
        "mlp_post": lambda: stream.not_projected("mlp_post", "mlp"),
        "attn_z": lambda: stream.not_projected("attn_z", "attention"),
        "mlp_in": lambda: None,  # what the module is given, whatever it is
        "mlp_norm_in": lambda: (
            None if blocks.is_parallel(layer) else stream.not_added("mlp_out", carried_on=True)
        ),
    }
    why = checks[position]()
    if why is not None:
        parts = choices(name for name, _ in blocks.modules[layer].named_children())
        instead = "a part" if position == "resid_post" else "hookpoint=resid, or a part"
        raise HookpointError(
            f"{capture.hookpoint.label} cannot be taken as {position} of {type(capture.base).__name__}: "
            f"{why}; choose {instead} of {block} as it is ({parts}): "
            f"hookpoint=custom hookpoint.name={block}.PART"
        )


@dataclass(frozen=True)
class _Stream:
    """The residual stream in one block, as the full pass saw it. Each check returns why it fails, or None."""

    blocks: Blocks
    layer: int
    seen: _Seen

    def _at(self, position: str) -> Tensor | None:
        """The activation at a position; None where the block has none."""
        place = self.blocks.places(self.layer).get(position)
        return None if place is None else self.seen.value(place.name, place.side)

    def not_from_the_block_before(self) -> str | None:
        """The block's input is the output of the one before it."""
        if self.layer == 0:
            return None
        before, given = self.blocks.name(self.layer - 1), self._at("resid_pre")
        if _same(self.seen.outputs.get(before), given):
            return None
        return f"the output of {before} is not what the next block reads"

    def not_to_the_block_after(self) -> str | None:
        """The block's output is the input of the next one, after the last block of the final norm."""
        output, block = self._at("resid_post"), self.blocks.name(self.layer)
        if self.layer + 1 < len(self.blocks):
            after = self.blocks.name(self.layer + 1)
            same = _same(output, self.seen.inputs.get(after))
            return None if same else f"the output of {block} is not what the next block reads"
        if any(_same(output, value) for value in self.seen.after_blocks):
            return None
        return f"nothing after the last block reads the output of {block}"

    def not_normed(self, kind: str) -> str | None:
        """Where a norm follows the module, it reads the module's output."""
        module = self.blocks.place(self.layer, kind)
        added = self.blocks.place(self.layer, {"mlp": "mlp_out", "attention": "attn_out"}[kind])
        if module == added or _same(self._at(kind), self.seen.inputs.get(added.name)):
            return None
        return f"{added.name}, which is added to the stream, reads more than the output of {module.name}"

    def not_projected(self, inner: str, kind: str) -> str | None:
        """The last projection's output is that of its module."""
        projection = self.blocks.place(self.layer, inner).name
        if _same(self.seen.outputs.get(projection), self._at(kind)):
            return None
        module = self.blocks.place(self.layer, kind).name
        return f"the output of {module} is more than what {projection} gives"

    def not_added(self, position: str, *, carried_on: bool = False) -> str | None:
        """What `position` (attn_out or mlp_out) gives takes the stream from before it to after it.

        `carried_on`: and the block's output holds the stream itself, with a factor of 1.
        """
        added, pre, post = (self._at(name) for name in (position, "resid_pre", "resid_post"))
        inside = [] if carried_on else self._given_to_parts()
        if self.blocks.is_parallel(self.layer):
            other = self._at("attn_out" if position == "mlp_out" else "mlp_out")
            if added is not None and other is not None:
                added = added.reshape(other.shape) + other
            before, after = [pre], [post]
        elif position == "attn_out":
            before, after = [pre], [self._at("resid_mid"), *inside]
        else:
            # what the MLP reads is the stream itself where norms follow the sums (GPT-1, OPT-350m)
            own_input = None if carried_on else self.seen.inputs.get(self.blocks.mlp_reader(self.layer))
            before = [self._at("resid_mid"), own_input]
            after = [post, *inside]
        if any(_adds_up(y, x, added, carried_on=carried_on) for x in before for y in after):
            return None
        place = self.blocks.place(self.layer, position).name
        return f"the stream in {self.blocks.name(self.layer)} does not change by the output of {place} alone"

    def _given_to_parts(self) -> list[Tensor]:
        """What the parts of the block are given: between two sums there may be a norm, a gate, a factor."""
        block = self.blocks.name(self.layer)
        return [value for name, value in self.seen.inputs.items() if name.startswith(block + ".")]


def _adds_up(target: Tensor | None, stream: Tensor | None, added: Tensor | None, *, carried_on: bool) -> bool:
    """Whether target = a · stream + b · added, b > 0, with a = 1 or, where all of it is scaled, a = b.

    An `added` that holds the stream already has a = 0, b = 1. Each token weighs the same.
    """
    if (
        target is None
        or stream is None
        or added is None
        or not stream.numel() == added.numel() == target.numel()
    ):
        return False
    goal, *terms = (x.detach().cpu().double().reshape(-1, target.shape[-1]) for x in (target, stream, added))
    size_T = goal.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    goal, terms = goal / size_T, [term / size_T for term in terms]
    columns = torch.stack([term.flatten() for term in terms], dim=-1)
    fit = torch.linalg.lstsq(columns, goal.flatten()[:, None]).solution
    a, b = (float(factor) for factor in fit.flatten())
    tolerance = _tolerance(target) * (1 + _size(terms[0]) + _size(terms[1]))
    # below the rounding of the sum nothing can be said of what is added
    in_sum = (_size(goal - terms[0]) > tolerance and b > 0) or _size(terms[1]) <= tolerance
    return (
        _size(goal - a * terms[0] - b * terms[1]) <= tolerance
        and in_sum
        and (abs(a - 1) <= CARRIED or (not carried_on and abs(a - b) <= CARRIED * abs(b)))
    )


def _size(x_TD: Tensor) -> float:
    """Root mean square over tokens of their norms."""
    return float(x_TD.square().sum(-1).mean().sqrt())


def _sees_later(capture: Capture, text: Tensor, change: float) -> bool:
    """Whether activations of the first half depend on tokens of the second.

    The products of a mixture of experts round with the number of tokens an expert gets, so a change alone
    proves nothing; the gradient of a causal model is 0 to the last bit.
    """
    leaves: list[Tensor] = []

    def as_leaf(_module: Any, _args: Any, output: Tensor) -> Tensor:
        leaves.append(output.detach().requires_grad_())
        return leaves[-1]

    handle = embeddings(capture.base).register_forward_hook(as_leaf)
    try:
        with torch.enable_grad():
            half = capture(text)[:, : TOKENS // 2].float()
            weights = torch.linspace(-1, 1, half.numel(), device=half.device).reshape(half.shape)
            gradient = torch.autograd.grad((half * weights).sum(), leaves[0])[0]
    except (RuntimeError, NotImplementedError):  # kernels without a derivative
        return change > CARRIED
    finally:
        handle.remove()
    later = gradient[:, TOKENS // 2 :]
    return bool((later != 0).any()) if later.isfinite().all() else change > CARRIED


def _texts(base: Any) -> tuple[Tensor, Tensor]:
    """Two texts [1, TOKENS] of ordinary tokens, the same in the first half."""
    weight: Any = embeddings(base).weight
    special = set(_special(base.config)) | set(_special(text_config(base.config)))
    spread = torch.linspace(0, weight.shape[0] - 1, 4 * TOKENS).long().tolist()
    ordinary = [token for token in dict.fromkeys(spread) if token not in special] or [0]
    tokens = [ordinary[(1 + 3 * i) % len(ordinary)] for i in range(TOKENS + TOKENS // 2)]
    text = torch.tensor([tokens[:TOKENS]], device=weight.device)
    other = torch.tensor([tokens[: TOKENS // 2] + tokens[TOKENS:]], device=weight.device)
    return text, other


def _special(config: Any) -> list[int]:
    """Ids of padding, images and the like, which some models treat in their own way."""
    values = [value for key, value in config.to_dict().items() if key.endswith(("token_id", "token_index"))]
    return [v for value in values for v in (value if isinstance(value, list) else [value]) if v is not None]


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    """Equal up to rounding, whatever the shape."""
    if a is None or b is None or a.numel() != b.numel():
        return False
    return torch.equal(a, b) or _difference(a.reshape(b.shape), b) <= _tolerance(a)


def _difference(a: Tensor, b: Tensor) -> float:
    """Root mean square over tokens of ‖a − b‖ / ‖b‖; 0 only where all bits are the same."""
    if torch.equal(a, b):
        return 0.0
    x, y = (t.detach().cpu().double().reshape(-1, t.shape[-1]) for t in (a, b))
    size_T = y.norm(dim=-1).clamp_min(torch.finfo(torch.float64).tiny)
    return max(float(((x - y).norm(dim=-1) / size_T).square().mean().sqrt()), torch.finfo(torch.float64).tiny)


def _tolerance(x: Tensor) -> float:
    return 2 * torch.finfo(x.dtype).eps + 1e-6
