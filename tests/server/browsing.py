"""What tests do to a page, as people do it."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any

TIMEOUT_MS = 8_000


def ready(page: Any, tab: str = "txt2img") -> None:
    """Shows a tab, and waits for its script."""
    page.locator(f"#tab-{tab}").click()
    page.locator(f"#panel-{tab}[data-ready]").wait_for()


def is_fault(line: Any) -> bool:
    """Refusals of requests are the page's to show; everything else on the console is a fault."""
    return line.type == "error" and "Failed to load resource" not in line.text


def field(page: Any, name: str, tab: str = "txt2img") -> Any:
    """The control called `name`, such as `request.steps`."""
    return page.locator(f"#panel-{tab} [data-key='{name}']")


def prompt(page: Any, tab: str = "txt2img") -> Any:
    return field(page, "request.prompt", tab)


def act(page: Any, name: str, tab: str = "txt2img") -> Any:
    """A button of a tab."""
    return page.locator(f"#panel-{tab} [data-act={name}]").first


def part(page: Any, name: str, tab: str = "txt2img") -> Any:
    """A part of a tab's results."""
    return page.locator(f"#panel-{tab} [data-part={name}]")


def drop(page: Any, selector: str, data: bytes, kind: str = "drop") -> None:
    """Drops, or pastes, a picture's file."""
    page.evaluate(
        """async ([selector, text, kind]) => {
          const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
          const transfer = new DataTransfer();
          transfer.items.add(new File([bytes], "picture.png", { type: "image/png" }));
          const words = { bubbles: true, cancelable: true };
          const event = kind === "drop" ? new DragEvent("drop", { ...words, dataTransfer: transfer })
            : new ClipboardEvent("paste", { ...words, clipboardData: transfer });
          document.querySelector(selector).dispatchEvent(event);
        }""",
        [selector, base64.b64encode(data).decode(), kind],
    )


def wait_until(page: Any, is_so: Callable[[], bool], limit_s: float = 20.0) -> None:
    """Lets the page go on until something is so on the server's side, or the time is up."""
    ends_at = time.monotonic() + limit_s
    while not is_so() and time.monotonic() < ends_at:
        page.wait_for_timeout(50)
