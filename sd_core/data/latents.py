"""Pictures as latents, encoded once and kept between runs, for a generator that learns from them."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sd_core.data.cache import cached
from sd_core.data.picture_set import PictureSet
from sd_core.models.codec import CHUNK, Latents
from sd_core.pictures.pixels import to_float
from sd_core.progress import OnProgress, unwatched

HASHED = 256  # pictures that are read at a time


def encoded(
    pictures: PictureSet,
    codec: Latents,
    mirrored: bool,
    device: torch.device,
    cache: Path | None = None,
    progress: OnProgress = unwatched,
) -> np.ndarray:
    """Latents float16 [N, M, C, h, w] of each picture and, if `mirrored`, of its mirror image: M is 1 or 2. A mirrored
    latent is none of a mirrored picture, so both are encoded.

    Args:
        device: where the encoder works.
        cache: the folder that keeps them, by default the usual one.
        progress: called with (pictures done, pictures in all).

    Raises:
        DataError: the cache folder cannot be written.
    """

    def make(path: Path) -> dict[str, Any]:
        side = pictures.resolution // codec.downsampling
        shape = (len(pictures), 1 + mirrored, codec.channels, side, side)
        made = np.lib.format.open_memmap(path, "w+", np.float16, shape)
        for first in range(0, len(pictures), CHUNK):
            some = slice(first, first + CHUNK)
            x = to_float(torch.from_numpy(np.array(pictures.pixels[some])).to(device))
            for number, view in enumerate((x, x.flip(3))[: 1 + mirrored]):
                made[some, number] = codec.encode(view).half().cpu().numpy()
            progress(min(first + CHUNK, len(pictures)), len(pictures))
        made.flush()
        return {}

    known = hashlib.blake2b()
    for first in range(0, len(pictures), HASHED):
        known.update(np.ascontiguousarray(pictures.pixels[first : first + HASHED]))
    key = {"codec": codec.digest, "pictures": known.hexdigest(), "mirrored": mirrored}
    return cached(cache, "latents", key, make)[0]
