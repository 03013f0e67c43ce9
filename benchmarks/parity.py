"""Validation FVU of saescope's training beside sparsify's own `Trainer`, at every tenth and at the end.

    python benchmarks/parity.py                                            # the embedded model, layers.2
    python benchmarks/parity.py --model FOLDER --hookpoint layers.8 --text FOLDER

Same model, tokens, order, seed and hyper-parameters on both sides; validation text that neither has seen. The
model given to sparsify ends after the hookpoint's block, which changes nothing that it trains on.

Sign descent turns a gradient's last bit into a whole step, so two trainings in float32 drift apart, also two
of sparsify's own: `--itself` trains with it once more from weights times 1 ± 1e-7 and shows that drift.
`--dtype float64` (of the SAE on both sides) puts it off and shows the recipe alone.
"""

import argparse
import copy
import itertools
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import sparsify_side
import torch

from saescope.activations import LiveActivations
from saescope.config import HookpointConfig, ModelConfig
from saescope.config.corpus import CorpusConfig
from saescope.model.capture import Capture
from saescope.model.hookpoints import resolve
from saescope.model.load import load_model, quiet_transformers
from saescope.sae.coder import CoderSae, SparseCoder
from saescope.text.token_rows import token_rows
from saescope.training import MemoryBatches, Recipe, SaeTraining, fit, new_coder
from saescope.training.checkpoint import averaged_coder
from saescope.training.train import heldout_fvu

Curve = list[tuple[int, float]]


