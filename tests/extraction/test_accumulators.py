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


def test_codes_of_a_process_group_are_gathered(tmp_path):
    """Within a group the lists stay in memory and come out joined: a group of one process shows it."""
    import torch.distributed as dist

    from saescope.extraction.accumulators import CodeLists
    from saescope.sae.base import SparseCodes

    codes = SparseCodes(torch.tensor([2, 1]), torch.tensor([4, 7, 0]), torch.tensor([1.0, 2.0, 3.0]))
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    try:
        lists = CodeLists()
        lists.update(torch.tensor([5, 3]), codes)
        lists.update(torch.tensor([1, 2]), codes)
        rows = lists.compute()
    finally:
        dist.destroy_process_group()
    assert rows.rows.tolist() == [5, 3, 1, 2]
    assert rows.sizes.tolist() == [2, 1, 2, 1]
    assert rows.latents.tolist() == [4, 7, 0, 4, 7, 0]
    assert rows.acts.tolist() == [1, 2, 3, 1, 2, 3]
