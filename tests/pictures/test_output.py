import zipfile

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from png_files import chunk

from sd_core.errors import PictureError
from sd_core.generation.infotext import Parameters, read_parameters
from sd_core.pictures.output import HOLD_MS, grid, make_zip, save_animation, save_png
from sd_core.pictures.pixels import to_float, to_pixels

WRITTEN_BY_ANOTHER_TOOL = """masterpiece, a "quoted" castle (on a hill:1.2)
second line
Negative prompt: blurry, lowres
ugly
Steps: 20, Sampler: DPM++ 2M Karras, CFG scale: 7.5, Seed: 1234567890, Size: 512x768, Model hash: abc, \
Model: "my, model", Denoising strength: 0.4, Lora hashes: "a: 1, b: 2", Version: v1.6.0"""


def random_pixels(height=5, width=7, count=None):
    shape = (height, width, 3) if count is None else (count, height, width, 3)
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def test_every_stored_value_survives_the_way_to_the_model_and_back():
    pixels = torch.arange(256, dtype=torch.uint8).reshape(16, 16, 1).expand(16, 16, 3)
    assert torch.equal(to_pixels(to_float(pixels)), pixels)
    assert to_float(pixels).min() == -1 and to_float(pixels).max() == 1


# Settings inside a file


def test_settings_read_like_those_of_stable_diffusion_tools():
    text = Parameters("a red fox", "blurry", 16, "DPM++ 2M Karras", 2.5, 1, (64, 64), "characters").text()
    assert text == (
        "a red fox\nNegative prompt: blurry\n"
        "Steps: 16, Sampler: DPM++ 2M Karras, CFG scale: 2.5, Seed: 1, Size: 64x64, Model: characters"
    )


def test_settings_written_by_another_tool_are_understood():
    settings = Parameters.parse(WRITTEN_BY_ANOTHER_TOOL)
    assert settings.prompt == 'masterpiece, a "quoted" castle (on a hill:1.2)\nsecond line'
    assert settings.negative_prompt == "blurry, lowres\nugly"
    assert (settings.steps, settings.sampler, settings.guidance) == (20, "DPM++ 2M Karras", 7.5)
    assert (settings.seed, settings.size, settings.model, settings.strength) == (
        1234567890,
        (512, 768),
        "my, model",
        0.4,
    )


@pytest.mark.parametrize("value", ["many", "2.5", "9" * 400, "9" * 5000, ""])
def test_what_is_no_number_is_left_out_and_named(value):
    settings = Parameters.parse(f"a fox\nSteps: 3, Seed: {value}, CFG scale: nan, Sampler: Euler")
    assert (settings.prompt, settings.steps, settings.unread) == ("a fox", 3, ("guidance", "seed"))


texts = st.text(st.characters(), max_size=60) | st.text('ab,:"\\\n \t', max_size=40)


@given(texts, texts, texts, st.integers(0, 2**32 - 1), st.floats(0, 15))
@example("Negative prompt: trap", "Steps: 1, Sampler: x, CFG scale: 2, Seed: 3", "m", 1, 2.5)
@example("Steps: 1, Sampler: x, CFG scale: 2, Seed: 3", "", "a, b: c", 1, 2.5)
@example("half a pair \ud800", "nul \0", '"quoted"', 0, 1.0)
@example("红发冒险家 👩🏽‍🚀\n\n  two lines ", "“curly” \r\n", "模型", 7, 3.0)
@example('Exact prompt: "x", Seed: 1, Steps: 2', "", "null", 7, 3.0)
def test_any_prompt_is_read_back_as_it_was(prompt, negative, model, seed, guidance):
    settings = Parameters(prompt, negative, 16, "Euler a", guidance, seed, (64, 48), model, 0.5, 3, 0.25, "1 2:0.5")
    assert Parameters.parse(settings.text()) == settings


@given(st.text())
def test_reading_settings_never_fails(text):
    Parameters.parse(text)


@pytest.mark.parametrize("prompt", ["a red fox", "红发冒险家 👩🏽‍🚀", "naïve café", 'a: "b", c\nd'])
def test_a_png_keeps_its_pixels_and_its_settings(tmp_path, prompt):
    pixels, settings = random_pixels(), Parameters(prompt, "", 16, "Euler", 2.5, 1, (7, 5), "characters")
    save_png(pixels, tmp_path / "a.png", settings.text())
    assert read_parameters(tmp_path / "a.png") == settings
    with Image.open(tmp_path / "a.png") as read:
        assert np.array_equal(np.asarray(read), pixels.numpy())
        assert read.text["parameters"] == settings.text()


def test_settings_after_the_pixels_are_found(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "late.png")
    text = chunk(b"tEXt", b"parameters\0fox\nSteps: 3, Sampler: Euler, Seed: 5")
    *before, end = (tmp_path / "late.png").read_bytes().rpartition(chunk(b"IEND", b""))[:2]
    (tmp_path / "late.png").write_bytes(before[0] + text + end)
    assert read_parameters(tmp_path / "late.png").seed == 5


def test_a_picture_without_settings_says_so(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(PictureError, match="carries no settings"):
        read_parameters(tmp_path / "a.png")


# Compositions


@pytest.mark.parametrize(("count", "size"), [(1, (512, 512)), (4, (768, 768)), (5, (768, 512)), (64, (768, 768))])
def test_a_grid_is_about_as_wide_as_asked_for(count, size):
    assert grid(random_pixels(64, 64, count)).size == size


def test_a_grid_shows_every_picture_in_reading_order():
    pixels = torch.zeros(4, 8, 8, 3, dtype=torch.uint8)
    for i in range(4):
        pixels[i] = 60 * i
    sheet = np.asarray(grid(pixels, width=16))
    assert [sheet[y, x, 0] for y in (4, 12) for x in (4, 12)] == [0, 60, 120, 180]


@pytest.mark.parametrize("suffix", ["webp", "gif", "png"])
def test_an_animation_has_all_frames_and_holds_the_last(tmp_path, suffix):
    frames = [Image.new("RGB", (16, 16), (60 * i, 0, 0)) for i in range(4)]
    save_animation(frames, tmp_path / f"a.{suffix}", frame_ms=100)
    with Image.open(tmp_path / f"a.{suffix}") as read:
        assert read.n_frames == 4
        read.seek(3)
        read.load()
        assert read.info["duration"] == HOLD_MS and read.info["loop"] == 0


def test_a_zip_keeps_files_of_the_same_name(tmp_path):
    (tmp_path / "x").mkdir()
    paths = [tmp_path / "a.png", tmp_path / "x" / "a.png"]
    for i, path in enumerate(paths):
        path.write_bytes(bytes([i]))
    with zipfile.ZipFile(make_zip(paths, tmp_path / "all.zip")) as archive:
        assert archive.namelist() == ["a.png", "a-2.png"]
        assert archive.read("a-2.png") == b"\x01"
