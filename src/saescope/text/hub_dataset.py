"""A Hugging Face dataset, on the Hub or in a local folder, read by the `datasets` library."""

import contextlib
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saescope.errors import HubError
from saescope.files import read_json, write_json

DATA_ENDINGS = (".parquet", ".jsonl", ".json", ".csv", ".arrow", ".txt", ".gz", ".zst")


@dataclass(frozen=True)
class HubDataset:
    """A dataset, and which of its records are read."""

    name: str
    """Hub id, or an existing folder with parquet, JSONL, arrow or `save_to_disk` files."""

    config: str | None
    """Configuration of the dataset, where it has several."""

    split: str

    revision: str | None = None
    """Branch, tag or commit on the Hub."""

    @property
    def folder(self) -> Path | None:
        """The local folder behind `name`; None for a Hub id."""
        path = Path(self.name).expanduser()
        return path if path.is_dir() else None

    @property
    def is_path(self) -> bool:
        """Whether `name` can only be meant as a path."""
        return self.name.startswith(("/", ".", "~"))


class NoSplitError(ValueError):
    """The dataset exists, the split does not."""

    def __init__(self, splits: Iterable[str]) -> None:
        self.splits = list(splits)
        super().__init__(f"its splits are {', '.join(self.splits)}")


class OtherCommitError(ValueError):
    """The local cache has another commit of the dataset than the one wanted."""


def find_commit(dataset: HubDataset, memory: Path | None) -> str | None:
    """The commit `revision` names on the Hub now; None for a local folder, or when it cannot be known.

    It is noted in the folder `memory`, and without a network the noted one is taken: a second job offline
    then finds what an earlier job has written.
    """
    if dataset.folder is not None or dataset.is_path:
        return None
    from saescope import hub

    name_hash = hashlib.sha256(f"{dataset.name} {dataset.revision}".encode()).hexdigest()[:16]
    note = memory / f"hub-{name_hash}.json" if memory else None
    try:
        commit = hub.list_files(dataset.name, dataset.revision, repo_type="dataset").commit
    except HubError:  # offline, private or gone: reading the dataset will say what is wrong
        noted = read_json(note) if note else None
        return str(noted["commit"]) if isinstance(noted, dict) and "commit" in noted else None
    if note is not None:
        with contextlib.suppress(OSError):
            write_json(note, {"name": dataset.name, "revision": dataset.revision, "commit": commit})
    return commit


def records(dataset: HubDataset, commit: str | None, *, streaming: bool) -> Iterable[dict[str, Any]]:
    """Records in the dataset's own order, streamed or downloaded once into the library's cache.

    Raises NoSplitError, OtherCommitError, and whatever `datasets`, fsspec and the network raise.
    """
    import datasets

    folder = dataset.folder
    datasets.disable_progress_bars()
    if folder is not None and ((folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()):
        loaded = datasets.load_from_disk(str(folder))
        if not isinstance(loaded, dict):  # saved without splits
            return loaded  # type: ignore[no-any-return]
    else:
        loaded = datasets.load_dataset(
            str(folder) if folder is not None else dataset.name,
            dataset.config,
            streaming=streaming,
            revision=None if folder is not None else commit or dataset.revision,
        )
    if dataset.split not in loaded:
        raise NoSplitError(map(str, loaded))
    split = loaded[dataset.split]
    if commit is not None and not streaming:
        # offline the library takes its newest copy, whatever the revision; its folder is named by the commit
        cached = {Path(file["filename"]).parent.name for file in split.cache_files}
        others = [name for name in cached if re.fullmatch("[0-9a-f]{40}", name) and name != commit]
        if others:
            raise OtherCommitError(f"the local cache has commit {others[0]}, not {commit}")
    return split  # type: ignore[no-any-return]


def error_summary(error: Exception) -> str:
    """Type and text of a library's error in one line, of the error behind it where `datasets` wraps that."""
    if type(error).__name__ == "DatasetGenerationError" and isinstance(error.__cause__, Exception):
        error = error.__cause__
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
