"""A real browser without a window, told what to do through the DevTools protocol over a pair of pipes.

The page under test forbids every script; the protocol reaches past that, as a person with the developer tools does.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--remote-debugging-pipe",
    # The browser itself looks for updates and the time whatever it is told; nothing of a test leaves this machine.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)
PIPES = "import os, sys; [os.dup2(int(sys.argv[i]), i + 2) for i in (1, 2)]; os.execvp(sys.argv[3], sys.argv[3:])"
"""Chromium reads commands from descriptor 3 and writes to 4; what stands there in this process is somebody else's."""
BLANK = "about:blank"
"""Opened at the start in place of the browser's own home page."""
PATIENCE_S = 60


def page_requests(profile: Path) -> list[str]:
    """Every address that a page, and not the browser itself, asked for, by the network log of a finished browser."""
    log = json.loads((profile / "net.json").read_text(encoding="utf-8"))
    asked = [event["params"] for event in log["events"] if "initiator" in event.get("params", {})]
    return [each["url"] for each in asked if "url" in each and each["initiator"] != "not an origin"]


def find_browser() -> str | None:
    """The first Chromium on the path; none on Windows, which has no numbered pipes."""
    return None if os.name == "nt" else next((found for found in map(shutil.which, NAMES) if found), None)


class Browser:
    """One tab; every request that it makes is kept in `requested`."""

    def __init__(self, read_from: int, write_to: int) -> None:
        self.requested: list[str] = []
        self.refused: list[str] = []
        """What the console and the page's policy complained of."""
        self._read_from, self._write_to = read_from, write_to
        self._pending, self._number, self._session = b"", 0, ""
        self._events: list[str] = []
        target = self.call("Target.createTarget", url=BLANK)["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Network", "Page", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def open(self, url: str, *, width_px: int = 1200, height_px: int = 900, is_dark: bool = False) -> None:
        """Load `url` in a window of that size, in light or dark, until everything has come."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width_px, height=height_px, deviceScaleFactor=1, mobile=False
        )
        theme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[theme])
        self._events.clear()
        self.call("Page.navigate", url=url)
        while "Page.loadEventFired" not in self._events:
            self._take(self._next())

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def picture(self) -> bytes:
        """The whole page as a PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"])

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and wait for its answer; what else arrives meanwhile is kept."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._write_to, json.dumps(command).encode() + b"\0")
        while (message := self._next()).get("id") != self._number:
            self._take(message)
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']}")
        return message["result"]

    def _next(self) -> dict[str, Any]:
        """The next message, each of which ends with a zero byte."""
        end = time.monotonic() + PATIENCE_S
        while b"\0" not in self._pending:
            ready, _, _ = select.select([self._read_from], [], [], max(end - time.monotonic(), 0))
            part = os.read(self._read_from, 1 << 20) if ready else b""
            if not part:
                raise RuntimeError("the browser ended" if ready else f"the browser said nothing for {PATIENCE_S} s")
            self._pending += part
        message, _, self._pending = self._pending.partition(b"\0")
        return json.loads(message)

    def _take(self, message: dict[str, Any]) -> None:
        event, parameters = message.get("method", ""), message.get("params", {})
        self._events.append(event)
        if event == "Network.requestWillBeSent":
            self.requested.append(parameters["request"]["url"])
        elif event == "Log.entryAdded":
            self.refused.append(parameters["entry"]["text"])
        elif event == "Runtime.exceptionThrown":
            self.refused.append(str(parameters["exceptionDetails"]))


@contextmanager
def browser(program: str, profile: Path) -> Iterator[Browser]:
    """A browser with an empty profile; what it did on a network lies in `profile / "net.json"` afterwards."""
    theirs_in, ours_out = _pipe()
    ours_in, theirs_out = _pipe()
    command = [program, *FLAGS, f"--user-data-dir={profile}", f"--log-net-log={profile / 'net.json'}", BLANK]
    process = subprocess.Popen(
        [sys.executable, "-c", PIPES, str(theirs_in), str(theirs_out), *command],
        pass_fds=(theirs_in, theirs_out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(profile)},
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        tab = Browser(ours_in, ours_out)
        yield tab
        tab._session = ""
        tab.call("Browser.close")
        process.wait(PATIENCE_S)
    finally:
        process.kill()
        process.wait()
        os.close(ours_in)
        os.close(ours_out)


def _pipe() -> tuple[int, int]:
    """Both ends of a pipe, numbered so high that neither is in the way of descriptors 3 and 4."""
    import fcntl

    ends = os.pipe()
    high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends)
    for end in ends:
        os.close(end)
    return high[0], high[1]
