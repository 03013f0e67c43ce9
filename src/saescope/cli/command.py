"""What is known of the `saescope` command in this process, and the signals that end it."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock
from omegaconf import DictConfig


@dataclass
class Command:
    """The state of one command. A job in another process has a state of its own."""

    failures: list[str] = field(default_factory=list)
    """One line per failed job of this process, and what ended the command itself."""
    process: int = field(default_factory=os.getpid)
    sweep: DictConfig | None = None
    """Configuration of the sweep, in the process that started it; None for a single job."""
    id: str = ""
    """Of the sweep's command: its jobs leave their outcomes in a folder of this name."""
    running: FileLock | None = None
    """Tells other commands on the sweep's folder that this one is alive."""
    job_outcomes: Path | None = None
    """That folder, while a job of a sweep runs in this process."""
    no_folder: str = ""
    """Why the job that runs in this process could not have the folder that `hydra.sweep.subdir` names."""
    signal: int = 0
    """The signal that interrupted the command."""
    num_jobs: int | None = None
    """Jobs of its sweep; None for a single job, and where only the sweeper knows."""
    axes: Mapping[str, list[str]] = field(default_factory=dict)
    """Values of each axis of its sweep, where they are known."""
    started: float = field(default_factory=time.monotonic)
    """When the command started, on the monotonic clock."""

    def fail(self, message: str) -> None:
        """Print and remember a failure in one line."""
        self.failures.append(message)
        print(f"saescope: {message}", file=sys.stderr)


_commands = [Command()]


def command() -> Command:
    """The command of this process."""
    return _commands[-1]


def new_command() -> Command:
    """Forget an earlier command of this process."""
    _commands[:] = [Command()]
    return command()


@contextmanager
def signals() -> Iterator[None]:
    """Remember which signal interrupts the command: Lightning turns Ctrl-C into an exit with code 1.

    SIGTERM ends the command as Ctrl-C does, unless the process ignores it or has a handler of its own.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    if before[signal.SIGINT] is signal.default_int_handler:  # a shell may ignore it, in the background
        signal.signal(signal.SIGINT, _interrupt)
    if before[signal.SIGTERM] is signal.SIG_DFL:
        end_on_sigterm()
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # not installed from Python
                signal.signal(number, handler)


def end_on_sigterm() -> None:
    """From now on SIGTERM raises KeyboardInterrupt, until `signals` ends."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, _frame: object) -> None:
    if os.getpid() != command().process:  # a forked helper process ends as if we were not here
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
        return
    command().signal = number
    raise KeyboardInterrupt
