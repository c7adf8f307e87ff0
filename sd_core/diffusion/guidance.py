"""Classifier-free guidance: a denoiser that wraps a generator."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from sd_core.diffusion.sampling import D

GUIDANCE_INTERVAL = (0.2, 20.0)  # noise levels between which guidance usually acts, see `Guided`


class Generator(Protocol):
    """What guidance asks of a model: a `D` for prompts, one per picture."""

    def given(self, conditioning: Sequence[str]) -> D: ...


class Guided:
    """Classifier-free guidance with a negative prompt (Ho & Salimans 2022, arXiv:2207.12598): away from the negative
    guess, past the positive one. Both are asked for in one batched call.

    Guidance acts only while the noise level lies in `interval`: at high levels it hurts variety and at low ones it does
    nothing, so leaving it out is both better and faster (Kynkäänniemi et al. 2024, arXiv:2404.07724).

    Args:
        model: a generator.
        prompts, negative_prompts: one per picture; an empty negative prompt is the unconditional model.
        scale: 1 is no guidance, 0 the negative prompt alone.
        interval: lowest and highest noise level at which guidance acts.
    """

    def __init__(
        self,
        model: Generator,
        prompts: Sequence[str],
        negative_prompts: Sequence[str],
        scale: float,
        interval: tuple[float, float] = (0.0, float("inf")),
    ):
        if len(prompts) != len(negative_prompts):
            raise ValueError("Guidance needs as many negative prompts as prompts.")
        self.positive = model.given(prompts)
        self.both = model.given([*prompts, *negative_prompts])
        self.scale = scale
        self.interval = interval

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        low, high = self.interval
        if self.scale == 1 or not low <= float(sigma) <= high:
            return self.positive(x, sigma)
        positive, negative = self.both(torch.cat([x, x]), sigma).chunk(2)
        return torch.lerp(negative, positive, self.scale)
