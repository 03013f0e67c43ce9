"""What each metric failed at in the audit (docs/audit.md), for the pages that show it.

`audit.json` beside this file is written by `make audit`.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

AUDIT = Path(__file__).with_name("audit.json")


def caution(key: str) -> str:
    """A sentence on what the metric of this key fails at; empty where it passed or was not judged."""
    failures = _verdicts().get(key, {}).get("failures", [])
    return f"Fails the audit: {'; '.join(failures)}." if failures else ""


@cache
def _verdicts() -> dict[str, dict[str, Any]]:
    verdicts: dict[str, dict[str, Any]] = json.loads(AUDIT.read_text(encoding="utf-8"))["metrics"]
    return verdicts
