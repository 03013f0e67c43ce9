"""x Wᵀ + b on the CPU in seven products of halves where eight are usual.

Strassen's algorithm (1969, "Gaussian elimination is not optimal") in Winograd's form, one level deep:
Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., section 23.2.2. Sums of halves of W are
made once for all tokens; those of the results are mostly made by BLAS, which adds a product to what is
there.

With u the unit roundoff and the norm the largest entry, no result is off by more than
(4.5 d² + 48 d) u |x| |W| (Theorem 23.3, one level), against d² u |x| |W| for a plain product; on normal
numbers the error is 2.3 to 2.7 times the plain one. One half of the tokens is added to the other, so the
rounding of a token is relative to the larger of the two (tests/training/test_strassen.py).
"""

import torch
from torch import Tensor

# With fewer tokens or a narrower model the sums cost more than the eighth product.
LEAST_TOKENS, LEAST_D_IN = 1024, 384


class Strassen:
    """W and b for pairs of blocks of latents, and the sums of quarters of W."""

    def __init__(self, weight_FD: Tensor, bias_F: Tensor, columns: int) -> None:
        """`columns` latents are a block; those after the last whole pair are left out. d is even."""
        self.count, half = len(weight_FD) // (2 * columns), weight_FD.shape[1] // 2
        latents = self.count * 2 * columns
        quarters = weight_FD[:latents].reshape(self.count, 2, columns, 2, half)
        # as in Higham, of W' (d × F): rows are halves of d, columns the two blocks
        b11, b21 = quarters[:, 0, :, 0], quarters[:, 0, :, 1]
        b12, b22 = quarters[:, 1, :, 0], quarters[:, 1, :, 1]
        s5 = b12 - b11
        s6 = b22 - s5
        self.weights_PCH = (b11, b21, b22, s5, s6, b22 - b12, s6 - b21)
        self.bias_P2C = bias_F[:latents].reshape(self.count, 2, columns)

    @staticmethod
    def pays(tokens: int, weight_FD: Tensor, columns: int) -> bool:
        """Whether products of so many tokens are faster this way."""
        latents, d_in = weight_FD.shape
        return (
            weight_FD.device.type == "cpu"
            and weight_FD.dtype in (torch.float32, torch.float64)
            and tokens % 2 == d_in % 2 == 0
            and tokens >= LEAST_TOKENS
            and d_in >= LEAST_D_IN
            and latents >= 2 * columns
        )


class Halves:
    """The quarters of x [N, d] and their sums."""

    def __init__(self, x_ND: Tensor) -> None:
        """N and d are even."""
        self.tokens, half = len(x_ND) // 2, x_ND.shape[1] // 2
        upper, lower = x_ND[: self.tokens], x_ND[self.tokens :]
        self.a11, self.a12, self.a22 = upper[:, :half], upper[:, half:], lower[:, half:]
        self.s1 = lower[:, :half] + self.a22
        self.s2 = self.s1 - self.a11
        self.s3 = self.a11 - lower[:, :half]
        self.s4 = self.a12 - self.s2

    def product(self, w: Strassen, pair: int, left_NC: Tensor, right_NC: Tensor) -> None:
        """x Wᵀ + b of the two blocks of a pair, into `left_NC` and `right_NC`."""
        b11, b21, b22, s5, s6, s7, s8 = (weights_PCH[pair].T for weights_PCH in w.weights_PCH)
        left_C, right_C = w.bias_P2C[pair]
        # The two sums that all quarters share grow in the places of the lower ones. Each holds its part of
        # the bias from the start.
        (c11, one), (c12, two) = (torch.split(block_NC, self.tokens) for block_NC in (left_NC, right_NC))
        torch.addmm(left_C, self.a11, b11, out=one)
        torch.addmm(one, self.a12, b21, out=c11)
        one.addmm_(self.s2, s6)
        torch.addmm(right_C - left_C, self.s1, s5, out=two)
        torch.add(one, two, out=c12).addmm_(self.s4, b22)
        one.addmm_(self.s3, s7)
        two.add_(one)
        one.addmm_(self.a22, s8, alpha=-1)
