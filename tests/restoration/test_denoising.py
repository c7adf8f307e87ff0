"""Removing noise: measuring it, and the walk from the measured level down to a clean picture."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.common import psnr
from sd_core.degradation.operators import GaussianNoise
from sd_core.diffusion.noise import to_unit
from sd_core.diffusion.noise_estimation import estimate_sigma
from sd_core.pictures.pixels import to_float, to_pixels
from sd_core.restoration.denoising import clean_square, remove_noise, walk_down
from sd_core.restoration.region import CropBox
from sd_core.restoration.request import RestoreRequest

PRIOR_MEAN, PRIOR_STD = 0.2, 0.5


def gaussian_toy(x, sigma):
    """The exact D for pixels that are normal: the posterior mean is a weighted mean of prior and picture."""
    weight = PRIOR_STD**2 / (PRIOR_STD**2 + sigma**2)
    return PRIOR_MEAN + weight * (x - PRIOR_MEAN)


def noise_like(x, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(x.shape, generator=generator)


def drawing(size=64):
    """Flat colours with hard edges, as in a cartoon, white background and all."""
    picture = torch.ones(3, size, size)
    across = torch.linspace(-1, 1, size)
    disc = across[:, None] ** 2 + across[None] ** 2 < 0.6
    picture[:, disc] = torch.tensor([0.5, 0.1, -0.3])[:, None]
    picture[:, size // 2 :, size // 3 : size // 2] = torch.tensor([-0.6, 0.0, 0.4])[:, None, None]
    return picture


def noisy(picture, sigma, seed=0):
    return GaussianNoise(sigma)(picture, torch.Generator().manual_seed(seed)).picture


# Measuring


@pytest.mark.parametrize("sigma", [5, 15, 25, 50])
def test_known_noise_on_grey_is_measured(sigma):
    assert estimate_sigma(noisy(torch.zeros(3, 64, 64), sigma)) == pytest.approx(to_unit(sigma), rel=0.05)


@pytest.mark.parametrize("sigma", [5, 15, 25, 50])
def test_known_noise_on_a_drawing_is_measured_though_white_clips_it(sigma):
    assert estimate_sigma(noisy(drawing(), sigma)) == pytest.approx(to_unit(sigma), rel=0.15)


def test_a_clean_flat_drawing_has_no_noise():
    assert estimate_sigma(drawing()) == 0


def test_a_smooth_picture_has_next_to_no_noise():
    ramp = torch.linspace(-0.8, 0.8, 64)
    assert estimate_sigma((ramp[:, None] * ramp[None]).expand(3, 64, 64)) < to_unit(0.5)


@given(st.integers(2, 40), st.integers(2, 40))
def test_any_size_can_be_measured(height, width):
    assert 0 <= estimate_sigma(torch.rand(3, height, width) * 2 - 1) < 2


def test_a_picture_of_one_pixel_cannot_be_measured():
    with pytest.raises(ValueError, match="2×2"):
        estimate_sigma(torch.zeros(3, 1, 5))


# The walk


def test_one_step_is_the_posterior_mean():
    x = torch.randn(2, 3, 8, 8)
    (step,) = walk_down(gaussian_toy, x, 0.3, 1, noise_like(x))
    assert torch.allclose(step.x, gaussian_toy(x, 0.3), atol=1e-6)
    assert step.sigma == 0


def test_many_steps_draw_from_the_posterior():
    sigma, x = 0.4, torch.full((400, 3, 8, 8), 0.6)
    *_, last = walk_down(gaussian_toy, x, sigma, 50, noise_like(x))
    variance = 1 / (1 / PRIOR_STD**2 + 1 / sigma**2)
    assert last.x.mean() == pytest.approx(float(gaussian_toy(torch.tensor(0.6), sigma)), abs=0.01)
    assert last.x.std() == pytest.approx(variance**0.5, rel=0.08)


def test_one_step_is_closer_to_the_truth_than_the_noisy_picture_and_than_a_drawn_one():
    generator = torch.Generator().manual_seed(0)
    truth = PRIOR_MEAN + PRIOR_STD * torch.randn(1, 3, 64, 64, generator=generator)
    x = truth + 0.4 * torch.randn(truth.shape, generator=generator)
    *_, faithful = walk_down(gaussian_toy, x, 0.4, 1, noise_like(x))
    *_, detailed = walk_down(gaussian_toy, x, 0.4, 30, noise_like(x))
    assert psnr(faithful.x, truth) > psnr(x, truth) + 1.5
    assert psnr(faithful.x, truth) > psnr(detailed.x, truth) + 2


def test_a_model_that_knows_two_pictures_gives_back_the_right_one():
    known = torch.stack([torch.full((3, 8, 8), -0.5), drawing(8)])

    def ideal(x, sigma):
        distance = (x[:, None] - known[None]).square().sum((2, 3, 4))
        return torch.einsum("bk,kchw->bchw", torch.softmax(-distance / (2 * float(sigma) ** 2), 1), known)

    x = noisy(known[1], 60)[None]
    for steps in (1, 8):
        *_, last = walk_down(ideal, x, to_unit(60), steps, noise_like(x))
        assert torch.allclose(last.x[0], known[1], atol=1e-3)


def test_without_noise_the_picture_stays_as_it_is():
    x = torch.rand(1, 3, 8, 8)
    (step,) = walk_down(gaussian_toy, x, 0.0, 8, noise_like(x))
    assert torch.equal(step.x, x)


# With a model


def test_a_generator_removes_noise_step_by_step(generator, pictures):
    picture = to_float(torch.from_numpy(pictures.pixels[0]))
    steps = list(remove_noise(generator, picture, to_unit(30), prompt="a red square", steps=4))
    assert [step.index for step in steps] == [1, 2, 3, 4]
    assert steps[-1].sigma == 0
    assert steps[-1].x.shape == (1, 3, 8, 8)


def test_a_seed_gives_its_result_again(generator, pictures):
    picture = to_float(torch.from_numpy(pictures.pixels[0]))

    def end(steps, seed):
        *_, last = remove_noise(generator, picture, to_unit(60), steps=steps, seed=seed)
        return last.x

    assert torch.equal(end(4, 1), end(4, 1))
    assert not torch.equal(end(4, 1), end(4, 2))
    assert torch.equal(end(1, 1), end(1, 2)), "the most faithful answer is one"


def test_the_prompt_is_heard(generator, pictures):
    picture = to_float(torch.from_numpy(pictures.pixels[0]))
    (red,), (blue,) = (list(remove_noise(generator, picture, 0.5, prompt=f"a {c} square")) for c in ("red", "blue"))
    assert not torch.equal(red.x, blue.x)


def test_a_generator_of_latents_cleans_a_square_and_leaves_the_rest(latent_generator):
    picture = to_pixels(noisy(drawing(48), 40))
    square = CropBox(0, 8, 40)
    for steps, count in ((1, 1), (3, 2)):
        request = RestoreRequest(whole=True, sigma=40, steps=steps, candidates=count, square=square)
        *_, end = clean_square(latent_generator, picture, request)
        assert len(end.pictures) == count and end.preview.shape == (32, 32, 3)
        outside = ~torch.from_numpy(square.mask((48, 48)))
        assert all(torch.equal(p[outside], picture[outside]) for p in end.pictures)
        assert not any(torch.equal(p, picture) for p in end.pictures)


def test_a_picture_without_noise_loses_nothing_by_being_coded(latent_generator):
    picture = to_pixels(drawing(32))
    *_, end = clean_square(latent_generator, picture, RestoreRequest(whole=True, sigma=0))
    assert torch.equal(end.pictures[0], picture)


def test_more_noise_is_taken_for_more_in_latents(latent_generator):
    picture = drawing(32)
    first, second = (next(remove_noise(latent_generator, noisy(picture, 60), to_unit(level))) for level in (5, 60))
    assert first.x.shape == second.x.shape == (1, *latent_generator.shape)
    assert not torch.equal(first.x, second.x)
