"""The denoising of a batch, kept step by step, so that one can go back and watch noise turn into a picture."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sd_core.diffusion.noise import SIGMA_DATA
from sd_core.diffusion.sampling import Step
from sd_core.models.codec import Codec, Identity, enlarged_preview
from sd_core.pictures.pixels import to_pixels

MOST_DECODED = 16  # pictures of a frame that are decoded to be looked at: a second's work on two CPU cores
MOST_IN_FILM = 256  # and of all frames of a film together
MAX_BYTES = 64_000_000  # of one trajectory; a longer one keeps every second step, or every third

View = Literal["noisy", "guess"]


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

    def pictures(self, frame: Frame, view: View, most: int = MOST_DECODED) -> Tensor:
        """What a frame shows, uint8 [N, H, W, 3]: decoded, or, of more than `most` pictures, as `enlarged_preview`."""
        latents = getattr(frame, view).float()
        if len(latents) <= most:
            return to_pixels(self.codec.decode(latents))
        return to_pixels(enlarged_preview(self.codec, latents))

    def film(self, view: View) -> Iterator[Tensor]:
        """What each frame shows, the last one decoded, and the others if that does not take too long."""
        each = MOST_IN_FILM // len(self.frames)
        for frame in self.frames[:-1]:
            yield self.pictures(frame, view, each)
        yield self.pictures(self.frames[-1], view, MOST_IN_FILM)
