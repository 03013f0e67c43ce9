"""Losses by hand on three tokens, and edits that change the marked positions only."""

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from saescope.model.losses import CHUNK_BYTES, clean_pass, edit_at, edited_passes, scored_positions

# what follows token 0, 1, 2: logits of the tokens 0, 1, 2
NEXT = torch.tensor([[np.log(2.0), 0.0, 0.0], [0.0, np.log(3.0), 0.0], [0.0, 0.0, 0.0]]).float()


class Bigrams(torch.nn.Module):
    """Three tokens; the logits of the next one are a row of `NEXT`. Its hidden state is the token itself."""

    def __init__(self):
        super().__init__()
        self.unembedding = torch.nn.Linear(3, 3, bias=False)
        self.unembedding.weight = torch.nn.Parameter(NEXT.T.contiguous(), requires_grad=False)

    def get_output_embeddings(self):
        return self.unembedding

    def forward(self, input_ids, use_cache):
        return SimpleNamespace(logits=self.unembedding(torch.eye(3)[input_ids]))


@contextmanager
def rows_exchanged(model, rows):
    """While open, the logits that follow token t are row `rows[t]`."""
    before = model.unembedding.weight
    model.unembedding.weight = torch.nn.Parameter(NEXT[rows].T.contiguous(), requires_grad=False)
    yield
    model.unembedding.weight = before


def test_values_by_hand():
    """Clean, p(·|0) = (2, 1, 1)/4 and p(·|1) = (1, 3, 1)/5; edited, all three are as likely after 0 and 1."""
    model, ids = Bigrams(), torch.tensor([[0, 0, 1, 2], [1, 0, 2, 2]])
    scored = torch.tensor([[True, True, True], [True, False, False]])
    clean = clean_pass(model, ids, scored)
    # 0 → 0, 0 → 1, 1 → 2; 1 → 0
    assert clean.target_S.tolist() == [0, 1, 2, 0]
    assert clean.losses.ce_S.tolist() == pytest.approx(np.log([2, 4, 5, 5]), rel=1e-6)
    assert clean.losses.kl_S.tolist() == [0, 0, 0, 0]
    assert clean.losses.agree_S.all()

    edits = {"uniform": rows_exchanged(model, [2, 2, 2]), "none": rows_exchanged(model, [0, 1, 2])}
    losses = dict(edited_passes(model, clean, edits))
    assert list(losses) == ["uniform", "none"]
    after_0 = 0.5 * np.log(0.5 * 3) + 0.5 * np.log(0.25 * 3)
    after_1 = 0.6 * np.log(0.6 * 3) + 0.4 * np.log(0.2 * 3)
    assert losses["uniform"].ce_S.tolist() == pytest.approx([np.log(3)] * 4, rel=1e-6)
    assert losses["uniform"].kl_S.tolist() == pytest.approx([after_0, after_0, after_1, after_1], rel=1e-5)
    # of equal logits the first is the likeliest: token 0, as after 0; after 1 it is token 1
    assert losses["uniform"].agree_S.tolist() == [True, True, False, False]
    for edited, untouched in zip(losses["none"], clean.losses, strict=True):
        assert torch.equal(edited, untouched)
    # a pass without hooks of the scored positions alone
    assert torch.equal(clean_pass(model, ids, scored).log_p_SV, clean.log_p_SV)


def test_the_clean_pass_serves_logits_from_elsewhere(monkeypatch):
    """Chunks of one prediction give what one chunk gives."""
    model, ids = Bigrams(), torch.tensor([[0, 1, 2, 0, 1]])
    clean = clean_pass(model, ids, torch.ones(1, 4, dtype=torch.bool))
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    whole = clean.compare(logits)
    monkeypatch.setitem(CHUNK_BYTES, "cpu", 1)
    for one_by_one, together in zip(clean.compare(logits), whole, strict=True):
        assert torch.equal(one_by_one, together)
    expected = torch.nn.functional.cross_entropy(logits, clean.target_S, reduction="none")
    torch.testing.assert_close(whole.ce_S, expected)


def test_no_position_to_score():
    model, ids = Bigrams(), torch.tensor([[0, 1]])
    clean = clean_pass(model, ids, torch.zeros(1, 1, dtype=torch.bool))
    assert [len(values) for values in clean.losses] == [0, 0, 0]
    ((_, losses),) = edited_passes(model, clean, {"uniform": rows_exchanged(model, [2, 2, 2])})
    assert [len(values) for values in losses] == [0, 0, 0]


def test_scored_are_counted_positions_before_a_real_token():
    counted = torch.tensor([[False, True, True, True], [True, True, False, False]])
    real = torch.tensor([[True, True, True, True], [True, True, False, False]])
    assert scored_positions(counted, real).tolist() == [[False, True, True], [True, False, False]]


def test_an_edit_changes_marked_positions_only_and_keeps_the_dtype():
    old = torch.arange(12.0).view(2, 3, 2).bfloat16()
    marked = torch.tensor([[True, False, False], [False, True, True]])
    reads = []
    new = edit_at(marked, lambda x, at: reads.append((x, at)) or x + 100)(2 * old, old)
    assert new.dtype == torch.bfloat16
    assert torch.equal(new[~marked], old[~marked])
    assert torch.equal(new[marked], (2 * old[marked].float() + 100).bfloat16())
    assert torch.equal(old, torch.arange(12.0).view(2, 3, 2).bfloat16())
    ((x, at),) = reads
    assert x.dtype == torch.float32
    assert torch.equal(at, old[marked])
