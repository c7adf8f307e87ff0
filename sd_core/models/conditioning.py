"""What a restorer is told about a damaged picture, and what is worked out from that so that the network need not: a
first guess of what is lost, and how strong the noise is where nobody says so.

Both look at a place's surroundings only, in cells that divide `tiling.GRID`, so that tiles fit together as far as their
margins reach.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sd_core.diffusion.noise_estimation import measured_noise
from sd_core.pictures.pixels import to_float

UNKNOWN = -1.0  # in the mask or the noise-level map: the restorer must find out
CONDITIONING_CHANNELS = 7  # picture (3), mask, whether nobody gave one, noise level, whether nobody gave one
LEVELS = 4  # of the pyramid that lost places are filled from
CELL = 2**LEVELS  # pixels a side of its coarsest level's cells
EVERY = 4  # of a whole picture's pixels, each way, that are enough to see its cells by
REACH = 3  # cells of the coarsest level that known pixels spread into the unknown
SMOOTHINGS = 3  # of each level's guess
RELAXATIONS = 10  # steps towards a biharmonic surface; see benchmarks/LOG.md for their number
PACE, MOMENTUM = 1 / 20, 0.6  # of those steps


@dataclass(frozen=True)
class Conditioning:
    """What a restorer is told.

    Attributes:
        damaged: pictures [B, 3, H, W] in [-1, 1].
        mask: [B, 1, H, W], 1 where the picture is lost, 0 where it is not, `UNKNOWN` where nobody says. What lies under
            a 1 is not shown to the network, so it does not matter.
        sigma: noise levels [B, 1, H, W] (or a shape that expands to it) in units of [-1, 1], or `UNKNOWN`.
        afar: [B, 3, H / CELL, W / CELL], what to begin from where everything around is lost, see `seen_from_afar`; grey
            where it is None.
    """

    damaged: Tensor
    mask: Tensor
    sigma: Tensor
    afar: Tensor | None = None

    @classmethod
    def of(
        cls, damaged: Tensor, mask: Tensor | None = None, sigma: float | None = None, afar: Tensor | None = None
    ) -> "Conditioning":
        """For pictures with one mask [B, 1, H, W] and noise level, each perhaps unknown (None). Who knows the noise
        level alone knows that nothing is lost: so restorers learn it."""
        unknown = torch.full_like(damaged[:, :1], UNKNOWN)
        level = unknown if sigma is None else torch.full_like(unknown, sigma)
        if mask is None:
            mask = unknown if sigma is None else torch.zeros_like(unknown)
        return cls(damaged, mask.to(damaged), level, afar)

    def base(self) -> Tensor:
        """The damaged pictures, filled in where they are lost: what the restored ones are compared with."""
        return filled(self.damaged, self.mask > 0, self.afar)

    def channels(self, base: Tensor) -> Tensor:
        """[B, CONDITIONING_CHANNELS, H, W]: all this as the network sees it."""
        lost, level = self.mask > 0, self.sigma.expand_as(self.mask)
        untold = level < 0
        level = torch.where(untold, measured_noise(base, lost), level)
        return torch.cat([base, lost.to(base), (self.mask < 0).to(base), level, untold.to(base)], dim=1)


@torch.compiler.disable  # what is computed depends on where something is lost
def filled(pictures: Tensor, lost: Tensor, afar: Tensor | None = None) -> Tensor:
    """Lost places as smooth continuations of their surroundings: each level of a pyramid is filled from the one below,
    and smoothed there (push-pull, Gortler et al. 1996, "The Lumigraph", section 3.5); then what lies near their edges
    is bent to continue the slopes beyond, too.

    Args:
        pictures: [B, 3, H, W] in [-1, 1].
        lost: bool [B, 1, H, W].
        afar: see `Conditioning`.

    Returns:
        [B, 3, H, W] in [-1, 1]. Where everything around is lost, farther than some 60 pixels, it comes from `afar`.
    """
    damaged = lost.flatten(1).any(1)
    if not damaged.any():
        return pictures
    some, lost = pictures[damaged], lost[damaged]
    afar = None if afar is None else afar[damaged]
    guess = _filled(torch.where(lost, 0.0, some), (~lost).to(some), LEVELS, afar)
    return pictures.index_put((damaged,), _bent(guess, lost))


def _bent(pictures: Tensor, lost: Tensor) -> Tensor:
    """Lost places of [B, 3, H, W], moved towards the biharmonic surface between their edges (Damelin & Hoang 2018,
    "On surface completion and image inpainting by biharmonic functions"): gradient descent with momentum on the squared
    Laplacian, which narrow damage needs only a few steps of."""
    before = pictures
    for _ in range(RELAXATIONS):
        step = MOMENTUM * (pictures - before) - PACE * _laplacian(_laplacian(pictures))
        before, pictures = pictures, torch.where(lost, pictures + step, pictures)
    return torch.where(lost, pictures.clamp(-1, 1), pictures)  # slopes may lead beyond what there is


def _laplacian(pictures: Tensor) -> Tensor:
    """Of each channel of [B, C, H, W], whose edge pixels are repeated beyond it."""
    p = F.pad(pictures, (1, 1, 1, 1), mode="replicate")
    beside = p[..., 1:-1, 2:] + p[..., 1:-1, :-2] + p[..., 2:, 1:-1] + p[..., :-2, 1:-1]
    return beside - 4 * pictures


def seen_from_afar(picture: Tensor, lost: Tensor) -> Tensor | None:
    """What lies in the middle of large lost places, as far as the whole picture tells: a pyramid of its `CELL`s, up to
    a single one.

    Args:
        picture: uint8 [H, W, 3].
        lost: bool [H, W].

    Returns:
        [3, H / CELL, W / CELL] in [-1, 1], rounded up; None where something known is near everywhere.
    """
    known = (~lost[::EVERY, ::EVERY]).float()[None]
    sums, weights = (
        F.avg_pool2d(values[None], CELL // EVERY, ceil_mode=True)
        for values in (to_float(picture[::EVERY, ::EVERY]) * known, known)
    )
    if (F.max_pool2d(weights, 2 * REACH + 1, 1, REACH) > 0).all():
        return None
    return _filled(sums, weights, max(weights.shape).bit_length())[0]


def _filled(sums: Tensor, weights: Tensor, levels: int, afar: Tensor | None = None) -> Tensor:
    """`sums` [B, 3, h, w] of known values with their `weights` [B, 1, h, w] in [0, 1], as values everywhere."""
    if levels == 0:
        for _ in range(REACH):
            spread, reached = (F.avg_pool2d(x, 3, 1, 1) for x in (sums, weights))
            empty = weights == 0
            sums, weights = torch.where(empty, spread, sums), torch.where(empty, reached, weights)
        values = sums / weights.clamp(min=1e-6)
        return values if afar is None else torch.where(weights > 0, values, afar)
    height, width = sums.shape[-2:]
    coarse = _filled(*(F.avg_pool2d(x, 2, ceil_mode=True) for x in (sums, weights)), levels - 1, afar)
    guess = F.interpolate(coarse, scale_factor=2, mode="bilinear")[..., :height, :width]
    known = sums / weights.clamp(min=1e-6)
    values = torch.where(weights > 0, known, guess)
    for _ in range(SMOOTHINGS):
        smooth = F.avg_pool2d(values, 3, 1, 1, count_include_pad=False)
        values = torch.where(weights > 0, known, smooth)
    return values
