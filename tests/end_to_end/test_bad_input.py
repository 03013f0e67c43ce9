"""A few of the inputs of tests/campaigns (make test-input), each with what it must say."""

import json
import struct
import sys

import pytest
import torch
from transformers import AutoTokenizer

from saescope.cli.main import main
from saescope.config import AppConfig, HubSae, ModelConfig, ProbesConfig, from_mapping
from saescope.config.check import is_seed
from saescope.config.convert import _value
from saescope.errors import ConfigError, ModelError, ProbeError, SaeError, SaescopeError
from saescope.jobs.job import Context, failed
from saescope.model.load import load_model, load_skeleton
from saescope.sae import load
from saescope.text.windows import tokenize_probes


@pytest.mark.parametrize(
    ("hint", "value", "words"),
    [
        (float, float("nan"), "must be a finite number"),
        (float, float("inf"), "must be a finite number"),
        (int, 1e300, "between -2^53 and 2^53"),
        (int, 2**64, "between -2^53 and 2^53"),
        (float, 10**400, "between -2^53 and 2^53"),
        (int, 1.5, "a whole number"),
        (int, True, "a whole number"),
        (str, "a\0b", "NUL"),
        (str, "\ud800", "no UTF-8"),
        (str, "~nobody-of-this-name/x", "home folder"),
        (str, "x" * 300, "too long"),
        (str, "x/" * 3000, "too long"),
        (str | None, b"x", "must be text"),
    ],
)
def test_values_are_refused_by_name(hint, value, words):
    with pytest.raises(ConfigError, match=words.replace("^", r"\^")) as caught:
        _value(hint, value, "sae.field")
    assert "'sae.field'" in str(caught.value)


@pytest.mark.parametrize(
    ("hint", "value", "found"), [(int, 3.0, 3), (float, 3, 3.0), (int | None, None, None)]
)
def test_values_that_mean_the_same_are_taken(hint, value, found):
    taken = _value(hint, value, "key")
    assert (taken, type(taken)) == (found, type(found))


@pytest.mark.parametrize("value", [-1, 2**32])
def test_seeds_are_those_every_library_takes(value):
    with pytest.raises(ConfigError, match="0 and 4294967295"):
        is_seed("seed", value)


def test_messages_are_one_printable_line_whatever_they_quote():
    said = str(SaescopeError("a\nb\x1b[31m\0\ud800 \u202e" + "x" * 10**6))
    assert said.startswith(r"a b\x1b[31m\x00\ud800 \u202e")
    assert said.isprintable()
    assert len(said) < 2100
    with pytest.raises(ConfigError):
        from_mapping(AppConfig, {"\x1b": 1})


GOOD = '{"text": "all the good words of this text are here"}\n'


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"text": "\\ud800"}', "line 2: '\\ud800' is half a character"),
        (b"[" * 100_000, "line 2 is no JSON"),
        (b'{"text": "caf\xe9"}', "line 2 is not UTF-8"),
        (b"\0\0\0", "line 2 is no JSON"),
        (b'{"text": 3}', "line 2: column 'text' holds int, not text"),
    ],
)
def test_bad_lines_are_named(tokenizer_folder, tmp_path, line, words):
    (tmp_path / "a.jsonl").write_bytes(GOOD.encode() + line)
    (tmp_path / "b.jsonl").write_text(GOOD)
    with pytest.raises(ProbeError) as caught:
        tokenize_probes(
            ProbesConfig("folder", path=str(tmp_path)), AutoTokenizer.from_pretrained(tokenizer_folder)
        )
    assert words in str(caught.value)
    assert "a.jsonl" in str(caught.value)


def test_a_byte_order_mark_is_no_text(tokenizer_folder, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    for task in ("a", "b"):
        (tmp_path / f"{task}.jsonl").write_text(GOOD, encoding="utf-8-sig")
        (tmp_path / f"{task}2.txt").write_text("plain words", encoding="utf-8-sig")
    windows = tokenize_probes(ProbesConfig("folder", path=str(tmp_path)), tokenizer)
    texts = [tokenizer.decode(ids) for ids in windows.ids]
    assert texts == [json.loads(GOOD)["text"], "plain words"] * 2


def test_an_absurd_repeat_is_over_budget_and_not_built(tokenizer_folder, tmp_path):
    path = tmp_path / "tasks.jsonl"
    records = [
        {"task_id": t, "domain": "d", "source": {"type": "prompt", "text": "some words"}, "repeat": repeat}
        for t, repeat in (("a", 2), ("a", 10**30), ("b", 1))
    ]
    path.write_text("\n".join(map(json.dumps, records)))
    windows = tokenize_probes(
        ProbesConfig("manifest", path=str(path)), AutoTokenizer.from_pretrained(tokenizer_folder)
    )
    assert windows.doc_W.tolist() == [0, 0, 1]
    assert windows.truncated == {"a": 1}


def test_models_without_all_their_weights_are_refused(model_folder, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    weights = load_file(folder / "model.safetensors")
    del weights["gpt_neox.layers.1.mlp.dense_h_to_4h.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack gpt_neox\.layers\.1\.mlp\.dense_h_to_4h\.weight; download"):
        load_model(ModelConfig(str(folder)), torch.float32, 0)
    (folder / "model.safetensors").write_bytes(b"\0" * 20)
    with pytest.raises(ModelError, match="cannot load the weights"):
        load_model(ModelConfig(str(folder)), torch.float32, 0)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_attention_heads": 0}))
    with pytest.raises(ModelError):
        load_skeleton(ModelConfig(str(folder)))


def test_a_header_that_claims_more_than_the_file_has(sae_folder, tmp_path):
    import shutil

    shutil.copytree(sae_folder / "layers.2", tmp_path / "layers.2")
    header = json.dumps(
        {"W_dec": {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 2**62]}}
    ).encode()
    for data in (struct.pack("<Q", 2**62) + header, struct.pack("<Q", len(header)) + header):
        (tmp_path / "layers.2" / "sae.safetensors").write_bytes(data)
        with pytest.raises(SaeError, match="cannot be loaded"):
            load(
                HubSae(repo=str(tmp_path)),
                d_in=32, hookpoint="layers.2", model_sae_repo=None, model_name="m", dtype=torch.float32,
            )  # fmt: skip


def test_the_command_line_answers_in_one_printable_line(monkeypatch, capfd):
    for argument in ("model=\x1b[31m", "sae.k=\x00", "=\n=", "metrics.resolution=nan", "seed=-1"):
        monkeypatch.setattr(sys, "argv", ["saescope", argument, "hydra.run.dir=run"])
        assert main() == 1
        out, err = capfd.readouterr()
        assert err.startswith("saescope: ")
        assert err.endswith("\n")
        assert err[:-1].isprintable()
        assert out == ""


def test_an_error_in_a_spawned_process_is_its_own_line(tmp_path):
    """torch hands over the traceback as text."""
    from torch.multiprocessing import ProcessRaisedException

    told = "\n-- Process 1 terminated with the following error:\nTraceback (most recent call last):\n  …\n"
    ours = ProcessRaisedException(told + "saescope.errors.SaeError: the SAE overflows; try float32\n", 1, 7)
    assert failed(ours, Context(tmp_path, tmp_path)).error == "the SAE overflows; try float32"
    other = ProcessRaisedException(told + "KeyError: 'x'\n", 1, 7)
    assert failed(other, Context(tmp_path, tmp_path)).error.startswith("unexpected ProcessRaisedException")
