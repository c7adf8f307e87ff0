"""Files dropped onto the page from outside, as the browser itself hands them over."""

from pathlib import Path

import pytest
import torch
from playwright.sync_api import Locator, Page, expect

from sd_core.generation.infotext import Parameters
from sd_core.pictures.output import save_png

pytestmark = pytest.mark.browser

PROMPT, OTHER_PROMPT = "lorelei with short black hair", "adventurer with long red hair"
PROMPTS_SEEN = """() => {
    window.prompts = [];
    const {get, set} = Object.getOwnPropertyDescriptor(HTMLTextAreaElement.prototype, 'value');
    const seen = function (value) { window.prompts.push(value); set.call(this, value); };
    Object.defineProperty(HTMLTextAreaElement.prototype, 'value', {get, set: seen});
}"""
DROP = """async ([data, name, type]) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([Uint8Array.from(data)], name, {type}));
    const drop = new DragEvent('drop', {dataTransfer: transfer, bubbles: true, cancelable: true});
    document.body.dispatchEvent(drop);
    return drop.defaultPrevented;
}"""


def picture_of(prompt: str, path: Path) -> Path:
    settings = Parameters(prompt, "beard", 9, "Euler", 3.5, 77, (16, 16), "characters")
    save_png(torch.zeros(16, 16, 3, dtype=torch.uint8), path, settings.text())
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return picture_of(PROMPT, tmp_path / "mine.png")


@pytest.fixture
def other_picture(tmp_path: Path) -> Path:
    return picture_of(OTHER_PROMPT, tmp_path / "other.png")


def drop(page: Page, file: Path, place: Locator) -> None:
    """Drops a file onto the middle of `place`, from outside the browser."""
    place.scroll_into_view_if_needed()
    box = place.bounding_box()
    spot = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    browser = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
        browser.send("Input.dispatchDragEvent", {"type": kind, "data": data, **spot})


def restored(page: Page, prompt: str = PROMPT) -> None:
    expect(page.locator("#prompt textarea")).to_have_value(prompt)
    expect(page.locator("#seed input")).to_have_value("77")
    expect(page.locator("#new-seed input")).not_to_be_checked()


def assert_none_was_read(page: Page, other_picture: Path) -> None:
    """Pictures are read one after another: one dropped now is read after all that were dropped before it."""
    drop(page, other_picture, page.locator("#heading"))
    restored(page, OTHER_PROMPT)
    assert set(page.evaluate("window.prompts")) <= {"", OTHER_PROMPT}
    assert OTHER_PROMPT in page.evaluate("window.prompts")


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


def test_the_start_picture_keeps_its_drops(page: Page, picture: Path, other_picture: Path):
    page.evaluate(PROMPTS_SEEN)
    page.locator("#image-to-image button").first.click()
    drop(page, picture, page.locator("#start [aria-dropeffect]"))
    expect(page.locator("#start img")).to_be_visible()
    drop(page, picture, page.locator("#start img"))
    assert_none_was_read(page, other_picture)


def test_no_drop_leaves_the_app(page: Page, picture: Path, other_picture: Path, address: str):
    page.evaluate(PROMPTS_SEEN)
    page.get_by_role("tab").nth(2).click()
    expect(page.locator("#prompt")).to_be_hidden()
    assert page.evaluate(DROP, [list(picture.read_bytes()), "mine.png", "image/png"])
    drop(page, picture, page.locator("#heading"))
    page.get_by_role("tab").nth(0).click()
    assert_none_was_read(page, other_picture)
    assert page.url.rstrip("/") == address


def test_text_can_still_be_dropped_into_the_prompt(page: Page):
    box = page.locator("#prompt textarea").bounding_box()
    spot = {"x": box["x"] + 30, "y": box["y"] + box["height"] / 2}
    browser = page.context.new_cdp_session(page)
    data = {"items": [{"mimeType": "text/plain", "data": "red hair"}], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        browser.send("Input.dispatchDragEvent", {"type": kind, "data": data, **spot})
    expect(page.locator("#prompt textarea")).to_have_value("red hair")
