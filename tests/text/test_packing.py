import hashlib
import io
import itertools
import multiprocessing
import random
from pathlib import Path

import numpy as np
import pytest

from saescope.config.corpus import CorpusConfig
from saescope.errors import CorpusError
from saescope.text import embedded_corpus
from saescope.text.corpus import EMBEDDED_SEED, open_corpus
from saescope.text.packing import RowWriter, is_held_out, pack
from saescope.text.token_rows import TokenRows, token_rows, tokenizer_digest
from tests.text.letters import Letters, split_at_eos


def words(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    seen: dict[str, None] = {}
    while len(seen) < count:
        seen["".join(rng.choices("abcdefghij", k=rng.randint(2, 9)))] = None
    return list(seen)


def packed(texts: list[str], rows: int, held: int, ctx_len: int = 5) -> tuple[np.ndarray, np.ndarray]:
    files = io.BytesIO(), io.BytesIO()
    writers = [RowWriter(f, n, ctx_len, eos=0) for f, n in zip(files, (rows, held), strict=True)]
    pack(iter(texts), Letters(), *writers)
    train, heldout = (np.frombuffer(f.getvalue(), np.int32).reshape(-1, ctx_len) for f in files)
    return train, heldout


def test_rows_by_hand():
    texts = ["bad", "abc", "hi", "fghi", "de", "j", "cd"]
    assert [t for t in texts if is_held_out(t)] == ["abc", "de"]
    train, heldout = packed(texts, 3, 1)
    assert train.tolist() == [[0, 2, 1, 4, 0], [8, 9, 0, 6, 7], [8, 9, 0, 10, 0]]
    assert heldout.tolist() == [[0, 1, 2, 3, 0]]


def test_nothing_is_lost_or_repeated_and_the_split_is_disjoint():
    texts = words(2000)
    train, heldout = packed(texts, 10_000, 10_000)
    train_texts, heldout_texts = split_at_eos(train.reshape(-1)), split_at_eos(heldout.reshape(-1))
    expected = [t for t in texts if not is_held_out(t)]
    # only the last, incomplete row is dropped
    assert train_texts[:-1] == expected[: len(train_texts) - 1]
    assert len(expected) - len(train_texts) < 5
    assert expected[len(train_texts) - 1].startswith(train_texts[-1])
    assert not set(train_texts[:-1]) & set(heldout_texts[:-1])
    assert 0.03 < len(heldout_texts) / len(texts) < 0.1


def test_the_split_does_not_depend_on_how_much_is_read():
    texts = words(3000)
    few, held_few = packed(texts, 50, 20)
    many, held_many = packed(texts, 500, 60)
    assert (many[:50] == few).all()
    assert (held_many[:20] == held_few).all()


def test_a_full_split_is_not_tokenised_further():
    tokenizer = Letters()
    writers = [RowWriter(io.BytesIO(), n, 5, 0) for n in (2, 20)]
    pack(iter(words(5000)), tokenizer, *writers)
    assert writers[0].full
    assert writers[1].full
    assert tokenizer.documents < 1000


def lines(folder: Path, texts: list[str]) -> CorpusConfig:
    path = folder / "texts.txt"
    path.write_text("\n\n".join(texts))
    return CorpusConfig(source="local", path=str(path), ctx_len=8, holdout_tokens=16)


def same(a: TokenRows, b: TokenRows) -> bool:
    return a.digest == b.digest and (a.train == b.train).all() and (a.heldout == b.heldout).all()


def test_rows_are_written_once(tmp_path: Path):
    cfg, folder = lines(tmp_path, words(600)), tmp_path / "tokens"
    tokenizer = Letters()
    first = token_rows(cfg, tokenizer, 800, folder)
    count = tokenizer.documents
    assert count > 0
    assert first.train.shape == (100, 8)
    assert first.heldout.shape == (2, 8)
    assert first.train.dtype == np.int32
    second = token_rows(cfg, tokenizer, 800, folder)
    assert tokenizer.documents == count
    assert isinstance(second.train, np.memmap)
    assert same(first, second)
    assert same(first, token_rows(cfg, Letters(), 800, None))


def test_rows_have_an_address(tmp_path: Path):
    texts = words(600)
    cfg, folder = lines(tmp_path, texts), tmp_path / "tokens"
    counts = []
    for change in ("none", "tokens", "tokenizer", "corpus"):
        tokenizer = Letters(size=100 if change == "tokenizer" else 200)
        if change == "corpus":
            lines(tmp_path, ["abba", *texts[1:]])
        token_rows(cfg, tokenizer, 808 if change == "tokens" else 800, folder)
        counts.append(tokenizer.documents)
    assert all(counts)


@pytest.mark.parametrize("damage", ["flip", "cut", "index"])
def test_damaged_rows_are_written_again(tmp_path: Path, damage: str):
    cfg, folder = lines(tmp_path, words(600)), tmp_path / "tokens"
    first = token_rows(cfg, Letters(), 800, folder)
    path = next(folder.glob("*/train.i32"))
    data = bytearray(path.read_bytes())
    written = TokenRows(np.array(first.train), np.array(first.heldout), first.digest)
    if damage == "flip":
        data[100] ^= 1
    elif damage == "cut":
        del data[-4:]
    else:
        (path.parent / "index.json").write_text("{")
    path.unlink()
    path.write_bytes(data)
    tokenizer = Letters()
    assert same(written, token_rows(cfg, tokenizer, 800, folder))
    assert tokenizer.documents


def test_too_little_text(tmp_path: Path):
    cfg = lines(tmp_path, ["abc", "de", "fghi"])
    with pytest.raises(
        CorpusError, match=r"gives 5 training tokens \(7 more are held out\), but at least 64 are"
    ):
        token_rows(cfg, Letters(), 64, tmp_path / "tokens", at_least=64)
    assert not list((tmp_path / "tokens").glob("*/*.i32"))
    cfg = lines(tmp_path, ["abc", "bad", "hi", "jig", "fghi"])
    with pytest.raises(CorpusError, match=r"gives 4 held-out tokens, but at least one row of 8"):
        token_rows(cfg, Letters(), 8, None)


def test_a_corpus_that_ends_early_gives_what_it_has(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    cfg = lines(tmp_path, words(300))
    rows = token_rows(cfg, Letters(), 100_000, tmp_path / "tokens", at_least=64)
    assert 64 <= rows.train.size < 100_000
    assert "ends after" in caplog.text


def test_a_tokenizer_without_eos(tmp_path: Path):
    tokenizer = Letters()
    tokenizer.eos_token_id = None
    with pytest.raises(CorpusError, match="no end-of-sequence token"):
        token_rows(lines(tmp_path, words(50)), tokenizer, 64, None)


def test_an_unwritable_folder_is_one_line(tmp_path: Path):
    (tmp_path / "tokens").write_text("a file")
    with pytest.raises(CorpusError, match=r"cannot keep training tokens .*runtime\.cache=off") as caught:
        token_rows(lines(tmp_path, words(100)), Letters(), 64, tmp_path / "tokens")
    assert "\n" not in str(caught.value)


def test_tokenizer_digest_follows_content(tokenizer_folder: Path):
    from transformers import AutoTokenizer

    first, second = (AutoTokenizer.from_pretrained(tokenizer_folder) for _ in range(2))
    first("abc def", truncation=True, max_length=2)
    assert tokenizer_digest(first) == tokenizer_digest(second)
    second.add_tokens(["qqq"])
    assert tokenizer_digest(first) != tokenizer_digest(second)


def _write_rows(folder: Path) -> tuple[int, str]:
    tokenizer = Letters()
    cfg = CorpusConfig(source="local", path=str(folder / "texts.txt"), ctx_len=8, holdout_tokens=16)
    rows = token_rows(cfg, tokenizer, 800, folder / "tokens")
    return tokenizer.documents, rows.digest


def test_concurrent_jobs_tokenise_once(tmp_path: Path):
    lines(tmp_path, words(600))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        digests = pool.map(_write_rows, [tmp_path] * 2, chunksize=1)
    assert digests[0][1] == digests[1][1]
    assert sorted(count > 0 for count, _ in digests) == [False, True]


def _documents_digest(task: str) -> str:
    if task:
        texts = embedded_corpus.task_documents(task, "train", EMBEDDED_SEED)
    else:
        texts = open_corpus(CorpusConfig(source="embedded")).texts()
    return hashlib.sha256("\0".join(itertools.islice(texts, 100)).encode()).hexdigest()


@pytest.mark.parametrize("tasks", [("qa", "logic"), pytest.param(("",), marks=pytest.mark.slow)])
def test_the_embedded_corpus_is_the_same_in_every_process(tasks: tuple[str, ...]):
    with multiprocessing.get_context("spawn").Pool(1) as pool:  # another hash seed
        elsewhere = pool.map(_documents_digest, tasks)
    assert elsewhere == [_documents_digest(task) for task in tasks]


def test_the_embedded_corpus_is_packed_with_a_held_out_part(
    tokenizer_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    from transformers import AutoTokenizer

    # the two library tasks take seconds to read; the slow test above has them
    monkeypatch.setattr(embedded_corpus, "TASKS", tuple(embedded_corpus.GENERATED_TASKS))
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    cfg = CorpusConfig(source="embedded", ctx_len=64, holdout_tokens=512)
    rows = token_rows(cfg, tokenizer, 20_000, None)
    assert rows.train.shape == (313, 64)
    assert rows.heldout.shape == (8, 64)
    assert rows.train[0, 0] == tokenizer.eos_token_id
