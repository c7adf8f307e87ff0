"""Who repairs a picture: the specialist what is marked, or where noise is all that is wrong; the restorer all else."""

import pytest
import torch
import torch.nn.functional as F

from sd_core.data.characters.draw import character, render
from sd_core.data.pairs import CleanPictures
from sd_core.degradation.operators import DefocusBlur, Downscale, GaussianNoise, Jpeg, Scribbles, damaged
from sd_core.diffusion.noise import to_unit
from sd_core.environment import CHECKPOINTS
from sd_core.models import checkpoint
from sd_core.models.checkpoint import describe, load, save
from sd_core.models.conditioning import Conditioning
from sd_core.models.denoiser import Denoiser, ModelConfig
from sd_core.pictures.pixels import to_float, to_pixels
from sd_core.restoration import pipeline, routing
from sd_core.restoration.pipeline import restore
from sd_core.restoration.request import RestoreRequest
from sd_core.restoration.routing import CROP_SIDE, CROPS, expert, is_white, spread_crops, white_noise
from sd_core.training.config import TrainingConfig
from sd_core.training.setup import new_restorer
from sd_core.training.trainer import Trainer


def noise(sigma: float, *shape: int) -> torch.Tensor:
    return to_unit(sigma) * torch.randn(shape, generator=torch.Generator().manual_seed(0))


def shifted(model: Denoiser, by: float) -> Denoiser:
    """A restorer that makes everything brighter."""
    with torch.no_grad():
        model.unet.head[-1].bias[: 3 * model.config.patch**2] += by
    return model.eval().requires_grad_(False)


@pytest.fixture
def pair() -> Denoiser:
    """A restorer that changes nothing, with a specialist that makes everything brighter."""
    brighter = shifted(new_restorer("tiny", 32, 0), 0.5)
    return new_restorer("tiny", 32, 0).joined(brighter).eval().requires_grad_(False)


# What is white


def test_noise_of_any_visible_strength_is_white():
    assert all(is_white(noise(sigma, 4, 3, 64, 64)) for sigma in (3, 10, 50))


def test_what_nobody_sees_is_no_noise():
    assert not is_white(noise(1, 4, 3, 64, 64))
    assert not is_white(torch.zeros(1, 3, 64, 64))


def test_what_neighbours_or_colours_share_is_not_white():
    assert not is_white(F.avg_pool2d(noise(40, 4, 3, 64, 64), 2, 1))
    assert not is_white(noise(20, 4, 1, 64, 64).expand(4, 3, 64, 64))
    rows = noise(20, 4, 3, 64, 1).expand(4, 3, 64, 64)
    assert not is_white(rows)
    assert not is_white(rows.mT)


def test_what_has_no_neighbours_is_not_white():
    assert not is_white(noise(20, 4, 3, 40, 1))
    assert not is_white(noise(20, 4, 3, 1, 1))


def test_the_level_of_a_picture_that_is_only_noisy_is_judged(pair, monkeypatch):
    crops = noise(20, 4, 3, 64, 64)
    monkeypatch.setattr(routing, "only_noise", lambda *args: True)
    assert white_noise(pair, crops) == pytest.approx(to_unit(20), rel=0.1)
    assert white_noise(pair.joined(None), crops) == 0, "nobody is there to judge it"
    monkeypatch.setattr(routing, "only_noise", lambda *args: False)
    assert white_noise(pair, crops) == 0


def test_a_few_large_values_are_not_white():
    values = noise(5, 4, 3, 64, 64)
    values[..., 10, 5:40] = 1
    assert not is_white(values)


@pytest.mark.parametrize("height, width", [(8, 8), (1, 500), (96, 97), (300, 400)])
def test_crops_are_spread_over_the_whole_picture(height, width):
    rows = torch.arange(height)[:, None, None].expand(height, width, 3)
    columns = torch.arange(width)[None, :, None].expand(height, width, 3)
    for places, length in ((spread_crops(rows), height), (spread_crops(columns), width)):
        assert places.shape[1:] == (min(height, CROP_SIDE), min(width, CROP_SIDE), 3)
        assert len(places) <= CROPS**2
        assert places.min() == 0
        assert places.max() == length - 1


# Who is asked


GREY = torch.full((40, 50, 3), 128, dtype=torch.uint8)


@pytest.mark.parametrize(
    "request_, is_its",
    [
        (RestoreRequest(whole=True, sigma=20.0), True),
        (RestoreRequest(whole=True), True),
        (RestoreRequest(whole=True, sigma=20.0, mask=torch.eye(40, 50) > 0), False),
        (RestoreRequest(mask=torch.eye(40, 50) > 0), True),
    ],
)
def test_the_specialist_is_asked_for_what_it_learnt(pair, monkeypatch, request_, is_its):
    monkeypatch.setattr(routing, "only_noise", lambda *args: True)
    *_, last = restore(pair, GREY, request_)
    assert bool((last.pictures[0] > 135).any()) == is_its


