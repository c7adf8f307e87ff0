"""Ways of repairing, for any number of pictures as their files have them."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sd_core.models.denoiser import Denoiser
from sd_core.pictures.masks import full_mask, holes
from sd_core.pictures.original import Original
from sd_core.restoration.detection import find_damage
from sd_core.restoration.inpainting import FILL_STEPS
from sd_core.restoration.pipeline import restore
from sd_core.restoration.region import CropBox, clean_square, fill_square
from sd_core.restoration.request import RestoreRequest

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Repairer:
    """What is to be done; calling it does it to one picture.

    Attributes:
        model: a restorer.
        request: how; its mask is each picture's own.
        find: looks for the damage where no mask says where it is.
        fill: makes what is transparent inside the mask opaque, where only the mask is repaired.
    """

    model: Denoiser
    request: RestoreRequest
    find: bool = False
    fill: bool = False

    def __call__(
        self, original: Original, mask: np.ndarray | None = None, progress: Progress | None = None
    ) -> Original:
        """The first answer, in the picture's own colours.

        Args:
            mask: bool [H, W], where the picture is lost.
            progress: called with (pieces of work done, in all).

        Raises:
            ValueError: as `restore`; or no damage was found.
        """
        pixels = torch.from_numpy(original.rgb())
        if mask is None and self.find:
            mask = proposed_mask(self.model, original, self.fill, pixels)
            if not mask.any() and not self.request.whole:
                raise ValueError("No damage was found; mark it in a mask, or have the whole picture cleaned.")
        marked = None if mask is None or not mask.any() else torch.from_numpy(mask)
        for done in restore(self.model, pixels, replace(self.request, mask=marked)):
            if progress:
                progress(done.index, done.count)
        changed = None if self.request.whole else mask
        return original.repaired(done.pictures[0].numpy(), changed, self.fill and changed is not None)


@dataclass(frozen=True)
class SquareRepairer:
    """One way of repairing a square of each picture with a generator of such pictures: what a mask marks is drawn anew,
    or, without a mask, the square is cleaned of noise. Calling it does it to one picture.

    Attributes:
        model: a generator.
        square: where; None for the largest, as near to the mask as it can be.
        prompt, seed: as for `clean_square` and `fill_square`; steps, too, None for as many as each usually takes.
        sigma: the noise level on the scale 0-255, None to have it measured.
        finder: a restorer, to look for the damage where no mask says where it is; None to clean such a picture.
        fill: makes what is transparent inside the mask opaque.
    """

    model: Denoiser
    square: CropBox | None = None
    prompt: str = ""
    sigma: float | None = None
    steps: int | None = None
    seed: int = 0
    finder: Denoiser | None = None
    fill: bool = False

    def __call__(
        self, original: Original, mask: np.ndarray | None = None, progress: Progress | None = None
    ) -> Original:
        """The first answer, in the picture's own colours.

        Args:
            mask: bool [H, W], where the picture is lost.
            progress: called with (pieces of work done, in all).

        Raises:
            ValueError: as `clean_square` or `fill_square`; the square is not inside the picture; no damage was found.
        """
        pixels = torch.from_numpy(original.rgb())
        if mask is None and self.finder:
            mask = proposed_mask(self.finder, original, self.fill, pixels)
            if not mask.any():
                raise ValueError("No damage was found; mark it in a mask.")
        square = self.square or CropBox.around(np.zeros(pixels.shape[:2], bool) if mask is None else mask)
        square.check(original.size)
        changed = square.mask(original.size)
        if mask is None:
            work = clean_square(self.model, pixels, square, self.sigma, self.prompt, self.steps or 1, self.seed)
        else:
            lost = torch.from_numpy(mask)
            work = fill_square(self.model, pixels, lost, square, self.prompt, self.steps or FILL_STEPS, self.seed)
            changed &= mask
        for done in work:
            if progress:
                progress(done.index, done.count)
        return original.repaired(done.pictures[0].numpy(), changed, self.fill and mask is not None)


def proposed_mask(finder: Denoiser, original: Original, fill: bool, pixels: Tensor | None = None) -> np.ndarray:
    """Where a picture seems to be damaged, bool [H, W]; holes in it, too, if what is transparent is to be filled.
    `pixels` are `original.rgb()`, where that is at hand: of a large picture it takes a while."""
    found = find_damage(finder, torch.from_numpy(original.rgb()) if pixels is None else pixels).numpy()
    return found | full_mask(holes(original), original.size) if fill else found
