"""What each latent does to the model's predictions, to second order, for all latents in one backward pass.

For every counted token n and latent f active on it: a d·g, a its activation, d its decoder row, g the
gradient with respect to the activation at n of the log-likelihood of labels drawn from the model's own
predictions. ½ (a d·g)² is, in expectation over the labels, the leading term of KL(model ‖ model without f at
n), summed over the predictions at n and at all later positions of the window: what attention carries on is
included. What is left out: terms of higher order, and what taking f out of two positions does beyond each of
them alone.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

from saescope.causal.ablation import HookedBatch
from saescope.sae.base import Sae, SparseCodes, weighted_rows
from saescope.sae.decoder_rows import decoder_rows
from saescope.stats.causal_index import document_sums, latent_mass, set_mass


@dataclass(frozen=True)
class Attribution:
    """First-order scores of every latent on every token where it is active."""

    scores_NF: sp.csr_matrix
    """a d·g; `draws` rows for each counted token."""
    doc_N: npt.NDArray[np.int64]
    """Document of each row."""
    tokens_D: npt.NDArray[np.int64]
    """Counted tokens of each document."""
    draws: int
    """Times that labels were drawn."""

    def latents(self) -> sp.csr_matrix:
        """Effect of each latent in each document [D, F], nats summed over tokens."""
        return latent_mass(self.scores_NF, self.doc_N, len(self.tokens_D), self.draws)

    def firings(self) -> sp.csr_matrix:
        """Tokens of each document on which each latent is active [D, F]."""
        ones = sp.csr_matrix(
            (np.full(self.scores_NF.nnz, 1.0), self.scores_NF.indices, self.scores_NF.indptr),
            shape=self.scores_NF.shape,
        )
        firings_DF = document_sums(ones, self.doc_N, len(self.tokens_D))
        firings_DF.data /= self.draws
        return firings_DF

    def sets(self, member_FG: sp.csr_matrix) -> npt.NDArray[np.float64]:
        """Effect of taking each of G sets out whole, in each document [D, G], nats summed over tokens."""
        return set_mass(self.scores_NF, member_FG, self.doc_N, len(self.tokens_D), self.draws)


def attribute(
    hooked: Iterable[HookedBatch],
    coder: Sae,
    num_documents: int,
    *,
    seed: int,
    draws: int = 1,
    advance: Callable[[int], None] = lambda _tokens: None,
) -> Attribution:
    """Scores of the latents active at the counted positions of some batches (`Ablation.batches`).

    Labels are drawn with `seed`, `draws` times; how the windows are batched changes none of them. `advance`
    is told the tokens of each batch that is done. The parameters of the model need no gradient: the graph
    begins at the hookpoint.
    """
    rows: list[sp.csr_matrix] = []
    docs: list[npt.NDArray[np.int64]] = []
    for batch in hooked:
        sizes_N, latents = batch.codes.sizes_N.cpu().numpy(), batch.codes.latents.cpu().numpy()
        starts = np.concatenate([[0], np.cumsum(sizes_N)])
        for scores in batch_scores(batch, coder, draws, seed):
            entries = scores.double().cpu().numpy(), latents.astype(np.int32), starts
            rows.append(sp.csr_matrix(entries, shape=(len(sizes_N), coder.num_latents)))
            docs.append(batch.doc_N)
        advance(int(batch.batch.real_BT.sum()))
    doc_N = np.concatenate(docs)
    tokens_D = np.bincount(doc_N, minlength=num_documents) // draws
    return Attribution(sp.vstack(rows, format="csr"), doc_N, tokens_D.astype(np.int64), draws)


def batch_scores(hooked: HookedBatch, coder: Sae, draws: int, seed: int) -> Iterator[Tensor]:
    """a d·g of every entry of the batch's codes, once for each draw of labels."""
    logits_SV = hooked.logits()
    acts = hooked.codes.acts.detach().requires_grad_()
    with torch.enable_grad():
        decoded_ND = _decoded(coder, hooked.x_ND, hooked.codes._replace(acts=acts))
    counted_BT = hooked.batch.counted_BT
    with torch.no_grad():
        p_SV = torch.softmax(logits_SV.float(), dim=-1)
    for draw in range(draws):
        again = draw + 1 < draws
        label_S1 = drawn_labels(p_SV, hooked, seed, draw)
        # of log p(label) by the logits: one at the label, less p
        slope_SV = (-p_SV).scatter_add_(1, label_S1, torch.ones_like(p_SV[:, :1])).to(logits_SV.dtype)
        (g_BTD,) = torch.autograd.grad(logits_SV, hooked.activation_BTD, slope_SV, retain_graph=again)
        g_ND = g_BTD[counted_BT].to(decoded_ND.dtype)
        (slope_E,) = torch.autograd.grad(decoded_ND, acts, g_ND, retain_graph=again)  # d·g
        yield acts.detach() * slope_E


def drawn_labels(p_SV: Tensor, hooked: HookedBatch, seed: int, draw: int) -> Tensor:
    """A label for each scored prediction [S, 1]; those of a window follow from its number and `seed`."""
    generator = torch.Generator(device=p_SV.device)
    window_B = hooked.batch.window_B
    scored_B = torch.bincount(hooked.scored[0], minlength=len(window_B)).tolist()
    labels = []
    for window, p_sV in zip(window_B.tolist(), torch.split(p_SV, scored_B), strict=True):
        if len(p_sV):
            state = np.random.SeedSequence([seed, draw, window]).generate_state(1, np.uint64)
            generator.manual_seed(int(state[0] >> 1))
            labels.append(torch.multinomial(p_sV, 1, generator=generator))
    return torch.cat(labels) if labels else torch.zeros(0, 1, dtype=torch.int64, device=p_SV.device)


def _decoded(sae: Sae, x_ND: Tensor, codes: SparseCodes) -> Tensor:
    """The reconstruction, differentiable in the activations of the codes.

    An SAE of the user's own may decode without a gradient; its decoder rows are read off it then.
    """
    xhat_ND = sae.reconstruct(x_ND, codes)
    if xhat_ND.requires_grad:
        return xhat_ND
    return weighted_rows(codes, decoder_rows(sae).to(codes.acts.device))
