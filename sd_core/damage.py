"""Ways a picture gets damaged, each a small class with parameters in units people know.

A damage is a function of clean pictures [B, 3, H, W] in [-1, 1] and of a `torch.Generator` on the CPU, from which all
its chance comes: the same generator, the same damage. What it gives back has the same shape and range.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

LEVELS = 127.5  # steps of 8 bits in one unit of the range [-1, 1]
MAX_SIGMA = 255.0


def to_unit(sigma: float) -> float:
    """A noise level on the scale 0-255, as people give it, in units of the range [-1, 1]."""
    return sigma / LEVELS


def to_levels(sigma: float) -> float:
    """The inverse of `to_unit`."""
    return sigma * LEVELS


@dataclass(frozen=True)
class GaussianNoise:
    """Independent normal noise on every value, as from a camera in the dark. What leaves the range is clipped, as in a
    picture file.

    Attributes:
        sigma: its standard deviation on the scale 0-255.

    Raises:
        ValueError: sigma is out of its range.
    """

    name: ClassVar[str] = "Gaussian noise"
    sigma: float

    def __post_init__(self):
        if not 0 <= self.sigma <= MAX_SIGMA:
            raise ValueError(f"The noise level must be between 0 and {MAX_SIGMA:g}, not {self.sigma}.")

    def __call__(self, pictures: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(pictures.shape, generator=generator).to(pictures)
        return (pictures + to_unit(self.sigma) * noise).clamp(-1, 1)
