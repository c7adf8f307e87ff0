"""Samplers: each walks a batch of pictures from pure noise to clean, asking the denoiser at every step.

A sampler is a pure function of a denoiser `D`, noisy pictures `x` [B, C, H, W] at noise level `sigmas[0]`, and falling
noise levels `sigmas` [N + 1]. It is a generator that yields a `Step` after each of its N steps, so that whoever
consumes it can show, count, or stop.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

D = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Step:
    """What a sampler yields after each step.

    Attributes:
        index, count: this step, counted from 1, of so many.
        sigma: the noise level of `x`.
        x: the pictures [B, C, H, W], noisy until the last step.
        denoised: the denoiser's latest guess of the clean pictures, within or near [-1, 1].
    """

    index: int
    count: int
    sigma: float
    x: Tensor
    denoised: Tensor


def euler(denoiser: D, x: Tensor, sigmas: Tensor) -> Iterator[Step]:
    """Euler's method on the probability flow ODE (EDM eq. 3 with sigma(t) = t).

    In these coordinates it is DDIM (Song et al. 2020, arXiv:2010.02502): both move x along the straight line to
    `denoised`.
    """
    for i, sigma, next_sigma in _pairs(sigmas):
        denoised = denoiser(x, sigma)
        x = torch.lerp(denoised, x, float(next_sigma / sigma))
        yield Step(i + 1, len(sigmas) - 1, float(next_sigma), x, denoised)


def euler_ancestral(denoiser: D, x: Tensor, sigmas: Tensor, draw: Callable[[], Tensor]) -> Iterator[Step]:
    """DDPM's random walk (Ho et al. 2020, algorithm 2): a step that goes too far down, and fresh noise back up.

    `draw()` gives standard normal noise shaped like `x`.
    """
    for i, sigma, next_sigma in _pairs(sigmas):
        denoised = denoiser(x, sigma)
        # The variance of x_next given x and x0 is what DDPM calls the posterior variance.
        up = (next_sigma**2 * (sigma**2 - next_sigma**2)).sqrt() / sigma
        down = next_sigma**2 / sigma
        x = torch.lerp(denoised, x, float(down / sigma))
        if next_sigma > 0:
            x = x + float(up) * draw()
        yield Step(i + 1, len(sigmas) - 1, float(next_sigma), x, denoised)


def resampled(denoiser: D, x: Tensor, sigmas: Tensor, draw: Callable[[], Tensor], times: int) -> Iterator[Step]:
    """The random walk, each step taken `times` times with noise back up in between (RePaint, Lugmayr et al. 2022,
    arXiv:2201.09865, algorithm 1 with jumps of one step): what is invented gets the chance to fit what is known.
    """
    for i, sigma, next_sigma in _pairs(sigmas):
        repeats = times if next_sigma > 0 else 1
        for repeat in range(repeats):
            (step,) = euler_ancestral(denoiser, x, torch.stack([sigma, next_sigma]), draw)
            x = step.x
            if repeat < repeats - 1:
                x = x + float((sigma**2 - next_sigma**2).sqrt()) * draw()
        yield Step(i + 1, len(sigmas) - 1, float(next_sigma), x, step.denoised)


def heun(denoiser: D, x: Tensor, sigmas: Tensor) -> Iterator[Step]:
    """Heun's second-order method (EDM algorithm 1 without churn): two calls of the denoiser per step."""
    for i, sigma, next_sigma in _pairs(sigmas):
        denoised = denoiser(x, sigma)
        slope = (x - denoised) / sigma
        ahead = x + slope * (next_sigma - sigma)
        if next_sigma > 0:
            denoised = denoiser(ahead, next_sigma)
            slope_ahead = (ahead - denoised) / next_sigma
            ahead = x + (slope + slope_ahead) / 2 * (next_sigma - sigma)
        x = ahead
        yield Step(i + 1, len(sigmas) - 1, float(next_sigma), x, denoised)


def dpmpp_2m(denoiser: D, x: Tensor, sigmas: Tensor) -> Iterator[Step]:
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv:2211.01095, algorithm 2): second order at one call per step.

    It extrapolates from the last two guesses of the clean picture, in the variable lambda = -ln(sigma).
    """
    previous, previous_h = None, None
    for i, sigma, next_sigma in _pairs(sigmas):
        denoised = denoiser(x, sigma)
        target, h = denoised, (sigma / next_sigma).log()  # h is infinite in the step to 0, which lands on `target`
        if previous is not None and next_sigma > 0:
            target = torch.lerp(previous, denoised, float(1 + h / (2 * previous_h)))
        x = torch.lerp(target, x, float(next_sigma / sigma))
        previous, previous_h = denoised, h
        yield Step(i + 1, len(sigmas) - 1, float(next_sigma), x, denoised)


def _pairs(sigmas: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Each step's index and the noise levels it goes from and to."""
    yield from zip(range(len(sigmas) - 1), sigmas[:-1], sigmas[1:], strict=True)
