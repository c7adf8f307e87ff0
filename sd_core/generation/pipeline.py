"""Prompts into pictures: a request, checked, and the walk from noise that answers it, step by step.

Every picture's noise comes from a `Noise` of its own, so it can be made again alone: by its seed, as a variation of
another picture, or as a frame of a walk between two seeds.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from sd_core.device import inference_autocast
from sd_core.diffusion.guidance import GUIDANCE_INTERVAL, Guided
from sd_core.diffusion.noise import add_noise
from sd_core.diffusion.sampling import D, Step
from sd_core.errors import UserError
from sd_core.generation.request import SAMPLERS, GenerationRequest
from sd_core.generation.seeds import Noise
from sd_core.models.denoiser import Denoiser

MAX_FRAMES = 120  # of a walk between two seeds
CHUNK = 16  # pictures per call of the model: bounds memory, and on CPUs keeps activations in the cache


def generate(model: Denoiser, request: GenerationRequest) -> Iterator[Step]:
    """Draws what `request` asks for, yielding a `Step` of all pictures after each step, in the space of the model's
    codec [count, C, h, w]: `model.codec.decode` makes pictures of them, and `preview` shows quickly what they will be.

    Args:
        model: a generator, frozen as `checkpoint.load` gives it. (No `no_grad` can be held here, since whoever
            consumes this may do so from several threads.)
        request: what to draw.
    """
    yield from _walk(model, request, request.noises())


def walk_noises(request: GenerationRequest, to_seed: int, frames: int) -> list[Noise]:
    """What the frames of a walk from `request.seed` to `to_seed` start from.

    Raises:
        UserError: too few or too many frames, or no seed.
    """
    if not isinstance(frames, int) or not 2 <= frames <= MAX_FRAMES:
        raise UserError("A walk has from 2 to {most} frames, not {frames}.", most=MAX_FRAMES, frames=frames)
    return [Noise(request.seed).varied(to_seed, i / (frames - 1)) for i in range(frames)]


def interpolate(model: Denoiser, request: GenerationRequest, to_seed: int, frames: int) -> Iterator[Step]:
    """Walks from the picture of `request.seed` to that of `to_seed`: like `generate`, with `frames` pictures."""
    yield from _walk(model, request, walk_noises(request, to_seed, frames))


def _walk(model: Denoiser, request: GenerationRequest, noises: Sequence[Noise]) -> Iterator[Step]:
    start = torch.zeros(1, *model.shape, device=model.device)
    if request.start is not None:
        with inference_autocast(model.device):
            start = model.codec.encode(request.start[None].to(model.device)).float()
    sources = [noise.source(tuple(start.shape[1:])) for noise in noises]

    def draw() -> Tensor:
        return torch.stack([source() for source in sources]).to(model.device)

    sampler, sigmas = SAMPLERS[request.sampler], request.sigmas(model.config)
    x = add_noise(start, sigmas[0], draw())
    extra = (draw,) if sampler.random else ()
    yield from sampler.walk(_denoiser(model, request, len(noises)), x, sigmas, *extra)


def guided(model: Denoiser, prompts: Sequence[str], negative_prompts: Sequence[str], scale: float) -> Guided:
    """The model's `D` for prompts, one per picture, guided where guidance helps; one of few steps has that of its
    teacher in it."""
    return Guided(model, prompts, negative_prompts, 1.0 if model.config.few_steps else scale, GUIDANCE_INTERVAL)


def _denoiser(model: Denoiser, request: GenerationRequest, count: int) -> D:
    """A `D` for `count` pictures that asks the model for `CHUNK` of them at a time."""

    def alike(size: int) -> D:
        return guided(model, [request.prompt] * size, [request.negative_prompt] * size, request.guidance)

    sizes = [min(CHUNK, count - first) for first in range(0, count, CHUNK)]
    with inference_autocast(model.device):
        chunks = {size: alike(size) for size in set(sizes)}

    def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
        with inference_autocast(model.device):
            return torch.cat([chunks[len(part)](part, sigma).to(x.dtype) for part in x.split(CHUNK)])

    return denoiser
