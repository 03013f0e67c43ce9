"""Documents become windows exactly as the definitions say."""

import numpy as np
import pytest

from saescope.config import ProbesConfig
from saescope.errors import ProbeError
from saescope.text.documents import task_name
from saescope.text.probe_folder import read_documents
from saescope.text.windows import batches, tokenize_probes


class Letters:
    """One token per character; `#` is special, `^` the beginning-of-sequence token."""

    all_special_ids = (ord("#"), ord("^"))
    bos_token_id: int | None = ord("^")
    pad_token_id = None
    eos_token_id = ord("#")
    adds_bos = False

    def __call__(self, text, add_special_tokens=True, verbose=True):
        ids = [ord(c) for c in text]
        return {"input_ids": [self.bos_token_id, *ids] if add_special_tokens and self.adds_bos else ids}


def text(ids) -> str:
    return "".join(map(chr, ids))


def folder(tmp_path, **tasks):
    for name, documents in tasks.items():
        (tmp_path / f"{name}.txt").write_text("\n\n".join(documents) + "\n")
    return str(tmp_path)


def windows_of(path, tokenizer=None, **values):
    return tokenize_probes(ProbesConfig("folder", path=path, **values), tokenizer or Letters())


def test_long_documents_become_consecutive_windows(tmp_path):
    w = windows_of(folder(tmp_path, a=["abcdefghij", "xy"], b=["klm"]), ctx_len=4)
    assert [text(ids) for ids in w.ids] == ["abcd", "efgh", "ij", "xy", "klm"]
    assert w.doc_W.tolist() == [0, 0, 0, 1, 2]
    assert w.start_W.tolist() == [0, 4, 8, 0, 0]
    assert w.task_D.tolist() == [0, 0, 1]
    assert w.tasks == ("a", "b")


def test_a_copy_counts_as_one_document_with_what_it_repeats(tmp_path):
    story = "the cat sat on the mat and then it looked at the dog by the door for a long while"
    path = folder(tmp_path, a=[story, "something else that is told only once in here", story], b=["xyz"])
    merged = windows_of(path, ctx_len=128)
    assert merged.doc_W.tolist() == [0, 0, 1, 2]
    assert merged.task_D.tolist() == [0, 0, 1]
    assert windows_of(path, ctx_len=128, duplicates="keep").doc_W.tolist() == [0, 1, 2, 3]


def test_first_positions_and_special_tokens_are_not_counted(tmp_path):
    w = windows_of(folder(tmp_path, a=["ab#de"], b=["xyz"]), ctx_len=8, exclude_first=1)
    assert w.counted[0].tolist() == [False, True, False, True, True]
    w = windows_of(folder(tmp_path, a=["ab#de"], b=["xyz"]), ctx_len=8, exclude_first=0)
    assert w.counted[0].tolist() == [True, True, False, True, True]


def test_counted_tokens_know_the_one_before_them_in_their_window(tmp_path):
    w = windows_of(folder(tmp_path, a=["ab#defg"], b=["xyz"]), ctx_len=5, exclude_first=1)
    assert text(w.token_N) == "bdegyz"  # windows ab#de, fg, xyz
    assert text(w.previous_N) == "a#dfxy"
    w = windows_of(folder(tmp_path, a=["ab"], b=["xyz"]), ctx_len=2, exclude_first=0)
    assert text(w.token_N) == "abxyz"
    assert (w.previous_N == -1).tolist() == [True, False, True, False, True]


def test_budget_stops_before_the_document_that_would_exceed_it(tmp_path):
    # counted tokens per document: 4, for the first of a window is not counted
    path = folder(tmp_path, a=["aaaaa", "bbbbb", "ccccc"], b=["xyz"])
    for budget, num_documents in ((4, 1), (7, 1), (8, 2), (12, 3)):
        w = windows_of(path, ctx_len=16, max_tokens_per_task=budget)
        first = [text(w.ids[i])[0] for i in range(len(w.ids)) if w.task_D[w.doc_W[i]] == 0]
        assert first == ["a", "b", "c"][:num_documents], budget
        assert w.truncated.get("a", 0) == 3 - num_documents


