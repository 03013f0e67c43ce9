"""What stands before a text is what the tokenizer and its chat template put there, once and whole."""

import json
from pathlib import Path

import pytest
from tokenizers import processors
from transformers import AutoTokenizer

from saescope.config import ProbesConfig
from saescope.errors import ProbeError
from saescope.text.documents import Document, Part, Probes, Task
from saescope.text.windows import Windows, tokenize_probes

TALKS = [
    [{"role": "user", "content": f"add 4{n} and 5{n}"}, {"role": "assistant", "content": f"that is 9{n}"}]
    for n in range(6)
]
TEMPLATE = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}"


@pytest.fixture
def tokenizer(tokenizer_folder):
    """Without a beginning of its own; special tokens `<s>`, `[gMASK]`, `<sop>` and those of a chat."""
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    tokenizer.add_special_tokens(
        {"bos_token": "<s>", "additional_special_tokens": ["[gMASK]", "<sop>", "<|user|>", "<|assistant|>"]}
    )
    return tokenizer


def begin_with(tokenizer, *tokens: str, end: str = ""):
    """Let the tokenizer put these tokens before every text, and `end` behind it."""
    numbers = [(token, tokenizer.convert_tokens_to_ids(token)) for token in (*tokens, *end.split())]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=" ".join([*tokens, "$A", *end.split()]), special_tokens=numbers
    )
    return tokenizer


def windows_of(tokenizer, documents, **values) -> Windows:
    """Windows of the documents, beside another task."""

    def task(name, texts):
        return Task(name, (Part(name, lambda: (Document(name, text) for text in texts)),))

    probes = Probes((task("here", documents), task("there", ["other words of another task"])), {})
    return tokenize_probes(ProbesConfig("folder", path="x", **values), tokenizer, probes)


def of_first_task(windows: Windows) -> list[list[int]]:
    return [ids.tolist() for ids, task in zip(windows.ids, windows.task_W, strict=True) if task == 0]


@pytest.mark.parametrize("prefix", [(), ("<s>",), ("[gMASK]", "<sop>"), ("<s>", "[gMASK]", "<sop>")])
@pytest.mark.parametrize("end", ["", "<|endoftext|>"])
def test_a_text_begins_as_the_tokenizer_says(tokenizer, prefix, end):
    begin_with(tokenizer, *prefix, end=end)
    text = "add 40 and 50"
    windows = windows_of(tokenizer, [text], exclude_first=0)
    whole = tokenizer(text)["input_ids"]
    assert of_first_task(windows) == [whole[: len(whole) - len(end.split())]]
    assert windows.start_W[0] == -len(prefix)
    assert windows.counted[0].tolist() == [False] * len(prefix) + [True] * (len(windows.ids[0]) - len(prefix))


def test_a_long_text_begins_so_in_every_window(tokenizer):
    begin_with(tokenizer, "[gMASK]", "<sop>")
    text = "add 40 and 50 then " * 9
    windows = windows_of(tokenizer, [text], ctx_len=10)
    prefix = tokenizer.convert_tokens_to_ids(["[gMASK]", "<sop>"])
    ids = of_first_task(windows)
    assert all(window[:2] == prefix and len(window) <= 10 for window in ids)
    assert [token for window in ids for token in window[2:]] == tokenizer(text, add_special_tokens=False)[
        "input_ids"
    ]
    with pytest.raises(ProbeError, match=r"ctx_len=2 leaves no room beside the 2 tokens"):
        windows_of(tokenizer, [text], ctx_len=2)


@pytest.mark.parametrize("prefix", [("<s>",), ("[gMASK]", "<sop>")])
def test_what_the_text_has_already_is_not_put_twice(tokenizer, prefix):
    begin_with(tokenizer, *prefix)
    text = "add 40 and 50 then " * 9
    bare = windows_of(tokenizer, [text], ctx_len=16)
    written = windows_of(tokenizer, ["".join(prefix) + text], ctx_len=16)
    assert of_first_task(written) == of_first_task(bare)
    assert written.start_W.tolist() == bare.start_W.tolist()
    assert [mask.tolist() for mask in written.counted] == [mask.tolist() for mask in bare.counted]


@pytest.mark.parametrize("own", [(), ("<s>",)])
@pytest.mark.parametrize("in_template", ["", "{{ bos_token }}"])
def test_a_chat_is_what_the_template_gives(tokenizer, tmp_path, own, in_template):
    """Also where the template has no BOS token and the tokenizer would add one to a plain text."""
    begin_with(tokenizer, *own) if own else None
    tokenizer.chat_template = in_template + TEMPLATE
    for task in ("a", "b"):
        rows = TALKS if task == "a" else [list(reversed(talk)) for talk in TALKS]
        (tmp_path / f"{task}.jsonl").write_text(
            "".join(json.dumps({"messages": talk}) + "\n" for talk in rows)
        )
    cfg = ProbesConfig("folder", path=str(tmp_path), text_key="messages")
    expected = [tokenizer.apply_chat_template(talk, tokenize=True, return_dict=False) for talk in TALKS]
    assert of_first_task(tokenize_probes(cfg, tokenizer)) == expected

    short = ProbesConfig("folder", path=str(tmp_path), text_key="messages", ctx_len=8)
    bos = tokenizer.bos_token_id
    begins = [window[0] == bos for window in of_first_task(tokenize_probes(short, tokenizer))]
    assert begins == [bool(in_template)] * len(begins)

    plain = ProbesConfig("folder", path=str(tmp_path), text_key="messages", chat="plain")
    lines = "\n".join(message["content"] for message in TALKS[0])
    assert of_first_task(tokenize_probes(plain, tokenizer))[0] == tokenizer(lines)["input_ids"]


def test_prepend_bos_decides(tokenizer):
    begin_with(tokenizer, "<s>")
    bos = tokenizer.bos_token_id
    for text in ("add 40 and 50", "<s>add 40 and 50"):
        assert of_first_task(windows_of(tokenizer, [text], prepend_bos=True))[0].count(bos) == 1
    assert of_first_task(windows_of(tokenizer, ["add 40"], prepend_bos=False))[0].count(bos) == 0


def test_a_template_of_one_task_is_said(tokenizer, tmp_path: Path):
    for task, before in (("a", "Answer the question as well as you can: "), ("b", "")):
        (tmp_path / f"{task}.jsonl").write_text(
            "".join(
                json.dumps({"text": f"{before}{w}{n} and {n}{w} so"}) + "\n" for n, w in enumerate("bcdfghk")
            )
        )
    windows = tokenize_probes(ProbesConfig("folder", path=str(tmp_path)), tokenizer)
    (warning,) = windows.warnings
    size = len(tokenizer("Answer the question as well as you can:")["input_ids"])
    assert warning.startswith(
        f"probes: all 7 documents of a begin with the same {size} tokens ('Answer the question"
    )
    assert len(windows.ids[0]) > size  # named, not stripped
