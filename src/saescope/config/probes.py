"""Config group `probes`."""

from dataclasses import dataclass

from saescope.config.check import at_least, one_of
from saescope.errors import ConfigError

SOURCES = ("embedded", "standard", "folder", "manifest")
GROUPINGS = ("task_id", "domain")


@dataclass(frozen=True)
class ProbesConfig:
    """The labelled texts whose tasks SI and Q are about."""

    source: str
    """`embedded` (six tasks inside the package), `standard` (HumanEval, GSM8K, SQuAD, WikiText, DailyDialog,
    ARC-Challenge from the Hub), `folder` or `manifest`."""

    path: str | None = None
    """`folder`: the folder with `<task>.jsonl` and `<task>.txt` files. `manifest`: the JSONL file of task
    records."""

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
        if self.source == "folder" and not self.path:
            raise ConfigError("probes=folder needs probes.path=FOLDER with <task>.jsonl or <task>.txt files")
        if self.source == "manifest" and not self.path:
            raise ConfigError("probes=manifest needs probes.path=FILE, a JSONL file of task records")
        if self.source in ("embedded", "standard") and self.path:
            raise ConfigError(
                f"probes.path={self.path} needs probes=folder or probes=manifest "
                f"(probes={self.source} brings its own texts)"
            )
        one_of("probes.group_by", self.group_by, GROUPINGS)
        if self.group_by != "task_id" and self.source != "manifest":
            raise ConfigError(f"probes.group_by={self.group_by} needs probes=manifest")
