"""What a record holds as text: a column, nested ones by dots, or the messages of a chat."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from saescope.errors import SaescopeError

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Chat:
    """A conversation. Which text it is depends on the tokenizer (`as_text`)."""

    messages: tuple[tuple[str, str], ...]
    """Role and content of each message."""


Text = str | Chat

_ROLES = (("role", "content"), ("from", "value"))
"""Names under which data sets keep role and content of a message: OpenAI's and ShareGPT's."""
_ROLE_NAMES = {"human": "user", "gpt": "assistant"}


class NoColumnError(ValueError):
    """The record has no such column."""


class WrongValueError(ValueError):
    """A column holds something else than the text it should."""


def value_at(record: Record, column: str) -> Any:
    """The value of a column; `data.text` is the column of that name, or else `text` inside `data`.

    Inside a list of objects (`turns.text`) it is the list of their values. Raises NoColumnError.
    """
    value: Any = record
    parts = [column] if column in record else column.split(".")
    for part in parts:
        value = (
            [_part(item, part, column) for item in value]
            if isinstance(value, list)
            else _part(value, part, column)
        )
    return value


def _part(value: Any, part: str, column: str) -> Any:
    if value is None:
        return None
    if not isinstance(value, Mapping) or part not in value:
        raise NoColumnError(column)
    return value[part]


def columns(record: Record) -> list[str]:
    """Names of the columns, nested ones with dots."""
    return [name for key, value in record.items() for name in _names(str(key), value)]


def _names(key: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for inner, more in value.items():
            yield from _names(f"{key}.{inner}", more)
    else:
        yield key


def text_at(record: Record, column: str) -> Text:
    """The text in `column`; null is empty, a list of texts becomes lines, a list of messages a `Chat`.

    Raises NoColumnError, and WrongValueError for any other value.
    """
    value = value_at(record, column)
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(item is None or isinstance(item, str) for item in value):
        return "\n".join(item.strip() for item in value if item)
    if isinstance(value, list) and all(isinstance(item, Mapping) for item in value):
        return Chat(tuple(_message(item, column) for item in value))
    raise WrongValueError(f"column '{column}' holds {type(value).__name__}, not text")


def plain_at(record: Record, column: str) -> str:
    """As `text_at`, where a chat is no text. Raises NoColumnError and WrongValueError."""
    text = text_at(record, column)
    if isinstance(text, Chat):
        raise WrongValueError(f"column '{column}' holds messages, not text")
    return text


def _message(item: Record, column: str) -> tuple[str, str]:
    for role, content in _ROLES:
        name = item.get(role)
        if isinstance(name, str) and content in item:
            return _ROLE_NAMES.get(name, name) if role == "from" else name, _content(item[content], column)
    raise WrongValueError(
        f"column '{column}' holds a list of objects that are no messages (role and content); name the text "
        f"in them, such as {column}.{next(iter(item), 'text')}"
    )


def _content(value: Any, column: str) -> str:
    """Text of a message; of several parts those that are text, one a line."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, Mapping) for part in value):
        if others := sorted({str(part.get("type")) for part in value} - {"text"}):
            raise WrongValueError(f"column '{column}' has messages with {', '.join(others)} beside text")
        return "\n".join(str(part.get("text") or "") for part in value)
    raise WrongValueError(
        f"column '{column}' has a message whose content is {type(value).__name__}, not text"
    )


def is_blank(text: Text) -> bool:
    """Whether there is nothing to read."""
    return (
        not any(content.strip() for _, content in text.messages)
        if isinstance(text, Chat)
        else not text.strip()
    )


def uses_template(tokenizer: Any, chat: str) -> bool:
    """Whether chats are written with the tokenizer's template: `chat` is `auto`, `template` or `plain`."""
    return chat == "template" or (chat == "auto" and bool(getattr(tokenizer, "chat_template", None)))


def as_text(
    text: Text, tokenizer: Any, chat: str, setting: str, where: str, error: type[SaescopeError]
) -> str:
    """The text itself, or a chat as the model reads it: by its template, or as lines of plain text.

    `setting` is the config key of `chat`. Raises `error` where there is no template, or the template refuses
    the messages.
    """
    if isinstance(text, str):
        return text
    if not uses_template(tokenizer, chat):
        return "\n".join(content.strip() for _, content in text.messages if content.strip())
    if not getattr(tokenizer, "chat_template", None):
        raise error(f"{where} is a chat, but this tokenizer has no chat template; set {setting}=plain")
    messages = [{"role": role, "content": content} for role, content in text.messages]
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False))
    except Exception as cause:  # templates raise what they like: roles that do not alternate, no system role
        raise error(f"{where}: the tokenizer's chat template refuses these messages ({cause})") from cause
