"""The denoising of a batch, kept step by step, so that one can go back and watch noise turn into a picture."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sd_core.diffusion.noise import SIGMA_DATA
from sd_core.diffusion.sampling import Step
from sd_core.models.codec import Codec, Identity
from sd_core.pictures.pixels import to_pixels

MAX_BYTES = 64_000_000  # of one trajectory; a longer one keeps every second step, or every third


@dataclass(frozen=True)
class Frame:
    """One step: its number, noise level, and what the model sees and guesses, float16 [N, C, h, w] in its own space."""

    index: int
    sigma: float
    noisy: Tensor
    guess: Tensor


class Trajectory:
    """The frames of a batch, the last step always among them.

    Attributes:
        codec: of the model that walks.
    """

    def __init__(self, codec: Codec | None = None):
        self.codec = codec or Identity()
        self.frames: list[Frame] = []

    def add(self, step: Step) -> None:
        """Keeps a step, if it is one of those that are kept."""
        whole = 2 * step.x.numel() * step.count * torch.float16.itemsize  # bytes of all steps
        stride = math.ceil(whole / MAX_BYTES)
        if (step.count - step.index) % stride == 0:
            # What is noisy shrinks to the spread of a clean one; else most of the walk would be black and white.
            shown = step.x * (SIGMA_DATA / math.hypot(step.sigma, SIGMA_DATA))
            kept = (values.to("cpu", torch.float16, copy=True) for values in (shown, step.denoised))
            self.frames.append(Frame(step.index, step.sigma, *kept))

    @property
    def bytes(self) -> int:
        return sum(frame.noisy.nbytes + frame.guess.nbytes for frame in self.frames)

    def at(self, index: int) -> Frame:
        """The frame of step `index`, or the nearest one kept."""
        return min(self.frames, key=lambda frame: abs(frame.index - index))

    def pictures(self, frame: Frame, view: Literal["noisy", "guess"]) -> Tensor:
        """What a frame shows, uint8 [N, H, W, 3]."""
        return to_pixels(self.codec.decode(getattr(frame, view).float()))
