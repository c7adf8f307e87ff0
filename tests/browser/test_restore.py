"""The Restore tab as a person uses it, in a real browser, with a restorer whose weights are chance: what it paints is
nonsense, so that one sees where it painted."""

import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from colour_profiles import ADOBE_RGB, rgb_profile
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from serving import ROOT, download, serve, set_number, told_at_once, until, visit

from sd_core.models import checkpoint
from sd_core.pictures.masks import save_mask
from sd_core.restoration.inpainting import FILL_STEPS
from sd_core.training.setup import new_restorer

pytestmark = pytest.mark.browser

WIDTH, HEIGHT = 345, 306
LARGE = 7  # times, so that the canvas shows a reduced copy
BLANK = 3.0  # the most that an empty canvas varies, as a standard deviation of values 0 to 255
ALPHA = 180  # of the picture's upper half
PROFILE = rgb_profile(ADOBE_RGB)
STEP_OF_MANY = re.compile(r"Step \d\d")
STATUS_TEXTS = """() => {
    window.statusTexts = [];
    const status = document.querySelector('#restore-status');
    new MutationObserver(() => window.statusTexts.push(status.innerText))
        .observe(status, {subtree: true, childList: true, characterData: true});
}"""
CANVAS_READ = """() => {
    window.canvasRead = 0;
    for (const { prototype } of [WebGLRenderingContext, WebGL2RenderingContext]) {
        const readPixels = prototype.readPixels;
        prototype.readPixels = function (...asked) {
            window.canvasRead++;
            return readPixels.apply(this, asked);
        };
    }
}"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The app with a restorer and with the released character model."""
    folder = tmp_path_factory.mktemp("restore")
    restorer = new_restorer("tiny", 16, 0)
    with torch.no_grad():
        for parameter in list(restorer.parameters())[-2:]:  # the last layer, which is 0 before training
            parameter.normal_(0, 0.05, generator=torch.Generator().manual_seed(0))
    checkpoint.save(restorer, folder / "models" / "restorer")
    for name in ("characters", "autoencoder"):
        shutil.copytree(ROOT / "checkpoints" / name, folder / "models" / name)
    yield from serve(folder, {"SD_CORE_CHECKPOINTS": str(folder / "models")})


@pytest.fixture
def tab(page: Page) -> Page:
    page.get_by_role("tab").nth(1).click()
    page.locator("#restore-picture input[type=file]").first.wait_for(state="attached")
    return page


