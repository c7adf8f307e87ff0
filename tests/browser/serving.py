"""The app as a process of its own for the tests that open its page, and what they do with it."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Download, Page, TimeoutError, expect

ROOT = Path(__file__).parent.parent.parent
PLAIN_WEBGL = Path(__file__).with_name("plain_webgl.js")
START_SECONDS = 120
PATIENCE_MS = 120_000  # a slow machine is no failure
POLL_MS = 200
expect.set_options(timeout=PATIENCE_MS)


def serve(folder: Path, settings: dict[str, str] | None = None) -> Iterator[str]:
    """The app as a process of its own, with runs and uploads under `folder`, and with environment variables as it is
    told: its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(folder / "gradio"),
        "SD_CORE_RUNS": str(folder / "runs"),
        "SD_CORE_DEVICE": "cpu",
        "SD_CORE_NICENESS": "0",  # trainings that yield to all else would keep the tests waiting on a busy machine
        **(settings or {}),
    }
    address = f"http://127.0.0.1:{port}"
    with open(folder / "app.log", "wb") as log:
        process = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        _wait(address, process, folder / "app.log")
        yield address
    finally:
        process.terminate()
        process.wait(30)


def _wait(address: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5)
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"The app did not start:\n{log.read_text('utf-8', 'replace')[-3000:]}")


def visit(browser: Browser, address: str, locale: str = "en-US", height: int = 1600) -> Page:
    """The app's page in a window of its own, 1280 pixels wide."""
    viewport = {"width": 1280, "height": height}
    context = browser.new_context(locale=locale, viewport=viewport, accept_downloads=True)
    context.set_default_timeout(PATIENCE_MS)
    context.add_init_script(path=PLAIN_WEBGL)
    page = context.new_page()
    page.goto(address)
    loaded(page)
    return page


def loaded(page: Page) -> None:
    """Waits until all is drawn and nothing lies over it: what is dropped onto the words "Loading…" is lost."""
    page.locator("#generate").wait_for()
    expect(page.locator(".wrap.full.translucent:not(.hide)")).to_have_count(0)


def set_number(page: Page, element: str, value: int) -> None:
    """Types a number into a field or beside a slider."""
    field = page.locator(f"#{element} input[type=number]").first
    field.fill(str(value))
    field.press("Tab")


def until(page: Page, condition: Callable[[], bool]) -> None:
    """Waits for what `expect` has no word for."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not condition():
        assert time.monotonic() < deadline, "What was waited for did not come."
        page.wait_for_timeout(POLL_MS)


def downloaded(page: Page, element: str) -> Download:
    """What is behind a download button. A click in the instant before the button has its file does nothing, and is
    repeated as a person would."""
    for patience in (5_000, 10_000, 20_000):
        try:
            with page.expect_download(timeout=patience) as caught:
                page.locator(f"#{element}").click()
            return caught.value
        except TimeoutError:
            continue
    raise AssertionError(f"#{element} downloaded nothing.")


def download(page: Page, element: str) -> bytes:
    """The bytes behind it."""
    return downloaded(page, element).path().read_bytes()


@contextmanager
def told_at_once(page: Page) -> Iterator[None]:
    """The page, anew, and told of a job only when that is over, but then of everything in one piece: as behind a proxy
    that collects an answer before it hands it on, and, by and by, on a machine that is busy."""
    page.route("**/queue/data*", lambda route: route.fulfill(response=route.fetch(timeout=0)))
    page.reload()
    loaded(page)
    yield
    page.unroute_all(behavior="ignoreErrors")
