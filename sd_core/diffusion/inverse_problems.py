"""Keeping what a damaged picture still tells: a denoiser that wraps a denoiser and agrees with a measurement.

A measurement is y = A x0: known pixels, say, of the clean picture. `Consistent` puts what is known back into every
guess (DDNM, Wang et al. 2022, arXiv:2212.00490). That is quick and biased: what is known is taken as it is, but does
not inform the rest of the same guess. With `PseudoinverseGuided` it does, at the price of a backward pass.
"""

from typing import Protocol

import torch
from torch import Tensor

from sd_core.diffusion.noise import over_picture
from sd_core.diffusion.sampling import D


class Measurement(Protocol):
    """What is known of clean pictures [B, C, H, W]."""

    def agreeing(self, x: Tensor, y: Tensor) -> Tensor:
        """The pictures nearest to `x` of which `y` is known: x + A⁺ (y - A x) (DDNM, eq. 10)."""


class KnownPixels:
    """Some pixels are known: where `known`, bool, which expands to [B, C, H, W]. Elsewhere `y` does not matter."""

    def __init__(self, known: Tensor):
        self.known = known

    def agreeing(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.where(self.known, y, x)


class Consistent:
    """A `D` whose every guess agrees with the measurement `y`, exactly.

    Args:
        denoiser: the `D` that is wrapped.
        measurement: how `y` came from the clean pictures.
        y: what is known, without noise.
    """

    def __init__(self, denoiser: D, measurement: Measurement, y: Tensor):
        self.denoiser, self.measurement, self.y = denoiser, measurement, y

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.measurement.agreeing(self.denoiser(x, sigma), self.y)


class PseudoinverseGuided:
    """A `D` whose every guess agrees with the measurement `y`, exactly, and whose unmeasured rest heeds it, too.

    How far a guess is from `y` moves the rest along the denoiser's own gradient (ΠGDM, Song et al. 2023,
    openreview.net/forum?id=9_gsMA8MRKQ, eq. 8, with the variance of x0 given x of a normal x0). At high noise known
    pixels tell much the same, and together they would move the rest too far; so no move is longer than the first step
    of conjugate gradients towards the exact one (Boys et al. 2023, arXiv:2310.06721).

    Args:
        denoiser: the `D` that is wrapped; differentiable.
        measurement, y: as for `Consistent`.
        sigma_data: the standard deviation of clean pictures.
        strength: share of the full move. Where the picture is unlike all that the denoiser knows, a small one is safer.
    """

    def __init__(self, denoiser: D, measurement: Measurement, y: Tensor, sigma_data: float, strength: float):
        self.denoiser, self.measurement, self.y = denoiser, measurement, y
        self.sigma_data, self.strength = sigma_data, strength

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            guess = self.denoiser(x, sigma)
            missed = (self.measurement.agreeing(guess, self.y) - guess).detach()
            (pull,) = torch.autograd.grad(guess, x, missed)
        agreement = (missed * pull).flatten(1).sum(1)
        longest = missed.square().flatten(1).sum(1) / agreement.clamp(min=1e-12)
        length = torch.where(agreement > 0, longest.clamp(max=1 + float(sigma / self.sigma_data) ** 2), 0.0)
        moved = guess.detach() + self.strength * over_picture(length, pull) * pull
        return self.measurement.agreeing(moved, self.y)
