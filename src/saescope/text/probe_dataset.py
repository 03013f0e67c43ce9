"""Probe texts from a Hugging Face dataset: one document per record."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from saescope.errors import ProbeError, choices, nearest
from saescope.left_out import LeftOut
from saescope.text.content import (
    NoColumnError,
    Record,
    Text,
    WrongValueError,
    columns,
    is_blank,
    plain_at,
    value_at,
)
from saescope.text.documents import Document
from saescope.text.hub_dataset import (
    HubDataset,
    NoSplitError,
    OtherCommitError,
    error_summary,
    find_commit,
    records,
)

COMMIT_NOTES = Path("outputs") / ".datasets"
"""Where the commits of Hub datasets are noted for jobs without a network."""


@dataclass(frozen=True)
class ProbeDataset:
    """A dataset, and how a record of it becomes a text."""

    dataset: HubDataset

    columns: tuple[str, ...]
    """Columns `text` uses."""

    text: Callable[[Record], Text | None]
    """Record → text as one would read it; None: the record is no document. Raises WrongValueError."""

    where: str
    """What of the configuration names it, for messages."""

    num_docs: int | None = None
    """Documents taken, empty ones aside. With a number the records are streamed; without, the dataset is
    downloaded once."""

    unique_column: str | None = None
    """Column whose value may occur once: later records that repeat it are left out."""

    passed_over: Counter[str] = field(default_factory=Counter, compare=False, repr=False)
    """Records of the last reading that gave no document, by reason; `read` counts all of them."""

    @cached_property
    def commit(self) -> str | None:
        """Commit on the Hub, looked up once; None for a folder, and where it cannot be known."""
        return find_commit(self.dataset, COMMIT_NOTES)

    @property
    def origin(self) -> Path | str:
        """The local folder, or `name@commit` (`name@revision` where the commit cannot be known)."""
        return self.dataset.folder or f"{self.dataset.name}@{self.commit or self.dataset.revision or 'main'}"

    def left_out(self) -> list[LeftOut]:
        """Records that the last reading passed over."""
        where = f"{self.where}, dataset {self.dataset.name}"
        records = self.passed_over["read"]
        return [
            LeftOut("texts", self.passed_over[reason], records, f"{where}: {why}.")
            for reason, why in (
                ("no document", "the record is a heading or an empty line, no document"),
                ("repeated", f"the record repeats column '{self.unique_column}' of an earlier one"),
            )
            if self.passed_over[reason]
        ]

    def documents(self, task: str, repeat: int = 1) -> Iterator[Document]:
        """The texts as documents of `task`; raises what `texts` raises."""
        for text in self.texts():
            yield Document(task, text, repeat)

    def texts(self) -> Iterator[Text]:
        """Texts in the dataset's order, empty ones too.

        Raises ProbeError when the dataset, its split or a column is not there (with what is), a value is of
        another type, or the connection fails.
        """
        name = self.dataset.name
        if self.dataset.is_path and self.dataset.folder is None:
            raise ProbeError(f"{self.where}: dataset {name}: no such folder; give a folder or a Hub id")
        try:
            yield from self._texts()
        except (ProbeError, GeneratorExit):
            raise
        except NoSplitError as error:
            raise ProbeError(
                f"{self.where}: dataset {name} has no split '{self.dataset.split}'; "
                f"{nearest(self.dataset.split, error.splits)}valid: {choices(error.splits)}"
            ) from error
        except OtherCommitError as error:
            raise ProbeError(
                f"{self.where}: dataset {name} cannot be reached and {error}; connect once, or name that "
                "commit as the revision"
            ) from error
        except Exception as error:  # datasets raises whatever its readers, fsspec and the network raise
            raise ProbeError(
                f"{self.where}: cannot read dataset {name} ({error_summary(error)}); check its name, "
                "config and the network (offline, one that was read before is found in the cache), "
                "or use probes=folder"
            ) from error

    def _texts(self) -> Iterator[Text]:
        import datasets

        # offline, records come from the cache, which streaming would not read
        streaming = self.num_docs is not None and not datasets.config.HF_HUB_OFFLINE
        taken = 0
        seen: set[str] = set()
        self.passed_over.clear()
        for number, record in enumerate(records(self.dataset, self.commit, streaming=streaming)):
            try:
                for column in self.columns:
                    value_at(record, column)
                text = self.text(record)
                key = plain_at(record, self.unique_column) if self.unique_column else None
            except NoColumnError as error:
                names = columns(record)
                raise ProbeError(
                    f"{self.where}: dataset {self.dataset.name} has no column '{error}'; "
                    f"{nearest(str(error), names)}valid: {choices(names)}"
                ) from error
            except WrongValueError as error:
                raise ProbeError(
                    f"{self.where}: dataset {self.dataset.name} record {number}: {error}"
                ) from error
            self.passed_over["read"] += 1
            if text is None or (key is not None and key in seen):
                self.passed_over["no document" if text is None else "repeated"] += 1
                continue
            if key is not None and not is_blank(text):
                seen.add(key)
            yield text
            taken += not is_blank(text)
            if taken == self.num_docs:
                return
        if not taken:
            raise ProbeError(
                f"{self.where}: dataset {self.dataset.name} ({self.dataset.split}) holds no text"
            )
