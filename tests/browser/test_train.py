"""The Train tab as a person uses it: a run of own pictures watched, paused, resumed, stopped, used and compared."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from serving import PATIENCE_MS, downloaded, loaded, visit
from small_runs import finish

from sd_core.data import pack
from sd_core.runs.config import RunConfig
from sd_core.runs.queue import ask
from sd_core.runs.run import Run
from sd_core.training.config import TrainingConfig

pytestmark = pytest.mark.browser

MANY_STEPS = 1600  # more than a test waits for, and the first samples come soon
COLOURS = """() => {
    const image = document.querySelector('#samples img');
    return image && image.complete && image.naturalWidth ? image.src : '';
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("train")


@pytest.fixture(scope="module")
def address(start_app, folder) -> Iterator[str]:
    """An app of this file's own; its trainings, which would outlive it, end with it."""
    yield from start_app(folder)
    for run in Run.all(folder / "runs"):
        ask(run, "stop")
    end = time.monotonic() + 60
    while any(run.is_worked_on() for run in Run.all(folder / "runs")) and time.monotonic() < end:
        time.sleep(0.2)


@pytest.fixture(scope="module")
def archive(folder, squares) -> Path:
    pack(squares(24, 16), folder / "squares.zip")
    return folder / "squares.zip"


@pytest.fixture(scope="module")
def finished(folder, archive) -> Run:
    """A run that has ended before anybody looks."""
    training = TrainingConfig(steps=4, batch=4, sample_prompts=("a red square", "a blue square"))
    config = RunConfig(str(archive), size="tiny", resolution=8, training=training)
    return finish(Run.create("finished", config, folder / "runs"))


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The Train tab in English, in a window of its own."""
    opened = visit_tab(browser, address)
    yield opened
    opened.context.close()


def visit_tab(browser: Browser, address: str, locale: str = "en-US") -> Page:
    opened = visit(browser, address, locale, height=2400)
    open_tab(opened)
    return opened


def open_tab(page: Page) -> None:
    loaded(page)
    page.get_by_role("tab").nth(2).click()
    page.locator("#train-go").wait_for()


def fill(page: Page, element: str, value: object) -> None:
    field = page.locator(f"#{element}").locator("input[type=number], input[type=text], textarea").first
    field.fill(str(value))
    field.press("Tab")


def start(page: Page, archive: Path, name: str, steps: int = MANY_STEPS) -> None:
    """Uploads the pictures, looks at them, and starts a run of a fresh model as small as the page offers."""
    choose_a_fresh_generator(page)
    page.locator("#train-data label").nth(2).click()
    if not page.locator("#train-examples").is_visible():
        page.locator("#train-archive input[type=file]").set_input_files(archive)
    expect(page.locator("#train-examples img")).to_have_count(12)
    expect(page.locator("#train-look")).to_contain_text("24 pictures")
    page.locator("#train-resolution label").first.click()
    fill(page, "train-steps", steps)
    if not page.locator("#train-batch").is_visible():
        page.locator("#train-advanced button").first.click()
    fill(page, "train-batch", 8)
    fill(page, "train-prompts", "a red square\na blue square")
    fill(page, "train-seed", 1)
    fill(page, "run-name", name)
    page.locator("#train-go").click()
    expect(page.locator(f"#runs [data-run={name}]")).to_be_visible()


def choose_a_fresh_generator(page: Page) -> None:
    page.locator("#train-start input").click()
    page.get_by_role("option", name="A fresh generator").click()
    expect(page.locator("#train-fast")).to_be_hidden()


def step(page: Page) -> int:
    """The step in the status line."""
    text = page.locator("#train-status").inner_text()
    return int(text.split("step ")[1].split(" ")[0].replace(",", "")) if "step " in text else 0


def status(page: Page, text: str) -> None:
    expect(page.locator("#train-status")).to_contain_text(text)


def test_a_run_from_a_zip_to_a_picture_and_a_comparison(page: Page, archive: Path, finished: Run):
    start(page, archive, "first")
    status(page, "loss")
    line = page.locator("#loss polyline").last
    before = line.get_attribute("points")
    expect(line).not_to_have_attribute("points", before)
    page.wait_for_function(COLOURS)
    grid = page.evaluate(COLOURS)

    page.reload()
    open_tab(page)
    expect(page.locator("#runs [data-run=first]")).to_have_attribute("aria-selected", "true")
    status(page, "loss")
    page.wait_for_function(COLOURS)

    page.locator("#train-pause").click()
    status(page, "Paused")
    paused_at = step(page)
    page.locator("#train-resume").click()
    status(page, "Training")
    page.wait_for_function(
        "paused => Number((document.querySelector('#train-status').innerText.match(/step ([\\d,]+)/) || [0, '0'])[1]"
        ".replace(',', '')) > paused",
        arg=paused_at,
    )
    page.locator("#train-stop").click()
    status(page, "Stopped")
    assert step(page) > paused_at

    fill(page, "train-more", 5)
    page.locator("#train-longer").click()
    status(page, "Finished")
    page.wait_for_function(f"grid => {{ const now = ({COLOURS})(); return now && now !== grid; }}", arg=grid)
    expect(page.locator("#samples-position")).to_be_visible()

    page.locator("#compare-runs button").first.click()
    page.locator("#compare-pick input").click()
    for name in ("first", "finished"):
        page.get_by_role("option", name=name, exact=True).click()
    expect(page.locator("#compare-chart polyline")).to_have_count(2)
    expect(page.locator("#compare-grids img")).to_have_count(2)

    page.get_by_role("tab").first.click()
    page.locator("#model input").click()
    page.get_by_role("option", name="runs/first").click()
    page.locator("#prompt textarea").fill("a red square")
    count = page.locator("#count input[type=number]").first
    count.fill("1")
    count.press("Tab")
    page.locator("#generate").click()
    expect(page.locator("#gallery img")).to_have_count(1)


def test_runs_wait_in_a_queue_and_one_is_deleted_only_when_one_is_sure(page: Page, archive: Path, browser, address):
    start(page, archive, "working")
    start(page, archive, "waiting", steps=8)
    status(page, "In the queue, 1 before it")

    other = visit_tab(browser, address, "zh-CN")
    expect(other.locator("#runs [data-run=waiting]")).to_contain_text("前面还有 1 个训练")
    other.context.close()

    page.locator("#runs [data-run=working]").click()
    expect(page.locator("#runs [data-run=working]")).to_have_attribute("aria-selected", "true")
    page.locator("#train-stop").click()
    status(page, "Stopped")
    page.locator("#runs [data-run=waiting]").click()
    status(page, "Finished")

    page.locator("#runs [data-run=working]").click()
    status(page, "Stopped")
    page.locator("#train-delete").click()
    page.locator("#delete-no").click()
    expect(page.locator("#delete-yes")).to_be_hidden()
    page.locator("#train-delete").click()
    page.locator("#delete-yes").click()
    expect(page.locator("#runs [data-run=working]")).to_have_count(0)
    expect(page.locator("#runs [data-run=waiting]")).to_be_visible()


def test_a_trained_model_is_downloaded(page: Page, finished: Run):
    page.locator("#runs [data-run=finished]").click()
    expect(page.locator("#runs [data-run=finished]")).to_have_attribute("aria-selected", "true")
    status(page, "Finished")
    page.locator("#after button").first.click()
    page.locator("#zip-make").click()
    page.locator("#zip-download").wait_for()
    assert downloaded(page, "zip-download").suggested_filename == "finished.zip"


def test_what_a_training_takes_is_measured(page: Page):
    choose_a_fresh_generator(page)
    page.locator("#train-resolution label").first.click()
    page.locator("#train-estimate").click()
    expect(page.locator("#train-estimated")).to_contain_text("tiny, 32×32 pixels, 32 pictures a step")
    expect(page.locator("#train-estimated")).to_contain_text("million parameters")
    expect(page.locator("#train-estimated")).to_contain_text("for 1,000 steps")
    fill(page, "train-steps", 300)
    expect(page.locator("#train-estimated")).not_to_contain_text("steps")


def test_a_restorer_is_asked_for_what_it_learns_from_and_shown_pairs(page: Page, folder):
    own = folder / "large"
    own.mkdir()
    for number in range(3):
        Image.effect_mandelbrot((96, 80), (-2 + number / 9, -1, 1, 1), 50).convert("RGB").save(own / f"{number}.png")
    page.locator("#train-data label").nth(2).click()
    page.locator("#train-archive input[type=file]").set_input_files(sorted(own.iterdir()))
    expect(page.locator("#train-examples img")).to_have_count(3)
    expect(page.locator("#train-fit")).to_be_visible()
    page.locator("#train-start input").click()
    page.get_by_role("option", name="A fresh restorer").click()
    expect(page.locator("#train-examples img")).to_have_count(12)
    shape = "image => image.complete && image.naturalWidth === 2 * image.naturalHeight"
    page.wait_for_function(f"() => [...document.querySelectorAll('#train-examples img')].every({shape})")
    expect(page.locator("#train-fit")).to_be_hidden()
    expect(page.locator("#train-template")).to_be_hidden()
    expect(page.locator("#train-look")).to_contain_text("3 pictures")
    expect(page.locator("#train-look")).not_to_contain_text("caption")


def children() -> set[int]:
    found = subprocess.run(["pgrep", "-P", str(os.getpid())], capture_output=True, text=True)
    return set(map(int, found.stdout.split()))


def test_a_run_survives_the_app_and_the_next_app_finds_it(start_app, browser: Browser, archive: Path, tmp_path):
    before, run = children(), Run(tmp_path / "runs" / "lasting")
    apps = [start_app(tmp_path)]
    try:
        page = visit_tab(browser, next(apps[0]))
        [app] = children() - before
        start(page, archive, "lasting")
        status(page, "loss")
        os.kill(app, signal.SIGKILL)
        page.context.close()
        killed_at, end = run.status().step, time.monotonic() + PATIENCE_MS / 1000
        while run.status().step <= killed_at + 1:
            assert run.status().state == "running" and time.monotonic() < end
            time.sleep(0.1)

        apps.append(start_app(tmp_path))
        page = visit_tab(browser, next(apps[1]))
        expect(page.locator("#runs [data-run=lasting]")).to_have_attribute("aria-selected", "true")
        status(page, "Training")
        assert step(page) > killed_at
        page.wait_for_function(COLOURS)
        page.locator("#train-stop").click()
        status(page, "Stopped")
        assert run.status().state == "stopped"

        page.locator("#train-delete").click()
        page.locator("#delete-yes").click()
        status(page, "No run yet")
        for gone in ("#runs [data-run]", "#loss polyline"):
            expect(page.locator(gone)).to_have_count(0)
        for hidden in ("#samples", "#samples-position", "#samples-animate"):
            expect(page.locator(hidden)).to_be_hidden()
        page.context.close()
    finally:
        if run.folder.exists():
            ask(run, "stop")
        for each in apps:
            each.close()
