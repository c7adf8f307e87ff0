"""Noise schedules: the falling noise levels that a sampler walks, and DDPM's time steps."""

import math

import torch
from torch import Tensor

from sd_core.diffusion.noise import SIGMA_MAX, SIGMA_MIN, over_picture


def _check_range(steps: int, sigma_min: float, sigma_max: float) -> None:
    if steps < 1:
        raise ValueError(f"A schedule needs at least 1 step, not {steps}.")
    if not 0 < sigma_min <= sigma_max:
        raise ValueError(f"A schedule needs 0 < sigma_min <= sigma_max, not {sigma_min} and {sigma_max}.")
    if steps > 1 and sigma_min == sigma_max:
        raise ValueError(f"A schedule of {steps} steps cannot fall from {sigma_max} to {sigma_min}.")


def _with_end(sigmas: Tensor) -> Tensor:
    return torch.cat([sigmas, sigmas.new_zeros(1)]).float()


def karras_sigmas(steps: int, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX, rho: float = 7.0) -> Tensor:
    """Noise levels [steps + 1], falling from `sigma_max` to `sigma_min` and then 0 (EDM eq. 5)."""
    _check_range(steps, sigma_min, sigma_max)
    if not rho > 0:
        raise ValueError(f"rho must be above 0, not {rho}.")
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return _with_end((high + ramp * (low - high)) ** rho)


def exponential_sigmas(steps: int, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX) -> Tensor:
    """Noise levels [steps + 1], evenly spaced in ln(sigma), then 0."""
    _check_range(steps, sigma_min, sigma_max)
    return _with_end(torch.linspace(math.log(sigma_max), math.log(sigma_min), steps, dtype=torch.float64).exp())


def linear_sigmas(steps: int, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX) -> Tensor:
    """Noise levels [steps + 1], evenly spaced in sigma, then 0."""
    _check_range(steps, sigma_min, sigma_max)
    return _with_end(torch.linspace(sigma_max, sigma_min, steps, dtype=torch.float64))


FEW_STEPS_GRID = karras_sigmas(16, sigma_min=0.02)
"""Every noise level [17] at which a model of few steps has learnt to guess where the walk ends, then 0."""


def few_step_sigmas(steps: int) -> Tensor:
    """Noise levels [steps + 1] for a model of few steps: evenly spread over `FEW_STEPS_GRID`, which 16 and more walk
    whole, then 0."""
    levels = len(FEW_STEPS_GRID) - 1
    _check_range(steps, SIGMA_MIN, SIGMA_MAX)
    steps = min(steps, levels)
    return FEW_STEPS_GRID[[i * levels // steps for i in range(steps + 1)]]


SCHEDULES = {"karras": karras_sigmas, "exponential": exponential_sigmas, "linear": linear_sigmas}


def linear_betas(count: int = 1000, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """DDPM's betas [count] (Ho et al. 2020, section 4)."""
    return torch.linspace(first, last, count, dtype=torch.float64)


def cosine_betas(count: int = 1000, offset: float = 0.008, largest: float = 0.999) -> Tensor:
    """Betas [count] whose signal falls as a cosine (Nichol & Dhariwal 2021, arXiv:2102.09672, eq. 17)."""
    t = torch.linspace(0, 1, count + 1, dtype=torch.float64)
    signal = torch.cos((t + offset) / (1 + offset) * math.pi / 2) ** 2
    return (1 - signal[1:] / signal[:-1]).clamp(max=largest)


class DDPMSchedule:
    """The same forward process by time step: ``x_t = sqrt(a_t) x0 + sqrt(1 - a_t) noise`` with ``a = alphas_cumprod``.

    Dividing by ``sqrt(a_t)`` gives EDM's ``x0 + sigma noise`` with ``sigma = sqrt((1 - a_t) / a_t)``. Between whole
    steps ln(sigma) is interpolated linearly, so that t and sigma determine each other.
    """

    def __init__(self, betas: Tensor):
        if betas.ndim != 1 or len(betas) < 2 or not ((betas > 0) & (betas < 1)).all():
            raise ValueError("Betas must be a list of at least two numbers between 0 and 1.")
        self.betas = betas.double()
        self.alphas_cumprod = torch.cumprod(1 - self.betas, 0)
        self.log_sigmas = ((1 - self.alphas_cumprod) / self.alphas_cumprod).log() / 2

    def sigma_of(self, t: Tensor) -> Tensor:
        """Noise level [...] at times `t` [...], from 0 (nearly clean) to T - 1; fractions are allowed."""
        t = t.double().clamp(0, len(self.log_sigmas) - 1)
        below = t.floor().long().clamp(max=len(self.log_sigmas) - 2)
        return torch.lerp(self.log_sigmas[below], self.log_sigmas[below + 1], t - below).exp()

    def t_of(self, sigma: Tensor) -> Tensor:
        """Time [...] at which the noise level is `sigma` [...]: the inverse of `sigma_of`, clamped at both ends."""
        log_sigma = sigma.double().log().clamp(self.log_sigmas[0], self.log_sigmas[-1])
        above = torch.searchsorted(self.log_sigmas, log_sigma).clamp(1, len(self.log_sigmas) - 1)
        low, high = self.log_sigmas[above - 1], self.log_sigmas[above]
        return above - 1 + (log_sigma - low) / (high - low)

    def add_noise(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """DDPM's forward process (Ho et al. 2020, eq. 4) at whole times `t` [B]."""
        signal = over_picture(self.alphas_cumprod[t], x0)
        return (signal.sqrt() * x0 + (1 - signal).sqrt() * noise).to(x0.dtype)

    def to_edm(self, x: Tensor, t: Tensor) -> Tensor:
        """DDPM's x_t [B, C, H, W] at whole times `t` [B], in the coordinates of the rest of this library."""
        return (x / over_picture(self.alphas_cumprod[t], x).sqrt()).to(x.dtype)

    def from_edm(self, x: Tensor, t: Tensor) -> Tensor:
        """The inverse of `to_edm`."""
        return (x * over_picture(self.alphas_cumprod[t], x).sqrt()).to(x.dtype)
