"""A page in headless Chromium at any width, on paper, in the dark, driven over Chromium's debugging pipe."""

import base64
import fcntl
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import pytest

from tests.report.browser import CHROMIUM, NAMES

PAPER = 718
"""Width of A4 less its margins of 1 cm, in CSS pixels."""
PATIENCE = 60
"""Seconds for an answer."""


class Tab:
    """One page, under its own policy; a context manager that ends the browser."""

    def __init__(self, page: Path, fragment: str = "", *, width: int = 1400, dark: bool = False,
                 media: str = "", ready: str = "") -> None:  # fmt: skip
        if CHROMIUM is None:
            pytest.skip(f"no browser: none of {', '.join(NAMES)}")
        self.requests: list[str] = []
        """Addresses that the page asked for, its own first."""
        self.errors: list[str] = []
        self._number = 0
        self._profile = tempfile.TemporaryDirectory(prefix="browser", ignore_cleanup_errors=True)
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (to_browser, from_browser)]

        def place() -> None:  # Chromium reads at 3 and writes at 4
            os.dup2(ends[0], 3)
            os.dup2(ends[1], 4)

        self._browser = subprocess.Popen(
            [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
             f"--user-data-dir={self._profile.name}", "about:blank"],
            preexec_fn=place, pass_fds=(3, 4), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for end in (*ends, to_browser, from_browser):
            os.close(end)
        self._buffer = b""
        self._session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])
        started = time.monotonic()
        self.call("Page.navigate", url=page.resolve().as_uri() + (f"#{fragment}" if fragment else ""))
        self._until(lambda message: message.get("method") == "Page.loadEventFired")
        self.run(f"""new Promise(done => {{
          const painted = () => requestAnimationFrame(() => setTimeout(done));
          const look = () => ({ready or "true"}) ? painted() : setTimeout(look, 10);
          look();
        }})""")
        self.seconds = time.monotonic() - started
        """From the address to the first picture after loading, and after `ready` (an expression) is true."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._browser.kill()
        self._browser.wait()
        os.close(self._write)
        os.close(self._read)
        self._profile.cleanup()

    def run(self, script: str) -> Any:
        """The value of an expression, awaited."""
        outcome = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in outcome, outcome["exceptionDetails"]
        return outcome["result"].get("value")

    def until(self, condition: str) -> None:
        """Wait for an expression to become true."""
        for _ in range(10 * PATIENCE):
            if self.run(f"Boolean({condition})"):
                return
            time.sleep(0.1)
        raise AssertionError(f"waited in vain for {condition}")

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press at one place of the window, move, let go at another."""
        steps = [start, ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2), end]
        kinds = ["mousePressed", "mouseMoved", "mouseMoved", "mouseReleased"]
        for kind, (x, y) in zip(kinds, [*steps, end], strict=True):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)
            time.sleep(0.1)

    def picture(self, path: Path, *, whole: bool = True) -> Path:
        """The page as PNG: all of it, or what the window shows."""
        path.write_bytes(
            base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"])
        )
        return path

    def pdf(self, path: Path) -> Path:
        """The page as it is printed on A4."""
        outcome = self.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)
        path.write_bytes(base64.b64decode(outcome["data"]))
        return path

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the DevTools protocol, and its result."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        answer = self._until(lambda message: message.get("id") == number)
        assert "error" not in answer, answer["error"]
        result: dict[str, Any] = answer["result"]
        return result

    def _until(self, is_it: Any) -> dict[str, Any]:
        while True:
            while b"\0" not in self._buffer:
                part = os.read(self._read, 1 << 20)
                assert part, "the browser ended"
                self._buffer += part
            text, self._buffer = self._buffer.split(b"\0", 1)
            message: dict[str, Any] = json.loads(text)
            self._note(message)
            if is_it(message):
                return message

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Runtime.exceptionThrown":
                self.errors.append(json.dumps(params["exceptionDetails"])[:500])
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                self.errors.append(params["entry"]["text"])
            case "Runtime.consoleAPICalled" if params["type"] == "error":
                self.errors.append(json.dumps(params["args"])[:500])
