"""Training text from a Hugging Face dataset, streamed; a local folder of one works without a network."""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from saescope.config.corpus import CorpusConfig
from saescope.errors import choices, nearest
from saescope.files import read_json, write_json
from saescope.text import corpus_files
from saescope.text.corpus_error import CorpusError

DATA_ENDINGS = (".parquet", ".jsonl", ".json", ".csv", ".arrow", ".txt", ".gz", ".zst")


def read_texts(cfg: CorpusConfig, commit: str | None) -> Iterator[str]:
    """Documents of the dataset in its own order.

    Raises CorpusError when the dataset, its split or the text field is not there, or the connection fails.
    """
    try:
        for number, record in enumerate(_stream(cfg, commit)):
            text = record.get(cfg.text_key)
            if isinstance(text, str):
                if text.strip():
                    yield text
            elif text is not None or cfg.text_key not in record:
                names = [str(name) for name in record]
                raise CorpusError(
                    f"corpus.name={cfg.name} record {number} has no text under '{cfg.text_key}'; "
                    f"{nearest(cfg.text_key, names)}set corpus.text_key to one of: {choices(names, 12)}"
                )
    except (CorpusError, GeneratorExit):
        raise
    except Exception as error:  # datasets raises whatever its readers, fsspec and the network raise
        raise CorpusError(
            f"cannot read corpus.name={cfg.name} ({_first_line(error)}); {_advice(cfg)}"
        ) from error


def fingerprint(cfg: CorpusConfig, commit: str | None) -> str:
    """The commit on the Hub, or the files of a local folder, with the part of the dataset that is read."""
    folder = _folder(cfg)
    if folder is not None:
        files = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix in DATA_ENDINGS)
        version = corpus_files.fingerprint(files)
    else:
        version = f"{cfg.name} {commit or cfg.revision or 'main'}"
    return json.dumps([version, cfg.config, cfg.split, cfg.text_key])


def find_commit(cfg: CorpusConfig, memory: Path | None) -> str | None:
    """The commit `corpus.revision` names on the Hub now; None for a local folder, or when it cannot be known.

    It is noted in the folder `memory`, and without a network the noted one is taken: a second job offline
    then finds the tokens an earlier job has written.
    """
    if _folder(cfg) is not None:
        return None
    from huggingface_hub import HfApi

    asked = hashlib.sha256(f"{cfg.name} {cfg.revision}".encode()).hexdigest()[:16]
    note = memory / f"hub-{asked}.json" if memory else None
    try:
        commit = HfApi().dataset_info(str(cfg.name), revision=cfg.revision, timeout=10).sha
    except Exception:  # offline, private or gone: reading the dataset will say what is wrong
        known = read_json(note) if note else None
        return str(known["commit"]) if isinstance(known, dict) and "commit" in known else None
    if note is not None:
        with contextlib.suppress(OSError):
            write_json(note, {"name": cfg.name, "revision": cfg.revision, "commit": commit})
    return commit


def _stream(cfg: CorpusConfig, commit: str | None) -> Any:
    import datasets

    folder = _folder(cfg)
    datasets.disable_progress_bars()
    if folder is not None and ((folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()):
        saved = datasets.load_from_disk(str(folder))
        if isinstance(saved, dict):
            if cfg.split not in saved:
                raise CorpusError(
                    f"corpus.name={cfg.name} has no split '{cfg.split}'; set corpus.split to one of: "
                    f"{choices(map(str, saved))}"
                )
            saved = saved[cfg.split]
        return saved
    where = str(folder) if folder is not None else cfg.name
    revision = None if folder is not None else commit or cfg.revision
    return datasets.load_dataset(where, cfg.config, split=cfg.split, streaming=True, revision=revision)


def _folder(cfg: CorpusConfig) -> Path | None:
    """The local folder behind `corpus.name`. Raises CorpusError for a path that does not exist."""
    assert cfg.name is not None
    path = Path(cfg.name).expanduser()
    if path.is_dir():
        return path
    if cfg.name.startswith(("/", ".", "~")):
        raise CorpusError(f"corpus.name={cfg.name}: no such folder; give a folder or a Hub id")
    return None


def _advice(cfg: CorpusConfig) -> str:
    if _folder(cfg) is not None:
        return "give a folder of parquet, JSONL or arrow files, and its corpus.split"
    return (
        "check corpus.name, corpus.config and corpus.split, and the network; "
        "offline: corpus=embedded, or corpus=local corpus.path=FOLDER"
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
