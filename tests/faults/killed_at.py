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
from collections.abc import Callable
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
    """The process does not die by itself: it writes this file and stands still, with all its locks, until a
    file of this name and `.go` is there."""


class User(NamedTuple):
    """Who runs a command; needs root."""

    uid: int
    gid: int
    umask: int = 0o022


class Job:
    """A running command."""

    def __init__(
        self, folder: Path, words: list[str], moment: Moment | None = None, user: User | None = None
    ) -> None:
        self.output = Path(f"{folder}.output-{time.monotonic_ns()}")
        self.process: BaseProcess = FORKS.Process(
            target=_run, args=(folder, words, moment, self.output, user)
        )
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


def wait_for(condition: Callable[[], bool], job: Job) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert job.process.is_alive(), job.said()
        assert time.monotonic() < deadline, job.said()
        time.sleep(0.02)


def refused_in_one_line(job: Job, words: str) -> None:
    """It ends with an error of one line that has these words."""
    assert job.ended() == 1, job.said()
    assert "Traceback" not in job.said()
    assert job.said().rstrip().splitlines()[-1].startswith("saescope"), job.said()
    assert words in job.said()


def _run(folder: Path, words: list[str], moment: Moment | None, output: Path, user: User | None) -> None:
    import torch

    from saescope.activations.cached import CachedActivations
    from saescope.causal import passes
    from saescope.cli.main import main

    os.chdir(folder)
    with output.open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    if user is not None:
        _become(user, folder)
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    defaults = CachedActivations.__init__.__kwdefaults__
    assert defaults is not None
    defaults["shard_bytes"] = SHARD_BYTES
    passes.SAVE_EVERY_S = 0.0  # after every batch: a tiny job has no 20 seconds
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
            while not Path(f"{self.moment.mark}.go").exists():
                time.sleep(0.02)
        elif self.moment.after:
            threading.Timer(self.moment.after, _die).start()
        else:
            _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _become(user: User, home: Path) -> None:
    """Go on as another user, who may read Python's own modules, wherever they lie."""
    for path in [path for path in sys.path if os.path.isdir(path)]:
        _keep_open(path)
    os.environ.update(HOME=str(home), USER=f"user{user.uid}", LOGNAME=f"user{user.uid}")
    os.setgroups([])
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    os.umask(user.umask)


def _keep_open(path: str) -> None:
    """Let imports find a folder through a descriptor: the folders above it may be closed to the new user."""
    through = f"/proc/self/fd/{os.open(path, os.O_PATH)}"
    sys.path[sys.path.index(path)] = through
    for module in list(sys.modules.values()):
        places = getattr(module, "__path__", None)
        if isinstance(places, list):
            places[:] = [
                through + place.removeprefix(path) if place.startswith(f"{path}/") else place
                for place in places
            ]
