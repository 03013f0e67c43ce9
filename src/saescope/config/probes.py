"""Config group `probes`."""

from dataclasses import dataclass

from saescope.config.check import at_least, one_of
from saescope.errors import ConfigError

SOURCES = ("embedded", "standard", "folder", "languages", "manifest")
GROUPINGS = ("task_id", "domain")
CHATS = ("auto", "template", "plain")
DUPLICATES = ("merge", "warn", "keep")


@dataclass(frozen=True)
class ProbesConfig:
    """The labelled texts whose tasks SI and Q are about."""

    source: str
    """`embedded` (six tasks inside the package), `standard` (HumanEval, GSM8K, SQuAD, WikiText, DailyDialog,
    ARC-Challenge from the Hub), `folder`, `languages` (the same sentences in several languages) or
    `manifest`."""

    path: str | None = None
    """`folder`: a folder with one file or one folder per task, or with `task_key` a file or dataset.
    `languages`: a folder with one file per language, or a table with one column per language; null: the
    sentences in the package. `manifest`: the JSONL file of task records."""

    text_key: str = "text"
    """`folder`, `languages`: column with the text; nested ones as `data.text`; messages are chats."""

    task_key: str | None = None
    """`folder`: column with the task, where all tasks are in one file or dataset; null: a file per task."""

    split: str | None = None
    """`folder`, `languages`: split of a folder that `datasets` saved, where it has several."""

    languages: tuple[str, ...] = ()
    """`languages`: the files or columns that are read; empty: all."""

    sentences: int = 4
    """`languages`: sentences per document."""

    chat: str = "auto"
    """How chats become text: by the tokenizer's chat `template`, as `plain` lines, or `auto`: by the template
    where the tokenizer has one."""

    duplicates: str = "merge"
    """Documents that repeat one of their task (8-grams of words overlap by 80 % or more): `merge` (one
    document with it, in permutations and bootstraps), `warn` or `keep`."""

    ctx_len: int = 256
    """Tokens per window. Longer documents become several windows, each a context of its own."""

    max_tokens_per_task: int = 50_000
    """Counted tokens per task, in file order; reading stops before the document that would exceed it."""

    exclude_first: int = 1
    """Positions at the start of every window that are not counted."""

    group_by: str = "task_id"
    """`manifest`: the field of a record that is its task label, `task_id` or `domain`."""

    prepend_bos: bool | None = None
    """Put the beginning-of-sequence token before every window; null: as the tokenizer does by itself."""

    def __post_init__(self) -> None:
        one_of("probes.source", self.source, SOURCES)
        at_least("probes.ctx_len", self.ctx_len, 2)
        at_least("probes.max_tokens_per_task", self.max_tokens_per_task, 1)
        at_least("probes.exclude_first", self.exclude_first, 0)
        if self.exclude_first >= self.ctx_len:
            raise ConfigError(
                f"probes.exclude_first={self.exclude_first} leaves nothing of a window of "
                f"probes.ctx_len={self.ctx_len} tokens"
            )
        at_least("probes.sentences", self.sentences, 1)
        one_of("probes.chat", self.chat, CHATS)
        one_of("probes.duplicates", self.duplicates, DUPLICATES)
        if self.source == "folder" and not self.path:
            raise ConfigError("probes=folder needs probes.path=FOLDER with one file or one folder per task")
        if self.source == "manifest" and not self.path:
            raise ConfigError("probes=manifest needs probes.path=FILE, a JSONL file of task records")
        if self.source in ("embedded", "standard") and self.path:
            raise ConfigError(
                f"probes.path={self.path} needs probes=folder, probes=languages or probes=manifest "
                f"(probes={self.source} brings its own texts)"
            )
        for key, value, sources in (
            ("text_key", self.text_key != "text", ("folder", "languages")),
            ("task_key", self.task_key, ("folder",)),
            ("split", self.split, ("folder", "languages")),
            ("languages", self.languages, ("languages",)),
        ):
            if value and self.source not in sources:
                raise ConfigError(f"probes.{key} needs probes={' or probes='.join(sources)}")
        if not self.text_key:
            raise ConfigError("probes.text_key must not be empty")
        one_of("probes.group_by", self.group_by, GROUPINGS)
        if self.group_by != "task_id" and self.source != "manifest":
            raise ConfigError(f"probes.group_by={self.group_by} needs probes=manifest")
