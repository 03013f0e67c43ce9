"""`import saescope`: what a researcher writes in a notebook, and the examples of every docstring."""

import doctest
import inspect
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from sparsify import Sae as SparsifySae

import saescope
from saescope.errors import ConfigError, ModelError, ProbeError, SaeError
from saescope.model.load import EMBEDDED

FACE = [name for name in saescope.__all__ if not name.startswith("__")]


def test_the_face_is_light():
    code = (
        "import sys, time; start = time.process_time(); import saescope; took = time.process_time() - start\n"
        "assert took < 0.1, took\n"
        "assert not {'torch', 'hydra', 'numpy', 'pandas'} & set(sys.modules)\n"
        "saescope.open_run, saescope.open_sweep; assert 'torch' not in sys.modules\n"
        "saescope.compose('sae.k=8'); assert 'torch' not in sys.modules\n"
        "saescope.run; assert 'torch' not in sys.modules\n"
        "import saescope as again; assert set(again.__all__) <= set(dir(again))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'mesure'"):
        saescope.mesure  # noqa: B018


@pytest.fixture(scope="module")
def lm():
    return saescope.load_model("embedded", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def x(lm):
    return saescope.capture(lm, "embedded", "layers.2", max_tokens_per_task=1500)


@pytest.mark.docs
def test_every_public_object_has_a_docstring_with_an_example_that_runs(lm, x, tmp_path):
    folder = saescope.run(
        "probes.max_tokens_per_task=1500", "metrics=quick", "metrics.document_groups=0",
        "metrics.matched_draws=0", "metrics.lm_tokens=0", "tracking=disabled",
    ).path  # fmt: skip
    shared = {"saescope": saescope, "lm": lm, "x": x, "codes": saescope.extract(x, _sae()), "folder": folder}
    finder, ran = doctest.DocTestFinder(recurse=True), 0
    for name in FACE:
        thing = getattr(saescope, name)
        assert inspect.getdoc(thing), name
        for example in finder.find(thing, f"saescope.{name}", module=False, globs=dict(shared)):
            result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example)
            assert result.failed == 0, example.name
            ran += result.attempted
    assert not [name for name in FACE if ">>>" not in inspect.getdoc(getattr(saescope, name))]
    assert ran >= 2 * len(FACE)


def _sae():
    return saescope.load_sae("embedded", "layers.2")


CELL = """
import saescope, torch
class Sparse:
    num_latents = 64
    def __init__(self, width):
        self.w = torch.randn(64, width, generator=torch.Generator().manual_seed(0))
    def encode(self, x): return (x @ self.w.T).relu().topk(8)
    def decode(self, acts, indices): return (acts[..., None] * self.w[indices]).sum(1)
result = saescope.measure(x, Sparse(x.shape[1]), tasks, documents, permutations=20, bootstraps=20)
result.features[result.features.supported].si.plot.hist()
"""


def test_the_notebook_cell_of_a_researcher(x, capsys):
    """An SAE of one's own class, on one's own tensors, SI plotted: ten lines."""
    assert len(CELL.strip().splitlines()) <= 10
    scope = {"x": x.values, "tasks": x.tasks, "documents": x.documents}
    exec(CELL, scope)
    metrics = scope["result"].metrics
    assert metrics["features/num_latents"] == 64
    assert metrics["sae/l0"] <= 8
    assert 0 <= metrics["si/mean"] <= 1
    assert "lm/ce" not in metrics
    assert metrics["si/beyond_token_mean"] is metrics["si/lexical"] is None
    assert "token ids are not known" in scope["result"].notes["si/beyond_token_mean"]


def test_measure_gives_the_numbers_of_the_job(x, tmp_path, monkeypatch):
    """The same probes, the same SAE: by the command's way and by `measure` on captured tensors."""
    monkeypatch.setattr("saescope.stats.rewired_null.MOST_REWIRINGS", 20)  # 100 take half the time
    quick = {
        "permutations": 50, "bootstraps": 50, "rewirings": 20, "null_tokens": 2000, "matched_draws": 2,
        "document_groups": 3,
    }  # fmt: skip
    overrides = [f"metrics.{key}={value}" for key, value in quick.items()]
    job = saescope.run(
        "hookpoint.layer=2", "probes.max_tokens_per_task=1500", "metrics.lm_tokens=0", "runtime.device=cpu",
        "runtime.dtype=float32", "runtime.cache=off", "tracking=disabled",
        *overrides, folder=tmp_path / "run",
    )  # fmt: skip
    result = saescope.measure(x, _sae(), **quick)
    same = [key for key in result.metrics if key in job.metrics]
    assert len(same) > 40
    assert job.metrics["si/beyond_bigram_mean"] is not None
    for key in same:
        ours, theirs = result.metrics[key], job.metrics[key]
        assert (ours is None) == (theirs is None), key
        if ours is not None:
            assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-9), key
    assert job.features.latent.tolist() == result.features.latent.tolist()
    np.testing.assert_allclose(job.features["count"], result.features["count"])