def test_the_restorer_repairs_what_is_not_only_noisy(pair, monkeypatch):
    monkeypatch.setattr(routing, "only_noise", lambda *args: False)
    *_, last = restore(pair, GREY, RestoreRequest(whole=True, sigma=20.0))
    assert last.pictures[0].float().mean() < 135


def test_a_restorer_without_a_specialist_does_all_itself(pair):
    alone = pair.joined(None)
    assert expert(alone, noise(20, 4, 3, 64, 64), to_unit(20)) is alone


@pytest.fixture(scope="module")
def restorer() -> Denoiser:
    return checkpoint.load(CHECKPOINTS / "restorer")


@pytest.fixture(scope="module", params=["adventurer", "micah"])
def drawing(request) -> torch.Tensor:
    return to_float(torch.from_numpy(render(character(request.param, 5003).svg, 384).copy()))


@pytest.mark.parametrize(
    "damages, is_noise",
    [
        ([GaussianNoise(5)], True),
        ([GaussianNoise(25)], True),
        ([GaussianNoise(50)], True),
        ([], False),
        ([GaussianNoise(20), Jpeg(90)], False),
        ([GaussianNoise(10), Downscale(2)], False),
        ([DefocusBlur(2)], False),
        ([Jpeg(30)], False),
        ([GaussianNoise(30), Scribbles(0.05, 6)], False),
    ],
)
def test_noise_is_told_from_other_damage(restorer, drawing, damages, is_noise):
    seen = damaged(drawing, damages, torch.Generator().manual_seed(1)).picture
    assert judged(restorer, seen) == is_noise


def judged(restorer, seen: torch.Tensor, sigma: float | None = None) -> bool:
    crops = to_float(spread_crops(to_pixels(seen)))
    return expert(restorer, crops, None if sigma is None else to_unit(sigma)) is restorer.specialist


def test_noise_is_judged_even_if_somebody_says_how_strong_it_is(restorer, drawing):
    white, shared = noise(20, *drawing.shape), noise(20, 1, *drawing.shape[1:])
    assert judged(restorer, drawing + white, 20)
    for grain in (shared, (shared + white) / 2**0.5):
        assert not judged(restorer, drawing + grain, 20)
        assert not judged(restorer, drawing + grain)
    grey = drawing.mean(dim=0, keepdim=True).expand_as(drawing)
    assert not judged(restorer, grey + shared, 20)
    recoded = damaged(drawing, [GaussianNoise(20), Jpeg(95)], torch.Generator().manual_seed(1)).picture
    assert not judged(restorer, recoded, 20)


def test_the_released_restorer_brings_a_specialist_that_removes_noise_better(restorer, drawing):
    noisy = drawing + noise(25, *drawing.shape)
    conditioning = Conditioning.of(noisy[None], torch.zeros(1, 1, *drawing.shape[1:]), to_unit(25))
    with torch.inference_mode():
        errors = [(m.at_once(conditioning)[0] - drawing).square().mean() for m in (restorer.specialist, restorer)]
    assert errors[0] < errors[1] < to_unit(25) ** 2


# The two together


def test_a_checkpoint_holds_both(pair, tmp_path, monkeypatch):
    monkeypatch.setattr(routing, "only_noise", lambda *args: True)
    save(pair, tmp_path / "both")
    assert describe(tmp_path / "both").model.specialist
    loaded = load(tmp_path / "both")
    *_, ours = restore(pair, GREY, RestoreRequest(whole=True, sigma=20.0))
    *_, theirs = restore(loaded, GREY, RestoreRequest(whole=True, sigma=20.0))
    torch.testing.assert_close(theirs.pictures[0], ours.pictures[0], rtol=0, atol=1)


def test_a_specialist_has_the_shape_of_its_restorer(pair):
    with pytest.raises(ValueError, match="same shape"):
        pair.joined(new_restorer("small", 32, 0))
    with pytest.raises(ValueError, match="same shape"):
        pair.joined(pair.joined(new_restorer("tiny", 32, 1)))
    assert pair.joined(new_restorer("tiny", 64, 0)).config == pair.config
    with pytest.raises(ValueError, match="Only a restorer"):
        ModelConfig(specialist=True)


def test_training_goes_on_without_the_specialist(pair):
    pictures = CleanPictures("grey", (GREY.numpy(),))
    trainer = Trainer(pair, pictures, TrainingConfig(steps=1, batch=2), torch.device("cpu"))
    assert trainer.model.specialist is None
    assert pair.specialist is not None
    list(trainer.run())
    assert not any("specialist" in name for name in trainer.ema.state_dict())


def test_a_large_picture_is_judged_by_a_few_crops(pair, monkeypatch):
    seen = []
    monkeypatch.setattr(pipeline, "expert", lambda model, crops, sigma: seen.append(crops.shape) or model)
    list(restore(pair, torch.zeros(600, 700, 3, dtype=torch.uint8), RestoreRequest(whole=True)))
    assert seen == [(CROPS**2, 3, CROP_SIDE, CROP_SIDE)]
