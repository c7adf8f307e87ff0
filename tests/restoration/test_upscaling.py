"""Pictures are enlarged by the released upscaler: better than by Lanczos, at any size, without a seam."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from sd_core.data.characters.draw import HELD_OUT_SEEDS, character, render
from sd_core.device import autocast
from sd_core.models.upscaler import Upscaler, UpscalerConfig
from sd_core.pictures.original import open_original
from sd_core.pictures.pixels import to_float, to_pixels
from sd_core.restoration.upscaling import Known, pieces, released, upscaled

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network() -> Upscaler:
    return released(CPU)


def reduced(picture: np.ndarray, factor: int) -> np.ndarray:
    size = picture.shape[1] // factor, picture.shape[0] // factor
    return np.array(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


def drawn(side: int, style: str = "micah") -> np.ndarray:
    return np.array(render(character(style, HELD_OUT_SEEDS[7]).svg, side))


def last(pictures) -> np.ndarray:
    *_, newest = pictures
    return newest.numpy()


def psnr(picture: np.ndarray, truth: np.ndarray) -> float:
    return float(-10 * np.log10(np.square((picture.astype(float) - truth) / 255).mean()))


@pytest.mark.parametrize("style", ["micah", "adventurer"])
@pytest.mark.parametrize(("factor", "better"), [(2, 4.0), (4, 3.0)])
def test_a_character_is_enlarged_better_than_by_lanczos(network, style, factor, better):
    truth = drawn(256, style)
    small = reduced(truth, factor)
    lanczos = np.array(Image.fromarray(small).resize((256, 256), Image.Resampling.LANCZOS))
    enlarged = last(upscaled(network, torch.from_numpy(small), factor))
    assert psnr(enlarged, truth) > psnr(lanczos, truth) + better


def test_what_is_known_to_be_wrong_is_taken_away(network):
    truth = drawn(256)
    small = reduced(truth, 2)
    noisy = small + np.random.default_rng(0).normal(0, 12, small.shape)
    noisy = torch.from_numpy(noisy.round().clip(0, 255).astype(np.uint8))
    told = Known.of(noise=12 / 127.5, jpeg_quality=None)
    assert psnr(last(upscaled(network, noisy, 2, told)), truth) > psnr(last(upscaled(network, noisy, 2)), truth) + 3

    file = io.BytesIO()
    Image.fromarray(small).save(file, "JPEG", quality=40)
    saved = torch.from_numpy(open_original(file).rgb())
    told = Known.of(noise=0.0, jpeg_quality=open_original(file).jpeg_quality)
    assert psnr(last(upscaled(network, saved, 2, told)), truth) > psnr(last(upscaled(network, saved, 2)), truth) + 0.5


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 2.0])
def test_it_is_cleaned_as_much_as_it_is_asked_for(strength):
    known = Known.of(0.1, 40, strength)
    assert known.noise == pytest.approx(0.1 * strength)
    assert known.compression == pytest.approx(min(1.0, 0.6 * strength))


def test_tiles_fit_together_to_the_whole_picture(network):
    rows, columns = np.mgrid[:40, :1100]
    picture = torch.from_numpy(np.stack([rows * 6, columns % 256, (rows * columns) % 256], -1).astype(np.uint8))
    with torch.inference_mode(), autocast(CPU):
        whole = to_pixels(network(to_float(picture)[None])[0].float())
    enlarged = list(upscaled(network, picture, 2))
    assert len(enlarged) == pieces((40, 1100), 2) == 3
    assert (enlarged[-1].int() - whole).abs().max() <= 1


def test_an_untrained_network_enlarges_bicubically():
    picture = to_float(torch.from_numpy(drawn(32)))[None]
    fresh = Upscaler(UpscalerConfig(channels=4, blocks=1))
    torch.testing.assert_close(fresh(picture), F.interpolate(picture, scale_factor=2, mode="bicubic"))


@pytest.mark.parametrize("side", [1, 7])
def test_the_smallest_pictures_are_enlarged_too(network, side):
    assert last(upscaled(network, torch.zeros(side, side, 3, dtype=torch.uint8), 4)).shape == (4 * side, 4 * side, 3)


def test_a_saved_upscaler_works_as_before(tmp_path):
    made = Upscaler(UpscalerConfig(channels=4, blocks=1))
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(0))
    made.save(tmp_path)
    loaded, x = Upscaler.load(tmp_path), torch.rand(1, 3, 9, 9)
    torch.testing.assert_close(loaded(x, 0.1, 0.2), made(x, 0.1, 0.2), atol=1e-2, rtol=1e-2)
    assert loaded.config == made.config


def test_a_folder_without_an_upscaler_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"holds no upscaler .* no config.json"):
        Upscaler.load(tmp_path)


def test_the_released_one_is_found_where_a_folder_of_models_has_none(tmp_path, monkeypatch, network):
    monkeypatch.setenv("SD_CORE_CHECKPOINTS", str(tmp_path))
    assert released(CPU) is network
    Upscaler(UpscalerConfig(channels=4, blocks=1)).save(tmp_path / "upscaler")
    assert released(CPU).config.channels == 4


def test_the_released_one_has_a_card_that_names_its_size_and_what_it_learnt_from(network):
    card = (Path(__file__).parents[2] / "checkpoints" / "upscaler" / "README.md").read_text("utf-8")
    assert f"{sum(each.numel() for each in network.parameters()):,} parameters" in card
    assert all(word in card for word in ("Data", "CC BY-SA", "Training", "Quality", "Limits"))
