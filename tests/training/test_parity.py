"""The same tokens through sparsify's Trainer and, as captured activations, through ours: the same SAE."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from sparsify import SparseCoderConfig, Trainer
from sparsify.config import TrainConfig
from transformers import AutoModelForCausalLM

from saescope.sae.coder import SparseCoder
from saescope.training import MemoryBatches, Recipe, SaeTraining, fit, new_coder

HOOK, D, F, ROWS, CTX, STEPS = "layers.1", 32, 256, 8, 32, 24
RECIPES = {
    "signum": {},
    "adam": {"optimizer": "adam", "lr_warmup_steps": 4, "lr": 2e-3},
    "muon": {"optimizer": "muon", "lr_warmup_steps": 4},
    "auxk": {"auxk_alpha": 1 / 32, "dead_feature_threshold": 600},
    "multi": {"multi_topk": True},
    "groupmax": {"activation": "groupmax"},
    "decay": {"k_decay_steps": 15},
    "accumulate": {"grad_acc_steps": 2, "micro_acc_steps": 3},
    "free norm": {"normalize_decoder": False},
    "transcoder": {"transcode": True},
    "transcoder with skip": {"transcode": True, "skip_connection": True, "auxk_alpha": 1 / 32,
                             "dead_feature_threshold": 600, "micro_acc_steps": 3},
    "transcoder, adam": {"transcode": True, "skip_connection": True, "optimizer": "adam", "lr": 2e-3},
}  # fmt: skip


def started(coder: SparseCoder) -> SparseCoder:
    """A transcoder with a decoder.

    sparsify starts it at W_dec = 0 and b_dec = mean of the first batch, where the gradient of b_dec is
    rounding noise, of which Signum takes the sign.
    """
    if coder.cfg.transcode:
        torch.manual_seed(2)
        coder.W_dec.data.copy_(0.1 * torch.randn(coder.W_dec.shape))
    return coder


class Both:
    """A model in the asked dtype, token rows, and their activations."""

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(folder).to(dtype).eval()
        torch.manual_seed(7)
        self.tokens = torch.randint(0, 400, (ROWS * STEPS, CTX))
        caught: list[torch.Tensor] = []

        def keep(_module: Any, inputs: Any, out: Any) -> None:
            sides = (inputs[0], out[0] if isinstance(out, tuple) else out)
            caught.append(torch.cat(sides, dim=-1).flatten(0, 1))

        handle = self.model.base_model.get_submodule(HOOK).register_forward_hook(keep)
        with torch.no_grad():
            for rows in self.tokens.split(ROWS):
                self.model(rows)
        handle.remove()
        self.sides = torch.cat(caught)
        """Input of the module beside its output."""
        self.dtype = dtype

    def sparsify(self, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> tuple[SparseCoder, list[float]]:
        fvus: list[float] = []
        forward = SparseCoder.forward

        def recorded(self: Any, *args: Any, **kwargs: Any) -> Any:
            out = forward(self, *args, **kwargs)
            fvus.append(out.fvu.item())
            return out

        cfg = TrainConfig(
            SparseCoderConfig(
                num_latents=F,
                **{n: getattr(recipe, n) for n in set(vars(recipe)) & set(vars(SparseCoderConfig()))},
            ),
            batch_size=ROWS,
            hookpoints=[HOOK],
            init_seeds=[recipe.init_seed],
            log_to_wandb=False,
            save_every=10**6,
            save_dir="theirs",
        )
        for name in set(vars(cfg)) & set(vars(recipe)):
            setattr(cfg, name, getattr(recipe, name))
        data = Dataset.from_dict({"input_ids": self.tokens.tolist()}).with_format("torch")
        trainer = Trainer(cfg, data, self.model)
        started(trainer.saes[HOOK].to(self.dtype))
        with monkeypatch.context() as patch:
            patch.setattr(SparseCoder, "forward", recorded)
            trainer.fit()
        return SparseCoder.load_from_disk(f"theirs/unnamed/{HOOK}"), fvus

    def ours(self, recipe: Recipe) -> tuple[SparseCoder, list[float]]:
        fvus: list[float] = []
        module = SaeTraining(started(new_coder(D, F, recipe).to(self.dtype)), recipe, total_steps=STEPS)
        coder = fit(
            module,
            MemoryBatches(self.sides if recipe.transcode else self.sides[:, D:].clone(), ROWS * CTX),
            checkpoint_path=Path("ours/training.ckpt"),
            on_step=lambda metrics: fvus.append(metrics["fvu"]),
        )
        return coder, fvus


@pytest.mark.parametrize("name", RECIPES)
def test_weights_equal_sparsify_s_in_float64(name, model_folder, monkeypatch) -> None:
    recipe = Recipe(**{"k": 8, "init_seed": 3, **RECIPES[name]})
    both = Both(model_folder, torch.float64)
    theirs, their_fvus = both.sparsify(recipe, monkeypatch)
    ours, our_fvus = both.ours(recipe)
    parts = recipe.micro_acc_steps
    whole = torch.tensor(their_fvus).view(-1, parts).sum(1)
    torch.testing.assert_close(torch.tensor(our_fvus), whole, rtol=1e-6, atol=0)
    assert ours.cfg == theirs.cfg or ours.cfg.k == theirs.cfg.k
    # Muon orthogonalises in bfloat16, where the last bit of a gradient can show
    tolerance = 1e-3 if name == "muon" else 1e-8
    for key, weight in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], weight, rtol=tolerance, atol=tolerance, msg=key)


@pytest.mark.parametrize("name", ["signum", "adam"])
def test_curves_equal_sparsify_s_in_float32(name, model_folder, monkeypatch) -> None:
    """In float32 a gradient at rounding size may have another sign, which Signum turns into a whole step."""
    recipe = Recipe(**{"k": 8, **RECIPES[name]})
    both = Both(model_folder, torch.float32)
    theirs, their_fvus = both.sparsify(recipe, monkeypatch)
    ours, our_fvus = both.ours(recipe)
    torch.testing.assert_close(torch.tensor(our_fvus), torch.tensor(their_fvus), rtol=1e-2, atol=0)
    for key, weight in theirs.state_dict().items():
        close = torch.isclose(ours.state_dict()[key], weight, rtol=1e-4, atol=1e-5)
        assert close.double().mean() > 0.995, key
