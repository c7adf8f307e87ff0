"""Takes pictures of every tab, light, dark and phone-sized, to be looked at, and the ones that the README shows.

    python tests/browser/screenshots.py [folder]

They go to `folder`, by default docs. The app is started for it, and stopped. It takes some minutes: Train is shown
while the character model learns a style that it does not know.
"""

import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from find_chromium import OPTIONS, chromium
from playwright.sync_api import Page, expect, sync_playwright
from serving import PATIENCE_MS, serve

LOOKS = {
    "light": {"viewport": {"width": 1280, "height": 1250}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 1250}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light", "device_scale_factor": 2},
}
GRIDS_SEEN = 7  # sample grids that the training has by the time it is shown
TRAINED_MS = 600_000  # milliseconds in which it must have them


def generate(page: Page) -> None:
    page.locator("#examples button").first.click()
    expect(page.locator("#prompt textarea")).not_to_have_value("")
    page.locator("#new-seed input").uncheck()
    page.locator("#generate").click()
    expect(page.locator("#gallery img")).to_have_count(16)


def mark(page: Page) -> None:
    page.get_by_role("tab").nth(1).click()
    page.locator("#restore-examples img").first.click()
    expect(page.locator("#mark-note")).to_contain_text("marked already")
    page.wait_for_timeout(3000)  # for the canvas


def restore(page: Page) -> None:
    for element, value in (("detail", 4), ("candidates", 4)):
        field = page.locator(f"#{element} input[type=number]").first
        field.fill(str(value))
        field.press("Tab")
    page.locator("#restore-go").click()
    expect(page.locator("#candidate-gallery img")).to_have_count(4)
    expect(page.locator("#heat img")).to_be_visible()
    page.locator("#compare").scroll_into_view_if_needed()


def train(page: Page) -> None:
    """A run at work: the first look starts it, the others see the same one."""
    page.get_by_role("tab").nth(2).click()
    page.locator("#train-go").wait_for()
    page.wait_for_timeout(3000)
    if not page.locator("#runs [data-run]").count():
        start_training(page)
    page.locator("#samples").scroll_into_view_if_needed()  # what is below the screen is not loaded
    expect(page.locator("#samples img")).to_be_visible()
    expect(page.locator("#loss polyline")).to_have_count(2)


def start_training(page: Page) -> None:
    """Fine-tunes the character model on a style that it never saw, as the page proposes, and waits until the samples
    show it."""
    page.locator("#train-go").click()
    loaded = "image => image.naturalWidth > 0"
    expect(page.locator("#samples-position input[type=number]")).to_have_value(str(GRIDS_SEEN), timeout=TRAINED_MS)
    page.wait_for_function(f"() => [...document.querySelectorAll('#samples img')].every({loaded})")


@contextmanager
def app():
    with tempfile.TemporaryDirectory() as folder:
        yield from serve(Path(folder))


def main(target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    with app() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=OPTIONS)
        for look, options in LOOKS.items():
            page = browser.new_context(locale="en-US", **options).new_page()
            page.set_default_timeout(PATIENCE_MS)
            page.goto(address)
            page.locator("#generate").wait_for()
            for name, use in {"generate": generate, "mark": mark, "restore": restore, "train": train}.items():
                use(page)
                page.mouse.move(0, 0)
                page.wait_for_timeout(1000)
                page.screenshot(path=target / f"{name}-{look}.png", full_page=look == "phone")
        expect(page.locator("#train-status")).to_contain_text("Finished")  # or the training would outlive the app
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
