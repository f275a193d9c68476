"""Chromium without a window: opens a page, clicks, and waits until the page shows something.

Owns the browser's process and what is said to it (the Chrome DevTools Protocol). Knows no example.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack
from typing import Any

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from harness import cluster as kit
from harness.machinery.stage import Wrong
from harness.machinery.tools import installed

STARTS_WITHIN = 90  # seconds
SHOWS_WITHIN = 30  # seconds
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0")
# a promise that is kept when the text is there: no asking again and again
# white space is what the layout makes of it
SHOWN = r"""new Promise((done) => {
  const look = () => document.body && document.body.innerText.replace(/\s+/g, " ").includes(%s) && done(true);
  new MutationObserver(look).observe(document, { subtree: true, childList: true, characterData: true });
  look();
})"""


class Screen:
    """One page."""

    def __init__(self, stack: ExitStack) -> None:
        program = os.environ.get("CHROMIUM") or shutil.which("chromium")
        if not program:
            installed("chromium")
            program = "chromium"
        folder = tempfile.mkdtemp(prefix="rowcast-screen-")
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        self._process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={folder}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        stack.callback(kit.stop, self._process, signal.SIGTERM, "chromium", 10)
        self._socket = stack.enter_context(
            connect(self._endpoint(), max_size=None, compression=None, open_timeout=STARTS_WITHIN)
        )
        self._numbers = itertools.count(1)
        target = self._ask("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session = {
            "sessionId": self._ask("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        }

    def open(self, url: str) -> None:
        """Goes to an address."""
        failed = self._ask("Page.navigate", {"url": url}, **self._session).get("errorText")
        if failed:
            raise Wrong(f"{url} does not open: {failed}")

    def click(self, selector: str) -> None:
        """Clicks what is found first."""
        self._evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def text(self) -> str:
        """What the page shows now."""
        return " ".join(str(self._evaluate("document.body.innerText")).split())

    def shows(self, text: str) -> None:
        """Waits until the page shows it. A page that gives way to another one meanwhile is looked at again."""
        deadline = time.monotonic() + SHOWS_WITHIN
        while True:
            try:
                if self._evaluate(SHOWN % json.dumps(text), deadline - time.monotonic()) is True:
                    return
            except TimeoutError:
                raise Wrong(f"the page does not show {text!r}, but: {self.text()!r}") from None

    def _evaluate(self, script: str, within: float = SHOWS_WITHIN) -> Any:
        parameters = {"expression": script, "awaitPromise": True, "returnByValue": True}
        return self._ask("Runtime.evaluate", parameters, within, **self._session).get("result", {}).get("value")

    def _ask(
        self, method: str, parameters: dict[str, Any], within: float = STARTS_WITHIN, **session: str
    ) -> dict[str, Any]:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters, **session}))
        deadline = time.monotonic() + within
        while True:
            try:
                answer = json.loads(self._socket.recv(max(0.0, deadline - time.monotonic())))
            except WebSocketException as failure:
                raise Wrong(f"the browser is gone: {failure}") from None
            if answer.get("id") == number:
                # a page that was left keeps none of its promises: the answer is an error, and the caller looks again
                return dict(answer.get("result", {}))

    def _endpoint(self) -> str:
        assert self._process.stderr is not None
        said = []
        for raw in self._process.stderr:
            line = raw.decode("utf-8", "replace")
            said.append(line)
            if line.startswith("DevTools listening on "):
                return line.split()[-1]
        raise Wrong(f"chromium does not start:\n{''.join(said[-10:])}")
