"""`saescope-coverage`: which hookpoints of which model have pre-trained SAEs."""

import logging
import os
import sys
import typing
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from saescope.cli.hydra_errors import in_one_line
from saescope.config import CoverageConfig, config_dir, from_mapping
from saescope.config.catalogue import listed, override
from saescope.errors import SaescopeError, line


def main() -> int:
    """`saescope-coverage [overrides]`. Returns the exit code."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print((Path(config_dir()) / "coverage.yaml").read_text(encoding="utf-8"), end="")
        return 0
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        with initialize_config_dir(config_dir(), version_base="1.3"):
            composed = compose("coverage", overrides=[override(arg) for arg in sys.argv[1:]])
        values = typing.cast(dict[str, Any], OmegaConf.to_container(composed, resolve=True))
        cfg = from_mapping(CoverageConfig, listed(values))
        # Imported here: rich and the tables are not needed to answer a mistake.
        from saescope.catalogue.terminal import run

        run(cfg)
    except (HydraException, OmegaConfBaseException, SaescopeError) as error:
        if os.environ.get("SAESCOPE_DEBUG"):
            raise
        said = str(error) if isinstance(error, SaescopeError) else line(in_one_line(error, CoverageConfig))
        print(f"saescope-coverage: {said}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("saescope-coverage: interrupted", file=sys.stderr)
        return 130
    return 0
