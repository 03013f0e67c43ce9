"""The two decoder steps of sparsify's recipe, and that of a soft-frozen decoder, on blocks of rows."""

import torch
from torch import Tensor

BLOCK_BYTES = 2**21
"""Bytes of decoder rows worked on at a time on the CPU: they stay in cache."""


@torch.no_grad()
def to_unit_norm(W_dec_FD: Tensor) -> None:
    """Scale rows to norm 1 in place (`SparseCoder.set_decoder_norm_to_unit_norm`)."""
    eps = torch.finfo(W_dec_FD.dtype).eps
    for rows in torch.split(W_dec_FD.data, _rows(W_dec_FD)):
        rows /= torch.linalg.vector_norm(rows, dim=1, keepdim=True) + eps


@torch.no_grad()
def remove_parallel(W_dec_FD: Tensor, grad_FD: Tensor) -> None:
    """Remove from each gradient row its component along the decoder row, in place.

    As `SparseCoder.remove_gradient_parallel_to_decoder_directions`.
    """
    size = _rows(W_dec_FD)
    for rows, grad in zip(torch.split(W_dec_FD.data, size), torch.split(grad_FD, size), strict=True):
        grad.addcmul_((grad * rows).sum(1, keepdim=True), rows, value=-1)


@torch.no_grad()
def keep_near(W_dec_FD: Tensor, unit_FD: Tensor, least_cosine: float) -> None:
    """Turn each row towards its direction in `unit_FD` until their cosine is `least_cosine`, in place.

    Norms are kept; a row that is near enough stays as it is.
    """
    size = _rows(W_dec_FD)
    sine = (1 - least_cosine**2) ** 0.5
    for rows, units in zip(torch.split(W_dec_FD.data, size), torch.split(unit_FD, size), strict=True):
        along_F = torch.linalg.vecdot(rows, units)
        far = (along_F < least_cosine * torch.linalg.vector_norm(rows, dim=1)).nonzero().flatten()
        if len(far):
            row, unit, along = rows[far], units[far], along_F[far, None]
            across = torch.nn.functional.normalize(row - along * unit, dim=1)
            norm = torch.linalg.vector_norm(row, dim=1, keepdim=True)
            rows[far] = norm * (least_cosine * unit + sine * across)


def _rows(W_FD: Tensor) -> int:
    """Rows of a block; off the CPU all of them."""
    if W_FD.device.type != "cpu":
        return len(W_FD)
    return max(1, BLOCK_BYTES // (W_FD.element_size() * W_FD.shape[1]))
