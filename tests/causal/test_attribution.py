"""Attribution against finite differences, against the Fisher matrix itself, and against true ablation."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from saescope.activations import ActivationStore
from saescope.causal.ablation import Ablation
from saescope.causal.attribution import attribute, batch_scores, drawn_labels
from saescope.causal.removal import LatentSet
from saescope.config import HookpointConfig, HubSae, RuntimeConfig
from saescope.errors import SaeError
from saescope.extraction.setup import Setup
from saescope.model.hookpoints import resolve
from saescope.model.load import LanguageModel
from saescope.runtime.hardware import Hardware
from saescope.runtime.meter import Meter
from saescope.sae.base import token_of_each
from saescope.sae.coder import CoderSae, SparseCoder, SparseCoderConfig
from saescope.sae.decoder_rows import decoder_rows
from saescope.sae.neurons import NeuronBasis
from saescope.sae.python_target import UserSae
from saescope.stats.causal_index import agreement
from tests.dynamic_k.job import config, sae_of, setup_of
from tests.dynamic_k.models import KINDS, tiny, windows

LATENTS = 24


def coder(d_in=16, k=4, seed=0, **options):
    torch.manual_seed(seed)
    sparse = SparseCoder(d_in, SparseCoderConfig(num_latents=LATENTS, k=k, **options))
    torch.nn.init.normal_(sparse.b_dec, std=0.1)
    return CoderSae(sparse, torch.float32, {"source": "random", "trained_k": k})


def ablation(model, sae, name="layers.0", documents=2, batch_tokens=512):
    """Over all windows of `documents` documents of `tests.dynamic_k.models.windows`."""
    hookpoint = resolve(HookpointConfig("custom", name=name), model, quiet=True)
    setup = Setup(
        LanguageModel(model, None, "tiny"),
        hookpoint,
        windows(documents),
        Hardware("cpu", torch.float32, batch_tokens),
        ActivationStore("off", 0, model, torch.float32),
        RuntimeConfig("cpu"),
    )
    return Ablation(setup, sae, np.ones(documents, dtype=bool), tokens=10**6)


def scores_of(parts, draws=1, seed=0):
    return attribute(parts.batches(), parts.coder, len(parts.windows.task_D), seed=seed, draws=draws)


PLACES = [(kind, name) for kind in KINDS for name in ("layers.0", "layers.0.mlp", "layers.1")]


@pytest.mark.parametrize(("kind", "name"), [*PLACES, ("llama", "blocks.0.hook_resid_mid")])
def test_scores_are_the_slopes_of_the_likelihood_of_the_drawn_labels(kind, name):
    parts = ablation(tiny(kind), coder(), name)
    (hooked,) = parts.batches()
    (scores,) = batch_scores(hooked, parts.coder, 1, seed=3)
    p_SV = torch.softmax(hooked.logits().detach(), -1)
    labels_S1 = drawn_labels(p_SV, hooked, 3, 0)

    def likelihood(change_nD):
        before = hooked.activation_BTD.data.clone()
        hooked.activation_BTD.data[hooked.batch.counted_BT] += change_nD
        log_p_SV = torch.log_softmax(hooked.logits().detach().double(), -1)
        hooked.activation_BTD.data[:] = before
        return float(log_p_SV.gather(1, labels_S1).sum())

    codes, step = hooked.codes, 0.02
    token_E = token_of_each(codes)
    assert len(scores) == len(codes.acts) > 20
    slopes = []
    entries = torch.randperm(len(scores), generator=torch.Generator().manual_seed(1))[:12].tolist()
    for entry in entries:
        change_ND = torch.zeros(len(codes.sizes_N), 16)
        row = parts.coder.coder.W_dec[codes.latents[entry]].detach()
        change_ND[token_E[entry]] = step * codes.acts[entry] * row
        slopes.append((likelihood(change_ND) - likelihood(-change_ND)) / (2 * step))
    assert max(map(abs, slopes)) > 1e-3
    np.testing.assert_allclose(scores[entries].numpy(), slopes, rtol=0.02, atol=3e-4)


def test_many_draws_give_the_fisher_matrix():
    """½ E(a d·g)² = ½ Σ Var(z') over predictions, z' the derivative of the logits along a d at one token."""
    model = tiny("llama")
    model.set_attn_implementation("eager")  # the other has no derivative in forward mode
    parts = ablation(model, coder(k=3))
    (hooked,) = parts.batches()
    result = scores_of(parts, draws=3000)
    codes = hooked.codes

    def logits(change_BTD):
        leaf = hooked.activation_BTD.detach() + change_BTD
        with parts.capture.replaced(lambda _x, _old: leaf):
            output = parts.model(input_ids=hooked.batch.input_ids_BT, use_cache=False).logits
        return output[:, :-1][hooked.scored]

    nothing = torch.zeros_like(hooked.activation_BTD)
    p_SV = torch.softmax(logits(nothing), -1)
    at = hooked.batch.counted_BT.nonzero()
    expected = np.zeros((2, LATENTS))
    for entry, token in enumerate(token_of_each(codes).tolist()):
        along_BTD = nothing.clone()
        row = parts.coder.coder.W_dec[codes.latents[entry]].detach()
        along_BTD[at[token, 0], at[token, 1]] = codes.acts[entry] * row
        _, slope_SV = torch.func.jvp(logits, (nothing,), (along_BTD,))
        variance_S = (p_SV * slope_SV**2).sum(-1) - (p_SV * slope_SV).sum(-1) ** 2
        expected[hooked.doc_N[token], codes.latents[entry]] += 0.5 * float(variance_S.sum())
    np.testing.assert_allclose(result.latents().toarray(), expected, rtol=0.25, atol=1e-6)
    assert result.latents().sum() == pytest.approx(expected.sum(), rel=0.05)


def test_documents_and_the_last_position():
    """Two windows of 6 and 7 tokens, the first of each not counted; after the last no prediction follows."""
    result = scores_of(ablation(tiny("gpt2"), coder(), "layers.1"), draws=2)
    assert result.tokens_D.tolist() == [5, 6]
    assert result.scores_NF.shape == (22, LATENTS)
    effect_N = np.asarray(abs(result.scores_NF).sum(axis=1)).ravel()
    last_N = np.append(np.diff(result.doc_N) != 0, True)
    assert last_N.sum() == 4
    assert (effect_N[last_N] == 0).all()
    assert (effect_N[~last_N] > 0).all()


def test_batches_make_no_difference():
    """The labels that are drawn are those of one batch; another seed draws others."""
    model, sae = tiny("gpt2"), coder()
    one, many = ablation(model, sae, documents=8), ablation(model, sae, documents=8, batch_tokens=16)
    assert len(many.cut) > len(one.cut) == 1
    whole, cut = (scores_of(parts, draws=4).latents().toarray() for parts in (one, many))
    assert whole.max() > 1e-3
    np.testing.assert_allclose(whole, cut, rtol=1e-3, atol=1e-6)
    again, other = scores_of(many, seed=1), scores_of(many, seed=2)
    assert (again.scores_NF != scores_of(many, seed=1).scores_NF).nnz == 0
    assert (again.scores_NF != other.scores_NF).nnz > 0


def test_labels_are_drawn_from_the_predictions():
    """Two of three tokens, in the proportion of their probabilities."""
    (hooked,) = ablation(tiny("gpt2"), coder(), documents=2).batches()
    p_SV = torch.tensor([0.75, 0.0, 0.25]).expand(len(hooked.doc_S), 3)
    labels = torch.cat([drawn_labels(p_SV, hooked, 0, draw) for draw in range(500)])
    share_V = torch.bincount(labels.ravel(), minlength=3) / len(labels)
    np.testing.assert_allclose(share_V.numpy(), [0.75, 0.0, 0.25], atol=0.02)


def test_gradients_run_on_fewer_windows_at_a_time():
    parts = ablation(tiny("gpt2"), coder(), documents=8, batch_tokens=64)
    sizes = [hooked.batch.input_ids_BT.numel() for hooked in parts.batches()]
    assert max(sizes) <= 16 < max(batch.input_ids_BT.numel() for batch in parts.cut)
    counted = sum(int(hooked.batch.counted_BT.sum()) for hooked in parts.batches())
    assert counted == sum(int(batch.counted_BT.sum()) for batch in parts.cut)


class Plain:
    """An SAE of the user's own with ReLU codes, decoded by numpy: no gradient."""

    num_latents = LATENTS

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.randn(LATENTS, 16, generator=generator) / 4

    def encode(self, x):
        return torch.relu(x @ self.weight.T - 0.3)

    def decode(self, dense):
        return torch.from_numpy(dense.numpy() @ self.weight.numpy() + 1)


def test_an_sae_that_decodes_without_a_gradient_is_read_off_its_decoder():
    sae, like = UserSae(Plain(), d_in=16, label="plain", source={}), coder(k=LATENTS)
    torch.testing.assert_close(decoder_rows(sae), sae.inner.weight, atol=1e-6, rtol=1e-5)
    like.coder.W_dec.data[:] = sae.inner.weight
    like.encode = sae.encode
    first, second = (scores_of(ablation(tiny("llama"), s)).scores_NF.toarray() for s in (sae, like))
    assert np.abs(first).max() > 1e-3
    np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-6)


