"""Agreement with a measurement: exact where the measurement is exact, and unbiased where the prior is known exactly."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sd_core.diffusion.inverse_problems import Consistent, KnownBlur, KnownDownscale, KnownPixels, MomentMatched
from sd_core.diffusion.sampling import dpmpp_2m, euler, heun, resampled
from sd_core.diffusion.schedules import karras_sigmas

MEAN = torch.tensor([0.3, -0.2, 0.1, 0.0, 0.2, -0.1, 0.0, 0.4])
SAMPLES = 6000


def covariance() -> torch.Tensor:
    """Neighbouring pixels are alike: what is known says much about what is not."""
    distance = (torch.arange(8.0)[:, None] - torch.arange(8.0)[None]).abs()
    return 0.25 * 0.8**distance


def gaussian_prior(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """The exact D [B, 1, 1, 8] of a normal prior."""
    shrink = torch.linalg.solve(covariance() + sigma**2 * torch.eye(8), covariance())
    return MEAN + (x - MEAN) @ shrink


def drawing(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(SAMPLES, 1, 1, 8, generator=generator)


def blur_kernel() -> torch.Tensor:
    return torch.outer(*[torch.tensor([1.0, 3.0, 1.0])] * 2)


MEASUREMENTS = {
    "pixels": lambda h, w: KnownPixels((torch.arange(h * w).view(h, w) % 3 > 0).float()),
    "downscale": lambda h, w: KnownDownscale(2),
    "blur": lambda h, w: KnownBlur(blur_kernel(), h, w),
}


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 8), st.integers(2, 8), st.integers(0, 99))
@pytest.mark.parametrize("name", MEASUREMENTS)
def test_each_measurement_has_its_transposed_and_its_pseudo_inverse(name, rows, columns, seed):
    height, width = 2 * rows, 2 * columns
    a = MEASUREMENTS[name](height, width)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 3, height, width, generator=generator)
    y = torch.randn(a.apply(x).shape, generator=generator)
    torch.testing.assert_close((a.apply(x) * y).sum(), (x * a.transposed(y)).sum(), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(a.apply(a.inverse(a.apply(x))), a.apply(x), rtol=1e-3, atol=1e-4)
    kept = a.inverse(a.apply(x))
    torch.testing.assert_close(a.inverse(a.apply(kept)), kept, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("sampler", [euler, heun, dpmpp_2m])
@pytest.mark.parametrize("name", MEASUREMENTS)
@pytest.mark.parametrize("wrapper", [Consistent, MomentMatched])
def test_a_noiseless_measurement_holds_to_rounding(sampler, name, wrapper):
    a = MEASUREMENTS[name](8, 8)
    truth = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)) - 0.5

    def denoiser(x, sigma):
        return x / (1 + 4 * sigma**2)

    sigmas = karras_sigmas(6)
    *_, last = sampler(wrapper(denoiser, a, a.apply(truth)), sigmas[0] * torch.randn(2, 3, 8, 8), sigmas)
    torch.testing.assert_close(a.apply(last.x), a.apply(truth), rtol=0, atol=2e-5)


def posterior(y: torch.Tensor, known: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance of the unknown pixels, exactly, when the first `known` are `y`."""
    c = covariance()
    gain = torch.linalg.solve(c[:known, :known], c[:known, known:]).T
    return MEAN[known:] + gain @ (y - MEAN[:known]), c[known:, known:] - gain @ c[:known, known:]


def samples(wrapper, times: int = 1, steps: int = 40) -> torch.Tensor:
    known = (torch.arange(8) < 3).float()
    y = torch.tensor([0.9, -0.6, 0.8, 0, 0, 0, 0, 0])
    denoiser = wrapper(gaussian_prior, KnownPixels(known), y.view(1, 1, 1, 8).expand(SAMPLES, -1, -1, -1))
    draw, sigmas = drawing(), karras_sigmas(steps, 0.002, 80)
    start = sigmas[0] * draw()
    *_, last = resampled(denoiser, start, sigmas, draw, times)
    return last.x[:, 0, 0, 3:]


def errors(drawn: torch.Tensor) -> tuple[float, float]:
    """Of mean and covariance, in standard deviations of the posterior and shares of its largest variance."""
    mean, cov = posterior(torch.tensor([0.9, -0.6, 0.8]), 3)
    off = ((drawn.mean(0) - mean).abs() / cov.diagonal().sqrt()).max()
    return float(off), float((torch.cov(drawn.T) - cov).abs().max() / cov.max())


def test_the_moment_matched_walk_draws_from_the_exact_posterior():
    mean, cov = errors(samples(MomentMatched, steps=300))
    assert mean < 0.06  # sampling error of a mean of 6,000: 0.013, and 40 steps
    assert cov < 0.08


def test_the_plain_projection_is_biased_and_resampling_makes_it_less_so():
    plain, resampled_ = errors(samples(Consistent)), errors(samples(Consistent, times=10))
    assert plain[0] > 0.15
    assert resampled_[0] < plain[0] / 2


def test_one_guess_of_the_moment_matched_denoiser_is_the_exact_posterior_mean():
    known, sigma = (torch.arange(8) < 3).float(), torch.tensor(0.7)
    x = torch.randn(1, 1, 1, 8, generator=torch.Generator().manual_seed(3))
    y = torch.tensor([0.9, -0.6, 0.8, 0, 0, 0, 0, 0]).view(1, 1, 1, 8)
    found = MomentMatched(gaussian_prior, KnownPixels(known), y)(x, sigma)[0, 0, 0]
    given_x = covariance() - covariance() @ torch.linalg.solve(covariance() + sigma**2 * torch.eye(8), covariance())
    center = gaussian_prior(x, sigma)[0, 0, 0]
    gain = torch.linalg.solve(given_x[:3, :3], given_x[:3, 3:]).T
    torch.testing.assert_close(found[3:], center[3:] + gain @ (y[0, 0, 0, :3] - center[:3]), rtol=1e-3, atol=1e-3)
