"""Are the tests worth their time? Puts defects into a copy of the source, one at a time, and runs the tests.

python scripts/defects.py [part of a file name]     (make test-defects; 2 cores: about 20 minutes)
"""

import os
import queue
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
AT_ONCE = min(8, os.cpu_count() or 1)
"""Copies of the source in which tests run side by side, one thread each."""
SI = "tests/stats/test_specialization.py tests/stats/test_specialization_nulls.py"
MATCHED = "tests/stats/test_matched.py tests/stats/test_matched_modularity.py tests/stats/test_matched_specialization.py"
WORDS = "tests/stats/test_beyond_words.py"
JACK = "tests/stats/test_jackknife.py"
Q = "tests/stats/test_coactivation.py tests/stats/test_modularity.py"
PAIRED = "tests/stats/test_paired.py"
WITHOUT = "tests/stats/test_edges_without.py"
WITHIN = "tests/analysis/test_within.py tests/stats/test_within_summary.py"
STRATA = "tests/stats/test_strata.py tests/stats/test_lexical.py tests/stats/test_within_token.py"
EDGE_P = "tests/stats/test_edge_p.py"
GRAPH = "tests/analysis/test_graph_tokens.py tests/stats/test_resampling.py"
PROBES = "tests/text tests/end_to_end/test_duplicates.py"
LARGE = "tests/extraction/test_large_codes.py"
REWIRED = "tests/stats/test_rewired_null.py"
CAPTURE = "tests/model/test_capture.py tests/extraction/test_engine.py tests/text/test_windows.py tests/sae/test_transcoder.py"
LOSSES = "tests/model/test_losses.py tests/extraction/test_engine.py tests/dynamic_k/test_passes.py"
PROOF = "tests/model/test_proof.py tests/model/test_architectures.py"
CACHE = "tests/activations"
CAUSAL = "tests/stats/test_causal.py tests/stats/test_causal_index.py tests/stats/test_causal_modules.py"
ABLATION = "tests/causal/test_ablation.py"
LAYERS = "tests/causal/test_joint.py tests/causal/test_layers.py"
CONTROLS = "tests/causal/test_controls.py tests/causal/test_choice.py"
SETS = "tests/causal/test_selectivity.py"
PAIRS = "tests/report/test_comparisons.py"
LEFT_OUT = "tests/jobs/test_left_out.py tests/jobs/test_sweep.py"

