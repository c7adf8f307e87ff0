"""The models that come with the repository are what their cards say."""

import pytest
import torch

from sd_core.data.characters.draw import character, render
from sd_core.degradation.operators import GaussianNoise, Scratches, damaged
from sd_core.diffusion.tiling import MARGIN, TILE
from sd_core.environment import CHECKPOINTS
from sd_core.generation.pipeline import generate
from sd_core.generation.request import GenerationRequest
from sd_core.models import checkpoint
from sd_core.pictures.pixels import to_float, to_pixels
from sd_core.restoration.inpainting import fill
from sd_core.restoration.pipeline import restore
from sd_core.restoration.request import RestoreRequest

MOST_BYTES = {
    "characters": 10_000_000,
    "characters-fast": 10_000_000,
    "cifar10": 10_000_000,
    "restorer": 10_000_000,
}
MOST_TOGETHER = 44_000_000
# Not models one asks for by name; see models/test_released_autoencoder.py and restoration/test_upscaling.py.
PARTS = ("autoencoder", "upscaler")
RELEASED = sorted(f.name for f in CHECKPOINTS.iterdir() if f.is_dir() and f.name not in PARTS)


def size(folder) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def test_there_are_a_character_model_a_cifar10_model_and_a_restorer():
    assert {"characters", "characters-fast", "cifar10", "restorer"} <= set(RELEASED)


@pytest.mark.parametrize("name", RELEASED)
def test_a_card_states_the_true_parameters_and_operations(name):
    folder = CHECKPOINTS / name
    card = (folder / "README.md").read_text("utf-8")
    assert checkpoint.size_line(checkpoint.load(folder)) in card


@pytest.mark.parametrize("name", RELEASED)
def test_a_card_says_what_it_was_trained_on_and_how(name):
    card = (CHECKPOINTS / name / "README.md").read_text("utf-8")
    assert all(word in card for word in ("Data", "seen", "hours", "python -m sd_core train", "Quality"))


def test_models_are_small_enough_for_a_free_space():
    for name in RELEASED:
        assert size(CHECKPOINTS / name) <= MOST_BYTES[name]
    assert size(CHECKPOINTS) <= MOST_TOGETHER


def test_the_character_model_draws_the_background_it_is_asked_for():
    model = checkpoint.load(CHECKPOINTS / "characters")
    *_, last = generate(model, GenerationRequest("personas, blue background", count=4, steps=8, seed=1))
    pictures = model.codec.decode(last.x)
    corners = torch.cat([pictures[:, :, :6, :6], pictures[:, :, :6, -6:]], dim=3).mean(dim=(2, 3))
    red, green, blue = corners.T
    assert ((blue > red + 0.3) & (blue > green + 0.3)).sum() >= 3


# The restorer


@pytest.fixture(scope="module")
def restorer():
    return checkpoint.load(CHECKPOINTS / "restorer")


def damaged_character(*damages) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A character of the style no model was trained on: clean and damaged uint8 [H, W, 3], and where it is lost."""
    clean = torch.from_numpy(render(character("micah", 77).svg, 320).copy())
    result = damaged(to_float(clean), damages, torch.Generator().manual_seed(0))
    return clean, to_pixels(result.picture), result.mask[0] > 0


def closeness(picture: torch.Tensor, clean: torch.Tensor, where: torch.Tensor | None = None) -> float:
    """PSNR in dB, over all pixels or those of `where` [H, W]."""
    error = (picture.double() - clean.double()).square()
    return float(10 * (255**2 / (error if where is None else error[where]).mean()).log10())


def repaired(restorer, picture: torch.Tensor, **request) -> torch.Tensor:
    *_, last = restore(restorer, picture, RestoreRequest(**request))
    return last.pictures[0]


def test_the_restorer_removes_noise_nobody_told_it_of(restorer):
    clean, noisy, _ = damaged_character(GaussianNoise(25))
    assert closeness(repaired(restorer, noisy, whole=True), clean) > closeness(noisy, clean) + 10


def test_the_restorer_fills_scratches_better_than_they_were(restorer):
    clean, scratched, mask = damaged_character(Scratches(0.05, 3))
    assert closeness(repaired(restorer, scratched, mask=mask), clean, mask) > closeness(scratched, clean, mask) + 8


def test_the_restorer_leaves_a_clean_picture_alone(restorer):
    clean, _, _ = damaged_character()
    assert closeness(repaired(restorer, clean, whole=True), clean) > 38


def test_tiles_of_the_restorer_leave_no_seams(restorer):
    clean = torch.from_numpy(render(character("micah", 77).svg, TILE + 128).copy())
    noisy = to_pixels(damaged(to_float(clean), [GaussianNoise(25)], torch.Generator().manual_seed(0)).picture)
    asked = {"whole": True, "sigma": 25.0}
    whole = repaired(restorer, noisy, **asked)
    shifted = repaired(restorer, noisy[MARGIN:, MARGIN:], **asked)  # whose tiles meet elsewhere
    seam = slice(TILE - MARGIN, TILE + MARGIN // 2)
    there = slice(seam.start - MARGIN, seam.stop - MARGIN)
    assert (whole[seam, seam].int() - shifted[there, there].int()).abs().max() <= 1


def test_a_missing_face_is_drawn_in_the_colours_around_it():
    """Where what is known is only put back, and does not move what is drawn, this is 9 dB."""
    model = checkpoint.load(CHECKPOINTS / "characters")
    mask = torch.zeros(256, 256, dtype=torch.bool)
    mask[90:190, 80:190] = True
    found = []
    for style, seed in (("personas", 3), ("adventurer", 7)):
        clean = torch.from_numpy(render(character(style, seed).svg, 256).copy())
        damaged_ = torch.where(mask[..., None], 255, clean)
        *_, last = fill(model, damaged_, mask, steps=10, resampling=2, candidates=4, seed=1)
        for drawn in last.pictures:
            error = (to_float(drawn) - to_float(clean))[:, mask].square().mean() / 4
            found.append(-10 * torch.log10(error))
    assert torch.stack(found).mean() > 11
