"""Next-token cross-entropy and KL divergence, summed per task in float64."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchmetrics import Metric

VARIANTS = ("clean", "spliced", "zero", "mean")
CHUNK_BYTES = 256 * 2**20


def scored_logits(model: Any, input_ids_BT: Tensor, scored_BT: Tensor) -> Tensor:
    """Logits [S, V] at the positions that `scored_BT` [B, T − 1] marks; the unembedding sees no other."""

    def scored_only(_module: Any, args: Any) -> Any:
        return (args[0][:, :-1][scored_BT][None], *args[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(scored_only)
    try:
        logits: Tensor = model(input_ids=input_ids_BT, use_cache=False).logits
    finally:
        handle.remove()
    return logits[0]


def token_losses(logits_SV: Tensor, clean_SV: Tensor, target_S: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each target and KL(clean ‖ edited), in nats, float32, in memory-bounded chunks.

    `clean_SV` holds log-probabilities, `logits_SV` logits.
    """
    rows = max(1, CHUNK_BYTES // (16 * logits_SV.shape[-1]))
    ce: list[Tensor] = []
    kl: list[Tensor] = []
    for at in range(0, len(target_S), rows):
        log_p = clean_SV[at : at + rows]
        log_q = torch.log_softmax(logits_SV[at : at + rows].float(), dim=-1)
        ce.append(-log_q.gather(-1, target_S[at : at + rows, None]).squeeze(-1))
        kl.append((log_p.exp() * (log_p - log_q)).sum(-1))
    if not ce:
        empty = torch.zeros(0, device=logits_SV.device)
        return empty, empty
    return torch.cat(ce), torch.cat(kl)


class LossSums(Metric):
    """Sums of CE and KL per variant and task."""

    full_state_update = False

    def __init__(self, num_tasks: int) -> None:
        super().__init__()
        for variant in VARIANTS:
            for name in ("ce", "kl", "tokens"):
                zeros = torch.zeros(num_tasks, dtype=torch.float64)
                self.add_state(f"{name}_{variant}", zeros, dist_reduce_fx="sum")

    def update(self, variant: str, ce_S: Tensor, kl_S: Tensor, task_S: Tensor) -> None:
        """Add S predictions of one variant."""
        for name, value in (("ce", ce_S), ("kl", kl_S), ("tokens", torch.ones_like(ce_S))):
            key = f"{name}_{variant}"
            # never in place: spawned CPU processes get the module's tensors as shared memory
            setattr(self, key, getattr(self, key).index_add(0, task_S, value.double()))

    def compute(self) -> dict[str, npt.NDArray[np.float64]]:
        """Sums [K] under `ce_clean`, `kl_spliced`, `tokens_zero` …"""
        return {name: getattr(self, name).cpu().numpy() for name in self.metric_state}
