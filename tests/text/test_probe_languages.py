"""`probes=languages`: parallel sentences as tasks; documents of one number say the same in every language."""

import json
from pathlib import Path

import datasets
import pytest

from saescope.config import ProbesConfig
from saescope.errors import ConfigError, ProbeError
from saescope.text.documents import Probes
from saescope.text.probe_languages import EMBEDDED
from saescope.text.probes import open_probes
from saescope.text.windows import tokenize_probes
from tests.text.test_windows import Letters, text

SENTENCES = {
    "eng_Latn": ["one", "two", "three", "four", "five"],
    "हिन्दी": ["एक", "दो", "तीन", "चार", "पाँच"],
    "日本語": ["一つ", "二つ", "三つ", "四つ", "五つ"],
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets-cache"))


def opened(path: Path | None, **values) -> Probes:
    return open_probes(ProbesConfig("languages", path=None if path is None else str(path), **values))


def documents(path: Path | None, **values) -> dict[str, list[str]]:
    return {
        task.name: [d.text for part in task.parts for d in part.read()]
        for task in opened(path, **values).tasks
    }


def write_lines(folder: Path, ending: str = ".txt") -> Path:
    folder.mkdir(exist_ok=True)
    for name, sentences in SENTENCES.items():
        (folder / f"{name}{ending}").write_text("\n".join(sentences) + "\n", encoding="utf-8")
    return folder


PAIRS = {name: ["\n".join(s[:2]), "\n".join(s[2:4]), s[4]] for name, s in SENTENCES.items()}


@pytest.mark.parametrize("ending", [".txt", ".dev", ".devtest"])
def test_one_file_per_language(tmp_path, ending):
    write_lines(tmp_path, ending)
    assert documents(tmp_path, sentences=2) == PAIRS
    assert documents(tmp_path, sentences=2, languages=("日本語", "eng_Latn")) == {
        name: PAIRS[name] for name in ("eng_Latn", "日本語")
    }
    (tmp_path / "notes.md").write_text("x")
    assert "notes.md" in opened(tmp_path).notices[0]


def test_moses_files_have_the_language_as_their_ending(tmp_path):
    for name, sentences in SENTENCES.items():
        (tmp_path / f"corpus.{name}").write_text("\n".join(sentences), encoding="utf-8")
    assert documents(tmp_path, sentences=2) == PAIRS


def test_tables_with_a_column_per_language_and_files_of_records(tmp_path):
    table = datasets.Dataset.from_dict({"id": list(range(5)), **SENTENCES})
    table.to_csv(tmp_path / "all.csv", index=False)
    table.to_parquet(tmp_path / "all.parquet")
    table.save_to_disk(tmp_path / "saved")
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(dict(row)) + "\n" for row in table))
    for place in ("all.parquet", "saved", "all.jsonl", "all.csv"):
        assert documents(tmp_path / place, sentences=2) == PAIRS, place
    assert list(documents(tmp_path / "all.csv", languages=("日本語", "eng_Latn"))) == ["eng_Latn", "日本語"]
    (tmp_path / "folder").mkdir()
    for name, sentences in SENTENCES.items():
        datasets.Dataset.from_dict({"t": [{"x": s} for s in sentences]}).to_parquet(
            tmp_path / "folder" / f"{name}.parquet"
        )
    assert documents(tmp_path / "folder", sentences=2, text_key="t.x") == PAIRS


def test_a_sentence_missing_in_one_language_is_left_out_in_all(tmp_path):
    write_lines(tmp_path)
    (tmp_path / "日本語.txt").write_text("一つ\n\n三つ\n四つ\n五つ\n", encoding="utf-8")
    assert documents(tmp_path, sentences=2)["eng_Latn"] == ["one\nthree", "four\nfive"]
    assert documents(tmp_path, sentences=2)["日本語"] == ["一つ\n三つ", "四つ\n五つ"]
    assert opened(tmp_path).notices == (
        "probes: 1 sentences that are empty in one language are left out in all of them.",
    )


