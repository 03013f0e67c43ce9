"""The embedded corpus, and the probes and model that were built from it."""

from __future__ import annotations

import json
from functools import cache
from itertools import islice
from pathlib import Path

import pytest

from saescope.text import embedded_corpus
from saescope.text.embedded.probe_split import Split, split_of

ASSETS = Path(__file__).parents[2] / "src" / "saescope" / "assets"
GENERATED = tuple(embedded_corpus.GENERATED_TASKS)
LIBRARY = tuple(embedded_corpus.LIBRARY_TASKS)


@cache
def _sample(task: str, split: Split, count: int = 1500, seed: int = 7) -> tuple[str, ...]:
    return tuple(islice(embedded_corpus.task_documents(task, split, seed), count))


def _probe(task: str) -> list[str]:
    lines = (ASSETS / "probes" / f"{task}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


@pytest.mark.parametrize("task", embedded_corpus.TASKS)
@pytest.mark.parametrize("split", ["train", "probe"])
def test_a_seed_decides_the_documents(task: str, split: Split) -> None:
    first, again, other = (
        list(islice(embedded_corpus.task_documents(task, split, seed), 50)) for seed in (3, 3, 4)
    )
    assert first == again
    assert first != other


def test_mixed_documents_follow_the_seed_and_the_mixture() -> None:
    first, again = (list(islice(embedded_corpus.documents("train", 5), 2000)) for _ in range(2))
    assert first == again
    total = sum(len(text) for _, text in first)
    for task, share in embedded_corpus.MIXTURE.items():
        assert sum(len(text) for name, text in first if name == task) / total == pytest.approx(
            share, abs=0.01
        )


def test_mixed_probe_documents_go_on_after_the_library_ends() -> None:
    texts = [
        text for task, text in islice(embedded_corpus.documents("probe", 0), 8000) if task == "reference"
    ]
    assert len(texts) > len(set(texts))


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(ValueError, match="Unknown task 'poetry'"):
        next(embedded_corpus.task_documents("poetry", "train"))


@pytest.mark.parametrize("task", GENERATED)
def test_generated_probe_documents_are_no_training_documents(task: str) -> None:
    train, probe = _sample(task, "train"), _sample(task, "probe", 300)
    assert not set(train) & set(probe)
    assert {split_of(text) for text in train} == {"train"}
    assert {split_of(text) for text in probe} == {"probe"}


@pytest.mark.parametrize("task", LIBRARY)
def test_library_probe_documents_occur_in_no_training_document(task: str) -> None:
    train, probe = _sample(task, "train", 10**6), _sample(task, "probe", 10**6)
    joined = "\n\n".join(train)
    occurring = sum(text in joined for text in probe)
    assert len(train) > 1000
    assert len(probe) > 100
    assert occurring == 0


@pytest.mark.parametrize("task", GENERATED)
def test_generated_probe_documents_share_few_long_windows_with_training(task: str) -> None:
    train = {text[i : i + 80] for text in _sample(task, "train") for i in range(len(text) - 79)}
    probe = [text for text in _sample(task, "probe", 200) if len(text) >= 80]
    sharing = sum(any(text[i : i + 80] in train for i in range(len(text) - 79)) for text in probe)
    assert sharing <= 0.3 * len(probe)


@pytest.mark.parametrize("task", embedded_corpus.TASKS)
def test_documents_are_varied(task: str) -> None:
    texts = _sample(task, "train")
    assert len(set(texts)) == len(texts)
    grams = [
        tuple(words[i : i + 5])
        for text in texts[:300]
        for words in [text.split()]
        for i in range(len(words) - 4)
    ]
    assert len(set(grams)) / len(grams) > 0.6
    assert len({" ".join(text.split()[:6]) for text in texts}) / len(texts) > 0.4


@pytest.mark.parametrize("task", GENERATED)
def test_no_slot_is_left_open(task: str) -> None:
    for text in _sample(task, "train"):
        assert not set(text) & set("{}[]")
        assert "  " not in text.replace("\n  ", "\n")
        assert "(n)" not in text


@pytest.mark.parametrize("task", embedded_corpus.TASKS)
def test_committed_probes_are_readable_and_enough(task: str) -> None:
    texts = _probe(task)
    assert 100 <= len(texts) <= 300
    assert len(set(texts)) == len(texts)
    assert all(len(text) >= 80 for text in texts)


@pytest.mark.parametrize("task", embedded_corpus.TASKS)
def test_committed_probes_occur_in_no_training_document(task: str) -> None:
    texts = _probe(task)
    train = "\n\n".join(_sample(task, "train", 10**6 if task in LIBRARY else 1500))
    assert not [text for text in texts if text in train]
    if task in GENERATED:
        assert {split_of(text) for text in texts} == {"probe"}


def test_assets_stay_small() -> None:
    sizes = {path: path.stat().st_size for path in ASSETS.rglob("*") if path.is_file()}
    assert sum(sizes.values()) <= 12_000_000
    assert sum(size for path, size in sizes.items() if path.parent.name == "probes") <= 1_000_000


def test_the_recorded_loss_is_reproduced() -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    record = json.loads((ASSETS / "model" / "training.json").read_text(encoding="utf-8"))
    held_out, context = record["held_out"], record["model"]["context"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(ASSETS / "model")
    model = transformers.AutoModelForCausalLM.from_pretrained(ASSETS / "model", dtype=torch.float32).eval()
    assert tokenizer.eos_token_id == tokenizer.bos_token_id == tokenizer.pad_token_id == 0
    rows = []
    for task in embedded_corpus.TASKS:
        ids = [token for text in _probe(task) for token in [*tokenizer(text)["input_ids"], 0]]
        rows += [ids[i * context : (i + 1) * context] for i in range(held_out["check"]["rows_per_task"])]
    batch = torch.tensor(rows)
    with torch.no_grad():
        loss = model(input_ids=batch, labels=batch).loss.item()
    assert loss == pytest.approx(held_out["check"]["nats_per_token"], abs=0.01)
    assert held_out["nats_per_token"] < held_out["bigram_nats_per_token"] - 0.5
    card = (ASSETS / "model" / "README.md").read_text(encoding="utf-8")
    assert f"{held_out['nats_per_token']:.3f}" in card


@pytest.mark.parametrize("hookpoint", ["layers.2", "layers.3", "layers.3.mlp"])
def test_autoencoders_have_the_sparsify_layout(hookpoint: str) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    folder = ASSETS / "saes" / hookpoint
    settings = json.loads((folder / "cfg.json").read_text(encoding="utf-8"))
    assert (settings["d_in"], settings["k"], settings["expansion_factor"]) == (128, 16, 8)
    tensors = safetensors.load_file(folder / "sae.safetensors")
    assert {name: tensor.shape for name, tensor in tensors.items()} == {
        "encoder.weight": (1024, 128), "encoder.bias": (1024,), "W_dec": (1024, 128), "b_dec": (128,),
    }  # fmt: skip
