"""The denoising of a batch, kept step by step, so that one can go back and watch noise turn into a picture."""

import math
from dataclasses import dataclass

from torch import Tensor

from sd_core.diffusion.noise import SIGMA_DATA
from sd_core.diffusion.sampling import Step
from sd_core.pictures.pixels import to_pixels

MAX_BYTES = 32_000_000  # of one trajectory; a longer one keeps every second step, or every third


@dataclass(frozen=True)
class Frame:
    """One step: its number, noise level, and pictures uint8 [N, H, W, 3] as the model sees and as it guesses them."""

    index: int
    sigma: float
    noisy: Tensor
    guess: Tensor


class Trajectory:
    """The frames of a batch, the last step always among them."""

    def __init__(self):
        self.frames: list[Frame] = []

    def add(self, step: Step) -> None:
        """Keeps a step, if it is one of those that are kept."""
        stride = math.ceil(2 * step.x.numel() * step.count / MAX_BYTES)  # by the bytes of all steps
        if (step.count - step.index) % stride == 0:
            # A noisy picture shrinks to the spread of a clean one; else most of the walk would be black and white.
            shown = step.x * (SIGMA_DATA / math.hypot(step.sigma, SIGMA_DATA))
            self.frames.append(Frame(step.index, step.sigma, to_pixels(shown), to_pixels(step.denoised)))

    @property
    def bytes(self) -> int:
        return sum(frame.noisy.numel() + frame.guess.numel() for frame in self.frames)

    def at(self, index: int) -> Frame:
        """The frame of step `index`, or the nearest one kept."""
        return min(self.frames, key=lambda frame: abs(frame.index - index))
