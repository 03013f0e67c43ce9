import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from saescope.config import config_dir, from_mapping
from saescope.config.corpus import CorpusConfig
from saescope.errors import ConfigError, CorpusError
from saescope.text.corpus import open_corpus
from saescope.text.token_rows import token_rows
from tests.text.letters import Letters, split_at_eos

TEXTS = ["first text", "second text", "third text", "fourth text"]


def local(path: Path, **values: str) -> list[str]:
    return list(open_corpus(CorpusConfig(source="local", path=str(path), **values)).texts())


def parquet(path: Path, texts: list[str | None], key: str = "text") -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({key: pa.array(texts, pa.string()), "n": list(range(len(texts)))}), path)
    return path


def test_a_folder_of_all_kinds_is_read_in_order(tmp_path: Path):
    (tmp_path / "b").mkdir()
    (tmp_path / "a.txt").write_text("first text\n\n\n\nsecond text\n")
    (tmp_path / "b" / "c.jsonl").write_text('{"text": "third text"}\n\n{"text": " "}\n')
    parquet(tmp_path / "d.parquet", [None, "fourth text"])
    (tmp_path / ".hidden.txt").write_text("never")
    (tmp_path / "notes.md").write_text("never")
    assert local(tmp_path) == TEXTS


def test_data_files_of_every_kind_and_what_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_dict({"data": [{"text": "a b"}, {"text": None}], "text": ["NA", "007"]})
    table.to_parquet(tmp_path / "a.parquet")
    table.remove_columns("data").to_csv(tmp_path / "b.csv", index=False)
    table.remove_columns("data").to_csv(tmp_path / "c.tsv", index=False, sep="\t")
    (tmp_path / "d.json").write_text('[{"text": "in a list"}]')
    (tmp_path / "e.jsonl.gz").write_bytes(b"x")
    assert local(tmp_path) == ["NA", "007"] * 3 + ["in a list"]
    assert "left out of" in caplog.text
    assert "e.jsonl.gz" in caplog.text
    assert local(tmp_path / "a.parquet", text_key="data.text") == ["a b"]
    table.save_to_disk(tmp_path / "saved")
    assert hub(str(tmp_path / "saved"), text_key="data.text") == ["a b"]
    with pytest.raises(CorpusError, match=r"saved by Hugging Face datasets: corpus=hf corpus\.name="):
        local(tmp_path / "saved")


class Chatting(Letters):
    """Letters with a chat template: the contents between `x` and `y`."""

    chat_template = "x content y"

    def apply_chat_template(self, messages: list[dict[str, str]], tokenize: bool) -> str:
        assert not tokenize
        return "".join(f"x{message['content']}y" for message in messages)


@pytest.mark.parametrize("source", ["local", "hf"])
def test_chats_become_training_text(tmp_path: Path, source: str):
    talk = [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "cd"}]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text((json.dumps({"messages": talk}) + "\n") * 3)
    place = {"path": str(tmp_path / "data")} if source == "local" else {"name": str(tmp_path / "data")}
    cfg = CorpusConfig(source=source, text_key="messages", ctx_len=8, holdout_tokens=0, **place)

    def written(tokenizer: Letters, chat: str) -> list[str]:
        rows = token_rows(dataclasses.replace(cfg, chat=chat), tokenizer, 8, tmp_path / "cache")
        return split_at_eos(rows.train[0].tolist())

    # all from one cache: what decides the text is part of its key
    assert written(Chatting(), "auto")[0] == written(Chatting(), "template")[0] == "xabyxcd"
    assert written(Letters(), "auto")[0].startswith("ab")
    assert written(Chatting(), "plain") == written(Letters(), "plain")
    with pytest.raises(CorpusError, match=r"no chat template; set corpus\.chat=plain"):
        written(Letters(), "template")


def test_another_text_key(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"content": "x y"}\n')
    assert local(tmp_path / "a.jsonl", text_key="content") == ["x y"]
    assert local(parquet(tmp_path / "b.parquet", ["z"], "content"), text_key="content") == ["z"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"text"', r"a\.jsonl line 2 is no JSON"),
        ("a.jsonl", b'{"txt": "x"}\n', r"line 1 has no text under 'text'; did you mean 'txt'\?"),
        ("a.jsonl", b"[1]\n", r"line 1 has no text"),
        ("a.txt", b"fine\n\xff\xfe\n", r"a\.txt line 2 is not UTF-8"),
        (
            "a.parquet",
            b"nothing of the kind",
            r"cannot read .*a\.parquet \(ArrowInvalid: .*not a parquet file",
        ),
        ("a.md", b"text", r"cannot read '\.md' files; valid: \.txt"),
    ],
)
def test_unreadable_files_are_named(tmp_path: Path, name: str, content: bytes, message: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=message) as caught:
        local(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_missing_things_are_named(tmp_path: Path):
    with pytest.raises(CorpusError, match="no such file or folder"):
        local(tmp_path / "nowhere")
    with pytest.raises(CorpusError, match=r"holds no \.txt"):
        local(tmp_path)
    with pytest.raises(CorpusError, match=r"no text under 'text'; .* one of: words"):
        local(parquet(tmp_path / "a.parquet", ["x"], "words"))
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-10])
    with pytest.raises(CorpusError, match="not a parquet file"):
        local(tmp_path / "a.parquet")


