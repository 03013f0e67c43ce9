"""A saescope command in a process of its own that dies at a stated file operation: a moment no timer can hit.

Processes are forked from one that has imported everything, so that a test can afford many.
"""

import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

SHARD_BYTES = 2**19
"""Small, so that a tiny job has several shards."""

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["saescope.jobs.pipeline", "saescope.training.train", "saescope.cli.main"])


class Moment(NamedTuple):
    """Just before a file operation."""

    event: str
    """An audit event of Python, such as `os.rename`."""
    path: str
    """Regular expression for a path of the operation."""
    nth: int = 1
    """1: the first such operation."""
    after: float = 0.0
    """Seconds later."""
    mark: Path | None = None
    """The process does not die by itself: it writes this file and stands still, with all its locks."""


class Job:
    """A running command."""

    def __init__(self, folder: Path, words: list[str], moment: Moment | None = None) -> None:
        self.output = Path(f"{folder}.output-{time.monotonic_ns()}")
        self.process: BaseProcess = FORKS.Process(target=_run, args=(folder, words, moment, self.output))
        self.process.start()

    def ended(self) -> int:
        """Exit code: minus the signal of a process that was killed."""
        self.process.join(300)
        code = self.process.exitcode
        assert code is not None, self.said()
        return code

    def said(self) -> str:
        """The end of its output."""
        return self.output.read_text()[-3000:] if self.output.is_file() else ""


def _run(folder: Path, words: list[str], moment: Moment | None, output: Path) -> None:
    import torch

    from saescope.activations.cached import CachedActivations
    from saescope.cli.main import main

    os.chdir(folder)
    with output.open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    defaults = CachedActivations.__init__.__kwdefaults__
    assert defaults is not None
    defaults["shard_bytes"] = SHARD_BYTES
    sys.argv = ["saescope", *words]
    if moment is not None:
        sys.addaudithook(_Watch(moment))
    sys.exit(main())


class _Watch:
    """Counts the operations and acts at the stated one."""

    def __init__(self, moment: Moment) -> None:
        self.moment, self.left, self.path = moment, moment.nth, re.compile(moment.path)

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if event != self.moment.event or self.left <= 0:
            return
        if not any(self.path.search(os.fspath(arg)) for arg in args if isinstance(arg, str | Path)):
            return
        self.left -= 1
        if self.left:
            return
        if self.moment.mark is not None:
            self.moment.mark.write_text("")
            time.sleep(3600)
        elif self.moment.after:
            threading.Timer(self.moment.after, _die).start()
        else:
            _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