# file, right, wrong, tests that should notice
DEFECTS = [
    ("stats/specialization.py", "rate = counts / tokens\n", "rate = counts / counts.sum(axis=1, keepdims=True)\n", SI),
    ("stats/specialization.py", "q = rate / total", "q = counts / counts.sum(axis=0)", SI),
    ("stats/specialization.py", "noise = rate / tokens ", "noise = rate / tokens.sum() ", SI),
    ("stats/specialization.py", "- 2.0 * noise.sum(axis=0)", "- noise.sum(axis=0)", SI),
    ("stats/specialization.py", "variance /= 1.0 - share", "variance /= 1.0", SI),
    ("stats/specialization.py", "noise *= dispersion", "pass", SI),
    ("stats/specialization.py", "residual = squares_FK - 2.0", "residual = squares_FK - 1.0", SI),
    ("stats/specialization.py", "docs / (docs - 1.0)", "1.0", SI),
    ("stats/specialization.py", "square - 1.0 / num_tasks", "square", SI),
    ("stats/specialization.py", "np.clip(lam, 0.0, 1.0))", "lam)", SI),
    ("stats/specialization.py", "q_KF += lam_F / num_tasks", "q_KF += 0.0", SI),
    ("stats/specialization.py", "np.log(num_tasks), 0.0, 1.0)", "np.log(2), 0.0, 1.0)", SI),
    ("stats/specialization.py", "np.where(fired > 0, si, np.nan)", "np.where(fired > 0, si, 1.0)", SI),
    ("stats/permutation.py", "rng.permuted(task_D)", "rng.choice(task_D, task_D.size)", SI),
    ("stats/permutation.py", "tokens2_PK[draws]", "tokens2_PK[:1]", SI),
    ("stats/permutation.py", "product.total_F[:, None] - counts_FKP", "product.total_F[:, None] * 0 - counts_FKP", SI),
    ("stats/permutation_test.py", "specialization(counts_PFK, tokens_PK[draws])",
     "specialization(counts_PFK, tokens_PK[:1])", SI),
    ("stats/permutation_test.py", "p_F[fired] = (1.0 + reached_F[fired])", "p_F[fired] = (reached_F[fired])", SI),
    ("stats/permutation_test.py", "si_PF >= observed_F[latents] - TIE", "si_PF > observed_F[latents] + TIE", SI),
    ("stats/permutation_test.py", "small = fired[p <= fdr]", "small = fired[p <= 1]", SI),
    ("stats/word_classes.py", "(counts_WK > 0).sum(axis=1) >= 2", "(counts_WK > 0).sum(axis=1) >= 1", WORDS),
    ("stats/beyond_words.py", "theta_FK[row], share_EK)\n        weights", "theta_FK[row], share_EK) * 0 + 1\n        weights", WORDS),
    ("stats/beyond_words.py", "0.5 * (observed**2 + exchange**2)", "0.5 * observed**2", WORDS),
    ("stats/word_clusters.py", "cross + mean_FKX**2 * self", "cross - mean_FKX**2 * self", WORDS),
    ("stats/beyond_words.py", "weight_FK * score_FK**2", "score_FK**2", WORDS),
    ("stats/bootstrap.py", "means - means.mean()", "means - means.max()", SI),
    ("stats/resampling.py", "share = np.full(docs.size, 1.0 / docs.size)", "share = np.eye(1, docs.size)[0]", SI),
    ("stats/resampling.py", "drawn_BD @ tokens_D[docs]", "tokens_D[docs].sum()", SI),
    ("stats/resampling.py", "default_rng([seed, task])", "default_rng(None)", PAIRED),
    ("stats/resampling.py", "if docs.size > 1:", "if docs.size > 0:", PAIRED),
    ("stats/paired.py", "(replicates_G.size - 1.0) / replicates_G.size", "1.0 / replicates_G.size", PAIRED),
    ("stats/paired.py", "self.values_R - other.values_R", "self.values_R + other.values_R", PAIRED),
    ("stats/paired.py", "largest_S = np.maximum(largest_S, np.abs(z_MS).max(axis=0))", "largest_S = np.abs(z_MS[0])", PAIRED),
    ("stats/edges_without.py", "left[at[at > 0] - 1] -= counts.data[at > 0]", "left[at[at > 0] - 1] -= 0 * counts.data[at > 0]", WITHOUT),
    ("stats/edges_without.py", "remaining_S, num_units, fdr", "count_S, num_units, fdr", WITHOUT),
    ("stats/edges_without.py", "active.shape[0] - (units.stop - units.start)", "active.shape[0]", WITHOUT),
    ("stats/row_blocks.py", "matrix[numbers[rows]]", "matrix[rows]", WITHOUT),
    ("stats/coactivation.py", "label_N[first_U]", "label_N[: first_U.size]", WITHOUT),
    ("stats/strata.py", "expected = a * b.astype(np.float64) / num_units", "expected = a * a.astype(np.float64) / num_units", Q),
    ("analysis/features.py", "np.arange(RESAMPLED_LATENTS) * live.size // RESAMPLED_LATENTS", "np.zeros(RESAMPLED_LATENTS, np.int64)", "tests/analysis/test_features_resampled.py"),
    ("stats/jackknife.py", "factor_K[task_D] * (without_D - plain)", "factor_K[task_D] * (plain - without_D)", JACK),
    ("stats/jackknife.py", "left_PK[rows, task] -= fired", "left_PK[rows, task] -= 0 * fired", JACK),
    ("stats/jackknife.py", "share_D[:, None] * silent_FKX", "0.0 * silent_FKX", JACK),
    ("stats/multiple_testing.py", "false_discovery_control(p)", "p", SI + " " + Q),
    ("stats/multiple_testing.py", "q * (num_tests / max(1, p.size))", "q", SI + " " + Q),
    ("stats/matched.py", "share * carried[-1]", "0.99 * carried[-1]", MATCHED),
    ("stats/matched.py", "rng.choice(last - first, firings, replace=False)", "np.arange(firings)", MATCHED),
    ("stats/matched_modularity.py", "(chance * num_units) ** 0.5", "(chance * 30_000) ** 0.5", MATCHED),
    ("stats/matched_modularity.py", "(rng.random(joint.size), -joint)", "(-joint,)", MATCHED),
    ("stats/matched_modularity.py", "supported_F, dtype=np.bool_)[frequent]", "supported_F)[frequent] >= 0", MATCHED),
    ("stats/matched_specialization.py", "tokens_K, dispersion_FK)", "tokens_K)", MATCHED),
    ("report/sweep/matching.py", "own[max(common)]", "own[max(own)]", "tests/report/test_sweep_report.py"),
    ("stats/density.py", "(np.asarray(count_F) >= min_count) & (", "(np.asarray(count_F) >= min_count) | (",
     "tests/stats/test_density.py"),
    ("stats/strata.py", "a * b.astype(np.float64) / num_units", "a * b.astype(np.float64) / (num_units * 2)", Q),
    ("stats/coactivation.py", "num_nodes * (num_nodes - 1) // 2) <= fdr", "p.size) <= fdr", Q),
    ("stats/coactivation.py", "later = source < target", "later = source <= target", Q),
    ("stats/coactivation.py", "counts.data >= min_joint", "counts.data > min_joint", Q),
    ("stats/coactivation.py", "np.log(joint[passed] / expected[small])", "np.log2(joint[passed] / expected[small])", Q),
    ("stats/coactivation.py", "order[edges.source], order[edges.target]", "edges.source, edges.target", Q),
    ("stats/strata.py", "weight_W[strata] = a / units\n", "weight_W[strata] = a / self.units_W.sum()\n", STRATA),
    ("stats/strata.py", "weight_W[strata] = a * (units - a) /", "weight_W[strata] = a * (units + a) /", STRATA),
    ("stats/strata.py", "joint - np.bincount(pair, smallest, place.size)", "joint", STRATA),
    ("stats/strata.py", "squares = mean - product", "squares = mean - 0 * product", STRATA),
    ("stats/strata.py", "unknown.size)\n", "unknown.size) * 0\n", STRATA),
    ("stats/resampling.py", "ends[-1] * max_tokens / tokens.sum()", "max_tokens / np.unique(task).size", GRAPH),
    ("analysis/features.py", "_modularity_draws(graph_codes, cfg", "_modularity_draws(codes, cfg", GRAPH),
    ("analysis/features.py", "token_N=graph_codes.token_N", "token_N=codes.token_N", GRAPH),
    ("stats/assignment.py", "if left.size and size <= dense**2:", "if False:", "tests/stats/test_overlap.py"),
    ("stats/edge_p.py", "document_N % MAX_GROUPS", "np.arange(document_N.size) % MAX_GROUPS", EDGE_P),
    ("stats/edge_p.py", "score_EG -= self._of_others(others, p_W)", "score_EG -= 0 * self._of_others(others, p_W)", EDGE_P),
    ("stats/edge_p.py", "shared_EW @ residual_WG, dtype", "0 * (shared_EW @ residual_WG), dtype", EDGE_P),
    ("stats/edge_p.py", "documents_W / np.maximum(documents_W - 1.0, 0.5)", "documents_W / documents_W", EDGE_P),
    ("stats/lexical.py", "np.where(inverted_G, units_G - firings_G, firings_G)", "firings_G", STRATA),
    ("stats/lexical.py", "keys = keys[~complete]", "keys = keys[:0]", STRATA),
    ("stats/word_graphs.py", "(given_token - by_chance)", "given_token", STRATA),
    ("analysis/features.py", "token_N * len(codes.tasks) + codes.task_N", "token_N + codes.task_N", WITHIN),
    ("stats/within_summary.py", "for label_N in measured.values()", "for label_N in strata.values()", WITHIN),
    ("stats/coactivation.py", "target + tail_start\n", "target\n", Q),
    ("stats/count_tails.py", "u = -np.expm1(-t) * np.sqrt(curvature)", "u = t * np.sqrt(curvature)", STRATA),
    ("stats/count_tails.py", "gap = n - a - b + c + 1.0", "gap = n - a - b + c", Q),
    ("stats/count_tails.py", "tail[lower] = 1.0 - below", "tail[lower] = below", Q),
    ("stats/modularity.py", "resolution * np.square(strength / (2.0 * total))", "np.square(strength / (2.0 * total))", Q),
    ("stats/modularity.py", "np.square(strength / (2.0 * total))", "np.square(strength / total)", Q),
    ("stats/modularity.py", "best = int(np.argmax(scores))", "best = int(np.argmin(scores))", Q),
    ("stats/modularity.py", "        moved = _connected(graph, moved)\n", "", Q),
    ("stats/rewiring.py", "valid = valid[~edge_set.contains(ad[0][valid], ad[1][valid])]\n", "", Q),
    ("stats/rewiring.py", "np.flatnonzero((a != d) & (c != b))", "np.arange(a.size)", Q),
    ("stats/rewiring.py", "rng.permutation(weight)", "weight", Q),
    ("stats/rewired_null.py", "return enough / draws, draws", "return enough / len(reached_R), draws", REWIRED),
    ("stats/rewired_null.py", "most - quick_R.size)", "20)", REWIRED),
    ("stats/row_blocks.py", "        following += sizes\n", "", LARGE),
    ("stats/row_blocks.py", "part.indices + rows.start", "part.indices", LARGE),
    ("stats/coactivation.py", "tail_start=tail_start if cut else 0", "tail_start=tail_start", LARGE),
    ("extraction/codes.py", "tokens.start\n            ones", "0\n            ones", LARGE),
    ("model/capture.py", "caught.append(tensor)\n            raise _Reached\n", "caught.append(tensor)\n", CAPTURE + " tests/extraction/test_counts.py"),
    ("model/capture.py", "register_forward_pre_hook(before, with_kwargs=True)\n    return", "register_forward_hook("
     "lambda m, a, k, o: keep(first(o)), with_kwargs=True)\n    return", CAPTURE + " tests/model/test_hookpoints.py"),
    ("model/capture.py", "for handle in handles:\n                handle.remove()", "pass", CAPTURE),
    ("model/capture.py", "(new, *output[1:]) if isinstance(output, tuple) else new\n\n        def on_input",
     "new\n\n        def on_input", CAPTURE + " tests/model/test_hookpoints.py"),
    ("model/proof.py", "(abs(a - 1) <= CARRIED or", "(True or", PROOF),
    ("model/proof.py", "and b > 0) or", ") or", PROOF),
    ("model/proof.py", "if change > 0 and _sees_later(capture, text, change)", "if change > 0.1", PROOF),
    ("model/proof.py", "return bool((later != 0).any()) if", "return False if", PROOF),
    ("model/proof.py", "if not _same(expected, caught):", "if False:", PROOF),
    ("model/proof.py", "same = _same(output, self.seen.inputs.get(after))", "same = True", PROOF),
    ("model/proof.py", "stream.not_normed(\"mlp\") or ", "", PROOF),
    ("model/proof.py", "given.clone())\n\n        def after", "given)\n\n        def after", PROOF),
    ("model/blocks.py", "next(iter(of_text or of_that_length), None)", "next(iter(of_that_length), None)", PROOF),
    ("model/blocks.py", "return self._last_projection(layer, kind) if adds_residual else part", "return part", PROOF),
    ("model/capture.py", "old + change.pop().reshape(old.shape)", "old", "tests/model/test_hookpoints.py"),
    ("model/capture.py", "return _unfolded(caught[0], input_ids_BT.shape, self.hookpoint)", "return caught[0]", PROOF),
    ("model/losses.py", "new_BTD[positions] = edit(x_BTD[positions].float(), old_BTD[positions]).to(old_BTD.dtype)",
     "new_BTD = edit(x_BTD.flatten(0, 1).float(), old_BTD.flatten(0, 1)).to(old_BTD.dtype).view(old_BTD.shape)", LOSSES),
    ("model/losses.py", "counted_BT[:, :-1] & real_BT[:, 1:]", "counted_BT[:, 1:] & real_BT[:, 1:]", LOSSES),
    ("model/losses.py", "(log_p.exp() * (log_p - log_q))", "(log_q.exp() * (log_q - log_p))", LOSSES),
    ("dynamic_k/passes.py", "turn % 2 == parity", "turn % 2 >= 0", LOSSES),
    ("text/windows.py", "[mask.sum() for mask in self.counted]", "[mask.size for mask in self.counted]", CAPTURE),
    ("text/windows.py", 'first_D if self.cfg.duplicates == "merge" else np.arange', "np.arange", PROBES),
    ("text/windows.py", "if begins_with(ids, prefix):  # the text has it already", "if False:", PROBES),
    ("text/windows.py", "document.number in common", "document.number >= 0", PROBES),
    ("text/duplicates.py", "tasks[other] == tasks[number]", "True", PROBES),
    ("text/duplicates.py", "math.ceil(OVERLAP * len(grams))", "math.ceil(0.95 * len(grams))", PROBES),
    ("text/token_memmap.py", "whole[:, 0].any() and not whole[:, 1:].any()", "False", PROBES),
    ("activations/source.py", "np.repeat(start_B - before_B, size_B)", "np.repeat(start_B, size_B)", CAPTURE),
    ("training/gradients.py", "(error_ND.mT @ x_ND)", "(x_ND.mT @ error_ND)", "tests/training/test_gradients.py"),
    ("training/objective.py", "centred - (x_ND @ skip.W_skip.mT).detach()", "centred", "tests/training/test_gradients.py"),
    ("training/decoder_norm.py", "norm * (least_cosine * unit", "norm * (unit", "tests/training/test_gradients.py"),
    ("training/directions.py", "sum_DD / tokens - torch.outer(mean_D, mean_D)", "sum_DD / tokens",
     "tests/training/test_directions.py"),
    ("activations/shards.py", "if crc != self.crc:", "if False:", CACHE),
    ("activations/shards.py", "if size != self.start + self.num_bytes:", "if False:", CACHE),
    ("activations/shards.py", "if not more:", "if not more:\n                    return\n                if False:", CACHE),
    ("activations/shards.py", "if stored != (", "if False and stored != (", CACHE),
    ("activations/shards.py", "- self.end_R[first] + self.bytes_R[first])", "- self.end_R[first])", CACHE),
    ("activations/key.py", 'f"{hookpoint.name}:{hookpoint.side}"', '"hookpoint"', CACHE),
    ("activations/key.py", "ids.tobytes() + counted.tobytes()", "ids.tobytes()", CACHE),
    ("activations/key.py", "data.view(torch.uint8).numpy().data", "b''", CACHE),
    ("activations/key.py", 'dtype=str(dtype).removeprefix("torch.")', 'dtype="float32"', CACHE),
    ("activations/cached.py", "starts = np.cumsum(sizes) - sizes", "starts = np.cumsum(sizes) - sizes[0]", CACHE),
    ("activations/cached.py", "if number not in self._verified:", "if False:", CACHE),
    ("activations/cached.py", "        try:\n            shard.verify()\n", "        try:\n            pass\n", CACHE),
    ("activations/cached.py", "        path.unlink(missing_ok=True)\n        remove_leftovers(self.folder, path.name)\n", "", CACHE),
    ("activations/cache.py", "if not _has_users(e)", "if True", CACHE),
    ("activations/cache.py", "if free + sum(sizes) < 0:", "if False:", CACHE),
    ("activations/cache.py", "for _, e in sorted(candidates)", "for _, e in sorted(candidates, reverse=True)", CACHE),
    ("jobs/job.py", 'if not text.startswith("W&B ")]', "]", LEFT_OUT),
    ("jobs/job.py", "_note_lost(context.run_dir, tracker.lost)\n        logged", "logged", LEFT_OUT),
    ("jobs/sweep.py", "        if lost and summary:", "        if False:", LEFT_OUT),
    ("jobs/left_out.py", "len(codes.left_out), windows.num_tokens", "0, windows.num_tokens", LEFT_OUT),
    ("report/sweep/write.py", "untracked_of(out) if untracked is None", "() if untracked is None", LEFT_OUT),
    ("text/probe_languages.py", 'LeftOut("columns", len(no_text),', 'LeftOut("columns", 1,', LEFT_OUT),
    ("dynamic_k/passes.py", "total - int(evaluation.tokens_D.sum())", "int(evaluation.tokens_D.sum())",
     "tests/dynamic_k/test_passes.py"),
    ("tracking/wandb_start.py", "    compat.no_wandb_reports()\n", "", "tests/tracking/test_wandb_start.py"),
    ("causal/ablation.py", "(old_nD.float() - removed_nD)", "(-removed_nD)", ABLATION),
    ("causal/ablation.py", "(old_nD.float() - removed_nD)", "(old_nD.float() + removed_nD)", ABLATION),
    ("causal/removal.py", "zeroed = codes._replace(acts=codes.acts.masked_fill(member_E, 0.0))",
     "zeroed = codes._replace(acts=codes.acts.masked_fill(~member_E, 0.0))", ABLATION),
    ("causal/joint.py", "(old_BTD[at].float() - removed.removed_nD)", "old_BTD[at].float()", LAYERS),
    ("causal/joint.py", "latents.latents_F[here] - start", "latents.latents_F[here]", LAYERS),
    ("stats/causal.py", "alone = alone_LG.sum(axis=(0, -1))", "alone = alone_LG.mean(axis=0).sum(axis=-1)", LAYERS),
    ("causal/run.py", "tensor.data = tensor.data.float()", "pass", "tests/causal/test_run.py"),
    ("causal/selectivity.py", "choose_D = halves.choose_D\n", "choose_D = halves.measure_D\n", SETS),
    ("report/sweep/uncertainty.py", "scheme = f\"causal {rows['documents'].iloc[0]}\"", "scheme = 'causal all'", PAIRS),
    ("stats/resampling.py", 'weight_BD, dtype="<i4"', 'weight_BD[:1], dtype="<i4"', SETS),
    ("stats/paired.py", "np.sqrt(documents / freedom) * values_B", "values_B", PAIRS),
    ("causal/controls.py", "used_F[np.array(drawn, dtype=np.int64)] = True", "pass", CONTROLS),
    ("causal/controls.py", "none if exchangeable else own_set", "none", CONTROLS),
    ("stats/causal.py", "return OwnOthers(own, (M_GK.sum(axis=-1) - own) / (num_tasks - 1))",
     "return OwnOthers((M_GK.sum(axis=-1) - own) / (num_tasks - 1), own)", CAUSAL),
    ("stats/causal.py", "return permutation_p(observed, draws)",
     "return float(np.mean(np.asarray(draws) >= observed))", CAUSAL),
    ("stats/causal.py", "a, b = np.maximum(own, 0.0), np.maximum(others, 0.0)", "a, b = own, others", CAUSAL),
    ("stats/causal_index.py", "squares.data = 0.5 / draws * squares.data**2", "squares.data = 0.5 / draws * squares.data",
     CAUSAL),
    ("stats/causal_index.py", "together.data = 0.5 / draws * together.data**2",
     "together.data = 0.5 / draws * together.data", CAUSAL),
    ("stats/causal_index.py", "rng.permuted(documents.task_D)", "documents.task_D", CAUSAL),
]  # fmt: skip


