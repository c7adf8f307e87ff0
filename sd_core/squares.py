"""A square of a larger picture, for models that work at one size: taken out, worked on, put back."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sd_core.damage import to_unit
from sd_core.denoiser import Denoiser
from sd_core.images import to_float, to_image, to_pixels
from sd_core.noise_removal import estimate_sigma, remove_noise
from sd_core.restoration import Restoring


@dataclass(frozen=True)
class Square:
    """Rows `top` to `top + side` and columns `left` to `left + side` of a picture."""

    left: int
    top: int
    side: int

    @classmethod
    def within(cls, size: tuple[int, int], across: float = 0.5, down: float = 0.5, share: float = 1.0) -> "Square":
        """A square inside a picture of (width, height).

        Args:
            across, down: where it lies: 0 is at the left or top, 1 at the right or bottom, 0.5 in the middle.
            share: its side as a share of the picture's shorter side.

        Raises:
            ValueError: one of them is not between 0 and 1.
        """
        if not all(0 <= value <= 1 for value in (across, down, share)):
            raise ValueError("The square's place and size must be between 0 and 100%.")
        side = max(1, round(min(size) * share))
        return cls(round((size[0] - side) * across), round((size[1] - side) * down), side)

    @property
    def span(self) -> tuple[slice, slice]:
        return slice(self.top, self.top + self.side), slice(self.left, self.left + self.side)

    def mask(self, size: tuple[int, int]) -> np.ndarray:
        """bool [H, W] for a picture of (width, height): True in the square."""
        mask = np.zeros(size[::-1], bool)
        mask[self.span] = True
        return mask

    def taken(self, picture: Tensor, resolution: int) -> Tensor:
        """What of uint8 [H, W, 3] lies in it, as uint8 [R, R, 3]."""
        part = to_image(picture[self.span].contiguous())
        return torch.from_numpy(np.array(part.resize((resolution, resolution), Image.Resampling.LANCZOS)))

    def put_back(self, picture: Tensor, part: Tensor) -> Tensor:
        """A copy of uint8 [H, W, 3] with uint8 [R, R, 3] in its place, enlarged or reduced to fit."""
        whole = picture.clone()
        image = to_image(part).resize((self.side, self.side), Image.Resampling.BICUBIC)
        whole[self.span] = torch.from_numpy(np.array(image))
        return whole


def clean_square(
    model: Denoiser,
    picture: Tensor,
    square: Square,
    sigma: float | None = None,
    prompt: str = "",
    steps: int = 1,
    seed: int = 0,
    candidates: int = 1,
) -> Iterator[Restoring]:
    """Removes noise from a square of a picture with a generator.

    Args:
        model: a generator, frozen as `checkpoint.load` gives it.
        picture: uint8 [H, W, 3], sRGB.
        square: where.
        sigma: its noise level on the scale 0-255, None to have it measured.
        prompt, steps: as for `remove_noise`.
        seed: of the first candidate; the others' follow it. With 1 step there is but one.

    Raises:
        ValueError: as `remove_noise`.
    """
    part = square.taken(picture, model.config.resolution)
    noisy = to_float(part)
    level = estimate_sigma(noisy) if sigma is None else to_unit(sigma)
    candidates = candidates if steps > 1 else 1
    finished: list[Tensor] = []
    for number in range(candidates):
        for step in remove_noise(model, noisy, level, prompt, steps, seed + number):
            done, count = number * step.count + step.index, candidates * step.count
            yield Restoring(done, count, to_pixels(step.denoised)[0], tuple(finished))
        finished.append(square.put_back(picture, to_pixels(step.x)[0]))
    yield Restoring(count, count, to_pixels(step.x)[0], tuple(finished))
