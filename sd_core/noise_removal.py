"""Noise removed by a generator, for pictures of its kind at its size, and noise measured.

No restorer is needed for that: a noisy picture *is* the x of the diffusion process at its own noise
level, so the walk to a clean one starts there instead of at pure noise. (Denoisers as
priors: Kadkhodaie & Simoncelli 2020, arXiv:2007.13640.)
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from sd_core.damage import to_levels
from sd_core.denoiser import D, Denoiser
from sd_core.device import inference_autocast
from sd_core.hints import diagonal_detail
from sd_core.noise import SIGMA_MAX, SIGMA_MIN, karras_sigmas
from sd_core.sampling import Step, euler_ancestral

MAX_STEPS = 50
MAD_OF_NORMAL = 0.6745  # median absolute deviation of a normal variable, in standard deviations
CLIPPED_WITHIN = 2.0  # standard deviations from black or white, where noise is clipped and looks weaker than it is
FEWEST_BLOCKS = 0.1  # share of the picture below which the rest is no basis for an estimate
PASSES = 3  # of leaving out what is clipped, for which the noise level must be known


def estimate_sigma(picture: Tensor) -> float:
    """The level of white noise in a picture, by the median absolute deviation of its finest diagonal detail (Donoho &
    Johnstone 1994, Biometrika 81, section 4.2): robust, since edges are few and noise is everywhere.

    Args:
        picture: [3, H, W] in [-1, 1], at least 2×2 pixels, at the size at which it was noised: resizing changes noise.

    Returns:
        sigma in units of the range [-1, 1]; `damage.to_levels` gives it on the scale 0-255.

    Raises:
        ValueError: the picture is smaller than 2×2 pixels.
    """
    if min(picture.shape[-2:]) < 2:
        raise ValueError("A picture must have at least 2×2 pixels for its noise to be measured.")
    height, width = (side // 2 * 2 for side in picture.shape[-2:])
    picture = picture[..., :height, :width].float()
    diagonal = diagonal_detail(picture)
    distance_to_clipping = 1 - F.avg_pool2d(picture, 2).abs()
    sigma = _deviation(diagonal)
    for _ in range(PASSES):
        inside = distance_to_clipping > CLIPPED_WITHIN * sigma
        if inside.float().mean() < FEWEST_BLOCKS:
            break
        sigma = _deviation(diagonal[inside])
    return sigma


def _deviation(values: Tensor) -> float:
    return float(values.abs().median()) / MAD_OF_NORMAL


def remove_noise(
    model: Denoiser, picture: Tensor, sigma: float, prompt: str = "", steps: int = 1, seed: int = 0
) -> Iterator[Step]:
    """Removes noise of level `sigma` with a generator, for pictures of the kind and size it was trained on.

    Args:
        model: a generator, frozen as `checkpoint.load` gives it.
        picture: the noisy picture [3, R, R] in [-1, 1], at the model's resolution R.
        sigma: its noise level in units of the range [-1, 1]; see `estimate_sigma`.
        prompt: what the picture shows, if one wants to say so.
        steps, seed: see `walk_down`.

    Yields:
        A `Step` with pictures [1, 3, R, R] after each step.

    Raises:
        ValueError: the model is no generator, or the picture has another size; or as `walk_down`.
    """
    if model.config.kind != "generator":
        raise ValueError("This way of removing noise takes a generator; choose one.")
    resolution = model.config.resolution
    if tuple(picture.shape) != (3, resolution, resolution):
        raise ValueError(f"This model works at {resolution}×{resolution} pixels; fit the picture to that first.")
    with inference_autocast(model.device):
        prompted = model.given([prompt])

    def denoiser(x: Tensor, level: Tensor) -> Tensor:
        with inference_autocast(model.device):
            return prompted(x, level).to(x.dtype)

    generator = torch.Generator().manual_seed(seed)
    x = picture[None].to(model.device)
    yield from walk_down(denoiser, x, sigma, steps, lambda: torch.randn(x.shape, generator=generator).to(x))


def walk_down(denoiser: D, x: Tensor, sigma: float, steps: int, draw: Callable[[], Tensor]) -> Iterator[Step]:
    """Walks pictures `x` [B, 3, H, W] from noise level `sigma` to 0.

    One step lands on D(x, sigma), the mean of all clean pictures that `x` could come from: the most faithful answer,
    and a soft one. More steps are DDPM's random walk, whose end is *one* of those pictures, as probable as it is
    plausible, and another one for other noise: more detail, part of it invented. At level 0 `x` is the answer.

    Args:
        denoiser: any `D`.
        x, sigma: the noisy pictures and their one noise level, from 0 to `SIGMA_MAX`.
        steps: from 1 to `MAX_STEPS`.
        draw: gives standard normal noise shaped like `x`.

    Raises:
        ValueError: the noise level or the number of steps is out of its range.
    """
    if not 0 <= sigma <= SIGMA_MAX:
        raise ValueError(f"The noise level must be between 0 and {to_levels(SIGMA_MAX):g}, not {to_levels(sigma):g}.")
    if not isinstance(steps, int) or not 1 <= steps <= MAX_STEPS:
        raise ValueError(f"The number of steps must be a whole number from 1 to {MAX_STEPS}, not {steps}.")
    if sigma <= SIGMA_MIN:  # less than 8 bits can show
        yield Step(1, 1, 0.0, x, x)
        return
    yield from euler_ancestral(denoiser, x, karras_sigmas(steps, SIGMA_MIN, sigma), draw)
