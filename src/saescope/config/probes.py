"""Config group `probes`."""

from dataclasses import dataclass

from saescope.config.check import at_least, one_of
from saescope.errors import ConfigError

SOURCES = ("embedded", "folder")


@dataclass(frozen=True)
class ProbesConfig:
    """The labelled texts whose tasks SI and Q are about."""

    source: str
    """`embedded` (six tasks inside the package) or `folder`."""

    path: str | None = None
    """`folder`: the folder with `<task>.jsonl` and `<task>.txt` files."""

    ctx_len: int = 256
    """Tokens per window. Longer documents become several windows, each a context of its own."""

    max_tokens_per_task: int = 50_000
    """Counted tokens per task, in file order; reading stops before the document that would exceed it."""

    exclude_first: int = 1
    """Positions at the start of every window that are not counted."""

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
        if self.source == "embedded" and self.path:
            raise ConfigError(
                f"probes.path={self.path} needs probes=folder (probes=embedded has its texts in the package)"
            )
