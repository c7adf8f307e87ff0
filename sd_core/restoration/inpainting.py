"""Whole missing parts of a picture, invented by a generator that draws pictures of its kind: what a restorer, which was
trained on crops, cannot."""

from collections.abc import Iterator

import torch
from torch import Tensor

from sd_core.device import inference_autocast
from sd_core.diffusion.inverse_problems import Consistent, KnownPixels
from sd_core.diffusion.sampling import resampled
from sd_core.diffusion.schedules import karras_sigmas
from sd_core.models.denoiser import Denoiser
from sd_core.pictures.pixels import to_float, to_pixels
from sd_core.restoration.request import MAX_CANDIDATES, MAX_STEPS, Restoring

FILL_STEPS = 20
RESAMPLING = 4  # times each step is taken; see benchmarks/LOG.md


def fill(
    model: Denoiser,
    picture: Tensor,
    mask: Tensor,
    prompt: str = "",
    steps: int = FILL_STEPS,
    candidates: int = 1,
    seed: int = 0,
    resampling: int = RESAMPLING,
) -> Iterator[Restoring]:
    """Draws what is missing, in agreement with what is not.

    Args:
        model: a generator, frozen as `checkpoint.load` gives it.
        picture: uint8 [R, R, 3] at the model's resolution R.
        mask: bool [R, R], where it is missing.
        prompt: what the picture shows, if one wants to say so.
        steps, resampling: how many, and how often each is taken.
        candidates: different answers, drawn together; candidate i has the seed `seed` + i.

    Yields:
        a `Restoring` after each step; the last one has all candidates. What is not missing is as in `picture`.

    Raises:
        ValueError: the model is no generator, the picture has another size, nothing is missing, or a number is out of
            its range.
    """
    if model.config.kind != "generator":
        raise ValueError("Missing parts are drawn by a generator; choose one.")
    side = model.config.resolution
    if tuple(picture.shape) != (side, side, 3) or tuple(mask.shape) != (side, side):
        raise ValueError(f"This model works at {side}×{side} pixels; fit picture and mask to that first.")
    if not mask.any():
        raise ValueError("Mark what is missing first.")
    for name, value, highest in (
        ("steps", steps, MAX_STEPS),
        ("candidates", candidates, MAX_CANDIDATES),
        ("resamplings", resampling, MAX_STEPS),
    ):
        if not isinstance(value, int) or not 1 <= value <= highest:
            raise ValueError(f"The number of {name} must be a whole number from 1 to {highest}, not {value}.")
    generators = [torch.Generator().manual_seed(seed + i) for i in range(candidates)]

    def draw() -> Tensor:
        return torch.stack([torch.randn(3, side, side, generator=g) for g in generators]).to(model.device)

    with torch.inference_mode(), inference_autocast(model.device):
        known, y = (~mask).to(model.device), to_float(picture).to(model.device)
        denoiser = Consistent(model.given([prompt] * candidates), KnownPixels(known), y)
    sigmas = karras_sigmas(steps)
    walk = resampled(denoiser, sigmas[0] * draw(), sigmas, draw, resampling)
    while True:
        with torch.inference_mode(), inference_autocast(model.device):
            step = next(walk, None)
        if step is None:
            return
        drawn = torch.where(mask[..., None], to_pixels(step.denoised), picture)
        finished = tuple(drawn) if step.index == step.count else ()
        yield Restoring(step.index, step.count, drawn[0], finished)