def hub(name: str, **values: str) -> list[str]:
    return list(open_corpus(CorpusConfig(source="hf", name=name, **values)).texts())


def test_hugging_face_folders_work_offline(tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    for kind in ("parquet", "jsonl", "saved", "dict"):
        (tmp_path / kind).mkdir()
    parquet(tmp_path / "parquet" / "train-00000.parquet", TEXTS[:2])
    parquet(tmp_path / "parquet" / "train-00001.parquet", TEXTS[2:])
    (tmp_path / "jsonl" / "a.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in TEXTS))
    saved = datasets.Dataset.from_dict({"text": TEXTS})
    saved.save_to_disk(tmp_path / "saved")
    datasets.DatasetDict({"validation": saved}).save_to_disk(tmp_path / "dict")
    for kind in ("parquet", "jsonl", "saved"):
        assert hub(str(tmp_path / kind)) == TEXTS, kind
    assert hub(str(tmp_path / "dict"), split="validation") == TEXTS
    with pytest.raises(CorpusError, match=r"no split 'train'; set corpus\.split to one of: validation"):
        hub(str(tmp_path / "dict"))
    with pytest.raises(
        CorpusError, match=r"record 0 has no text under 'words'; set corpus.text_key to one of: text"
    ):
        hub(str(tmp_path / "saved"), text_key="words")
    with pytest.raises(CorpusError, match=r"no split 'nonsense'; set corpus\.split to one of: train"):
        hub(str(tmp_path / "parquet"), split="nonsense")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=r"cannot read corpus.name=.*give a folder of parquet"):
        hub(str(tmp_path / "empty"))
    before = open_corpus(CorpusConfig(source="hf", name=str(tmp_path / "jsonl"))).fingerprint
    (tmp_path / "jsonl" / "a.jsonl").write_text('{"text": "other"}\n')
    assert open_corpus(CorpusConfig(source="hf", name=str(tmp_path / "jsonl"))).fingerprint != before


def test_the_hub_without_a_network_is_one_line():
    pytest.importorskip("datasets")
    with pytest.raises(
        CorpusError, match=r"cannot read corpus.name=nobody/nothing .*offline: corpus=embedded"
    ) as caught:
        hub("nobody/nothing")
    assert "\n" not in str(caught.value)
    with pytest.raises(CorpusError, match="no such folder"):
        hub("./nowhere")


def test_a_known_commit_is_found_again_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import huggingface_hub

    from saescope.text import corpus_hub

    class Info:
        sha, siblings, last_modified = "c0ffee", None, None

    cfg = CorpusConfig(source="hf", name="some/data")
    assert corpus_hub.find_commit(cfg, tmp_path) is None
    with monkeypatch.context() as patched:
        patched.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: Info)
        assert corpus_hub.find_commit(cfg, tmp_path) == "c0ffee"
    assert corpus_hub.find_commit(cfg, tmp_path) == "c0ffee"


def test_sparsify_memmaps(tmp_path: Path):
    from sparsify.data import MemmapDataset

    tokens = np.random.default_rng(0).integers(1, 200, 8 * 50 + 3).astype(np.uint16)
    tokens[::13] = 0
    tokens[: 8 * 50].tofile(tmp_path / "tokens.bin")
    np.save(tmp_path / "tokens.npy", tokens.astype(np.int32))
    theirs = np.stack([MemmapDataset(str(tmp_path / "tokens.bin"), 8)[i]["input_ids"] for i in range(50)])
    for name in ("tokens.bin", "tokens.npy"):
        cfg = CorpusConfig(source="memmap", path=str(tmp_path / name), ctx_len=8, holdout_tokens=32)
        rows = token_rows(cfg, Letters(), 160, tmp_path / "cache")
        assert (rows.train == theirs[:20]).all()
        assert (rows.heldout == theirs[46:]).all()
        everything = token_rows(cfg, Letters(), 8 * 50, None)
        # no document reaches from training rows into held-out ones
        assert 43 <= len(everything.train) < 46
        assert 0 in theirs[len(everything.train)]


