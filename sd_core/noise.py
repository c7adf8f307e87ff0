"""The noise function: how pictures are noised, and how a network must be scaled to undo it.

Everything is written in the coordinates of EDM (Karras et al. 2022, arXiv:2206.00364): a noisy picture is
``x = x0 + sigma * noise``. `DDPMSchedule` is the same process in the coordinates of DDPM (Ho et al. 2020,
arXiv:2006.11239), for those who know diffusion by ``t`` and ``alphas_cumprod``.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

SIGMA_MIN = 0.002  # EDM table 1: invisible in 8 bits (1/255 of the range [-1, 1] is 0.0078)
SIGMA_MAX = 80.0  # EDM table 1: no pixel can be told from pure noise any more, see the tests
# Of ln(sigma) in training. Wider and higher than EDM's -1.2 and 1.2: only where nearly everything is lost in noise does
# a caption tell the network something new, see benchmarks/LOG.md.
SIGMA_MEAN, SIGMA_STD = 0.0, 1.7
SIGMA_DATA = 0.5  # standard deviation of natural pictures in [-1, 1]
MAX_SEED = 2**32 - 1  # the range Stable Diffusion tools use


def over_picture(sigma: Tensor, x: Tensor) -> Tensor:
    """`sigma` [] or [B], shaped so that it multiplies pictures `x` [B, C, H, W]."""
    return sigma.reshape(-1, *[1] * (x.ndim - 1))


def add_noise(x0: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """The forward process (EDM eq. 1): clean pictures [B, C, H, W] in [-1, 1] at noise level `sigma` > 0, [] or [B]."""
    return x0 + over_picture(sigma, x0) * noise


def check_seed(seed: int) -> None:
    """Raises ValueError if it is no seed."""
    if not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        raise ValueError(f"A seed is a whole number from 0 to {MAX_SEED}, not {seed}.")


def picture_generators(seeds: list[int]) -> list[torch.Generator]:
    """One CPU generator per picture, so that a seed gives its picture in any batch and on any device."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def draw_noise(generators: list[torch.Generator], shape: tuple[int, ...], device: torch.device | str = "cpu") -> Tensor:
    """Standard normal noise [B, *shape], one generator per picture."""
    return torch.stack([torch.randn(shape, generator=g) for g in generators]).to(device)


@dataclass(frozen=True)
class Preconditioning:
    """EDM's scaling of the network F (table 1): D(x, sigma) = c_skip x + c_out F(c_in x, c_noise).

    With it, input and training target of F have unit variance at every noise level.
    """

    sigma_data: float = SIGMA_DATA

    def __post_init__(self):
        if not self.sigma_data > 0:
            raise ValueError(f"sigma_data must be above 0, not {self.sigma_data}.")

    def c_skip(self, sigma: Tensor) -> Tensor:
        return self.sigma_data**2 / (sigma**2 + self.sigma_data**2)

    def c_out(self, sigma: Tensor) -> Tensor:
        return sigma * self.sigma_data / (sigma**2 + self.sigma_data**2).sqrt()

    def c_in(self, sigma: Tensor) -> Tensor:
        return 1 / (sigma**2 + self.sigma_data**2).sqrt()

    def c_noise(self, sigma: Tensor) -> Tensor:
        return sigma.log() / 4

    def loss_weight(self, sigma: Tensor) -> Tensor:
        """lambda(sigma) = 1 / c_out², which weights every noise level alike at initialisation."""
        return (sigma**2 + self.sigma_data**2) / (sigma * self.sigma_data) ** 2


@dataclass(frozen=True)
class SigmaDistribution:
    """The noise levels seen in training: ln(sigma) is normal (EDM table 1), clipped to what samplers ask for."""

    mean: float = SIGMA_MEAN
    std: float = SIGMA_STD

    def __post_init__(self):
        if not self.std > 0:
            raise ValueError(f"The spread of ln(sigma) must be above 0, not {self.std}.")

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Noise levels [count].

        Drawn by stratified quantiles: one per equal slice of probability, so that a batch covers the distribution
        evenly and the loss is less noisy (low-discrepancy sampling, Kingma et al. 2021, arXiv:2107.00630).
        """
        quantiles = (torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)) / count
        normal = math.sqrt(2) * torch.erfinv((2 * quantiles.double() - 1).clamp(-1 + 1e-9, 1 - 1e-9))
        return (self.mean + self.std * normal).exp().clamp(SIGMA_MIN, SIGMA_MAX).float()


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
