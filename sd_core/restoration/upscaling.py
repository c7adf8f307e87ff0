"""A picture enlarged by the released upscaler: any size, tile by tile."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from sd_core.device import autocast
from sd_core.diffusion.tiling import Span, windows
from sd_core.environment import CHECKPOINTS, checkpoints_folder
from sd_core.errors import UserError
from sd_core.models.upscaler import FACTOR, RELEASED, Upscaler
from sd_core.pictures.decoding import MAX_PIXELS
from sd_core.pictures.pixels import to_float, to_pixels


@dataclass(frozen=True)
class Known:
    """What is known of a picture that is to be enlarged.

    Attributes:
        noise: the standard deviation of its white noise, in units of [-1, 1].
        compression: how much JPEG took from it: 0 for nothing, 1 for all.
    """

    noise: float = 0.0
    compression: float = 0.0

    @classmethod
    def of(cls, noise: float, jpeg_quality: int | None, strength: float = 1.0) -> "Known":
        """Of a picture of that noise, saved with a quality from 1 to 100 or not as JPEG; `strength` times as bad, to
        have it cleaned so much more or less than is right."""
        compression = 0.0 if jpeg_quality is None else 1 - jpeg_quality / 100
        return cls(strength * noise, min(1.0, strength * compression))


def released(device: torch.device) -> Upscaler:
    """The released upscaler, on `device`. Raises CheckpointError if it is not there."""
    own = checkpoints_folder() / RELEASED
    return _loaded(own if own.is_dir() else CHECKPOINTS / RELEASED, device)


@lru_cache(maxsize=2)
def _loaded(folder: Path, device: torch.device) -> Upscaler:
    return Upscaler.load(folder).to(device)


def passes(size: Sequence[int], factor: int) -> list[tuple[int, int]]:
    """The (height, width) that a picture has before each of the times that it is enlarged by two.

    Raises:
        UserError: it would be larger than `MAX_PIXELS`.
    """
    if math.prod(size) * factor**2 > MAX_PIXELS:
        said = "Enlarged {factor} times it would have more than {millions} million pixels."
        raise UserError(said, factor=factor, millions=MAX_PIXELS // 1_000_000)
    height, width = size
    return [(height * FACTOR**number, width * FACTOR**number) for number in range(int(math.log(factor, FACTOR)))]


def pieces(size: Sequence[int], factor: int) -> int:
    """How many windows `upscaled` goes through."""
    return sum(len(list(windows(*each))) for each in passes(size, factor))


def upscaled(network: Upscaler, picture: Tensor, factor: int, known: Known = Known()) -> Iterator[Tensor]:
    """Enlarges a picture, and takes away the noise and the traces of JPEG that it is `known` to have.

    Args:
        network: where it is, it works.
        picture: uint8 [H, W, 3], sRGB.
        factor: 2, 4 and so on.

    Yields:
        after each window the picture under way, uint8, at the size that it has in this pass; the last is the result.

    Raises:
        UserError: the result would be larger than `MAX_PIXELS`.
    """
    device = next(network.parameters()).device
    for height, width in passes(picture.shape[:2], factor):
        larger = torch.empty(height, FACTOR, width, FACTOR, 3, dtype=torch.uint8)
        larger[:] = picture[:, None, :, None]
        larger = larger.reshape(height * FACTOR, width * FACTOR, 3)
        for window in windows(height, width, margin=network.reach):
            with torch.inference_mode(), autocast(device):
                crop = to_float(picture[window.outer])[None].to(device)
                part = network(crop, known.noise, known.compression)[0].float().cpu()
            larger[_enlarged(window.inner)] = to_pixels(part)[_enlarged(window.inside)]
            yield larger
        picture, known = larger, Known()


def _enlarged(span: Span) -> Span:
    return tuple(slice(each.start * FACTOR, each.stop * FACTOR) for each in span)
