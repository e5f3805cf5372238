"""Takes the README's pictures of the page: `python scripts/page_pictures.py`, with playwright and chromium installed.

A server of its own, over an empty folder, makes what they show with the built-in model. Seeds are given, so that the
pictures in them are the same each time.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

OUTPUT = Path(__file__).parents[1] / "docs/images"
START_LIMIT_S = 60
LIMIT_MS = 120_000
LARGEST_BYTES = 150_000
SIZE_PX = (1400, 900)
PROMPT = "a red sun over purple mountains, sea"


def main() -> None:
    """Takes them all."""
    with tempfile.TemporaryDirectory() as folder, _served(Path(folder)) as address, sync_playwright() as player:
        browser = player.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, language, theme, show in (
            ("page", "en", "light", _batch),
            ("page-xyz", "en", "dark", _sheet),
            ("page-inpaint", "ja", "dark", _inpainted),
        ):
            page = _opened(browser, address, language, theme)
            show(page)
            page.evaluate("scrollTo(0, 0)")
            page.mouse.move(*SIZE_PX)
            page.wait_for_timeout(6_000)  # what was said for a moment is gone, and pictures are there
            _keep(page.screenshot(), OUTPUT / f"{name}.webp")
            page.context.close()
        browser.close()


def _batch(page: Any) -> None:
    """Six pictures of one prompt."""
    _fill(page, "txt2img", {"request.prompt": PROMPT, "request.batch_size": "6", "request.seed": "11"})
    _generate(page, "txt2img", 6)


def _sheet(page: Any) -> None:
    """Samplers and steps compared."""
    axes = {"x": ("Steps", "4,8,16"), "y": ("Sampler", "Euler a,DPM++ 2M,Heun")}
    _fill(page, "txt2img", {"request.prompt": PROMPT, "request.seed": "5"})
    _field(page, "txt2img", "script.name").select_option("x/y/z plot")
    for axis, (name, values) in axes.items():
        _field(page, "txt2img", f"script.{axis}.axis").select_option(name)
        _fill(page, "txt2img", {f"script.{axis}.values": values})
    _generate(page, "txt2img", 10)


def _inpainted(page: Any) -> None:
    """The sky of a picture made anew under a mask."""
    _fill(page, "txt2img", {"request.prompt": "green mountains, a lake, an orange sun", "request.seed": "3"})
    _generate(page, "txt2img", 1)
    page.locator("#panel-txt2img [data-send=inpaint]").click()
    page.locator("#panel-img2img[data-ready] hayate-canvas.filled").wait_for(timeout=LIMIT_MS)
    box = page.locator("#panel-img2img canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2 + 50, box["y"] + box["height"] * 0.3
    page.mouse.move(x, y)
    page.mouse.down()
    for step in range(7):
        page.mouse.move(x + 10 * step, y + 3 * step)
    page.mouse.up()
    _fill(page, "img2img", {"request.prompt": PROMPT, "request.seed": "8"})
    _generate(page, "img2img", 1)


def _field(page: Any, tab: str, key: str) -> Any:
    return page.locator(f"#panel-{tab} [data-key='{key}']")


def _fill(page: Any, tab: str, values: dict[str, str]) -> None:
    for key, value in values.items():
        _field(page, tab, key).fill(value)


def _generate(page: Any, tab: str, count: int) -> None:
    page.locator(f"#panel-{tab} [data-act=generate]").click()
    thumbs = page.locator(f"#panel-{tab} hayate-gallery .thumb")
    thumbs.nth(count - 1).wait_for(state="attached", timeout=LIMIT_MS)


def _opened(browser: Any, address: str, language: str, theme: str) -> Any:
    context = browser.new_context(viewport={"width": SIZE_PX[0], "height": SIZE_PX[1]})
    choices = {"hayate_language": language, "hayate_theme": theme}
    context.add_cookies([{"name": name, "value": value, "url": address} for name, value in choices.items()])
    page = context.new_page()
    page.goto(address)
    page.locator("#panel-txt2img[data-ready]").wait_for()
    page.locator("#worker[data-phase=idle]").wait_for(timeout=LIMIT_MS)
    return page


def _keep(screenshot: bytes, path: Path) -> None:
    Image.open(io.BytesIO(screenshot)).convert("RGB").save(path, quality=82, method=6)
    size_bytes = path.stat().st_size
    sys.stdout.write(f"{path.name}: {size_bytes / 1000:.0f} kB\n")
    if size_bytes > LARGEST_BYTES:
        sys.exit(f"{path.name} is larger than {LARGEST_BYTES / 1000:.0f} kB")


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[str]:
    """The address of a server that knows nothing of the user's folders."""
    places = {f"XDG_{name}_HOME": str(folder / name.lower()) for name in ("CONFIG", "CACHE", "DATA")}
    places |= {f"HAYATE_{name}_DIR": str(folder / name.lower()) for name in ("MODELS", "LORA", "OUTPUTS")}
    command = [sys.executable, "-m", "hayate", "serve", "--port", "0"]
    said = folder / "said.txt"
    with said.open("w") as out:
        server = subprocess.Popen(command, cwd=folder, env={**os.environ, **places}, stdout=out)
    try:
        yield _address(server, said)
    finally:
        server.terminate()
        server.wait()


def _address(server: subprocess.Popen[bytes], said: Path) -> str:
    limit = time.monotonic() + START_LIMIT_S
    while not (found := re.search(r"http://127\.0\.0\.1:\d+", said.read_text())):
        if server.poll() is not None or time.monotonic() > limit:
            sys.exit("the server did not start")
        time.sleep(0.05)
    return found[0]


if __name__ == "__main__":
    main()
