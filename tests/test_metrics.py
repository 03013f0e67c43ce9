"""The catalogue of metrics is whole: what is computed is described, and what is described is computed."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from scripts.metric_tables import DOCS, rewritten

from saescope import metrics
from saescope.analysis.reconstruction import loss_metrics, null_notes, reconstruction_metrics, task_metrics
from saescope.config.metrics import STRATA
from saescope.metrics import CATALOGUE, TASK_FVU, keys, metric, shown
from saescope.report.sweep.matching import COLUMNS
from saescope.stats.beyond_words_summary import summarise_words
from saescope.stats.density import feature_statistics
from saescope.stats.graph_metrics import ModularitySettings
from saescope.stats.modularity_summary import summarise_modularity
from saescope.stats.specialization_summary import SpecializationSettings, summarise_specialization
from saescope.stats.within_summary import summarise_within

TASKS = ("code", "prose")


def keys_of_a_run(tasks, *parts):
    """Every key of `metrics.json`; `parts`: groups asked for beyond SI and Q, such as `dynk.mlp`."""
    asked_for = {key for part in parts for key in keys(part)}
    entries = [
        entry
        for entry in CATALOGUE
        if not entry.between_jobs
        and (entry.key in asked_for or not entry.key.startswith(("dynk/", "causal/")))
    ]
    return {entry.of(task) for entry in entries for task in (tasks if entry.per_task else [""])}


def sums_of(names):
    return {name: np.full(len(TASKS), 2.0) for name in names.split()}


SUMS = sums_of("tokens x2 err2 cosine norm_ratio dot xhat2 l0 top_deviation")
SUMS["x"] = np.zeros((len(TASKS), 3))
LOSSES = sums_of("tokens_clean ce_clean ce_spliced ce_zero ce_mean kl_spliced kl_zero")


def firing():
    rng = np.random.default_rng(0)
    return sparse.csr_matrix(rng.random((40, 6)) < 0.5), np.repeat([0, 1], 20)


def sae():
    return reconstruction_metrics(SUMS)


def lm():
    return loss_metrics(LOSSES)


def lm_without_losses():
    return loss_metrics(None)


def features():
    return feature_statistics(np.array([0, 3, 9]), 10, np.array([False, True, True]))


def si():
    counts, task = firing()
    everyone = np.ones(6, bool)
    settings = SpecializationSettings(permutations=5, bootstraps=5)
    summary = summarise_specialization(counts.astype(np.int64), np.ones(40), task, 2, everyone, settings)
    word = np.arange(40) % 7
    words = summarise_words(
        counts, {"token": word, "bigram": word}, np.arange(40), task, 2, everyone, summary, draws=2
    )
    return summary.metrics | words.metrics


def q():
    active, task = firing()
    settings = ModularitySettings(rewirings=2, null_tokens=0)
    summary = summarise_modularity(active, task, 2, np.ones(6, bool), np.zeros(6, int), settings)
    within, _ = summarise_within(active, np.ones(6, bool), dict.fromkeys(STRATA, task), STRATA, settings)
    return summary.metrics | within


@pytest.mark.parametrize("compute", [sae, lm, lm_without_losses, features, si, q])
def test_what_is_computed_is_what_is_described(compute):
    computed = compute()
    assert set(computed) == set(keys(compute.__name__.partition("_")[0]))


def test_metrics_of_a_task():
    task_D = np.array([0, 1])
    computed = task_metrics(TASKS, SUMS, LOSSES, np.array([5, 6]), task_D)
    assert set(computed) == {key.replace("<task>", task) for key in keys("task") for task in TASKS}
    assert metric("task/code/fvu") == metric("task/a/b c/fvu") == TASK_FVU
    assert TASK_FVU.of("a/b c") == "task/a/b c/fvu"


def test_columns_of_a_sweep():
    assert set(COLUMNS) == {entry.key for entry in CATALOGUE if entry.between_jobs}


@pytest.mark.parametrize("key", ["si/other", "task/code/other", "task/code", "model.name", ""])
def test_other_keys_are_not_ours(key):
    assert metric(key) is None


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.key)
def test_every_entry_is_complete(entry):
    assert entry.label
    assert entry.short
    assert re.fullmatch(r"[^|`]+\.", entry.sentence)
    assert entry.direction in ("higher", "lower", "none")
    known = set(keys_of_a_run((), "dynk", "causal")) | set(COLUMNS)
    assert {entry.null, entry.sd, entry.low, entry.high} - {None} <= known
    assert (entry.low is None) == (entry.high is None)
    assert not (entry.null and entry.chance)
    assert entry.group.partition(".")[0] == (entry.key.partition("/")[0] if "/" in entry.key else "matched")


def test_no_key_and_no_label_stands_twice():
    assert len({entry.key for entry in CATALOGUE}) == len(CATALOGUE)
    labels = Counter((entry.group, entry.label) for entry in CATALOGUE)
    assert [label for label, number in labels.items() if number > 1] == []


def test_constants_are_called_like_their_keys():
    for name, entry in vars(metrics).items():
        if isinstance(entry, metrics.Metric):
            assert name == entry.key.replace("<task>/", "").replace("/", "_").upper()


def test_losses_are_null_for_their_own_reason():
    notes = null_notes(dict.fromkeys(["lm/ce", "task/code/ce", "task/code/fvu", "dynk/ce_delta"]), {})
    reasons = {key: "lm_tokens" in reason for key, reason in notes.items()}
    assert reasons == {"lm/ce": True, "task/code/ce": True, "task/code/fvu": False, "dynk/ce_delta": False}
    assert null_notes({"si/mean": None, "q/p": 0.5}, {"si/mean": "a single task"}) == {
        "si/mean": "a single task"
    }


def test_tables_of_the_docs_are_those_of_the_catalogue():
    text = DOCS.read_text(encoding="utf-8")
    assert rewritten(text) == text, "run python scripts/metric_tables.py"
    for entry in CATALOGUE:
        assert text.count(f"\n| `{entry.key}` |") == 1


def test_the_table_of_the_readme_has_the_labels_of_today():
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^│ (.+?) +│.*│ (\S+/\S+) +│$", text, re.MULTILINE)
    assert rows == [(entry.label, entry.key) for entry in shown("terminal")]
