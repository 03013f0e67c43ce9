"""`saescope-coverage`: which hookpoints of which model have pre-trained SAEs."""

import logging
import os
import sys
from pathlib import Path

from saescope.cli.command_line import version
from saescope.config import CoverageConfig, config_dir, from_mapping
from saescope.config.catalogue import listed, override
from saescope.config.compose import composed, plain
from saescope.errors import SaescopeError


def main() -> int:
    """`saescope-coverage [overrides]`. Returns the exit code."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print((Path(config_dir()) / "coverage.yaml").read_text(encoding="utf-8"), end="")
        return 0
    if "--version" in sys.argv[1:]:
        print(version())
        return 0
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        values = composed("coverage", [override(arg) for arg in sys.argv[1:]], CoverageConfig)
        cfg = from_mapping(CoverageConfig, listed(plain(values, CoverageConfig)))
        # Imported here: rich and the tables are not needed to report a mistake.
        from saescope.catalogue.terminal import run

        run(cfg)
    except SaescopeError as error:
        if os.environ.get("SAESCOPE_DEBUG"):
            raise
        print(f"saescope-coverage: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("saescope-coverage: interrupted", file=sys.stderr)
        return 130
    return 0
