"""What long steps say while they run."""

import logging
import os
import pty
import re
import subprocess
import sys
import termios
import threading
import time

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


def test_a_step_that_comes_again_is_counted_again(clock):
    with Steps("statistics") as steps:
        for _ in range(2):
            steps("Leiden runs", 0, 5)
            first = steps.meter
            steps("Leiden runs", 5, 5)
            assert steps.meter is first
            assert first.done == 5
        steps("Leiden runs", 0, 5)
        assert (steps.meter.done, first.closed.is_set()) == (0, True)


def test_steps_of_several_threads_never_go_back(clock):
    with Steps("statistics") as steps:
        steps("rewirings", 0, 50)
        threads = [threading.Thread(target=steps, args=("rewirings", n, 50)) for n in range(50, 0, -1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert steps.meter.done == 50


def test_a_step_that_does_not_advance_speaks_all_the_same(caplog, monkeypatch):
    caplog.set_level(logging.INFO, meter.__name__)
    for name, seconds in (("CLOCK_S", 0.01), ("FIRST_LOG_S", 0.05), ("LOG_EVERY_S", 0.1)):
        monkeypatch.setattr(meter, name, seconds)
    with Meter("statistics", 5, "Leiden runs") as step:
        time.sleep(0.3)
        step.advance(1)
        time.sleep(0.3)
    with meter.phase("the page"), Meter("inside", 3, "jobs"):
        time.sleep(0.2)
    with meter.phase("loading the model"):
        time.sleep(0.2)
    with Meter("silent", 5, "steps", quiet=True):
        time.sleep(0.1)
    texts = [record.message for record in caplog.records]
    assert texts[0] == "statistics: 0 of 5 Leiden runs, 0 s so far"
    assert any(text.startswith("statistics: 1 of 5 Leiden runs, ") and "left" in text for text in texts)
    assert texts[-1] == "loading the model: 0 s so far"
    assert any(text.startswith("inside: 0 of 3 jobs") for text in texts)
    assert not any(text.startswith(("silent", "the page")) for text in texts)


def test_the_clock_of_a_bar_goes_on_and_what_takes_no_time_shows_no_bar():
    text = _on_a_terminal(
        "import time\n"
        "from saescope.runtime.meter import Meter, phase\n"
        "with phase('short'): pass\n"
        "with phase('loading the model'): time.sleep(2.6)\n"
        "with Meter('train', 9, 'steps'): time.sleep(2.6)\n"
        "print('end')\n"
    )
    assert "short" not in text
    for clock in ("loading the model: 00:01", "loading the model: 00:02"):
        assert clock in text
    assert re.search(r"train: .* 0.00/9.00 \[00:02<", text)
    assert text.rstrip().endswith("end")


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
    text = _on_a_terminal(code)
    assert "splice: " in text
    assert {"a line", "another"} <= set(re.split(r"[\r\n]+", text))


def _on_a_terminal(code: str) -> str:
    """What Python code writes to a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    with subprocess.Popen([sys.executable, "-c", code], stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        written = b""
        while part := _read(ours):
            written += part
        assert process.wait() == 0
    os.close(ours)
    return written.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux: the other side is closed
        return b""
