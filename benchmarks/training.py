"""What training in the browser costs and how long one waits for it.

    python -m benchmarks.training

Starts the app in an environment of its own and drives it with Chromium:

- pictures per second of a training that the page started and watches, against the bare loop `Trainer.run`, in turn;
- from the press on Start to the first point of the loss curve, the drawing of the characters included;
- from the press on Stop to a saved and stopped run;
- four pictures in Generate, while a run is training on the same cores and while none is;
- opening a run of a million metric lines and 500 sample grids, to a drawn chart.

With `--taste`, the shipped character model is also fine-tuned on 100 pictures of the style that it never saw, by the
"two-minute taste", and the sample grid before and after is kept under panels/. Needs Playwright and Chromium.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import SUPPRESS
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from benchmarks import common
from benchmarks.app_latency import ROOT, VIEWPORT, app, generate, tests_browser, wait_for
from sd_core.data.characters.draw import EVALUATION_STYLE
from sd_core.data.sources import open_data
from sd_core.device import best_device
from sd_core.environment import CHECKPOINTS
from sd_core.models import checkpoint
from sd_core.pictures.output import grid
from sd_core.pictures.pixels import to_pixels
from sd_core.runs.config import RunConfig
from sd_core.runs.queue import ask
from sd_core.runs.run import Run, Status
from sd_core.runs.worker import work
from sd_core.training.config import TUNED_RATE, TrainingConfig
from sd_core.training.events import Progress
from sd_core.training.setup import started
from sd_core.training.trainer import Trainer
from tabs.train.new_run import COOLDOWN_SHARE
from tabs.train.settings import preset_of

PATIENCE = 600  # seconds
LINES, GRIDS = 1_000_000, 500
FEW = 4  # pictures that are generated
WARM = 20  # steps before the clock counts
TASTE = preset_of("taste", "characters")  # what the page proposes
CHART = "() => document.querySelector('#loss polyline') !== null"
LISTED = "name => document.querySelector(`#runs [data-run='${name}'][aria-selected=true]`) !== null"


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="pairs of trainings, and presses on Generate")
    parser.add_argument("--steps", type=int, default=60, help="of the trainings that are timed")
    parser.add_argument("--taste", action="store_true", help="also fine-tune on the unseen style, some minutes")
    parser.add_argument("--bare", type=Path, help=SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        print(bare_speed(options.bare, options.steps))
        return
    from playwright.sync_api import sync_playwright

    browser_of_tests = tests_browser()
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        opened = playwright.chromium.launch(executable_path=browser_of_tests.chromium(), args=browser_of_tests.OPTIONS)
        page = opened.new_page(viewport=VIEWPORT, locale="en-US")
        page.set_default_timeout(1000 * PATIENCE)
        with app(CHECKPOINTS, scratch, str(options.device)) as (process, address):
            wait_for(address, process)
            page.goto(address)
            try:
                rows = measure(page, scratch, options)
            finally:  # trainings outlive the app
                for run in Run.all(scratch / "runs"):
                    ask(run, "stop")
        opened.close()
    body = common.table(["figure", "measured", "target"], rows)
    if options.taste:
        body += "\n\n" + taste()
    command = "python -m benchmarks.training" + (" --taste" if options.taste else "")
    common.report("training", "Training in the browser", command, body, options.device, options.results)


def measure(page, scratch: Path, options) -> list[list[str]]:
    """All figures of the page."""
    page.locator("#generate").wait_for()
    idle = statistics.median(generate(page, FEW)[1] for _ in range(options.repeats + 1))
    page.get_by_role("tab").nth(2).click()
    page.locator("#train-go").wait_for()

    first, run = start(page, scratch, "first", 10_000)
    page.get_by_role("tab").first.click()
    busy = statistics.median(generate(page, FEW)[1] for _ in range(options.repeats))
    page.get_by_role("tab").nth(2).click()
    stop = stopped(page, run)

    watched, bare = [], []
    for number in range(options.repeats):
        _, run = start(page, scratch, f"speed-{number}", options.steps)
        _until(lambda run=run: run.known_status().state == "finished")
        watched.append(speed(run.metrics()))
        bare.append(_bare_in_a_process(run, options.steps, scratch))
    ratio = statistics.median(a / b for a, b in zip(watched, bare, strict=True))

    synthetic(scratch)
    opening = open_long_run(page)
    return [
        [
            f"through the tab, page open, against the bare loop ({statistics.median(watched):.1f} against "
            f"{statistics.median(bare):.1f} pictures/s, median of {options.repeats} pairs)",
            f"{ratio:.2f}x",
            "at least 0.95x",
        ],
        [
            f"Start to the first loss point, {TASTE.count} characters drawn and encoded",
            f"{first:.1f} s",
            "at most 20 s",
        ],
        ["Stop to saved and stopped", f"{stop:.1f} s", "at most 3 s"],
        [
            f"{FEW} pictures in Generate while a run trains ({busy:.2f} s) against none ({idle:.2f} s)",
            f"{busy / idle:.1f}x",
            "at most 3x",
        ],
        [f"opening a run of {LINES:,} metric lines and {GRIDS} grids", f"{opening:.2f} s", "at most 1 s"],
    ]


def start(page, scratch: Path, name: str, steps: int) -> tuple[float, Run]:
    """Presses Start for a "two-minute taste" of so many steps. Returns the seconds to the first point, and the run."""
    field = page.locator("#train-steps input").first
    field.fill(str(steps))
    field.press("Tab")
    if not page.locator("#run-name").is_visible():
        page.locator("#train-advanced button").first.click()
    field = page.locator("#run-name").locator("input, textarea").first
    field.fill(name)
    field.press("Tab")
    began = time.perf_counter()
    page.locator("#train-go").click()
    page.wait_for_function(LISTED, arg=name)
    run = Run(scratch / "runs" / name)
    _until(lambda: run.metrics(1) != [])
    page.wait_for_function(CHART, polling="raf")
    return time.perf_counter() - began, run


def stopped(page, run: Run) -> float:
    """Presses Stop. Returns the seconds until the folder says that the run is saved and stopped."""
    page.locator("#train-stop").wait_for()
    began = time.perf_counter()
    page.locator("#train-stop").click()
    _until(lambda: run.known_status().state == "stopped")
    assert checkpoint.describe(run.checkpoint).origin.steps == run.known_status().step
    return time.perf_counter() - began


def speed(lines: list[dict]) -> float:
    """Pictures per second of training once it is warm, the drawing of samples left out."""
    return statistics.median(line["pictures_per_second"] for line in lines if line["step"] > WARM)


def bare_speed(folder: Path, steps: int) -> float:
    """The same of the bare loop, with nobody who writes or watches."""
    config = Run(folder).config()
    pictures = open_data(config.data, config.resolution, count=config.count, styles=config.styles)
    training = replace(config.training, steps=steps, sample_every=10**6, save_every=10**6)
    trainer = Trainer(started(config.start), pictures, training, best_device())
    lines = []
    for event in trainer.run():
        if isinstance(event, Progress):
            lines.append({"step": event.step, "pictures_per_second": event.pictures_per_second})
            if event.step == steps:
                break
    return speed(lines)


def _bare_in_a_process(run: Run, steps: int, scratch: Path) -> float:
    """Alone in a process, with the page's cache of pictures."""
    command = [sys.executable, "-m", "benchmarks.training", "--bare", str(run.folder), "--steps", str(steps)]
    environment = os.environ | {"SD_CORE_CACHE": str(scratch / ".cache" / "sd_core")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout.strip().splitlines()[-1])


