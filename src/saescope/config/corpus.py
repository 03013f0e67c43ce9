"""Config group `corpus`."""

from dataclasses import dataclass

from saescope.config.check import at_least, one_of
from saescope.config.probes import CHATS
from saescope.errors import ConfigError

SOURCES = ("embedded", "hf", "local", "memmap")
DTYPES = ("uint16", "uint32", "int32", "int64")
"""Types of the numbers in a file of tokens without a header."""


@dataclass(frozen=True)
class CorpusConfig:
    """The text on which `sae=train` trains."""

    source: str
    """`embedded` (written by this package), `hf` (Hugging Face dataset), `local` (text files) or `memmap`
    (tokens in a file, as sparsify reads them)."""

    name: str | None = None
    """`hf`: Hub id of the dataset, or a folder with parquet, JSONL, arrow or `save_to_disk` files."""

    config: str | None = None
    """`hf`: configuration of the dataset, where it has several."""

    split: str = "train"
    """`hf`: split of the dataset."""

    text_key: str = "text"
    """Column with the text; nested ones as `data.text`; lists of messages are chats."""

    chat: str = "auto"
    """How chats become text: by the tokenizer's chat `template`, as `plain` lines, or `auto`: by the template
    where the tokenizer has one."""

    path: str | None = None
    """`local`: a .txt, .jsonl, .json, .csv, .tsv, .parquet or .arrow file, or a folder of them. `memmap`: a
    file of tokens, raw integers or .npy."""

    dtype: str | None = None
    """`memmap`: type of the integers in a file without a header; null: uint16, as sparsify writes them, and
    refused where the file or the vocabulary says that they are wider."""

    revision: str | None = None
    """`hf`: branch, tag or commit on the Hub."""

    ctx_len: int = 256
    """Tokens per training row."""

    holdout_tokens: int = 16_384
    """Tokens set aside for validation, from documents that training never reads; 0: none."""

    def __post_init__(self) -> None:
        one_of("corpus.source", self.source, SOURCES)
        at_least("corpus.ctx_len", self.ctx_len, 2)
        at_least("corpus.holdout_tokens", self.holdout_tokens, 0)
        if self.source == "hf" and not self.name:
            raise ConfigError(
                "corpus=hf needs corpus.name=HUB_ID_OR_FOLDER, such as corpus.name=roneneldan/TinyStories"
            )
        if self.source in ("local", "memmap") and not self.path:
            raise ConfigError(f"corpus.source={self.source} needs corpus.path=FILE_OR_FOLDER")
        if self.source in ("embedded", "hf") and self.path:
            raise ConfigError(f"corpus.path={self.path} needs corpus=local")
        if self.dtype is not None:
            one_of("corpus.dtype", self.dtype, DTYPES)
            if self.source != "memmap":
                raise ConfigError(f"corpus.dtype={self.dtype} needs corpus.source=memmap")
        if self.source != "hf":
            for key in ("name", "config", "revision"):
                if getattr(self, key):
                    raise ConfigError(f"corpus.{key}={getattr(self, key)} needs corpus=hf")
        one_of("corpus.chat", self.chat, CHATS)
        if not self.split or not self.text_key:
            raise ConfigError("corpus.split and corpus.text_key must not be empty")
