"""What long steps say while they run."""

import logging
import os
import pty
import re
import subprocess
import sys
import termios
import threading

import pytest

from saescope.runtime import meter
from saescope.runtime.meter import Meter, Steps, about


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (95, "2 min"), (3000, "50 min"), (9000, "2.5 h")]
)
def test_durations_in_two_digits(seconds, text):
    assert about(seconds) == text


@pytest.fixture
def clock(monkeypatch, caplog):
    """A clock that stands still until it is moved; log lines are caught."""
    caplog.set_level(logging.INFO, meter.__name__)
    now = [100.0]
    monkeypatch.setattr(meter.time, "monotonic", lambda: now[0])
    return now


def test_the_first_line_comes_after_five_seconds_and_then_every_thirty(clock, caplog):
    with Meter("splice", 100, "tokens") as step:
        for _ in range(100):
            clock[0] += 1
            step.advance(1)
    assert [record.message for record in caplog.records] == [
        "splice: 6 of 100 tokens, 1 tokens/s, 2 min left",
        "splice: 37 of 100 tokens, 1 tokens/s, 63 s left",
        "splice: 68 of 100 tokens, 1 tokens/s, 32 s left",
        "splice: 99 of 100 tokens, 1 tokens/s, 1 s left",
    ]


def test_short_steps_say_nothing(clock, caplog):
    with Meter("splice", 4, "tokens") as step:
        for _ in range(4):
            clock[0] += 2
            step.advance(1)
    assert [record.message for record in caplog.records] == ["splice: 3 of 4 tokens, 0.5 tokens/s, 2 s left"]


def test_steps_follow_each_other_and_each_has_its_own_rate(clock, caplog):
    with Steps("statistics") as steps:
        for name, seconds in (("permutations", 1), ("bootstraps", 3)):
            steps(name, 0, 10)
            for done in (2, 4, 6, 8, 10):
                clock[0] += 2 * seconds
                steps(name, done, 10)
    assert [record.message for record in caplog.records] == [
        "statistics: 6 of 10 permutations, 1 permutations/s, 4 s left",
        "statistics: 2 of 10 bootstraps, 0.333 bootstraps/s, 24 s left",
    ]


def test_steps_of_several_threads_never_go_back(clock):
    with Steps("statistics") as steps:
        steps("rewirings", 0, 50)
        threads = [threading.Thread(target=steps, args=("rewirings", n, 50)) for n in range(50, 0, -1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert steps.meter.done == 50


def test_log_lines_go_above_the_bar():
    code = (
        "import logging, sys\n"
        "from saescope.runtime.meter import Meter\n"
        "logging.basicConfig(stream=sys.stdout, level=logging.INFO, format='%(message)s')\n"
        "with Meter('splice', 10, 'tokens') as meter:\n"
        "    meter.advance(3)\n"
        "    logging.info('a line')\n"
        "    meter.advance(7)\n"
        "logging.info('another')\n"
    )
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    with subprocess.Popen([sys.executable, "-c", code], stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        written = b""
        while part := _read(ours):
            written += part
        assert process.wait() == 0
    os.close(ours)
    text = written.decode()
    assert "splice: " in text
    assert {"a line", "another"} <= set(re.split(r"[\r\n]+", text))


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux: the other side is closed
        return b""
