"""Whole missing parts of a picture, invented by a generator that draws pictures of its kind: what a restorer, which was
trained on crops, cannot."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from sd_core.device import inference_autocast
from sd_core.diffusion.inverse_problems import KnownPixels, PseudoinverseGuided
from sd_core.diffusion.sampling import resampled
from sd_core.errors import UserError
from sd_core.models.codec import enlarged_preview
from sd_core.models.conditioning import filled, seen_from_afar
from sd_core.models.denoiser import Denoiser
from sd_core.pictures.pixels import to_float, to_pixels
from sd_core.restoration.request import RestoreRequest, Restoring

FILL_STEPS = 20
RESAMPLING = 4  # times each step is taken; see benchmarks/LOG.md
GUIDANCE_STRENGTH = 0.3  # of what is there on what is invented, see `PseudoinverseGuided` and benchmarks/LOG.md
STEP_WORK = 3  # calls of the model that a step's work is worth, forward and backward
SPREAD = 2  # pixels over which Lanczos resizing spreads a value, as far as it shows


def fill_square(model: Denoiser, picture: Tensor, request: RestoreRequest) -> Iterator[Restoring]:
    """Draws what is missing in a square of a picture anew with a generator.

    Args:
        model: see `fill`.
        picture: uint8 [H, W, 3], sRGB.
        request: its mask says where it is missing, its square where the generator works.

    Yields:
        as `fill`; the pictures are whole.

    Raises:
        UserError: nothing is missing in the square; or as `fill`.
    """
    square, mask = request.square_in((picture.shape[1], picture.shape[0])), request.mask
    if mask is None or not mask[square.span].any():
        raise UserError("Nothing is marked in the square; move the square, or mark what is missing in it.")
    resolution = model.config.resolution
    missing = F.adaptive_max_pool2d(mask[square.span][None, None].float(), resolution)
    if square.side > resolution:  # resizing spreads what was damaged over its neighbours
        missing = F.max_pool2d(missing, 2 * SPREAD + 1, stride=1, padding=SPREAD)
    missing = missing[0, 0] > 0
    inside = torch.zeros_like(mask)
    inside[square.span] = mask[square.span]
    part = square.taken(picture, resolution)
    for step in fill(model, part, missing, request.prompt, request.steps, request.candidates, request.seed):
        pictures = (torch.where(inside[..., None], square.put_back(picture, p), picture) for p in step.pictures)
        yield Restoring(step.index, step.count, step.preview, tuple(pictures))


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
        UserError: the model is no generator, the picture has another size, or nothing is missing.
        RuntimeError: it is called in inference mode, where there are no gradients.
    """
    if model.config.kind != "generator":
        raise UserError("Missing parts are drawn by a generator; choose one.")
    side = model.config.resolution
    if tuple(picture.shape) != (side, side, 3) or tuple(mask.shape) != (side, side):
        raise UserError(f"This model works at {side}×{side} pixels; fit picture and mask to that first.")
    if not mask.any():
        raise UserError("Mark what is missing first.")
    generators = [torch.Generator().manual_seed(seed + i) for i in range(candidates)]

    def draw() -> Tensor:
        return torch.stack([torch.randn(model.shape, generator=g) for g in generators]).to(model.device)

    with torch.no_grad(), inference_autocast(model.device):  # no inference mode: the walk asks for gradients
        known, y = _known(model, picture, mask)
        prompted = model.given([prompt] * candidates)
    denoiser = PseudoinverseGuided(prompted, KnownPixels(known), y, model.config.sigma_data, GUIDANCE_STRENGTH)
    sigmas = model.config.sigmas(steps)
    walk = resampled(denoiser, sigmas[0] * draw(), sigmas, draw, resampling)
    while True:
        with torch.no_grad(), inference_autocast(model.device):
            step = next(walk, None)
        if step is None:
            return
        ends = step.index == step.count
        shown = model.codec.decode(step.denoised) if ends else enlarged_preview(model.codec, step.denoised[:1])
        drawn = torch.where(mask[..., None], to_pixels(shown), picture)
        yield Restoring(step.index, step.count, drawn[0], tuple(drawn) if ends else ())


def _known(model: Denoiser, picture: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Which places of the model's space are known, bool [h, w], and what is there [1, C, h, w].

    A latent tells of pixels around it, too. So nothing that is missing may reach the encoder, which sees smooth
    continuations in its place; and only latents of which all pixels, and those of their neighbours, are there count as
    known. What they lose by that, the finished picture gets back from its own pixels.
    """
    lost, y = mask[None, None].to(model.device), to_float(picture)[None].to(model.device)
    size = model.codec.downsampling
    if size > 1:
        afar = seen_from_afar(picture, mask)
        y = filled(y, lost, None if afar is None else afar[None].to(model.device))
        lost = F.max_pool2d(F.max_pool2d(lost.float(), size), 3, stride=1, padding=1) > 0
    return ~lost[0, 0], model.codec.encode(y).float()