def test_a_beginning_token_is_put_before_every_window_and_never_counted(tmp_path):
    class WithBos(Letters):
        adds_bos = True

    w = windows_of(folder(tmp_path, a=["abcdef"], b=["xyz"]), WithBos(), ctx_len=4)
    assert [text(ids) for ids in w.ids] == ["^abc", "^def", "^xyz"]
    assert all(ids[0] == ord("^") for ids in w.ids)
    assert not any(mask[0] for mask in w.counted)
    assert w.start_W[:2].tolist() == [-1, 2]
    assert w.counted[0].tolist() == [False, True, True, True]


@pytest.mark.parametrize("asked", [True, False])
def test_prepend_bos_can_be_forced(tmp_path, asked):
    w = windows_of(folder(tmp_path, a=["abc"], b=["xyz"]), ctx_len=8, prepend_bos=asked)
    assert bool(w.ids[0][0] == ord("^")) is asked


def test_no_beginning_token_to_prepend(tmp_path):
    class Without(Letters):
        bos_token_id = None

    with pytest.raises(ProbeError, match="no beginning-of-sequence"):
        windows_of(folder(tmp_path, a=["abc"], b=["xyz"]), Without(), prepend_bos=True)


def test_a_task_without_a_counted_token(tmp_path):
    with pytest.raises(ProbeError, match="no counted token"):
        windows_of(folder(tmp_path, a=["abc"], b=["#"]))
    with pytest.raises(ProbeError, match="max_tokens_per_task=2"):
        windows_of(folder(tmp_path, a=["abcdef"], b=["xyz"]), max_tokens_per_task=2)


def test_batches_hold_every_window_once_within_the_budget(tmp_path):
    rng = np.random.default_rng(0)
    documents = ["x" * int(n) for n in rng.integers(2, 60, 50)]
    w = windows_of(folder(tmp_path, a=documents[:25], b=documents[25:]), ctx_len=16)
    batch_list = batches(w, np.arange(len(w.ids)), 64)
    assert sorted(i for b in batch_list for i in b.window_B.tolist()) == list(range(len(w.ids)))
    assert all(b.input_ids_BT.numel() <= 64 for b in batch_list)
    widths = [b.input_ids_BT.shape[1] for b in batch_list]
    assert widths == sorted(widths, reverse=True)
    for b in batch_list:
        for row, i in enumerate(b.window_B.tolist()):
            size = len(w.ids[i])
            assert b.input_ids_BT[row, :size].tolist() == w.ids[i].tolist()
            assert b.real_BT[row].tolist() == [True] * size + [False] * (b.real_BT.shape[1] - size)
            assert not b.counted_BT[row, size:].any()
            assert b.counted_BT[row, :size].tolist() == w.counted[i].tolist()


def test_a_window_longer_than_the_budget_still_runs(tmp_path):
    w = windows_of(folder(tmp_path, a=["abcdefgh"], b=["xyz"]), ctx_len=16)
    assert len(batches(w, np.arange(2), 3)) == 2


def test_plain_text_documents_lie_between_blank_lines(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n\n\n  \nthree")
    assert [d.text for d in read_documents(tmp_path / "a.txt")] == ["one\ntwo", "three"]


def test_task_names_fit_metric_keys(tmp_path):
    path = folder(tmp_path, **{"my task (1)": ["abc"], "b": ["xyz"]})
    assert set(windows_of(path).tasks) == {"b", "my_task__1_"}


@pytest.mark.parametrize(
    "name", ["हिन्दी", "日本語", "العربية", "Français", "ไทย", "پارسی\u200cزبان", "Ελληνικά"]
)
def test_task_names_of_any_script_are_kept(name):
    assert task_name(name) == name
    assert task_name(f"{name} (1)/x") == f"{name}__1__x"


def test_counted_tokens_and_task_of_each_window(tmp_path):
    w = windows_of(folder(tmp_path, a=["abcdefghij", "xy"], b=["k#m"]), ctx_len=4, exclude_first=1)
    assert w.tokens_W.tolist() == [3, 3, 1, 1, 1]
    assert w.task_W.tolist() == [0, 0, 0, 0, 1]
    assert w.row_W.tolist() == [0, 3, 6, 7, 8, 9]
    assert w.num_tokens == 9
