"""Fifty people in the page at once: what each of them gets, how long they wait, and how much memory the app takes.

    python -m benchmarks.crowd

Starts the app in an environment of its own. 25 people draw four pictures each and 15 restore a picture of 512×512, all
as programs do (`gradio_client`), first one after the other and then all at once, while 10 more watch a training run in
Chromium. Every answer must be the picture that the same person got alone. Needs Playwright, Chromium and Linux.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gradio_client import Client, handle_file
from PIL import Image

from benchmarks import common
from benchmarks.app_latency import ROOT, app, peak_memory, tests_browser, wait_for
from sd_core.environment import CHECKPOINTS
from sd_core.runs.config import RunConfig
from sd_core.runs.run import Run
from sd_core.training.config import TrainingConfig

DRAWING, RESTORING, WATCHING = 25, 15, 10
SIDE = 512  # pixels of a picture to restore
PATIENCE = 600  # seconds
ROUNDING = 2  # of 255: pictures of one seed are equal to rounding, whatever else goes on
SHOWS = """step => {
    const said = document.querySelector('#train-status')?.innerText.match(/([\\d,]+) of/);
    return said && Number(said[1].replaceAll(',', '')) >= step;
}"""


@dataclass
class Answer:
    """What a person got, as uint8 arrays, and the seconds it took; `error` where it was nothing."""

    pictures: list[np.ndarray]
    seconds: float
    error: str = ""


def main(arguments: Sequence[str] | None = None) -> None:
    options = common.parser(__doc__).parse_args(arguments)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        scratch, browser = Path(folder), tests_browser()
        opened = playwright.chromium.launch(executable_path=browser.chromium(), args=browser.OPTIONS)
        with app(CHECKPOINTS, scratch, str(options.device)) as (process, address):
            wait_for(address, process)
            run, worker = start_run(scratch, str(options.device))
            try:
                pages = [watch(opened, address) for _ in range(WATCHING)]
                jobs = people(address, scratch)
                alone = [job() for job in jobs]
                started = time.perf_counter()
                with ThreadPoolExecutor(len(jobs)) as pool:
                    together = list(pool.map(lambda job: job(), jobs))
                took = time.perf_counter() - started
                lagging = sum(not keeps_up(page, run) for page in pages)
                memory = peak_memory(process.pid)
            finally:
                run.wish("stop")
                worker.wait(PATIENCE)
        opened.close()
    body = report(alone, together, took, lagging, memory)
    common.report("crowd", "Fifty people at once", "python -m benchmarks.crowd", body, options.device, options.results)


def start_run(scratch: Path, device: str) -> tuple[Run, subprocess.Popen]:
    """A training under way, to be watched; it yields to everything else, as those that the page starts do."""
    config = RunConfig("characters", count=100, size="tiny", training=TrainingConfig(steps=100_000, sample_every=50))
    run = Run.create("watched", config, scratch / "runs")
    command = ["nice", "-n", "19", sys.executable, "-m", "sd_core", "train", "--run", str(run.folder), "--quiet"]
    worker = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.perf_counter() + PATIENCE
    while not run.metrics(1):
        if worker.poll() is not None or time.perf_counter() > deadline:
            raise RuntimeError("The run to watch did not start.")
        time.sleep(0.2)
    return run, worker


def watch(browser, address: str):
    """A page of its own, on the Train tab, which shows the newest run by itself."""
    page = browser.new_context(locale="en-US").new_page()
    page.set_default_timeout(1000 * PATIENCE)
    page.goto(address)
    page.get_by_role("tab").nth(2).click()
    page.locator("#loss polyline").first.wait_for(state="attached")
    return page


def keeps_up(page, run: Run) -> bool:
    """Whether a page shows, within half a minute, how far the run is now, and no error."""
    step = run.known_status().step
    try:
        page.wait_for_function(SHOWS, arg=step, timeout=30_000)
    except Exception:
        return False
    return page.locator(".toast-body.error").count() == 0


def people(address: str, scratch: Path) -> list[Callable[[], Answer]]:
    """What each person does, in an order in which the two kinds are mixed."""
    draw = np.random.default_rng(0)
    damaged = []
    for number in range(RESTORING):
        path = scratch / f"damaged-{number}.png"
        smooth = Image.fromarray(draw.integers(0, 256, (16, 16, 3), np.uint8)).resize((SIDE, SIDE), Image.BICUBIC)
        noisy = np.asarray(smooth) + draw.normal(0, 20, (SIDE, SIDE, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path)
        damaged.append(path)
    client = Client(address, verbose=False, analytics_enabled=False, download_files=str(scratch / "answers"))
    drawing = [lambda seed=100 * i: answer(client, "/generate", prompt="red hair", seed=seed) for i in range(DRAWING)]
    restoring = [lambda path=p: answer(client, "/restore", picture=handle_file(path), mode="whole") for p in damaged]
    jobs = drawing + restoring
    return [jobs[i] for i in draw.permutation(len(jobs))]


def answer(client: Client, endpoint: str, **inputs: object) -> Answer:
    """What the endpoint gives."""
    started = time.perf_counter()
    try:
        files = client.submit(api_name=endpoint, **inputs).result(timeout=PATIENCE)
    except Exception as error:  # an answer that was lost is what is counted here
        return Answer([], time.perf_counter() - started, str(error))
    seconds = time.perf_counter() - started
    paths = [file["image"] if isinstance(file, dict) else file for file in files]  # as a gallery's pictures come
    return Answer([np.asarray(Image.open(path).convert("RGB")) for path in paths], seconds)


def same(one: Answer, other: Answer) -> bool:
    """Whether both are pictures, and equal to rounding."""
    pairs = list(zip(one.pictures, other.pictures, strict=False))
    return (
        len(one.pictures) == len(other.pictures) > 0
        and not one.error
        and all(a.shape == b.shape and np.abs(a.astype(int) - b).max() <= ROUNDING for a, b in pairs)
    )


def report(alone: list[Answer], together: list[Answer], took: float, lagging: int, memory: int) -> str:
    wrong = sum(not same(a, b) for a, b in zip(alone, together, strict=True))
    everybody = DRAWING + RESTORING + WATCHING
    one, slowest = statistics.mean(a.seconds for a in alone), max(a.seconds for a in together)
    rows = [
        ["wrong or lost answers", f"{wrong} of {len(together)}", "0"],
        ["watching pages that fell behind or showed an error", f"{lagging} of {WATCHING}", "0"],
        ["one person's answer, mean", f"{one:.2f} s", ""],
        [f"all {len(together)} answers at once", f"{took:.1f} s", ""],
        [f"slowest answer ({slowest:.1f} s) against one person's times {everybody}",
         f"{slowest / (everybody * one):.2f}", "at most 1.2"],
        ["peak memory of the app", f"{memory / 2**30:.2f} GiB", "at most 3 GB"],
    ]  # fmt: skip
    people = f"{DRAWING} people draw four pictures, {RESTORING} restore one of {SIDE}×{SIDE}, {WATCHING} watch a run."
    return f"{people}\n\n{common.table(['figure', 'measured', 'target'], rows)}"


if __name__ == "__main__":
    main()
