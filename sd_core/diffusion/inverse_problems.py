"""Keeping what a damaged picture still tells: a denoiser that wraps a denoiser and agrees with a measurement.

A measurement is y = A x0: known pixels, say, of the clean picture. `Consistent` puts what is known back into every
guess (DDNM, Wang et al. 2022, arXiv:2212.00490). That is quick and biased: what is known is taken as it is, but does
not inform the rest of the same guess.
"""

from typing import Protocol

import torch
from torch import Tensor

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