def synthetic(scratch: Path) -> None:
    """A run that looks as if it had worked for weeks."""
    config = RunConfig("characters", count=10, size="tiny", training=TrainingConfig(steps=LINES))
    run = Run.create("long", config, scratch / "runs")
    with open(run.folder / "metrics.jsonl", "w", encoding="utf-8") as file:
        for step in range(1, LINES + 1):
            line = Progress(step, LINES, 64 * step, 0.1 + 1 / step**0.5, 3e-3, 0.5, 80.0, 10.0)
            file.write(json.dumps(vars(line) | {"seconds": float(step)}) + "\n")
    grid = Image.effect_noise((768, 768), 80).convert("RGB")
    first = run.folder / "samples" / f"{LINES // GRIDS:06d}.png"
    grid.save(first)
    for number in range(2, GRIDS + 1):
        os.link(first, first.with_name(f"{number * LINES // GRIDS:06d}.png"))
    run.write_status(Status("finished", step=LINES, steps=LINES, loss=0.1))
    os.utime(run.folder / "config.json", (1, 1))  # the oldest: it is not opened by itself


def open_long_run(page) -> float:
    """Chooses that run. Returns the seconds until its chart is drawn."""
    card = page.locator("#runs [data-run=long]")
    card.wait_for()
    card.scroll_into_view_if_needed()
    before = page.locator("#loss polyline").last.get_attribute("points")
    began = time.perf_counter()
    card.click()
    page.wait_for_function(
        "before => { const all = [...document.querySelectorAll('#loss polyline')]; "
        "return all.length && all.at(-1).getAttribute('points') !== before; }",
        arg=before,
        polling="raf",
    )
    return time.perf_counter() - began


def taste() -> str:
    """Fine-tunes the shipped character model on the unseen style; keeps the grid before and after."""
    with tempfile.TemporaryDirectory() as folder:
        start_from = CHECKPOINTS / "characters"
        how_long = dict(steps=TASTE.steps, cooldown=round(COOLDOWN_SHARE * TASTE.steps))
        training = TrainingConfig(batch=TASTE.batch, learning_rate=TUNED_RATE, **how_long)
        config = RunConfig(
            "characters", styles=(EVALUATION_STYLE,), count=TASTE.count, start=str(start_from), training=training
        )
        began = time.monotonic()
        run = Run.create("taste", config, Path(folder))
        for _ in work(run):
            pass
        minutes = (time.monotonic() - began) / 60
        after = Image.open(run.samples()[-1]).convert("RGB")
        before = _before(run)
    sheet = Image.new("RGB", (before.width + after.width + 24, after.height), "white")
    sheet.paste(before, (0, 0))
    sheet.paste(after, (before.width + 24, 0))
    common.PANELS.mkdir(exist_ok=True)
    sheet.save(common.PANELS / "training-taste.png")
    return (
        f"The shipped character model, fine-tuned on {TASTE.count} pictures of {EVALUATION_STYLE}, which it never saw, "
        f"by the two-minute taste ({TASTE.steps} steps of {TASTE.batch} pictures, learning rate {TUNED_RATE:g}, "
        f"{minutes:.1f} minutes). The same seeds and prompts before (left) and after:\n\n"
        "![Samples before and after](panels/training-taste.png)"
    )


def _before(run: Run) -> Image.Image:
    """The grid that the untouched model draws for the run's prompts."""
    config = run.config()
    pictures = open_data(config.data, config.resolution, count=config.count, styles=config.styles)
    model = checkpoint.load(config.start)
    model.vocabulary = model.vocabulary.with_words_of(pictures.captions)
    trainer = Trainer(model, pictures, config.training, torch.device("cpu"))
    return grid(to_pixels(trainer.samples().pictures))


def _until(true) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > end:
            raise TimeoutError("It did not happen in time.")
        time.sleep(0.02)


if __name__ == "__main__":
    main()
