"""Promoted tokens against a direct computation on the embedded model."""

import numpy as np
import pytest
import torch

import saescope
from saescope.analysis.promoted_tokens import PROMOTED, nearest_latents, promoted_tokens
from saescope.sae.decoder_rows import decoder_rows


@pytest.fixture(scope="module")
def material():
    lm = saescope.load_model("embedded", device="cpu", dtype="float32")
    return lm, saescope.load_sae("embedded", "layers.2", model=lm)


def test_decoder_rows_are_the_decoders(material):
    _, sae = material
    latents = torch.tensor([3, 500, 1023])
    for directions in (False, True):
        rows = decoder_rows(sae, latents, directions=directions)
        torch.testing.assert_close(rows, sae.coder.W_dec[latents])


def test_promoted_tokens_are_those_of_the_final_norm_and_the_unembedding(material):
    lm, sae = material
    latents = np.arange(0, 1024, 100, dtype=np.int32)
    rows_Ld = decoder_rows(sae, torch.from_numpy(latents))
    found = promoted_tokens(lm.model, rows_Ld, np.ones(len(latents), dtype=np.int64))
    assert found is not None
    norm = lm.model.base_model.final_layer_norm if hasattr(lm.model.base_model, "final_layer_norm") else None
    if norm is None:
        norm = lm.model.base_model.norm
    with torch.inference_mode():
        scaled = 1000.0 * rows_Ld / rows_Ld.norm(dim=1, keepdim=True)
        head = lm.model.get_output_embeddings()
        logits = head(norm(scaled)) - head(norm(torch.zeros_like(scaled)))
        z = (logits - logits.mean(1, keepdim=True)) / logits.std(1, keepdim=True)
    best, worst = z.topk(PROMOTED, dim=1), (-z).topk(PROMOTED, dim=1)
    np.testing.assert_array_equal(found.id_LT, best.indices.numpy())
    np.testing.assert_array_equal(found.suppressed_LT, worst.indices.numpy())
    np.testing.assert_allclose(found.z_LT, best.values.numpy(), atol=0.01)
    np.testing.assert_allclose(found.suppressed_z_LT, -worst.values.numpy(), atol=0.01)


def test_rows_of_another_width_promote_nothing(material):
    assert promoted_tokens(material[0].model, torch.ones(3, 7), np.ones(3, dtype=np.int64)) is None


def test_nearest_latents_by_hand():
    rows = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    place, cosine = nearest_latents(rows)
    assert place[0].tolist() == [1, 3, 2]
    assert place[1].tolist() == [0, 3, 2]
    assert place[2][0] == 3
    np.testing.assert_allclose(cosine[3, 0], np.sqrt(0.5), atol=1e-3)
