"""A square of a larger picture, for models that work at one size: taken out, worked on, put back."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sd_core.diffusion.noise import check_seed, to_unit
from sd_core.diffusion.noise_estimation import estimate_sigma
from sd_core.models.denoiser import Denoiser
from sd_core.pictures.pixels import to_float, to_image, to_pixels
from sd_core.restoration.denoising import remove_noise
from sd_core.restoration.inpainting import FILL_STEPS, fill
from sd_core.restoration.request import Restoring, answers

SPREAD = 2  # pixels over which Lanczos resizing spreads a value, as far as it shows


@dataclass(frozen=True)
class CropBox:
    """Rows `top` to `top + side` and columns `left` to `left + side` of a picture."""

    left: int
    top: int
    side: int

    @classmethod
    def within(cls, size: tuple[int, int], across: float = 0.5, down: float = 0.5, share: float = 1.0) -> "CropBox":
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

    @classmethod
    def around(cls, mask: np.ndarray) -> "CropBox":
        """The largest square inside a picture of a mask's size, bool [H, W], as near the middle of what is marked as
        the picture's borders allow; in the picture's middle if nothing is."""
        if not mask.any():
            return cls.within(mask.shape[::-1])
        side = min(mask.shape)
        corner = []
        for marked in (mask.any(0), mask.any(1)):
            places = marked.nonzero()[0]
            corner.append(int(min(max((places[0] + places[-1] + 1 - side) // 2, 0), len(marked) - side)))
        return cls(*corner, side)

    def check(self, size: tuple[int, int]) -> None:
        """Raises ValueError if it is not inside a picture of (width, height)."""
        right, bottom = self.left + self.side, self.top + self.side
        if not (self.left >= 0 <= self.top and self.side >= 1 and right <= size[0] and bottom <= size[1]):
            raise ValueError(f"The square must lie inside the picture, which has {size[0]}×{size[1]} pixels.")

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


def fill_square(
    model: Denoiser,
    picture: Tensor,
    mask: Tensor,
    square: CropBox,
    prompt: str = "",
    steps: int = FILL_STEPS,
    seed: int = 0,
    candidates: int = 1,
) -> Iterator[Restoring]:
    """Draws what is missing in a square of a picture anew with a generator.

    Args:
        picture, mask: uint8 [H, W, 3], sRGB, and bool [H, W]: where it is missing.
        model, square, prompt, steps, seed, candidates: as for `fill` and `clean_square`.

    Raises:
        ValueError: nothing is missing in the square; the seed is none; or as `fill`.
    """
    check_seed(seed)
    resolution = model.config.resolution
    missing = F.adaptive_max_pool2d(mask[square.span][None, None].float(), resolution)
    if square.side > resolution:  # resizing spreads what was damaged over its neighbours
        missing = F.max_pool2d(missing, 2 * SPREAD + 1, stride=1, padding=SPREAD)
    missing = missing[0, 0] > 0
    if not missing.any():
        raise ValueError("Nothing is marked in the square; move the square, or mark what is missing in it.")
    inside = torch.zeros_like(mask)
    inside[square.span] = mask[square.span]
    part = square.taken(picture, resolution)
    for step in fill(model, part, missing, prompt, steps, candidates, seed):
        pictures = (torch.where(inside[..., None], square.put_back(picture, p), picture) for p in step.pictures)
        yield Restoring(step.index, step.count, step.preview, tuple(pictures))


def clean_square(
    model: Denoiser,
    picture: Tensor,
    square: CropBox,
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
        ValueError: the seed is none; or as `remove_noise`.
    """
    check_seed(seed)
    part = square.taken(picture, model.config.resolution)
    noisy = to_float(part)
    # Reducing a picture averages its noise away.
    level = estimate_sigma(noisy) if sigma is None else to_unit(sigma) * min(1.0, model.config.resolution / square.side)
    candidates = answers(candidates, steps)
    finished: list[Tensor] = []
    for number in range(candidates):
        for step in remove_noise(model, noisy, level, prompt, steps, seed + number):
            done, count = number * step.count + step.index, candidates * step.count
            yield Restoring(done, count, to_pixels(step.denoised)[0], tuple(finished))
        finished.append(square.put_back(picture, to_pixels(step.x)[0]))
    yield Restoring(count, count, to_pixels(step.x)[0], tuple(finished))
