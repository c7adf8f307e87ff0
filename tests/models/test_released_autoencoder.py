"""The autoencoder that comes with the repository is what its card says."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sd_core.data.characters.draw import HELD_OUT_SEEDS, character, render
from sd_core.models.codec import Autoencoder
from sd_core.pictures.pixels import to_float

FOLDER = Path(__file__).parents[2] / "checkpoints" / "autoencoder"


@pytest.fixture(scope="module")
def autoencoder() -> Autoencoder:
    return Autoencoder.load(FOLDER)


@pytest.fixture(scope="module")
def characters() -> torch.Tensor:
    """Held-out ones [4, 3, 256, 256], the last of a style that was never trained on."""
    styles = ("adventurer", "lorelei", "personas", "micah")
    drawn = [render(character(style, HELD_OUT_SEEDS[40]).svg, 256) for style in styles]
    return to_float(torch.from_numpy(np.stack(drawn)))


def psnr(guess: torch.Tensor, truth: torch.Tensor) -> float:
    return float(-10 * torch.log10((guess - truth).square().mean() / 4))


def test_characters_come_back_from_their_latents(autoencoder, characters):
    assert psnr(autoencoder.decode(autoencoder.encode(characters)), characters) > 33


def test_a_decoder_told_of_noise_on_the_latents_makes_a_cleaner_picture(autoencoder, characters):
    latents = autoencoder.encode(characters)
    noisy = latents + 0.3 * torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    told, untold = autoencoder.decode(noisy, noise=0.3), autoencoder.decode(noisy)
    assert psnr(told, characters) > psnr(untold, characters) + 0.5


def test_a_preview_has_the_colours_of_the_picture(autoencoder, characters):
    assert psnr(autoencoder.preview(autoencoder.encode(characters)), F.avg_pool2d(characters, 8)) > 20


def test_it_is_small_and_has_a_card_that_names_what_it_learnt_from():
    card = (FOLDER / "README.md").read_text("utf-8")
    assert all(word in card for word in ("Data", "CC BY-SA", "Training", "Quality", "Limits"))
    assert (FOLDER / "model.safetensors").stat().st_size <= 8_000_000
