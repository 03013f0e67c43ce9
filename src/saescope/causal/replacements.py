"""What ablated activations become, taken from documents that are not measured."""

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from saescope.causal.ablation import Ablation
from saescope.causal.removal import LatentSet
from saescope.config import Ablate
from saescope.extraction.setup import Setup
from saescope.sae.base import Sae
from saescope.stats.arrays import AnyIntArray, BoolArray, IntArray

DONORS = 256
"""Tokens off the task from which `resample` draws."""


class Replacements:
    """Activations of the choosing documents, for `causal.to=mean` and `causal.to=resample`."""

    def __init__(self, to: str, source: Ablation | None, task_D: AnyIntArray, seed: int) -> None:
        """`source` reads the choosing documents; None for `zero`."""
        self.to, self.seed = to, seed
        if source is None:
            return
        parts, tasks = [], []
        for batch in source.cut:
            with torch.inference_mode():
                codes = source.coder.encode(source.seen(batch).x_ND)
            starts = np.concatenate([[0], np.cumsum(codes.sizes_N.cpu().numpy())])
            entries = codes.acts.cpu().numpy(), codes.latents.cpu().numpy(), starts
            parts.append(sp.csr_matrix(entries, shape=(len(starts) - 1, source.coder.num_latents)))
            tasks.append(np.asarray(task_D)[source.documents(batch, batch.counted_BT)])
        self.acts_NF, self.task_N = sp.vstack(parts, format="csr"), np.concatenate(tasks)

    @classmethod
    def of(
        cls,
        job: Ablate,
        setup: Setup,
        coder: Sae,
        task_D: AnyIntArray,
        choose_D: BoolArray,
        seed: int,
        left_out: IntArray,
    ) -> "Replacements":
        """What `causal.to` asks for, read in the documents `choose_D` without the windows of `left_out`."""
        zero = job.to == "zero"
        source = None if zero else Ablation(setup, coder, choose_D, job.tokens, seed, left_out)
        return cls(job.to, source, task_D, seed)

    def latent_set(self, name: str, latents_F: IntArray, task: int) -> LatentSet:
        """The set with what its activations become: of tokens that are not of `task`."""
        if self.to == "zero" or not len(latents_F):
            return LatentSet(name, latents_F)
        off = np.flatnonzero(self.task_N != task)
        if self.to == "resample":
            off = np.random.default_rng([self.seed, task]).choice(
                off, size=min(DONORS, len(off)), replace=False
            )
        rows: npt.NDArray[np.float32] = self.acts_NF[off][:, latents_F].toarray().astype(np.float32)
        return LatentSet(name, latents_F, rows.mean(axis=0, keepdims=True) if self.to == "mean" else rows)
