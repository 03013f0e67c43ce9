"""The training step of sparsify's `Trainer` as a Lightning module on batches of activations.

What sparsify does in which order: b_dec at the mean of the first batch; before every batch unit-norm decoder
rows; loss divided by the number of accumulation parts; before the optimiser step gradients along decoder rows
removed; after it k and the dead-latent counts. Of a transcoder, the first batch sets the encoder's bias too,
and its decoder rows have any norm.

Where several processes share a batch this differs from sparsify on purpose: mean, variance and token counts
are those of the whole batch and gradients are summed, so the losses are those of one process.
"""

import math
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.nn.functional import normalize
from torch.optim.lr_scheduler import LRScheduler

from saescope.config import Recipe
from saescope.errors import SaeError
from saescope.sae.coder import SparseCoder
from saescope.training.decoder_norm import keep_near, remove_parallel, to_unit_norm
from saescope.training.objective import LossTerms, loss_terms
from saescope.training.recipe import build_optimizers, check_kind
from saescope.training.signum import ScheduleFreeSignum

FROZEN = {"decoder": ("W_dec",), "encoder": ("encoder.weight",)}
"""Weights that are not trained, by `Recipe.freeze`."""

NEAR = 0.8
"""Least cosine of a soft-frozen decoder row with its initial one: τ of arXiv 2602.14111."""


class LossNotFiniteError(SaeError):
    """The loss became NaN or infinite; the weights are those before the step."""