def main() -> int:
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    chosen = [defect for defect in DEFECTS if wanted in defect[0]]
    if stale := stale_rows():
        print("\n".join([*stale, "correct these rows of scripts/defects.py"]), file=sys.stderr)
        return 1
    copies: queue.Queue[Path] = queue.Queue()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        for number in range(AT_ONCE):
            copy = Path(folder) / str(number)
            for name in ("src", "conf", "tests", "benchmarks", "docs"):
                shutil.copytree(HERE / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            shutil.copy(HERE / "pyproject.toml", copy)
            copies.put(copy)

        # tests that fail without a defect would catch everything
        sets = list(dict.fromkeys(tests for _, _, _, tests in chosen))
        for tests, fails in zip(
            sets, pool.map(lambda tests: noticed(copies, None, tests), sets), strict=True
        ):
            if fails:
                print(f"without a defect these fail: {tests}", file=sys.stderr)
                return 1
        print(f"{len(sets)} sets of tests pass without a defect", flush=True)

        caught, missed = 0, []
        results = pool.map(lambda defect: noticed(copies, defect[:3], defect[3]), chosen)
        for number, ((file, right, _, _), fails) in enumerate(zip(chosen, results, strict=True), 1):
            name = f"{file}: {' '.join(right.split())[:70]}"
            caught += fails
            if not fails:
                missed.append(name)
            print(f"{number:3}/{len(chosen)} {'caught' if fails else 'MISSED'}  {name}", flush=True)
    print(f"\n{caught} of {len(chosen)} defects caught ({caught / max(1, len(chosen)):.0%})")
    for name in missed:
        print(f"missed: {name}")
    return 0 if caught >= 0.95 * len(chosen) else 1


def stale_rows() -> list[str]:
    """Rows that no longer match: the right code is not exactly once in its file, or a test file is missing."""
    stale = []
    for file, right, _, tests in DEFECTS:
        count = (HERE / "src" / "saescope" / file).read_text(encoding="utf-8").count(right)
        if count != 1:
            stale.append(f"{file}: '{right.strip()}' occurs {count} times")
        stale += [f"{file}: {test} does not exist" for test in tests.split() if not (HERE / test).exists()]
    return stale


def noticed(copies: "queue.Queue[Path]", defect: tuple[str, str, str] | None, tests: str) -> bool:
    """Whether the tests fail with (file, right, wrong) exchanged."""
    copy = copies.get()
    try:
        if defect is None:
            return run(copy, tests)
        file, right, wrong = defect
        path = copy / "src" / "saescope" / file
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(right, wrong), encoding="utf-8")
        try:
            return run(copy, tests)
        finally:
            path.write_text(text, encoding="utf-8")
    finally:
        copies.put(copy)


def run(copy: Path, tests: str) -> bool:
    """Whether the tests fail."""
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *tests.split()]
    environment = {
        **os.environ, "PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    try:
        done = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, timeout=600, check=False
        )
    except subprocess.TimeoutExpired:
        return True
    return done.returncode != 0


if __name__ == "__main__":
    sys.exit(main())
