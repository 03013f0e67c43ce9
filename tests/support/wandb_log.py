"""Reads a W&B transaction log (`run-<id>.wandb`): LevelDB framing, protobuf records.

The format is wandb-internal; `test_wandb_log.py` compares this reader with `wandb leet inspect`, so that a
change shows.
"""

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2 as pb

BLOCK = 32768


def iter_records(data: bytes) -> Iterator[Any]:
    ident, magic, version = struct.unpack_from("<4sHB", data)
    assert (ident, magic, version) == (b":W&B", 0xBEE1, 0)
    at, parts = 7, b""
    while at + 7 <= len(data):
        room = BLOCK - at % BLOCK
        if room < 7:
            at += room
            continue
        crc, size, kind = struct.unpack_from("<IHB", data, at)
        if (kind, size) == (0, 0):
            at += room
            continue
        payload = data[at + 7 : at + 7 + size]
        at += 7 + size
        if len(payload) < size:
            return
        assert zlib.crc32(bytes([kind]) + payload) == crc
        parts += payload
        if kind in (1, 4):
            yield pb.Record.FromString(parts)
            parts = b""


def _put(target: dict[str, Any], item: Any) -> None:
    path = list(item.nested_key) or [item.key]
    for key in path[:-1]:
        target = target.setdefault(key, {})
    target[path[-1]] = json.loads(item.value_json)


def load(path: Path) -> dict[str, Any]:
    """`run`, `config`, `summary`, `history`, `artifacts`, `files`, `exit_code` of one log."""
    out: dict[str, Any] = {
        "config": {}, "summary": {}, "history": [], "artifacts": [], "files": [], "exit_code": None,
    }  # fmt: skip
    for record in iter_records(path.read_bytes()):
        match record.WhichOneof("record_type"):
            case "run":
                run = record.run
                out["run"] = {
                    "id": run.run_id,
                    "entity": run.entity,
                    "project": run.project,
                    "group": run.run_group,
                    "name": run.display_name,
                    "tags": list(run.tags),
                    "job_type": run.job_type,
                    "notes": run.notes,
                    "sweep": run.sweep_id,
                }
                for item in run.config.update:
                    _put(out["config"], item)
            case "config":
                for item in record.config.update:
                    _put(out["config"], item)
            case "summary":
                for item in record.summary.update:
                    _put(out["summary"], item)
            case "history":
                row: dict[str, Any] = {}
                for item in record.history.item:
                    if item.value_json:
                        _put(row, item)
                out["history"].append(row)
            case "artifact":
                artifact = record.artifact
                out["artifacts"].append(
                    {
                        "name": artifact.name,
                        "type": artifact.type,
                        "metadata": json.loads(artifact.metadata or "{}"),
                        "paths": {c.path: c.local_path for c in artifact.manifest.contents},
                    }
                )
            case "files":
                out["files"] += [file.path for file in record.files.files]
            case "exit":
                out["exit_code"] = record.exit.exit_code
    return out


def nulls(values: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted keys of nested values that are null."""
    found = []
    for key, value in values.items():
        if value is None:
            found.append(f"{prefix}{key}")
        elif isinstance(value, dict):
            found += nulls(value, f"{prefix}{key}.")
    return found


def logs(folder: Path) -> list[Path]:
    """All transaction logs below `folder`."""
    return sorted({path.resolve() for path in folder.rglob("run-*.wandb")})
