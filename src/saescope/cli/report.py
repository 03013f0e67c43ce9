"""`saescope-report`: the sweep table and page from run folders, at any time."""

import os
import sys
from argparse import ArgumentParser
from pathlib import Path

from saescope.errors import SaescopeError
from saescope.version import __version__


def main() -> int:
    """`saescope-report DIR... [--out DIR]`. Returns the exit code."""
    parser = ArgumentParser(
        "saescope-report",
        description="Rebuild sweep.csv, sweep.parquet and sweep.html from run folders, failed jobs included.",
    )
    parser.add_argument("--version", action="version", version=f"saescope {__version__}")
    parser.add_argument(
        "dirs", metavar="DIR", nargs="+", type=Path, help="run folder, sweep folder, or any folder above them"
    )
    parser.add_argument(
        "--out", type=Path, help="where to write (default: DIR; for several, sweep-report in this folder)"
    )
    parser.add_argument(
        "--overlap", action="store_true", help="compare the SAEs too (overlap.csv); large ones take minutes"
    )
    args = parser.parse_args()
    out = args.out or (args.dirs[0] if len(args.dirs) == 1 else Path("sweep-report"))
    try:
        # Imported here: pandas and the page are not needed to answer --help.
        from saescope.jobs.sweep import rebuild

        summary = rebuild(args.dirs, out, overlap=args.overlap)
    except (SaescopeError, OSError) as error:
        if os.environ.get("SAESCOPE_DEBUG"):
            raise
        print(f"saescope-report: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("saescope-report: interrupted", file=sys.stderr)
        return 130
    for sentence in summary.sentences:
        print(f"• {sentence}")
    for message in summary.failed:
        print(f"failed: {message}")
    print(f"report:  {summary.paths[-1]}")
    return 0
