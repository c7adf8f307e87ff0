"""One way of repairing, for any number of pictures as their files have them."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from sd_core.denoiser import Denoiser
from sd_core.originals import Original
from sd_core.restoration import RestoreRequest, find_damage, restore


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
        self, original: Original, mask: np.ndarray | None = None, progress: Callable[[int, int], None] | None = None
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
            mask = find_damage(self.model, pixels).numpy() | original.transparent() * self.fill
            if not mask.any() and not self.request.whole:
                raise ValueError("No damage was found; mark it in a mask, or have the whole picture cleaned.")
        marked = None if mask is None or not mask.any() else torch.from_numpy(mask)
        for done in restore(self.model, pixels, replace(self.request, mask=marked)):
            if progress:
                progress(done.index, done.count)
        changed = None if self.request.whole else mask
        return original.repaired(done.pictures[0].numpy(), changed, self.fill and changed is not None)