@pytest.fixture(scope="module")
def damaged(tmp_path_factory) -> Path:
    """A smooth RGBA picture with a profile and a green line across it."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.stack([rows / 1.35, columns / 1.5, (rows + columns) / 2.85, np.full(rows.shape, 255)], -1)
    pixels[: HEIGHT // 2, :, 3] = ALPHA
    pixels[150:152, 45:285, :3] = (0, 255, 0)
    path = tmp_path_factory.mktemp("damaged") / "my picture.png"
    Image.fromarray(pixels.astype(np.uint8)).save(path, icc_profile=PROFILE)
    return path


@pytest.fixture(scope="module")
def large(damaged: Path) -> Path:
    """The same, with more pixels than the canvas."""
    image = Image.open(damaged)
    path = damaged.with_name("large.png")
    image.resize((WIDTH * LARGE, HEIGHT * LARGE), Image.Resampling.NEAREST).save(path, icc_profile=PROFILE)
    return path


def upload(page: Page, path: Path) -> None:
    page.locator("#restore-picture input[type=file]").first.set_input_files(path)


def painted(page: Page) -> None:
    """Waits until the canvas shows its picture, and moves no more."""
    canvas, last = page.locator("#mask-editor canvas").first, [np.zeros(())]

    def still() -> bool:
        before, last[0] = last[0], seen(canvas.screenshot())
        return last[0].std() > BLANK and np.array_equal(before, last[0])

    until(page, still)


def opened(page: Page, path: Path) -> None:
    upload(page, path)
    expect(page.locator("#restore-go")).to_be_enabled()
    painted(page)


def upload_mask(page: Page, path: Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.locator("#mask-upload").click()
    chooser.value.set_files(path)


def stroke(page: Page, at: float = 0.45) -> None:
    """A horizontal stroke across the middle of the canvas."""
    box = page.locator("#mask-editor canvas").first.bounding_box()
    y = box["y"] + box["height"] * at
    page.mouse.move(box["x"] + box["width"] * 0.35, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.65, y, steps=2)
    page.mouse.up()


def restored(page: Page) -> Image.Image:
    page.locator("#restore-go").click()
    expect(page.locator("#compare img").first).to_be_visible()
    expect(page.locator("#restore-go")).to_be_visible()
    return Image.open(io.BytesIO(download(page, "download-restored")))


def mask_of(page: Page) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(download(page, "mask-download")))) > 0


def becomes(page: Page, mask: np.ndarray) -> None:
    """Waits until the canvas has the marks it was given, which a busy machine takes its time for."""
    until(page, lambda: (mask_of(page) == mask).all())


def test_only_what_is_under_the_stroke_changes(tab: Page, damaged: Path):
    opened(tab, damaged)
    stroke(tab)
    image = restored(tab)
    result = np.asarray(image)
    assert image.info["icc_profile"] == PROFILE
    before, mask = np.asarray(Image.open(damaged)), mask_of(tab)
    assert result.shape == before.shape == (HEIGHT, WIDTH, 4)
    assert 0.002 < mask.mean() < 0.1, "the stroke, at the picture's full size"
    assert (result[~mask] == before[~mask]).all(), "nothing else changed, alpha included"
    assert (result[mask][:, :3] != before[mask][:, :3]).any(-1).mean() > 0.9
    rows, columns = np.nonzero(mask)
    assert np.ptp(columns) > 4 * np.ptp(rows), "it lies where the mouse went"

    slider, handle = tab.locator("#compare"), tab.locator("#compare .inner").first
    box, grip = slider.bounding_box(), handle.bounding_box()
    tab.mouse.move(grip["x"] + grip["width"] / 2, grip["y"] + grip["height"] / 2)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] * 0.25, grip["y"] + 5, steps=2)
    tab.mouse.up()
    assert handle.bounding_box()["x"] < grip["x"] - 50, "the slider follows the mouse"


def test_undo_and_clear_take_marks_away_and_never_the_picture(tab: Page, damaged: Path):
    opened(tab, damaged)
    undo, canvas = tab.locator("#mask-editor").get_by_role("button", name="Undo"), tab.locator("#mask-editor canvas")
    expect(undo).to_be_disabled()
    picture = canvas.first.screenshot()
    stroke(tab)
    expect(undo).to_be_enabled()
    undo.click()
    expect(undo).to_be_disabled()
    assert not mask_of(tab).any()
    stroke(tab)
    expect(undo).to_be_enabled()
    tab.locator("#mask-editor").get_by_role("button", name="Clear canvas").click()
    becomes(tab, np.zeros((HEIGHT, WIDTH), bool))
    tab.mouse.move(0, 0)
    assert np.abs(seen(canvas.first.screenshot()) - seen(picture)).mean() < 2
    expect(undo).to_be_disabled()
    tab.locator("#restore-examples img").first.click()  # its marks are known, and no strokes
    expect(tab.locator("#mark-note")).to_contain_text("marked already")
    painted(tab)
    expect(undo).to_be_disabled()
    expect(tab.locator("#mask-file")).to_be_hidden()


def seen(screenshot: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(screenshot)).convert("RGB").resize((64, 64)), np.float32)


def test_a_tiff_is_shown_as_a_copy_and_comes_back_with_its_own_pixels(tab: Page, damaged: Path, tmp_path):
    pixels = np.asarray(Image.open(damaged))[:275, :300, :3]
    Image.fromarray(pixels).save(tmp_path / "scan.tif", icc_profile=PROFILE)
    opened(tab, tmp_path / "scan.tif")
    expect(tab.locator("#picture-facts")).to_contain_text("300×275")
    tab.wait_for_function("() => document.querySelector('#restore-picture img')?.naturalWidth > 0")
    stroke(tab)
    result = restored(tab)
    mask, after = mask_of(tab), np.asarray(result)
    assert after.shape == pixels.shape and result.info["icc_profile"] == PROFILE
    assert (after[~mask] == pixels[~mask]).all() and (after[mask] != pixels[mask]).any()


def test_a_repair_is_shown_if_all_that_is_told_of_it_comes_at_once(page: Page, tmp_path):
    Image.fromarray(np.full((96, 128, 3), 90, np.uint8)).save(tmp_path / "grey.png")
    with told_at_once(page):
        page.get_by_role("tab").nth(1).click()
        opened(page, tmp_path / "grey.png")
        page.get_by_label("Clean or enlarge the whole picture").check()
        assert restored(page).size == (128, 96)
    expect(page.locator("#restore-status")).to_contain_text("Done")
    expect(page.locator("#restore-preview")).to_be_hidden()


def test_a_mask_goes_up_and_comes_down_as_it_was(tab: Page, large: Path, tmp_path):
    mask = np.zeros((HEIGHT * LARGE, WIDTH * LARGE), bool)
    mask[1051:1054, 316:1994:2] = True  # finer than the canvas
    save_mask(mask, tmp_path / "mask.png")
    opened(tab, large)
    upload_mask(tab, tmp_path / "mask.png")
    expect(tab.locator("#mark-note")).to_contain_text("mask marks")
    becomes(tab, mask)
    result = np.asarray(restored(tab))
    before = np.asarray(Image.open(large))
    assert (result[~mask] == before[~mask]).all() and (result[mask] != before[mask]).any()

    stroke(tab, at=0.7)
    more = mask_of(tab)
    assert (more[:1260] == mask[:1260]).all(), "what was not painted on stays to the pixel"
    assert more[1260:].any()
    tab.locator("#clear-marks").click()
    becomes(tab, np.zeros_like(mask))


def test_a_mask_of_another_size_is_refused(tab: Page, damaged: Path, tmp_path):
    save_mask(np.ones((40, 50), bool), tmp_path / "mask.png")
    opened(tab, damaged)
    upload_mask(tab, tmp_path / "mask.png")
    expect(tab.get_by_test_id("toast-body").first).to_contain_text("must have the same size")


def test_a_file_that_is_no_picture_gives_one_sentence(tab: Page, tmp_path):
    path = tmp_path / "letter.png"
    path.write_text("Dear reader")
    upload(tab, path)
    toast = tab.get_by_test_id("toast-body").first
    expect(toast).to_contain_text("is not a picture")
    assert "/" not in toast.inner_text() and "Traceback" not in toast.inner_text()
    expect(tab.locator("#restore-go")).to_be_disabled()


def test_an_example_is_marked_measured_and_gone_on_from(tab: Page):
    tab.locator("#restore-examples img").first.click()
    expect(tab.locator("#mark-note")).to_contain_text("marked already")
    painted(tab)
    set_number(tab, "detail", 2)
    set_number(tab, "candidates", 3)
    restored(tab)
    expect(tab.locator("#closeness")).to_contain_text("PSNR")
    expect(tab.locator("#candidate-gallery img")).to_have_count(3)
    expect(tab.locator("#heat img")).to_be_visible()
    first = download(tab, "download-restored")
    after = tab.locator("#compare img").last
    shown = after.get_attribute("src")
    tab.locator("#candidate-gallery button").nth(2).click()
    expect(after).not_to_have_attribute("src", shown)
    third = download(tab, "download-restored")
    assert third != first

    tab.locator("#keep-going").click()
    expect(tab.locator("#restore-undo")).to_be_visible()
    expect(tab.locator("#mark-note")).to_contain_text("Paint over")
    expect(tab.locator("#candidate-gallery")).to_be_hidden()
    tab.locator("#restore-undo").click()
    expect(tab.locator("#mark-note")).to_contain_text("marked already")
    expect(tab.locator("#restore-undo")).to_be_hidden()
    expect(tab.locator("#candidate-gallery img")).to_have_count(3)
    expect(tab.locator("#compare")).to_be_visible()
    assert download(tab, "download-restored") == third


def test_another_picture_ends_the_repair_of_the_one_before(tab: Page, damaged: Path):
    opened(tab, damaged)
    stroke(tab)
    set_number(tab, "detail", 50)
    set_number(tab, "candidates", 8)
    tab.evaluate(CANVAS_READ)
    tab.locator("#restore-go").click()
    expect(tab.locator("#restore-status")).to_contain_text(STEP_OF_MANY)
    assert tab.evaluate("window.canvasRead") <= 8, "the canvas is read when a repair begins, not at each of its steps"
    tab.locator("#restore-examples img").first.click()
    expect(tab.locator("#mark-note")).to_contain_text("marked already")
    expect(tab.locator("#restore-go")).to_be_enabled()
    expect(tab.locator("#restore-stop")).to_be_hidden()
    expect(tab.locator("#restore-status")).to_contain_text("Ready.")
    expect(tab.locator("#repair-result")).to_be_hidden()

    tab.evaluate(STATUS_TEXTS)
    set_number(tab, "detail", 2)
    set_number(tab, "candidates", 1)
    assert restored(tab).size != (WIDTH, HEIGHT)
    expect(tab.locator("#restore-status")).to_contain_text("Done")
    expect(tab.locator("#candidate-gallery")).to_be_hidden()
    texts = tab.evaluate("window.statusTexts")
    assert texts and not [text for text in texts if STEP_OF_MANY.search(text)], "nothing is told of the one before"


def test_damage_is_found_on_request(tab: Page, damaged: Path):
    opened(tab, damaged)
    tab.locator("#find-damage").click()
    expect(tab.locator("#mark-note")).to_contain_text("damage")
    expect(tab.locator("#find-damage")).to_be_enabled()


def test_a_generator_cleans_a_square_and_repairs_what_is_marked_in_the_next_picture(tab: Page, damaged: Path):
    tab.locator("#restore-examples img").nth(7).click()
    expect(tab.locator("#picture-facts")).to_contain_text("256×256")
    tab.locator("#restorer input").click()
    tab.get_by_role("option", name="characters").click()
    expect(tab.locator("#square-shown img")).to_be_visible()
    assert restored(tab).size == (256, 256)
    expect(tab.locator("#closeness")).to_contain_text("PSNR")
    expect(tab.locator("#detail input[type=number]")).to_have_value("1")

    upload(tab, damaged)
    expect(tab.get_by_label("Repair marked areas only")).to_be_checked()
    expect(tab.locator("#detail input[type=number]")).to_have_value(str(FILL_STEPS))


def test_a_generated_picture_is_sent_here(page: Page):
    set_number(page, "count", 1)
    page.locator("#generate").click()
    page.locator("#send-to-restore").click()
    expect(page.locator("#picture-facts")).to_contain_text("256×256")
    expect(page.locator("#mask-editor canvas").first).to_be_visible()
    expect(page.locator("#restore-go")).to_be_enabled()


def test_the_tab_speaks_chinese(browser: Browser, address: str):
    chinese = visit(browser, address, "zh-CN")
    chinese.get_by_role("tab").nth(1).click()
    expect(chinese.locator("#restore-go")).to_have_text("修复")
    chinese.locator("#restore-examples img").first.click()
    expect(chinese.locator("#find-damage")).to_have_text("自动查找损坏")
    expect(chinese.locator("#mark-note")).to_contain_text("损坏处已标出")
    expect(chinese.locator("#repair-what")).to_contain_text("只修复标出的区域")
    chinese.context.close()