def test_order_of_tokens_and_kinds_of_labels_do_not_matter(x):
    plain = saescope.extract(x.values, _sae(), x.tasks, x.documents)
    order = np.random.default_rng(0).permutation(len(x.values))
    mixed = saescope.extract(
        x.values[torch.from_numpy(order)].numpy(),
        _sae(),
        list(x.tasks[order]),
        [f"d{d}" for d in x.documents[order]],
    )
    assert sorted(mixed.tasks) == sorted(plain.tasks)
    assert np.array_equal(mixed.count_F, plain.count_F)
    assert sorted(mixed.tokens_D) == sorted(plain.tokens_D)
    assert np.array_equal(np.sort(mixed.docs_F), np.sort(plain.docs_F))


def test_planted_specialists_are_found_and_noise_is_not():
    rng = np.random.default_rng(0)
    tokens, documents = 4000, 80
    doc = np.repeat(np.arange(documents), tokens // documents)
    task = np.where(doc < documents // 2, "left", "right")
    x = rng.normal(size=(tokens, 8)).astype(np.float32)

    class Own:
        """Latents 0–3 fire in one task only, 4–7 by chance."""

        num_latents = 8

        def encode(self, x):
            return torch.as_tensor(x).relu()

        def decode(self, code):
            return code

    x[:, :4] = np.where((task == "left")[:, None], np.abs(x[:, :4]), -1)
    result = saescope.measure(x, Own(), task, doc, permutations=100, bootstraps=50)
    si = result.features.si
    assert (si[:4] > 0.99).all()
    assert (si[4:] < 0.02).all()
    assert result.features.top_task[:4].tolist() == ["left"] * 4


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"tasks": None}, ProbeError, "give tasks and documents"),
        ({"tasks": ["a"] * 6}, ProbeError, "two or more"),
        ({"tasks": list("aabbb")}, ProbeError, "5 task labels, but 6"),
        ({"documents": [0, 0, 0, 0, 1, 1]}, ProbeError, "document 0 has tokens of two tasks"),
        ({"x": np.zeros((6, 2, 2))}, ProbeError, "N, d_in"),
        ({"x": np.zeros((5, 2))}, ProbeError, "5 rows, but there are labels of 6"),
        ({"x": np.full((6, 2), np.nan)}, ModelError, "NaN or infinite activations on 6 of 6"),
        ({"sae": object()}, SaeError, "encode"),
        ({"settings": {"permutation": 3}}, ConfigError, "permutations"),
    ],
)
def test_mistakes_are_one_line(change, error, words):
    class Identity:
        num_latents = 2

        def encode(self, x):
            return x.relu()

        def decode(self, code):
            return code

    given = {
        "x": np.ones((6, 2)),
        "sae": Identity(),
        "tasks": list("aabbbb"),
        "documents": [0, 0, 1, 1, 2, 2],
        "settings": {},
    }
    given |= change
    with pytest.raises(error, match=words) as caught:
        saescope.measure(given["x"], given["sae"], given["tasks"], given["documents"], **given["settings"])
    assert "\n" not in str(caught.value)


def test_a_sparsify_object_is_taken_as_it_is(x):
    """sparsify's own class, as its README loads it."""
    theirs = SparsifySae.load_from_disk(EMBEDDED.parent / "saes" / "layers.2", device="cpu")
    ours = saescope.extract(x, _sae())
    assert np.array_equal(saescope.extract(x, theirs).count_F, ours.count_F)


TARGET = textwrap.dedent(
    """
    import torch

    class Sparse:
        def __init__(self, width, num_latents):
            self.num_latents = num_latents
            self.w = torch.randn(num_latents, width, generator=torch.Generator().manual_seed(0))
        def encode(self, x): return (x @ self.w.T).relu().topk(4)
        def decode(self, acts, indices): return (acts[..., None] * self.w[indices]).sum(1)

    def make(d_in, num_latents=32): return Sparse(d_in, num_latents)
    """
)


@pytest.mark.slow
def test_the_same_object_in_a_sweep_of_two(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(TARGET)
    command = [
        sys.executable, "-m", "saescope", "-m", "sae=python", "sae.target=mine:make",
        "+sae.options.num_latents=32,64", "hookpoint.layer=0", "probes.max_tokens_per_task=1500",
        "metrics=quick", "metrics.lm_tokens=0",
        "tracking=offline", "runtime.device=cpu", "runtime.dtype=float32", "hydra.sweep.dir=sweep",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    sweep = saescope.open_sweep(tmp_path / "sweep")
    assert [run.state for run in sweep.runs] == ["ok", "ok"]
    assert sweep.metrics["features/num_latents"].tolist() == [32, 64]
    assert sorted(run.tracking["mode"] for run in sweep.runs) == ["offline", "offline"]
    assert [run.config["sae"]["options"] for run in sweep.runs] == [{"num_latents": 32}, {"num_latents": 64}]
    import importlib.util

    spec = importlib.util.spec_from_file_location("mine", tmp_path / "mine.py")
    mine = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(mine)
    lm = saescope.load_model("embedded", device="cpu", dtype="float32")
    x = saescope.capture(lm, "embedded", "layers.0", max_tokens_per_task=1500)
    result = saescope.extract(x, mine.make(x.values.shape[1], 64))
    assert result.count_F.tolist() == sweep.runs[1].features["count"].tolist()
