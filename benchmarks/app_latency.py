"""How long a person waits: for the page, for the first preview, for sixteen pictures; and how much memory the app
takes.

    python -m benchmarks.app_latency

Starts `python app.py` in an environment of its own on a free port and drives it with Chromium: start to a page whose
Generate button can be pressed, press to the first preview and to the last picture in the gallery (sixteen pictures,
shipped defaults; the first press, which loads the model, apart from the others), then 64 pictures and the app's peak
resident memory, then sixteen by the fast model. Needs Playwright, Chromium, Linux, and a checkpoint.
"""

import importlib.util
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from benchmarks import common
from sd_core.environment import CHECKPOINTS
from sd_core.generation.request import DEFAULT_GUIDANCE, DEFAULT_SAMPLER
from sd_core.models import checkpoint
from sd_core.models.denoiser import STEPS

ROOT = Path(__file__).parent.parent
PROMPT = "adventurer with long red hair and glasses, on a blue background"
FEW, MANY = 16, 64
FAST = "characters-fast"  # the model of few steps
PATIENCE = 180  # seconds for a page or a batch, before something must be wrong
PASSED_ON = ("OMP_NUM_THREADS", "SD_CORE_NICENESS")  # to the app: how much of the machine it and its trainings take
VIEWPORT = {"width": 1280, "height": 2600}  # so tall that no picture of the gallery waits to be scrolled to

# What the page shows once a new preview, or a new full gallery, is really painted; `before` is what it showed earlier.
SOURCES = "selector => [...document.querySelectorAll(selector + ' img')].map(image => image.src)"
SHOWN = """([selector, count, before]) => {
    const images = [...document.querySelectorAll(selector + ' img')];
    const fresh = images.filter(image => !before.includes(image.src) && image.complete && image.naturalWidth > 0);
    return fresh.length >= count;
}"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--checkpoints", type=Path, default=CHECKPOINTS, help="folder of released checkpoints")
    parser.add_argument("--repeats", type=int, default=5, help="presses after the first")
    parser.add_argument("--prompt", default=PROMPT)
    options = parser.parse_args(arguments)
    if not any(options.checkpoints.glob(f"*/{checkpoint.CONFIG}")):
        parser.error(f"{options.checkpoints} holds no checkpoint.")

    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as scratch:
        tests = tests_browser()
        browser = playwright.chromium.launch(executable_path=tests.chromium(), args=tests.OPTIONS)
        page = browser.new_page(viewport=VIEWPORT, locale="en-US")
        page.set_default_timeout(1000 * PATIENCE)
        started = time.perf_counter()
        with app(options.checkpoints, Path(scratch), str(options.device)) as (process, address):
            wait_for(address, process)
            answered = time.perf_counter() - started
            page.goto(address)
            page.locator("#generate").wait_for(state="visible")
            usable = time.perf_counter() - started
            page.locator("#prompt textarea").fill(options.prompt)
            first = generate(page, FEW)
            presses = [generate(page, FEW) for _ in range(options.repeats)]
            many = generate(page, MANY)
            memory = peak_memory(process.pid)
            page.locator("#model input").first.click()
            page.get_by_role("option", name=f"{FAST} ·").click()
            generate(page, FEW)  # which loads it
            fast = statistics.median(generate(page, FEW)[1] for _ in range(options.repeats))
        browser.close()

    preview, last = (statistics.median(times) for times in zip(*presses, strict=True))
    rows = [
        ["start to the first answer over HTTP", f"{answered:.1f} s", ""],
        ["start to a usable page", f"{usable:.1f} s", "at most 15 s"],
        [f"{FEW} pictures, first press: first preview", f"{first[0]:.2f} s", ""],
        [f"{FEW} pictures, first press: last picture", f"{first[1]:.2f} s", ""],
        [f"{FEW} pictures: first preview, median of {options.repeats}", f"{preview:.2f} s", "at most 1 s"],
        [f"{FEW} pictures: last picture, median of {options.repeats}", f"{last:.2f} s", "at most 5 s"],
        [f"{FEW} pictures by {FAST}: last picture, median of {options.repeats}", f"{fast:.2f} s", "1 s"],
        [f"{MANY} pictures: last picture", f"{many[1]:.2f} s", ""],
        [f"peak memory of the app after {MANY} pictures", f"{memory / 2**30:.2f} GiB", "at most 1.5 GB"],
    ]
    settings = f"Shipped defaults: {DEFAULT_SAMPLER}, {STEPS} steps, guidance {DEFAULT_GUIDANCE:g}."
    watched = (
        "Times run from the press of the button to the painted picture in Chromium, on the same machine as the app."
    )
    body = f"{settings} {watched}\n\n{common.table(['figure', 'measured', 'target'], rows)}"
    common.report(
        "app", "What a person waits for", "python -m benchmarks.app_latency", body, options.device, options.results
    )


@contextmanager
def app(checkpoints: Path, scratch: Path, device: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """The app as a process with nothing of this one's environment but its search path, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(scratch),
        "LANG": "C.UTF-8",
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_TEMP_DIR": str(scratch / "gradio"),
        "SD_CORE_CHECKPOINTS": str(checkpoints.resolve()),
        "SD_CORE_RUNS": str(scratch / "runs"),
        "SD_CORE_DEVICE": device,
    }
    environment |= {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    with open(scratch / "app.log", "wb") as log:
        process = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:
            yield process, f"http://127.0.0.1:{port}"
        except Exception:
            print((scratch / "app.log").read_text("utf-8", "replace")[-4000:], file=sys.stderr)
            raise
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for(address: str, process: subprocess.Popen) -> None:
    deadline = time.perf_counter() + PATIENCE
    while time.perf_counter() < deadline:
        if process.poll() is not None:
            raise RuntimeError("The app ended while it was starting.")
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise TimeoutError(f"The app gave no answer within {PATIENCE} s.")


def generate(page, count: int) -> tuple[float, float]:
    """Presses Generate for `count` pictures. Returns the seconds to the first preview and to the last picture."""
    number = page.locator("#count input[type=number]")
    number.fill(str(count))
    number.blur()
    previews, pictures = page.evaluate(SOURCES, "#preview"), page.evaluate(SOURCES, "#gallery")
    button = page.locator("#generate")
    button.wait_for(state="visible")
    started = time.perf_counter()
    button.click()
    page.wait_for_function(SHOWN, arg=["#preview", 1, previews], polling="raf")
    first = time.perf_counter() - started
    page.wait_for_function(SHOWN, arg=["#gallery", count, pictures], polling="raf")
    return first, time.perf_counter() - started


def peak_memory(pid: int) -> int:
    """The largest resident memory that a process and its children have had, in bytes, summed over them."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        except OSError:  # ended meanwhile
            continue
        if int(fields["Pid"]) == pid or int(fields["PPid"]) == pid:
            total += 1024 * int(fields.get("VmHWM", "0 kB").split()[0])
    return total


def tests_browser() -> ModuleType:
    """Where the browser that the tests drive is, and how they start it."""
    spec = importlib.util.spec_from_file_location("find_chromium", ROOT / "tests" / "browser" / "find_chromium.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
