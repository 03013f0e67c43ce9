"""Training text from a Hugging Face dataset, streamed; a local folder of one works without a network."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from saescope.config.corpus import CorpusConfig
from saescope.errors import CorpusError, choices
from saescope.text import corpus_files, hub_dataset
from saescope.text.content import Text, is_blank
from saescope.text.hub_dataset import DATA_ENDINGS, HubDataset, NoSplitError
from saescope.text.records import text_in


def read_texts(cfg: CorpusConfig, commit: str | None, passed_over: Counter[str]) -> Iterator[Text]:
    """Documents of the dataset in its own order; empty ones are counted in `passed_over["empty"]`.

    Raises CorpusError when the dataset, its split or the text field is not there, or the connection fails.
    """
    try:
        for number, record in enumerate(hub_dataset.records(_dataset(cfg), commit, streaming=True)):
            where = f"corpus.name={cfg.name} record {number}"
            text = text_in(dict(record), cfg.text_key, "corpus.text_key", where, CorpusError)
            if is_blank(text):
                passed_over["empty"] += 1
            else:
                yield text
    except (CorpusError, GeneratorExit):
        raise
    except NoSplitError as error:
        raise CorpusError(
            f"corpus.name={cfg.name} has no split '{cfg.split}'; set corpus.split to one of: "
            f"{choices(error.splits)}"
        ) from error
    except Exception as error:  # datasets raises whatever its readers, fsspec and the network raise
        raise CorpusError(
            f"cannot read corpus.name={cfg.name} ({hub_dataset.error_summary(error)}); {_advice(cfg)}"
        ) from error


def fingerprint(cfg: CorpusConfig, commit: str | None) -> str:
    """The commit on the Hub, or the files of a local folder, with the part of the dataset that is read."""
    folder = _dataset(cfg).folder
    if folder is not None:
        files = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix in DATA_ENDINGS)
        version = corpus_files.fingerprint(files)
    else:
        version = f"{cfg.name} {commit or cfg.revision or 'main'}"
    return json.dumps([version, cfg.config, cfg.split, cfg.text_key])


def find_commit(cfg: CorpusConfig, memory: Path | None) -> str | None:
    """The commit on the Hub (`hub_dataset.find_commit`)."""
    return hub_dataset.find_commit(_dataset(cfg), memory)


def _dataset(cfg: CorpusConfig) -> HubDataset:
    """Raises CorpusError for a path that does not exist."""
    assert cfg.name is not None
    dataset = HubDataset(cfg.name, cfg.config, cfg.split, cfg.revision)
    if dataset.is_path and dataset.folder is None:
        raise CorpusError(f"corpus.name={cfg.name}: no such folder; give a folder or a Hub id")
    return dataset


def _advice(cfg: CorpusConfig) -> str:
    if _dataset(cfg).folder is not None:
        return "give a folder of parquet, JSONL or arrow files, and its corpus.split"
    return (
        "check corpus.name, corpus.config and corpus.split, and the network; "
        "offline: corpus=embedded, or corpus=local corpus.path=FOLDER"
    )
