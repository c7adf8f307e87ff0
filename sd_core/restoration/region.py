"""A square of a larger picture, for models that work at one size: taken out, worked on, put back."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sd_core.errors import UserError
from sd_core.pictures.pixels import to_image


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
            UserError: one of them is not between 0 and 1.
        """
        if not all(0 <= value <= 1 for value in (across, down, share)):
            raise UserError("The square's place and size must be between 0 and 100%.")
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
        """Raises UserError if it is not inside a picture of (width, height)."""
        right, bottom = self.left + self.side, self.top + self.side
        if not (self.left >= 0 <= self.top and self.side >= 1 and right <= size[0] and bottom <= size[1]):
            raise UserError(f"The square must lie inside the picture, which has {size[0]}×{size[1]} pixels.")

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
