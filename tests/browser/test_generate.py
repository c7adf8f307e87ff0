"""The Generate tab as a person uses it, in a real browser, with the released character model."""

import io
import re

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from serving import download, loaded, set_number, told_at_once, visit

from sd_core.environment import checkpoints_folder
from sd_core.generation.infotext import Parameters
from sd_core.models.checkpoint import describe

pytestmark = pytest.mark.browser
SIZE = (describe(checkpoints_folder() / "characters").model.resolution,) * 2

JPEG_DIFFERENCE = 2.0  # of 255, in the mean
PROMPT = "adventurer with long red hair, on a blue background"
PREVIEWS_SEEN = """() => {
    window.previews = new Set();
    new MutationObserver(() => {
        for (const image of document.querySelectorAll('#preview img')) window.previews.add(image.src);
    }).observe(document.body, {subtree: true, childList: true, attributes: true, attributeFilter: ['src']});
}"""


def draw(page: Page, prompt: str = PROMPT, count: int = 4, seed: int = 11) -> None:
    """Fills in the form, presses Generate and waits for the gallery."""
    page.locator("#prompt textarea").fill(prompt)
    set_number(page, "count", count)
    if page.locator("#new-seed input").is_checked():
        page.locator("#new-seed input").uncheck()
    set_number(page, "seed", seed)
    page.locator("#generate").click()
    expect(page.locator("#gallery img")).to_have_count(count)
    expect(page.locator("#generate")).to_be_visible()


def shown(page: Page) -> str:
    return page.locator("#preview img").get_attribute("src")


def test_a_prompt_becomes_pictures_while_one_watches(page: Page):
    page.evaluate(PREVIEWS_SEEN)
    draw(page)
    assert page.evaluate("window.previews.size") >= 3, "the grid sharpens step by step"
    assert "Done" in page.locator("#status").inner_text()


def test_pictures_are_shown_if_all_that_is_told_of_them_comes_at_once(page: Page):
    with told_at_once(page):
        draw(page, count=2)
    expect(page.locator("#status")).to_contain_text("Done")
    assert Image.open(io.BytesIO(download(page, "download-one"))).size == SIZE
    expect(page.locator("#step-slider")).to_be_visible()


def test_the_step_slider_walks_back_to_the_noise(page: Page):
    draw(page)
    at_the_end = shown(page)
    set_number(page, "step-slider", 1)
    expect(page.locator("#preview img")).not_to_have_attribute("src", at_the_end)
    assert "σ" in page.locator("#noise-level").inner_text()


def test_a_downloaded_picture_carries_its_settings_and_brings_them_back(page: Page, tmp_path):
    draw(page, seed=11)
    data = download(page, "download-one")
    picture = Image.open(io.BytesIO(data))
    assert picture.format == "PNG" and picture.size == SIZE
    assert np.asarray(picture.convert("RGB")).std() > 20, "it shows something"
    settings = Parameters.parse(picture.text["parameters"])
    assert (settings.prompt, settings.seed) == (PROMPT, 11)

    (tmp_path / "mine.png").write_bytes(data)
    page.reload()
    loaded(page)
    page.locator("#png-settings button").first.click()
    page.locator("#png-drop input[type=file]").set_input_files(tmp_path / "mine.png")
    expect(page.locator("#prompt textarea")).to_have_value(PROMPT)
    expect(page.locator("#seed input")).to_have_value("11")

    set_number(page, "count", 1)
    page.locator("#generate").click()
    expect(page.locator("#gallery img")).to_have_count(1)
    again = Image.open(io.BytesIO(download(page, "download-one")))
    difference = np.abs(np.asarray(again).astype(int) - np.asarray(picture).astype(int))
    assert difference.max() <= 1, "the same settings give the same picture, alone or in a batch"


def test_words_the_model_never_learnt_are_named(page: Page):
    page.locator("#prompt textarea").fill("adventurer riding a zebra")
    expect(page.locator("#left-out")).to_contain_text("zebra")
    expect(page.locator("#left-out")).not_to_contain_text("adventurer")


def test_stop_ends_the_work_and_leaves_the_page_ready(page: Page):
    page.locator("#prompt textarea").fill(PROMPT)
    set_number(page, "count", 64)
    page.locator("#generate").click()
    page.locator("#stop").click()
    expect(page.locator("#generate")).to_be_visible()
    expect(page.locator("#status")).to_contain_text("Stopped")


def test_two_visitors_each_get_their_own_pictures(page: Page, browser: Browser, address: str):
    other = visit(browser, address)
    for visitor, count in ((page, 3), (other, 2)):
        visitor.locator("#prompt textarea").fill(PROMPT)
        set_number(visitor, "count", count)
    page.locator("#generate").click()
    other.locator("#generate").click()
    expect(page.locator("#gallery img")).to_have_count(3)
    expect(other.locator("#gallery img")).to_have_count(2)
    other.context.close()


def test_the_page_speaks_chinese_to_a_chinese_browser(browser: Browser, address: str):
    chinese = visit(browser, address, "zh-CN")
    expect(chinese.locator("#generate")).to_have_text("生成")
    expect(chinese.get_by_role("tab").nth(2)).to_have_text("训练")
    set_number(chinese, "count", 1)
    chinese.locator("#generate").click()
    # An example takes an empty one's place.
    expect(chinese.locator("#prompt textarea")).to_have_value(re.compile("[一-龥]"))
    expect(chinese.locator("#gallery img")).to_have_count(1)
    chinese.context.close()


def test_what_stands_at_the_end_are_the_finished_pictures(page: Page):
    with told_at_once(page):
        page.locator("#model input").first.click()
        page.get_by_role("option", name="characters ·").click()
        draw(page, "toon head with long pink hair, on a yellow background")
        expect(page.locator("#status")).to_contain_text("Done")
        images = page.locator("#preview img").first, page.locator("#gallery img").first
        grid, first = (
            Image.open(io.BytesIO(page.request.get(image.get_attribute("src")).body())).convert("RGB")
            for image in images
        )
    corner = grid.crop((0, 0, grid.width // 2, grid.height // 2))
    values = [np.asarray(image.resize(first.size), np.float32) for image in (corner, first)]
    assert np.abs(values[0] - values[1]).mean() < JPEG_DIFFERENCE