class SaeTraining(LightningModule):
    """Trains `coder` in place; batches are activations [N, d_in].

    Those of a transcoder are the module's inputs with its outputs behind them, [N, 2 d_in].

    While training the weights are those at which gradients are taken; under `signum` the SAE to use is their
    average, which `checkpoint.averaged_coder` gives.
    """

    def __init__(
        self,
        coder: SparseCoder,
        recipe: Recipe,
        *,
        total_steps: int,
        finetune: bool = False,
        encoder_dtype: torch.dtype | None = None,
    ) -> None:
        """`total_steps` shapes the learning-rate schedule; `finetune` keeps the coder's b_dec."""
        super().__init__()
        recipe.check(coder.d_in, coder.num_latents)
        check_kind(coder, recipe)
        self.automatic_optimization = False
        self.coder, self.recipe, self.total_steps, self.finetune = coder, recipe, total_steps, finetune
        self.encoder_dtype = encoder_dtype
        cfg = coder.cfg
        cfg.activation, cfg.multi_topk, cfg.normalize_decoder = (
            recipe.activation,
            recipe.multi_topk,
            recipe.normalize_decoder,
        )
        cfg.k = recipe.k_at(0, coder.d_in, coder.num_latents)
        self.frozen = FROZEN.get(recipe.freeze, ())
        for name in self.frozen:
            coder.get_parameter(name).requires_grad_(False)
        self.unit_norm = recipe.normalize_decoder and not recipe.transcode and "W_dec" not in self.frozen
        """Whether decoder rows are kept at norm 1."""
        initial_FD = normalize(coder.W_dec.detach(), dim=1) if recipe.freeze == "soft" else None
        self.register_buffer("initial_FD", initial_FD, persistent=False)
        self.initial_FD: Tensor | None
        """Decoder directions that the rows stay near."""
        self.register_buffer("tokens_since_fired_F", torch.zeros(coder.num_latents, dtype=torch.long))
        self.register_buffer("did_fire_F", torch.zeros(coder.num_latents, dtype=torch.bool))
        self.tokens_since_fired_F: Tensor
        self.did_fire_F: Tensor
        self.step = 0
        self.tokens_seen = 0
        self.last_metrics: dict[str, float] = {}
        self._tokens_in_step = 0
        self.stepping: list[torch.optim.Optimizer] = []
        self.schedules: list[LRScheduler] = []

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """sparsify's optimisers; their schedules are stepped here, not by Lightning."""
        self.stepping, self.schedules = build_optimizers(self.coder, self.recipe, self.total_steps)
        return self.stepping

    @property
    def between_steps(self) -> bool:
        """Whether no gradients wait for the optimiser step, so that the state can be saved."""
        return self.step % self.recipe.grad_acc_steps == 0

    def training_step(self, batch: Tensor, batch_idx: int) -> None:
        """Forward, backward and, after `grad_acc_steps` batches, the optimiser step.

        Raises LossNotFiniteError.
        """
        coder, recipe = self.coder, self.recipe
        batch = batch.to(coder.b_dec.dtype)
        sums = torch.cat([batch.sum(0), batch.new_full((1,), len(batch))])
        reduce_over_processes(sums)
        tokens, mean = sums[-1], sums[:-1] / sums[-1]
        target_ND, target_mean_D = batch, mean
        if recipe.transcode:
            target_ND, target_mean_D = batch[:, coder.d_in :], mean[coder.d_in :]
        if self.step == 0 and not self.finetune:
            if recipe.transcode:
                coder.encoder.bias.data.copy_(-mean[: coder.d_in] @ coder.encoder.weight.data.T)
            coder.b_dec.data.copy_(target_mean_D)
        if self.unit_norm:
            to_unit_norm(coder.W_dec)
        variance = reduce_over_processes(
            torch.linalg.vector_norm(target_ND - target_mean_D, dim=1).square().sum()
        )
        # the decoder alone learns from AuxK
        dead_F = self._dead() if recipe.auxk_alpha > 0 and "W_dec" not in self.frozen else None

        totals = batch.new_zeros(4)
        for rows in batch.chunk(recipe.micro_acc_steps):
            x_ND, y_ND = rows, None
            if recipe.transcode:
                x_ND, y_ND = (side.contiguous() for side in rows.chunk(2, dim=-1))
            terms = loss_terms(
                coder,
                x_ND,
                y_ND=y_ND,
                total_variance=variance,
                dead_F=dead_F,
                encoder_dtype=self.encoder_dtype,
            )
            self.manual_backward(self._loss(terms) / (recipe.grad_acc_steps * recipe.micro_acc_steps))
            self.did_fire_F[terms.fired] = True
            totals += torch.stack([t.detach() for t in terms[:3]] + [terms.active.to(totals.dtype)])
        # all numbers at once: a GPU's host waits for them
        numbers = torch.cat([reduce_over_processes(totals), tokens[None]]).tolist()
        fvu, auxk, multi, active, batch_tokens = numbers
        loss = fvu + recipe.auxk_alpha * auxk + multi / 8
        if not math.isfinite(loss):
            raise LossNotFiniteError(f"the loss is {loss} at step {self.step}")

        self.tokens_seen += int(batch_tokens)
        self._tokens_in_step += int(batch_tokens)
        lr = self.stepping[0].param_groups[0]["lr"]
        k = coder.cfg.k
        if (self.step + 1) % recipe.grad_acc_steps == 0:
            self._optimizer_step()
        self.step += 1
        self.last_metrics = {
            "loss": loss,
            "fvu": fvu,
            "auxk": auxk,
            "multi_topk_fvu": multi,
            "l0": active / batch_tokens,
            "dead_frac": float(self._dead().double().mean()),
            "lr": lr,
            "k": k,
            "tokens_seen": self.tokens_seen,
            "step": self.step,
        }

    def _loss(self, terms: LossTerms) -> Tensor:
        return terms.fvu + self.recipe.auxk_alpha * terms.auxk + terms.multi_topk_fvu / 8

    def _dead(self) -> Tensor:
        return self.tokens_since_fired_F > self.recipe.dead_feature_threshold

    def _optimizer_step(self) -> None:
        coder = self.coder
        for p in coder.parameters():
            if p.requires_grad:
                assert p.grad is not None
                reduce_over_processes(p.grad)
        if self.unit_norm:
            remove_parallel(coder.W_dec, coder.W_dec.grad)
        for optimizer in self.stepping:
            optimizer.step()
            optimizer.zero_grad()
        if self.initial_FD is not None:
            self._keep_near_initial(self.initial_FD)
        for schedule in self.schedules:
            schedule.step()
        # sparsify computes k before it increments the step, so the second step still has the first k
        coder.cfg.k = self.recipe.k_at(self.step, coder.d_in, coder.num_latents)
        fired = self.did_fire_F.to(torch.uint8)
        reduce_over_processes(fired, dist.ReduceOp.MAX)
        self.tokens_since_fired_F += self._tokens_in_step
        self.tokens_since_fired_F[fired.bool()] = 0
        self.did_fire_F.zero_()
        self._tokens_in_step = 0

    def _keep_near_initial(self, initial_FD: Tensor) -> None:
        """Decoder rows within cosine `NEAR` of their initial ones: a cone, and so a convex set, for each."""
        near = partial(keep_near, unit_FD=initial_FD, least_cosine=NEAR)
        (first, *_), W_dec = self.stepping, self.coder.W_dec
        if isinstance(first, ScheduleFreeSignum):
            first.project(W_dec, near)
        else:
            near(W_dec.data)

    def training_state(self) -> dict[str, Any]:
        """What a resumed training needs to end with the same bits: plain containers and tensors."""
        return {
            "coder": self.coder.state_dict(),
            "d_in": self.coder.d_in,
            "cfg": self.coder.cfg.to_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.stepping],
            "schedules": [schedule.state_dict() for schedule in self.schedules],
            "tokens_since_fired_F": self.tokens_since_fired_F,
            "step": self.step,
            "tokens_seen": self.tokens_seen,
            "rng": torch.get_rng_state(),
            **({"frozen": list(self.frozen)} if self.frozen else {}),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a `training_state`; the optimisers must have been configured."""
        self.coder.load_state_dict(state["coder"])
        self.coder.cfg.k = state["cfg"]["k"]
        for optimizer, saved in zip(self.stepping, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for schedule, saved in zip(self.schedules, state["schedules"], strict=True):
            schedule.load_state_dict(saved)
        self.tokens_since_fired_F.copy_(state["tokens_since_fired_F"])
        self.step, self.tokens_seen = state["step"], state["tokens_seen"]
        torch.set_rng_state(state["rng"].cpu())


def reduce_over_processes(tensor: Tensor, op: Any = dist.ReduceOp.SUM) -> Tensor:
    """Reduce over all processes, in place; a single process gets its tensor back."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(tensor, op=op)
    return tensor
