"""Agreement with a measurement: exact where the measurement is exact, and unbiased where the prior is known exactly.

Beside what the library has, other measurements and a dearer way to agree with them, to hold it against.
"""

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sd_core.diffusion.inverse_problems import Consistent, KnownPixels, PseudoinverseGuided
from sd_core.diffusion.sampling import dpmpp_2m, euler, heun, resampled
from sd_core.diffusion.schedules import karras_sigmas

MEAN = torch.tensor([0.3, -0.2, 0.1, 0.0, 0.2, -0.1, 0.0, 0.4])
SAMPLES = 6000
SOLVER_STEPS = 30  # of conjugate gradients, at most
SOLVED = 1e-4  # share of the residual that may be left
LEAST_PASSED = 0.05  # of a blur's frequencies: what it damps more than that is lost, not known


class Linear:
    """The linear map A from clean pictures [B, C, H, W] to what is known of them: `apply` is A, `transposed` A', and
    `inverse` the pseudo-inverse, which gives the smallest picture x with A x = y."""

    def agreeing(self, x: Tensor, y: Tensor) -> Tensor:
        return x + self.inverse(y - self.apply(x))


class Pixels(KnownPixels):
    """`KnownPixels` with its A."""

    def apply(self, x: Tensor) -> Tensor:
        return x * self.known

    transposed = inverse = apply


class KnownDownscale(Linear):
    """The mean of each square of `factor` by `factor` pixels is known."""

    def __init__(self, factor: int):
        self.factor = factor

    def apply(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.factor)

    def inverse(self, y: Tensor) -> Tensor:
        return y.repeat_interleave(self.factor, -1).repeat_interleave(self.factor, -2)

    def transposed(self, y: Tensor) -> Tensor:
        return self.inverse(y) / self.factor**2


class KnownBlur(Linear):
    """The picture under a known kernel [k, k], k odd, is known, as if it went on periodically.

    Frequencies that the kernel damps to less than `LEAST_PASSED` count as lost.
    """

    def __init__(self, kernel: Tensor, height: int, width: int):
        centred = torch.zeros(height, width)
        side = kernel.shape[0]
        centred[:side, :side] = kernel / kernel.sum()
        centred = centred.roll((-(side // 2), -(side // 2)), (0, 1))
        response = torch.fft.rfft2(centred)
        self.response = torch.where(response.abs() < LEAST_PASSED, 0.0, response)

    def _filtered(self, x: Tensor, response: Tensor) -> Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(x) * response.to(x.device), s=x.shape[-2:])

    def apply(self, x: Tensor) -> Tensor:
        return self._filtered(x, self.response)

    def transposed(self, y: Tensor) -> Tensor:
        return self._filtered(y, self.response.conj())

    def inverse(self, y: Tensor) -> Tensor:
        kept = self.response != 0
        return self._filtered(y, torch.where(kept, 1 / torch.where(kept, self.response, 1.0), 0.0))


class MomentMatched(Consistent):
    """As `Consistent`, and what is known also moves what is not, as far as the two vary together given x (Boys et al.
    2023, arXiv:2310.06721).

    With C = Cov(x0 | x) = sigma² dD/dx, the mean of x0 given x and y is D + C A' (A C A')^-1 (y - A D) wherever x0
    given x is normal. The solve takes conjugate gradients, each a backward pass through the network.
    """

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        measurement, variance = self.measurement, float(sigma) ** 2
        with torch.inference_mode(False), torch.enable_grad():
            x = x.clone().requires_grad_()
            denoised = self.denoiser(x, sigma)

            def spread(y: Tensor) -> Tensor:
                """C A' y. The Jacobian of an exact D is symmetric, so a product from the left is one from the right."""
                (product,) = torch.autograd.grad(denoised, x, measurement.transposed(y), retain_graph=True)
                return variance * product

            residual = self.y - measurement.apply(denoised.detach())
            weights = _solved(lambda y: measurement.apply(spread(y)), residual)
            moved = denoised.detach() + spread(weights)
        return measurement.agreeing(moved.detach(), self.y)


def _solved(matrix: Callable[[Tensor], Tensor], right: Tensor) -> Tensor:
    """Conjugate gradients for each picture of a batch [B, ...]: the solution of matrix(solution) = right."""

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).flatten(1).sum(1).view(-1, *[1] * (a.ndim - 1))

    solution, residual, direction = torch.zeros_like(right), right, right
    left = first = dot(right, right)
    for _ in range(SOLVER_STEPS):
        if bool((left <= SOLVED**2 * first).all()):
            break
        image = matrix(direction)
        step = left / dot(direction, image).clamp(min=1e-20)
        solution, residual = solution + step * direction, residual - step * image
        now = dot(residual, residual)
        direction = residual + now / left.clamp(min=1e-20) * direction
        left = now
    return solution


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
    "pixels": lambda h, w: Pixels(torch.arange(h * w).view(h, w) % 3 > 0),
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
@pytest.mark.parametrize(
    "wrapper", [Consistent, partial(PseudoinverseGuided, sigma_data=0.5, strength=1.0), MomentMatched]
)
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
    known = torch.arange(8) < 3
    y = torch.tensor([0.9, -0.6, 0.8, 0, 0, 0, 0, 0])
    denoiser = wrapper(gaussian_prior, Pixels(known), y.view(1, 1, 1, 8).expand(SAMPLES, -1, -1, -1))
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


def test_pseudoinverse_guidance_makes_the_projection_less_biased():
    plain, _ = errors(samples(Consistent))
    some, full = (
        errors(samples(partial(PseudoinverseGuided, sigma_data=0.5, strength=strength)))[0] for strength in (0.3, 1.0)
    )
    assert full < 0.6 * plain
    assert full < some < 0.9 * plain


def test_pseudoinverse_guidance_goes_no_farther_than_what_is_known_at_the_highest_noise():
    def all_alike(x: Tensor, sigma: Tensor) -> Tensor:
        """The exact D where a picture has one value everywhere, normal around 0 with a deviation of 0.5."""
        return x.sum((2, 3), keepdim=True).expand_as(x) / (x[0, 0].numel() + 4 * sigma**2)

    known = torch.arange(64).view(8, 8) > 0
    guided = PseudoinverseGuided(all_alike, Pixels(known), torch.ones(1, 1, 8, 8), sigma_data=0.5, strength=1.0)
    x = 80 * torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert guided(x, torch.tensor(80.0))[0, 0, 0, 0] == pytest.approx(1, abs=0.05)


def test_one_guess_of_the_moment_matched_denoiser_is_the_exact_posterior_mean():
    known, sigma = torch.arange(8) < 3, torch.tensor(0.7)
    x = torch.randn(1, 1, 1, 8, generator=torch.Generator().manual_seed(3))
    y = torch.tensor([0.9, -0.6, 0.8, 0, 0, 0, 0, 0]).view(1, 1, 1, 8)
    found = MomentMatched(gaussian_prior, Pixels(known), y)(x, sigma)[0, 0, 0]
    given_x = covariance() - covariance() @ torch.linalg.solve(covariance() + sigma**2 * torch.eye(8), covariance())
    center = gaussian_prior(x, sigma)[0, 0, 0]
    gain = torch.linalg.solve(given_x[:3, :3], given_x[:3, 3:]).T
    torch.testing.assert_close(found[3:], center[3:] + gain @ (y[0, 0, 0, :3] - center[:3]), rtol=1e-3, atol=1e-3)