class Setting:
    """One model and hookpoint with training rows, their activations, and validation activations."""

    def __init__(self, args: argparse.Namespace) -> None:
        lm = load_model(ModelConfig(name=args.model), torch.float32, seed=0)
        self.hookpoint = resolve(HookpointConfig("custom", name=args.hookpoint), lm.model)
        source = {"source": "local", "path": args.text} if args.text else {"source": "embedded"}
        corpus = CorpusConfig(**source, ctx_len=args.ctx_len, holdout_tokens=args.validation)
        tokens = args.steps * args.batch_tokens
        found = token_rows(corpus, lm.tokenizer, tokens, None, at_least=tokens)
        self.rows = np.random.default_rng(0).permutation(found.train)[: tokens // args.ctx_len]
        self.model = copy.deepcopy(lm.model)
        prefix, _, last = self.hookpoint.name.rpartition(".")
        blocks = self.model.base_model.get_submodule(prefix)
        self.model.base_model.set_submodule(prefix, blocks[: int(last) + 1])
        capture = Capture(lm.model, self.hookpoint)
        batch = args.batch_tokens // args.ctx_len
        live = LiveActivations(capture, self.rows, batch, "cpu")
        self.x = live.read(np.arange(len(self.rows)))
        self.d_in, self.batch, self.steps = live.d_in, batch, args.steps
        self.dtype = getattr(torch, args.dtype)
        if (
            self.dtype is torch.float64
        ):  # sparsify takes mean and variance in the precision of the activations
            self.model = self.model.base_model
            module = self.model.get_submodule(self.hookpoint.name)
            module.register_forward_hook(
                lambda _m, _a, out: (out[0].double(), *out[1:]) if isinstance(out, tuple) else out.double()
            )
            for name, child in self.model.named_children():
                if "norm" in name:
                    child.double()
        self.held = LiveActivations(capture, found.heldout, batch, "cpu", self.d_in)
        print(f"{self.rows.size} training tokens, {found.heldout.size} validation tokens, d_in {self.d_in}")

    def validate(self, coder: SparseCoder) -> float:
        return heldout_fvu(CoderSae(copy.deepcopy(coder), torch.float32, {}), self.held)

    @property
    def tenths(self) -> list[int]:
        """Steps after which sparsify saves, with `save_every` a tenth of them, and the last."""
        return [n * self.steps // 10 - 1 for n in range(1, 11)] + [self.steps]


def theirs(setting: Setting, recipe: Recipe, latents: int, shake: float = 0.0) -> Curve:
    curve: Curve = []
    noise = torch.Generator().manual_seed(1)

    @torch.no_grad()
    def prepare(coder: SparseCoder) -> None:
        coder.to(setting.dtype)
        for p in coder.parameters():
            p.mul_(1 + shake * torch.randn(p.shape, generator=noise).to(p.dtype))

    sparsify_side.train(
        setting.model, setting.rows, setting.hookpoint.name, recipe, latents, setting.batch,
        save_every=setting.steps // 10, prepare=prepare,
        on_save=lambda step, coder: curve.append((step, setting.validate(coder))),
    )  # fmt: skip
    return curve


def ours(setting: Setting, recipe: Recipe, latents: int) -> Curve:
    curve: Curve = []
    coder = new_coder(setting.d_in, latents, recipe).to(setting.dtype)
    module = SaeTraining(coder, recipe, total_steps=setting.steps)

    def on_step(metrics: dict[str, float]) -> None:
        if metrics["step"] in setting.tenths:
            curve.append((int(metrics["step"]), setting.validate(averaged_coder(module.training_state()))))

    with tempfile.TemporaryDirectory() as folder:
        batches = MemoryBatches(setting.x, setting.batch * setting.rows.shape[1])
        fit(module, batches, checkpoint_path=Path(folder) / "checkpoint.pt", on_step=on_step)
    return curve


def timed(side: Callable[[Setting, Recipe, int], Curve], *args: object) -> tuple[Curve, float]:
    start = time.perf_counter()
    return side(*args), time.perf_counter() - start  # type: ignore[arg-type]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--hookpoint", default="layers.2")
    parser.add_argument("--text", help="a folder of .txt, .jsonl or .parquet; default: the embedded corpus")
    parser.add_argument("--expansion", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--auxk", type=float, nargs="+", default=[0.0, 1 / 32])
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch-tokens", type=int, default=2048)
    parser.add_argument("--dead-after", type=int, default=20_000, help="tokens; lets AuxK act in a short run")
    parser.add_argument("--ctx-len", type=int, default=256)
    parser.add_argument("--validation", type=int, default=16_384)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--itself", action="store_true", help="sparsify against itself, too")
    parser.add_argument("--json", type=Path, help="write all curves here")
    args = parser.parse_args()
    if args.steps < 20 or args.steps % 10:
        parser.error(f"--steps {args.steps}: a multiple of ten, 20 or more; both sides save at its tenths")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    quiet_transformers()
    setting, worst, found = Setting(args), 0.0, []
    for expansion, alpha in itertools.product(args.expansion, args.auxk):
        recipe = Recipe(k=args.k, auxk_alpha=alpha, dead_feature_threshold=args.dead_after)
        latents = expansion * setting.d_in
        (one, one_s), (two, two_s) = (timed(side, setting, recipe, latents) for side in (theirs, ours))
        assert [step for step, _ in one] == [step for step, _ in two], (one, two)
        gaps = [b / a - 1 for (_, a), (_, b) in zip(one, two, strict=True)]
        worst = max(worst, *map(abs, gaps))
        print(f"\nexpansion {expansion}, k {args.k}, auxk_alpha {alpha:g}  ({one_s:.0f} s and {two_s:.0f} s)")
        print("  step      " + "".join(f"{step:>9}" for step, _ in one))
        print("  sparsify  " + "".join(f"{fvu:9.5f}" for _, fvu in one))
        print("  saescope  " + "".join(f"{fvu:9.5f}" for _, fvu in two))
        print("  gap       " + "".join(f"{gap:9.3%}" for gap in gaps), flush=True)
        found.append(
            {"expansion": expansion, "k": args.k, "auxk_alpha": alpha, "sparsify": one, "saescope": two}
        )
        if args.itself:
            again = theirs(setting, recipe, latents, shake=1e-7)
            drift = [b / a - 1 for (_, a), (_, b) in zip(one, again, strict=True)]
            print("  itself    " + "".join(f"{gap:9.3%}" for gap in drift), flush=True)
            found[-1]["sparsify_itself"] = again
    print(f"\nlargest gap {worst:.3%}; asked for: at most 1 %")
    if args.json:
        args.json.write_text(json.dumps({"worst_gap": worst, "runs": found}, indent=2) + "\n")
    return int(worst > 0.01)


if __name__ == "__main__":
    sys.exit(main())
