"""Nested reads of one encode, and cuts at equal mean L0."""

import numpy as np
import pytest
import torch

from saescope.dynamic_k.reads import KEYS, cut_for, prefix_key, ranks, read
from saescope.sae.base import SparseCodes


def some_codes(tokens=60, most=9, seed=0, ties=False) -> SparseCodes:
    """Random codes; some tokens have none."""
    noise = np.random.default_rng(seed)
    sizes = noise.integers(0, most + 1, tokens)
    acts = noise.normal(size=sizes.sum())
    if ties:
        acts = np.round(acts) + 0.5
    latents = np.concatenate([noise.choice(40, size, replace=False) for size in sizes])
    return SparseCodes(
        torch.from_numpy(sizes), torch.from_numpy(latents), torch.from_numpy(acts.astype(np.float32))
    )


def by_token(codes: SparseCodes, values: torch.Tensor) -> list[np.ndarray]:
    return [part.numpy() for part in values.split(codes.sizes_N.tolist())]


@pytest.mark.parametrize("ties", [False, True])
def test_prefixes_are_the_largest_and_nested(ties):
    codes = some_codes(ties=ties)
    key = prefix_key(codes)
    previous = np.zeros(len(codes.acts), dtype=bool)
    for k in range(1, 10):
        kept = read(codes, key, 1.0 - k).acts != 0
        assert not (previous & ~kept.numpy()).any()
        previous = kept.numpy()
        for acts, mine in zip(by_token(codes, codes.acts), by_token(codes, kept), strict=True):
            assert mine.sum() == min(k, len(acts))
            if 0 < mine.sum() < len(acts):
                assert np.abs(acts[mine]).min() >= np.abs(acts[~mine]).max()


def test_ranks_equal_a_sort_per_token():
    codes = some_codes()
    for acts, rank in zip(by_token(codes, codes.acts), by_token(codes, ranks(codes)), strict=True):
        assert rank.tolist() == np.argsort(np.argsort(-np.abs(acts))).tolist()


def test_keys_of_the_dynamic_selectors_equal_their_definitions():
    codes = some_codes(seed=3)
    found = {name: by_token(codes, KEYS[name](codes)) for name in ("top_p", "rel_max", "threshold")}
    for at, acts in enumerate(by_token(codes, codes.acts.abs())):
        if not len(acts):
            continue
        np.testing.assert_allclose(found["rel_max"][at], acts / acts.max(), rtol=1e-6)
        np.testing.assert_array_equal(found["threshold"][at], acts)
        for p in (0.1, 0.5, 0.9):
            kept = found["top_p"][at] >= -p
            order = np.argsort(-acts)
            share = np.cumsum(acts[order] ** 2) / np.sum(acts**2)
            smallest = int(np.searchsorted(share, p, side="right")) + 1  # first set whose share exceeds p
            assert sorted(np.flatnonzero(kept)) == sorted(order[:smallest])


def test_cuts_keep_as_many_entries_as_asked():
    key = torch.randn(500, generator=torch.Generator().manual_seed(0))
    for entries in (1, 77, 499, 500, 900):
        assert int((key >= cut_for(key, entries)).sum()) == min(entries, 500)
