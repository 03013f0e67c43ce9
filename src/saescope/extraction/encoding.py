"""Activations → codes and reconstruction sums, for jobs and for `saescope.measure`."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from saescope.errors import SaeError
from saescope.extraction.accumulators import CodeLists, LargestTokens, ReconstructionSums, RowList
from saescope.sae.base import Sae


class Encoding(nn.Module):
    """Encodes, decodes and accumulates; tokens with NaN or infinite activations are only listed."""

    def __init__(self, sae: Sae, num_tasks: int, place: str, num_tokens: int) -> None:
        """`place` names the hookpoint in messages; `num_tokens`: of all processes together."""
        super().__init__()
        self.sae, self.place = sae, place
        self.reconstruction = ReconstructionSums(num_tasks, sae.d_out)
        self.largest = LargestTokens(num_tokens, num_tasks, sae.d_out)
        self.codes = CodeLists()
        self.bad_rows = RowList()
        """Rows of tokens with NaN or infinite activations; these are not in `reconstruction` and `codes`."""

    def update(self, x_ND: Tensor, target_ND: Tensor, row_N: Tensor, task_N: Tensor) -> None:
        """Add N tokens: activations `x_ND` to encode, `target_ND` to reconstruct (the same for an SAE).

        `row_N` is the row of each token in the codes, on any device, `task_N` its task. Raises SaeError when
        the SAE gives NaN or infinite values for finite activations.
        """
        good_N = torch.isfinite(x_ND).all(dim=1)
        if target_ND is not x_ND:
            good_N &= torch.isfinite(target_ND).all(dim=1)
        bad_row_N = row_N[:0]
        if not good_N.all():
            same, good_row_N = target_ND is x_ND, good_N.to(row_N.device)
            bad_row_N, row_N = row_N[~good_row_N], row_N[good_row_N]
            x_ND, task_N = x_ND[good_N], task_N[good_N]
            target_ND = x_ND if same else target_ND[good_N]
        self.bad_rows.update(bad_row_N)
        codes = self.sae.encode(x_ND)
        xhat_ND = self.sae.reconstruct(x_ND, codes)
        if not (torch.isfinite(codes.acts).all() & torch.isfinite(xhat_ND).all()):
            raise SaeError(
                f"the SAE gives NaN or infinite values for finite activations at {self.place}; "
                "its weights are too large for this precision or damaged"
            )
        self.reconstruction.update(target_ND, xhat_ND, codes.sizes_N, task_N)
        self.largest.update(target_ND, task_N)
        self.codes.update(row_N, codes)

    def sums(self) -> dict[str, npt.NDArray[np.float64]]:
        """Sums per task: those of `ReconstructionSums`, and `top_deviation` [K] of the `LargestTokens`."""
        sums, deviation = self.reconstruction.compute(), self.largest.compute()
        num_tokens = int(sums["tokens"].sum())
        mean_D = sums["x"].sum(0) / max(1, num_tokens)
        return {**sums, "top_deviation": deviation(mean_D, num_tokens)}
