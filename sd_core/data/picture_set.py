"""What every data source becomes: a set of captioned pictures of one size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sd_core.pictures.archive import Skipped


@dataclass(frozen=True)
class PictureSet:
    """Captioned pictures, ready for training.

    pixels: uint8 [N, R, R, 3], sRGB, possibly a read-only memory map.
    captions: N strings, "" where nothing is known.
    mirrorable: flipping a picture left to right gives another picture that belongs to the set.
    credits: licences and artists, for a model card.
    latents: the same in a model's own space, as `latents.encoded` gives them; None where nobody has made them yet.

    Raises ValueError when the shapes do not fit together.
    """

    name: str
    pixels: np.ndarray
    captions: tuple[str, ...]
    mirrorable: bool
    skipped: tuple[Skipped, ...] = ()
    credits: str = ""
    latents: np.ndarray | None = None

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        if self.pixels.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or shape[1] != shape[2]:
            raise ValueError(f"pixels must be uint8 [N, R, R, 3], not {self.pixels.dtype} {list(shape)}")
        if len(self.captions) != shape[0]:
            raise ValueError(f"{shape[0]} pictures need as many captions, not {len(self.captions)}")

    def __len__(self) -> int:
        return len(self.captions)

    @property
    def resolution(self) -> int:
        """Side length of every picture, in pixels."""
        return self.pixels.shape[1]