def test_memmaps_that_do_not_fit(tmp_path: Path):
    path = tmp_path / "tokens.bin"

    def rows() -> None:
        cfg = CorpusConfig(source="memmap", path=str(path), ctx_len=8, holdout_tokens=0)
        token_rows(cfg, Letters(), 8, None)

    with pytest.raises(CorpusError, match="no such file"):
        rows()
    path.write_bytes(b"abc")
    with pytest.raises(CorpusError, match=r"holds 3 bytes, which are no uint16 tokens of 2 bytes each"):
        rows()
    np.full(80, 60_000, np.uint16).tofile(path)
    with pytest.raises(CorpusError, match=r"read as uint16 holds token 60000, but the tokenizer knows 200"):
        rows()
    path.write_bytes(b"")
    with pytest.raises(CorpusError, match="gives 0 training tokens"):
        rows()


@pytest.mark.parametrize("dtype", ["uint32", "int32", "int64"])
def test_wider_tokens_are_noticed_and_read_as_said(tmp_path: Path, dtype: str):
    tokens = np.random.default_rng(0).integers(0, 200, 8 * 50)
    path = tmp_path / "tokens.bin"
    tokens.astype(dtype).tofile(path)
    cfg = CorpusConfig(source="memmap", path=str(path), ctx_len=8, holdout_tokens=0)
    # little-endian int32 and uint32 of tokens are the same bytes
    name = "int64" if dtype == "int64" else "uint32"
    with pytest.raises(CorpusError, match=rf"looks like {name} tokens.*Set corpus\.dtype={name} "):
        token_rows(cfg, Letters(), 80, tmp_path / "cache")
    stated = dataclasses.replace(cfg, dtype=dtype)
    assert (token_rows(stated, Letters(), 80, tmp_path / "cache").train.reshape(-1) == tokens[:80]).all()
    forced = dataclasses.replace(cfg, dtype="uint16")
    train = token_rows(forced, Letters(), 80, tmp_path / "cache").train  # another entry of the cache
    assert (train.reshape(-1)[1::2] == 0).all()


def test_a_vocabulary_beyond_uint16_needs_a_stated_width(tmp_path: Path):
    path = tmp_path / "tokens.bin"
    tokens = np.random.default_rng(0).integers(0, 128_000, 8 * 50)
    tokens.astype(np.uint32).tofile(path)
    cfg = CorpusConfig(source="memmap", path=str(path), ctx_len=8, holdout_tokens=0)
    with pytest.raises(
        CorpusError, match=r"knows 128,256 tokens, more than uint16 holds.*corpus\.dtype=uint32"
    ):
        token_rows(cfg, Letters(128_256), 80, None)
    stated = dataclasses.replace(cfg, dtype="uint32")
    assert (token_rows(stated, Letters(128_256), 80, None).train.reshape(-1) == tokens[:80]).all()
    with pytest.raises(CorpusError, match=r"read as uint32 holds token \d+, but the tokenizer knows 200"):
        token_rows(stated, Letters(), 80, None)
    np.save(tmp_path / "tokens.npy", tokens.astype(np.int64))
    said = dataclasses.replace(cfg, path=str(tmp_path / "tokens.npy"))
    assert (token_rows(said, Letters(128_256), 80, None).train.reshape(-1) == tokens[:80]).all()
    with pytest.raises(CorpusError, match=r"says itself that it holds int64"):
        token_rows(dataclasses.replace(said, dtype="uint16"), Letters(128_256), 80, None)


def test_every_option_is_a_valid_config():
    import yaml

    files = sorted(Path(config_dir(), "corpus").glob("*.yaml"))
    assert [p.stem for p in files] == ["embedded", "hf", "local", "pile"]
    for path in files:
        values = yaml.safe_load(path.read_text())
        for key in [k for k, v in values.items() if v == "???"]:
            values[key] = "somewhere"
        cfg = from_mapping(CorpusConfig, values, "corpus.")
        assert cfg == CorpusConfig(cfg.source, name=cfg.name, path=cfg.path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": "web"}, "corpus.source=web is not known"),
        ({"source": "hf"}, "needs corpus.name"),
        ({"source": "local"}, "needs corpus.path"),
        ({"source": "embedded", "path": "x"}, "needs corpus=local"),
        ({"source": "local", "path": "x", "revision": "main"}, "needs corpus=hf"),
        (
            {"source": "local", "path": "x", "dtype": "uint32"},
            "corpus.dtype=uint32 needs corpus.source=memmap",
        ),
        ({"source": "memmap", "path": "x", "dtype": "float32"}, "corpus.dtype=float32 is not known"),
        ({"source": "embedded", "ctx_len": 1}, "corpus.ctx_len=1 is too small"),
        ({"source": "embedded", "holdout_tokens": -1}, "corpus.holdout_tokens=-1 is too small"),
    ],
)
def test_impossible_values_name_their_key(values: dict[str, str | int], message: str):
    with pytest.raises(ConfigError, match=message):
        from_mapping(CorpusConfig, values, "corpus.")