def test_a_budget_cuts_all_languages_at_the_same_document(tmp_path):
    long = {"a": "x" * 40, "b": "y" * 9}
    for name, sentence in long.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(f"{sentence}{n}" for n in range(8)))
    cfg = ProbesConfig("languages", path=str(tmp_path), sentences=1, max_tokens_per_task=130, ctx_len=64)
    windows = tokenize_probes(cfg, Letters())
    texts = [
        [text(ids) for ids, t in zip(windows.ids, windows.task_W, strict=True) if t == k] for k in (0, 1)
    ]
    assert texts == [[f"{sentence}{n}" for n in range(3)] for sentence in long.values()]
    (warning,) = windows.warnings
    assert "3 documents of each language are measured" in warning
    assert "5 are left out in every language" in warning
    tight = ProbesConfig("languages", path=str(tmp_path), sentences=1, max_tokens_per_task=10, ctx_len=64)
    with pytest.raises(ProbeError, match="no counted token"):
        tokenize_probes(tight, Letters())


def test_a_document_without_counted_tokens_in_one_language_goes_in_all(tmp_path):
    (tmp_path / "a.txt").write_text("aa\nb\ncc\n")
    (tmp_path / "b.txt").write_text("xx\nyy\nzz\n")
    windows = tokenize_probes(ProbesConfig("languages", path=str(tmp_path), sentences=1), Letters())
    assert [text(ids) for ids in windows.ids] == ["aa", "cc", "xx", "zz"]


def test_the_sentences_in_the_package():
    packaged = documents(None)
    assert list(packaged) == ["deu_Latn", "eng_Latn", "fra_Latn", "hin_Deva", "jpn_Jpan", "spa_Latn"]
    assert {len(texts) for texts in packaged.values()} == {16}
    assert opened(None).notices == ()
    for path in EMBEDDED.iterdir():
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len(set(lines)) == 64
        assert all(len(line) > 10 for line in lines)
    hindi, japanese = ("".join(packaged[name]) for name in ("hin_Deva", "jpn_Jpan"))
    assert sum("\u0900" <= c <= "\u097f" for c in hindi) > 0.7 * len(hindi)
    assert sum(c > "\u3000" for c in japanese) > 0.9 * len(japanese)


def test_what_does_not_fit_is_one_line(tmp_path):
    with pytest.raises(ProbeError, match="no such file or folder"):
        opened(tmp_path / "nowhere")
    write_lines(tmp_path / "some")
    with pytest.raises(ProbeError, match=r"no language 'eng'; did you mean 'eng_Latn'\? valid: eng_Latn"):
        opened(tmp_path / "some", languages=("eng", "日本語"))
    with pytest.raises(ProbeError, match="has 1 languages"):
        opened(tmp_path / "some", languages=("eng_Latn",))
    (tmp_path / "some" / "eng_Latn.txt").write_text("one\ntwo\n")
    with pytest.raises(ProbeError, match=r"different numbers of sentences \(eng_Latn 2, हिन्दी 5"):
        opened(tmp_path / "some")
    (tmp_path / "some" / "eng_Latn.dev").write_text("one\n")
    with pytest.raises(ProbeError, match="two files of the language 'eng_Latn'"):
        opened(tmp_path / "some")
    datasets.Dataset.from_dict({"a": ["x"], "n": [1]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(ProbeError, match=r"no column 'b'; .*set probes\.languages to some of: a, n"):
        opened(tmp_path / "t.parquet", languages=("b",))
    with pytest.raises(ProbeError, match="column 'n' holds no text"):
        opened(tmp_path / "t.parquet", languages=("a", "n"))
    (tmp_path / "one.txt").write_text("a\nb\n")
    with pytest.raises(ProbeError, match="is one file without columns"):
        opened(tmp_path / "one.txt")
    with pytest.raises(ConfigError, match=r"probes\.sentences=0 is too small"):
        ProbesConfig("languages", sentences=0)
