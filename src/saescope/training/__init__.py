"""Training of TopK SAEs with sparsify's recipe, several times faster on the CPU, with bit-equal resume."""

from saescope.config import Recipe
from saescope.training.batches import ActivationBatches, MemoryBatches
from saescope.training.checkpoint import save_coder
from saescope.training.fit import fit
from saescope.training.module import SaeTraining
from saescope.training.recipe import new_coder

__all__ = ["ActivationBatches", "MemoryBatches", "Recipe", "SaeTraining", "fit", "new_coder", "save_coder"]
