"""Keeping what a damaged picture still tells: denoisers that wrap a generator and agree with a measurement.

A measurement is y = A x0: known pixels, a known downscaling or a known blur of the clean picture. `Consistent` puts
what is known back into every guess (DDNM, Wang et al. 2022, arXiv:2212.00490). That is quick and biased: what is known
is taken as it is, but does not inform the rest of the same guess. `MomentMatched` lets it, by the covariance of the
guess (Boys et al. 2023, arXiv:2310.06721), at many times the cost.
"""

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from sd_core.diffusion.sampling import D

SOLVER_STEPS = 30  # of conjugate gradients, at most
SOLVED = 1e-4  # share of the residual that may be left
LEAST_PASSED = 0.05  # of a blur's frequencies: what it damps more than that is lost, not known


class Measurement(Protocol):
    """The linear map A from clean pictures [B, C, H, W] to what is known of them."""

    def apply(self, x: Tensor) -> Tensor:
        """A x."""

    def transposed(self, y: Tensor) -> Tensor:
        """A' y."""

    def inverse(self, y: Tensor) -> Tensor:
        """The pseudo-inverse: the smallest picture x with A x = y."""


class KnownPixels:
    """Some pixels are known. `known` is 1 where, else 0, and expands to [B, C, H, W]."""

    def __init__(self, known: Tensor):
        self.known = known

    def apply(self, x: Tensor) -> Tensor:
        return x * self.known

    transposed = inverse = apply


class KnownDownscale:
    """The mean of each square of `factor` by `factor` pixels is known."""

    def __init__(self, factor: int):
        self.factor = factor

    def apply(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.factor)

    def inverse(self, y: Tensor) -> Tensor:
        return y.repeat_interleave(self.factor, -1).repeat_interleave(self.factor, -2)

    def transposed(self, y: Tensor) -> Tensor:
        return self.inverse(y) / self.factor**2


class KnownBlur:
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


class Consistent:
    """A `D` whose every guess agrees with the measurement `y`, exactly (DDNM, eq. 10).

    Args:
        denoiser: a generator's `D`.
        measurement: how `y` came from the clean pictures.
        y: what is known, without noise.
    """

    def __init__(self, denoiser: D, measurement: Measurement, y: Tensor):
        self.denoiser, self.measurement, self.y = denoiser, measurement, y

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.agreeing(self.denoiser(x, sigma))

    def agreeing(self, denoised: Tensor) -> Tensor:
        """The picture nearest to `denoised` that agrees with what is known."""
        return denoised + self.measurement.inverse(self.y - self.measurement.apply(denoised))


class MomentMatched(Consistent):
    """As `Consistent`, and what is known also moves what is not, as far as the two vary together given x.

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
        return self.agreeing(moved.detach())


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
