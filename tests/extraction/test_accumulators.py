"""The tokens of largest norm, whatever batches they come in."""

import numpy as np
import pytest
import torch

from saescope.analysis.reconstruction import reconstruction_metrics
from saescope.extraction.accumulators import LargestTokens
from saescope.extraction.encoding import Encoding
from saescope.sae.neurons import NeuronBasis


def tokens(huge: int) -> torch.Tensor:
    x = torch.randn(3000, 8, generator=torch.Generator().manual_seed(0)) + 2
    x[torch.arange(huge) * 700 + 5] *= 200
    return x


@pytest.mark.parametrize("batch", [1, 64, 3000])
@pytest.mark.parametrize("huge", [0, 3])
def test_the_share_of_the_largest_tokens(batch, huge):
    x, task_N = tokens(huge), torch.arange(3000) % 2
    largest = LargestTokens(3000, 2, 8)
    for at in range(0, 3000, batch):
        largest.update(x[at : at + batch], task_N[at : at + batch])
    values = x.double().numpy()
    top = np.argsort((values**2).sum(1))[-3:]
    away = ((values - values.mean(0)) ** 2).sum(1)
    expected = [away[top][top % 2 == task].sum() for task in (0, 1)]
    assert largest.compute()(values.mean(0), 3000) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("huge", "low", "high"), [(0, 0.001, 0.01), (3, 0.9, 1.0)])
def test_a_few_tokens_that_carry_the_variance_are_seen(huge, low, high):
    x = tokens(huge)
    encoding = Encoding(NeuronBasis(8, 4), 2, "here", len(x))
    encoding.update(x, x, torch.arange(3000), torch.arange(3000) % 2)
    metrics = reconstruction_metrics(encoding.sums())
    share = metrics["sae/variance_top_tokens"]
    assert share is not None
    assert low < share < high
