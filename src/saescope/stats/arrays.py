"""Array types shared by the statistics; letters after an underscore give the axes.

F latents, S supported latents, K tasks, D documents, N tokens (or other counting units), E edges.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
ByteArray: TypeAlias = npt.NDArray[np.uint8]
AnyIntArray: TypeAlias = npt.NDArray[np.integer[Any]]
Csr: TypeAlias = sparse.csr_matrix

__all__ = ["AnyIntArray", "BoolArray", "ByteArray", "Csr", "FloatArray", "IntArray"]