def test_a_decoder_that_needs_its_token_has_no_rows():
    class Standardised(UserSae):
        def decode(self, codes):
            raise SaeError("this SAE standardises every token by itself: use reconstruct(x, codes)")

    with pytest.raises(SaeError, match="standardises"):
        decoder_rows(Standardised(Plain(), d_in=16, label="plain", source={}))


def test_neurons_and_transcoders_have_scores():
    model = tiny("llama")
    assert np.abs(scores_of(ablation(model, NeuronBasis(16, 5))).scores_NF.data).max() > 1e-3
    transcoder = coder(transcode=True, skip_connection=True)
    torch.nn.init.normal_(transcoder.coder.W_dec)  # zeros before training
    result = scores_of(ablation(model, transcoder, "layers.0.mlp"))
    assert np.abs(result.scores_NF.data).max() > 1e-3


def test_it_ranks_latents_as_true_ablation_does():
    """On the embedded model: 80 latents taken out one at a time on the same windows."""
    cfg = config("embedded", "embedded", sae=HubSae(repo="embedded"), layer=2)
    setup = setup_of(cfg)
    sae = sae_of(cfg, setup)
    parts = Ablation(setup, sae, np.ones(len(setup.windows.task_D), dtype=bool), tokens=1200)
    fisher_F = np.asarray(scores_of(parts, draws=2).latents().sum(axis=0)).ravel()
    latents = np.random.default_rng(0).permutation(np.flatnonzero(fisher_F > 0))[:80]
    with Meter("test", 0, "", quiet=True) as meter:
        effects = parts.effects([LatentSet(str(f), np.array([f])) for f in latents], meter)
    result = agreement(effects.kl_GD.sum(axis=1), fisher_F[latents])
    assert result.pairs == 80
    assert result.r > 0.8
    assert 0.5 < result.median_ratio < 2


def test_sets_are_those_of_the_latents_together():
    result = scores_of(ablation(tiny("gpt_neox"), coder(), documents=4))
    members = np.zeros((LATENTS, 2))
    members[[1, 2, 3], 0] = members[5, 1] = 1
    sets_DG = result.sets(sp.csr_matrix(members))
    scores = result.scores_NF.toarray()
    together_N = 0.5 * scores[:, [1, 2, 3]].sum(axis=1) ** 2
    np.testing.assert_allclose(sets_DG[:, 0], np.bincount(result.doc_N, weights=together_N, minlength=4))
    assert type(sets_DG) is np.ndarray
    np.testing.assert_allclose(sets_DG[:, 1], result.latents().toarray()[:, 5])
