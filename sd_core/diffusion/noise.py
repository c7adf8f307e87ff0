"""The noise function: how pictures are noised, and how a network must be scaled to undo it.

Everything is written in the coordinates of EDM (Karras et al. 2022, arXiv:2206.00364): a noisy picture is
``x = x0 + sigma * noise``. `schedules.DDPMSchedule` is the same process in the coordinates of DDPM (Ho et al. 2020,
arXiv:2006.11239), for those who know diffusion by ``t`` and ``alphas_cumprod``. A picture's noise comes from its seed.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import BeforeValidator
from torch import Tensor

from sd_core.errors import UserError

LEVELS = 127.5  # steps of 8 bits in one unit of the range [-1, 1]

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


def check_seed(seed: int) -> int:
    """The seed; raises UserError if it is none."""
    if not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        raise UserError("A seed is a whole number from 0 to {most}, not {value}.", most=MAX_SEED, value=seed)
    return seed


Seed = Annotated[int, BeforeValidator(check_seed)]  # the type of a seed in what pydantic checks


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


def to_unit(sigma: float) -> float:
    """A noise level on the scale 0-255, as people give it, in units of the range [-1, 1]."""
    return sigma / LEVELS


def to_levels(sigma: float) -> float:
    """The inverse of `to_unit`."""
    return sigma * LEVELS
