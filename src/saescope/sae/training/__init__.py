"""Training of TopK SAEs with sparsify's recipe, several times faster on the CPU, with bit-equal resume."""

from saescope.sae.training.batches import ActivationBatches, MemoryBatches
from saescope.sae.training.checkpoint import save_coder
from saescope.sae.training.fit import fit
from saescope.sae.training.module import SaeTraining
from saescope.sae.training.recipe import Recipe, new_coder

__all__ = ["ActivationBatches", "MemoryBatches", "Recipe", "SaeTraining", "fit", "new_coder", "save_coder"]
