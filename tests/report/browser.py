"""A page in headless Chromium, without a driver: a script acts on a copy of it and leaves JSON in the DOM."""

import html
import itertools
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)
AXE = Path(__file__).parents[2] / ".venv/axe/node_modules/axe-core/axe.min.js"
"""Where `make test-pages` puts it."""
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
BUDGET = 10_000
"""Milliseconds of the page's own clock."""

WATCH = """<script>
window.pageErrors = [];
addEventListener("error", event => pageErrors.push(String(event.message)));
addEventListener("unhandledrejection", event => pageErrors.push(String(event.reason)));
const loud = console.error;
console.error = (...words) => { pageErrors.push(words.join(" ")); loud(...words); };
window.targets = [];
navigation.addEventListener("navigate", event => {
  if (event.destination.sameDocument) return;
  targets.push(event.destination.url);
  if (event.cancelable) event.preventDefault();
});
</script>"""
ACT = """<pre id="outcome"></pre><script>
(async () => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = selector => document.querySelector(selector);
  const text = selector => one(selector).textContent;
  const pause = time => new Promise(done => setTimeout(done, time));
  async function until(condition) {
    for (let tries = 0; tries < 300; tries++) { if (condition()) return; await pause(10); }
    throw new Error("waited in vain for " + condition);
  }
  async function to(hash) { location.hash = hash; await pause(50); }
  async function type(selector, value) {
    one(selector).value = value;
    one(selector).dispatchEvent(new Event("input", {bubbles: true}));
    await pause(20);
  }
  let answer;
  try { answer = await (async () => { SCRIPT })(); }
  catch (error) { pageErrors.push(String(error)); }
  document.getElementById("outcome").textContent = JSON.stringify({answer, errors: pageErrors, targets});
})();
</script>"""

_numbers = itertools.count()


def act(page: Path, script: str, fragment: str = "", *, dark: bool = False, library: str = "") -> Any:
    """What the body of an async function returns in the page, whose policy is taken off for it.

    Beside `all`, `one`, `text`, `until`, `to`, `type` it knows `targets`, the addresses that would have been
    opened. Fails where the page or the script raises or logs an error.
    """
    source = POLICY.sub("", page.read_text(encoding="utf-8"), count=1)
    assert not POLICY.search(source)
    extra = f"<script>{library}</script>" if library else ""
    source = source.replace("<head>", "<head>" + WATCH, 1)
    head, _, tail = source.rpartition("</body>")
    copy = page.with_name(f"acted-{next(_numbers)}-{page.name}")
    copy.write_text(head + extra + ACT.replace("SCRIPT", script) + "</body>" + tail, encoding="utf-8")
    try:
        dom = dump(copy, fragment, dark=dark)
    finally:
        copy.unlink()
    left = re.findall(r'<pre id="outcome">([^<]*)</pre>', dom)
    assert left, "the page did not load"
    assert left[-1], "the script did not end in time"
    result = json.loads(html.unescape(left[-1]))
    assert result["errors"] == [], result["errors"]
    return result["answer"]


def dump(page: Path, fragment: str = "", *, dark: bool = False) -> str:
    """The DOM of a page after its scripts have run."""
    if CHROMIUM is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)}")
    address = page.resolve().as_uri() + (f"#{fragment}" if fragment else "")
    with tempfile.TemporaryDirectory(prefix="browser", ignore_cleanup_errors=True) as profile:
        command = [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}",
            "--window-size=1400,900", f"--virtual-time-budget={BUDGET}",
            *(["--blink-settings=preferredColorScheme=0"] if dark else []), "--dump-dom", address,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
