"""Files dropped onto the page from outside, as the browser itself hands them over."""

from pathlib import Path

import pytest
import torch
from playwright.sync_api import Locator, Page, expect
from serving import NOTHING_MS

from sd_core.generation.infotext import Parameters
from sd_core.pictures.output import save_png

pytestmark = pytest.mark.browser

PROMPT = "lorelei with short black hair"
DROP = """async ([data, name, type]) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([Uint8Array.from(data)], name, {type}));
    const drop = new DragEvent('drop', {dataTransfer: transfer, bubbles: true, cancelable: true});
    document.body.dispatchEvent(drop);
    return drop.defaultPrevented;
}"""


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    settings = Parameters(PROMPT, "beard", 9, "Euler", 3.5, 77, (16, 16), "characters")
    save_png(torch.zeros(16, 16, 3, dtype=torch.uint8), tmp_path / "mine.png", settings.text())
    return tmp_path / "mine.png"


def drop(page: Page, file: Path, place: Locator) -> None:
    """Drops a file onto the middle of `place`, from outside the browser."""
    place.scroll_into_view_if_needed()
    box = place.bounding_box()
    spot = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    browser = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
        browser.send("Input.dispatchDragEvent", {"type": kind, "data": data, **spot})


def restored(page: Page) -> None:
    expect(page.locator("#prompt textarea")).to_have_value(PROMPT)
    expect(page.locator("#seed input")).to_have_value("77")
    expect(page.locator("#new-seed input")).not_to_be_checked()


def test_a_picture_dropped_anywhere_brings_its_settings_back(page: Page, picture: Path):
    assert page.evaluate(DROP, [list(picture.read_bytes()), "mine.png", "image/png"])
    restored(page)
    page.locator("#prompt textarea").fill("something else")
    drop(page, picture, page.locator("#heading"))
    restored(page)


def test_the_place_for_it_takes_a_picture_too(page: Page, picture: Path):
    page.locator("#png-settings button").first.click()
    drop(page, picture, page.locator("#png-drop [aria-dropeffect]"))
    restored(page)


def test_the_start_picture_keeps_its_drops(page: Page, picture: Path):
    page.locator("#image-to-image button").first.click()
    drop(page, picture, page.locator("#start [aria-dropeffect]"))
    expect(page.locator("#start img")).to_be_visible()
    drop(page, picture, page.locator("#start img"))
    page.wait_for_timeout(NOTHING_MS)
    expect(page.locator("#prompt textarea")).to_have_value("")


def test_no_drop_leaves_the_app(page: Page, picture: Path, address: str):
    page.get_by_role("tab").nth(2).click()
    expect(page.locator("#prompt")).to_be_hidden()
    assert page.evaluate(DROP, [list(picture.read_bytes()), "mine.png", "image/png"])
    drop(page, picture, page.locator("#heading"))
    page.wait_for_timeout(NOTHING_MS)
    assert page.url.rstrip("/") == address
    page.get_by_role("tab").nth(0).click()
    expect(page.locator("#prompt textarea")).to_have_value("")


def test_text_can_still_be_dropped_into_the_prompt(page: Page):
    box = page.locator("#prompt textarea").bounding_box()
    spot = {"x": box["x"] + 30, "y": box["y"] + box["height"] / 2}
    browser = page.context.new_cdp_session(page)
    data = {"items": [{"mimeType": "text/plain", "data": "red hair"}], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        browser.send("Input.dispatchDragEvent", {"type": kind, "data": data, **spot})
    expect(page.locator("#prompt textarea")).to_have_value("red hair")
