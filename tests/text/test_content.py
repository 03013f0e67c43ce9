"""What a record holds as text: nested columns, lists, chats with and without a template."""

import pytest

from saescope.errors import ProbeError
from saescope.text.content import Chat, NoColumnError, WrongValueError, as_text, columns, is_blank, text_at

ASKED = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Yes."}]
TALK = Chat((("user", "Hello?"), ("assistant", "Yes.")))


class Templated:
    chat_template = "a template"

    def apply_chat_template(self, messages, tokenize):
        assert not tokenize
        if messages[0]["role"] == "system":
            raise ValueError("System role\nnot supported")
        return "^" + "".join(f"<{m['role']}>{m['content']}" for m in messages)


class Plain:
    chat_template = None


@pytest.mark.parametrize(
    ("record", "column", "expected"),
    [
        ({"text": "a"}, "text", "a"),
        ({"text": None}, "text", ""),
        ({"data": {"text": "a"}}, "data.text", "a"),
        ({"data": {"inner": {"text": "a"}}}, "data.inner.text", "a"),
        ({"data": None}, "data.text", ""),
        ({"data.text": "flat", "data": {"text": "nested"}}, "data.text", "flat"),
        ({"turns": ["a ", "b"]}, "turns", "a\nb"),
        ({"turns": [{"text": "a"}, {"text": "b"}]}, "turns.text", "a\nb"),
        ({"messages": ASKED}, "messages", TALK),
        ({"data": {"messages": ASKED}}, "data.messages", TALK),
        (
            {"conversations": [{"from": "human", "value": "Hello?"}, {"from": "gpt", "value": "Yes."}]},
            "conversations",
            TALK,
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
                    }
                ]
            },
            "messages",
            Chat((("user", "a\nb"),)),
        ),
    ],
)
def test_texts_are_read_where_they_lie(record, column, expected):
    assert text_at(record, column) == expected


@pytest.mark.parametrize(
    ("record", "column", "error", "words"),
    [
        ({"text": 3}, "text", WrongValueError, "holds int, not text"),
        ({"data": {"text": "a"}}, "data", WrongValueError, "holds dict, not text"),
        ({"data": {"text": "a"}}, "data.txt", NoColumnError, "data.txt"),
        ({"text": "a"}, "text.inner", NoColumnError, "text.inner"),
        ({"rows": [{"q": "a"}]}, "rows", WrongValueError, r"such as rows\.q"),
        (
            {"m": [{"role": "user", "content": [{"type": "image"}]}]},
            "m",
            WrongValueError,
            "messages with image beside text",
        ),
    ],
)
def test_what_is_no_text_is_said(record, column, error, words):
    with pytest.raises(error, match=words):
        text_at(record, column)


def test_nested_columns_have_names():
    assert columns({"id": 1, "data": {"text": "a", "meta": {"lang": "en"}}, "rows": [{"x": 1}]}) == [
        "id", "data.text", "data.meta.lang", "rows",
    ]  # fmt: skip


def test_a_chat_is_the_template_or_its_lines():
    def written(tokenizer, chat):
        return as_text(TALK, tokenizer, chat, "probes.chat", "a.jsonl line 1", ProbeError)

    assert written(Templated(), "auto") == written(Templated(), "template") == "^<user>Hello?<assistant>Yes."
    assert written(Templated(), "plain") == written(Plain(), "auto") == "Hello?\nYes."
    with pytest.raises(
        ProbeError, match=r"a\.jsonl line 1 is a chat, .*no chat template; set probes\.chat=plain"
    ):
        written(Plain(), "template")
    system = Chat((("system", "Be kind."),))
    with pytest.raises(ProbeError, match=r"template refuses these messages \(System role not supported\)"):
        as_text(system, Templated(), "auto", "probes.chat", "x", ProbeError)
    assert as_text("plain text", Plain(), "template", "probes.chat", "x", ProbeError) == "plain text"


def test_blank():
    assert is_blank(" \n")
    assert is_blank(Chat((("user", " "),)))
    assert not is_blank(TALK)
