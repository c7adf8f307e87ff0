"""Masks: read and saved, brought to a preview's size and back."""

from pathlib import Path

import numpy as np
from PIL import Image

from sd_core.errors import PictureError
from sd_core.pictures.color import DEEP_MODES, deep_values, eight_bit
from sd_core.pictures.decoding import opened, turn_upright
from sd_core.pictures.original import Original

MARKED_SIDE = 1024  # pixels of the longer side of the copy that is marked: a browser sends all of it several times


def proxy_size(size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of the copy of a picture of (width, height), reduced or enlarged to `MARKED_SIDE`."""
    return tuple(max(1, round(side * MARKED_SIDE / max(size))) for side in size)


def proxy_mask(mask: np.ndarray) -> np.ndarray:
    """A picture's mask, bool [H, W], on the copy: True wherever any pixel of it is."""
    return _resampled(mask, proxy_size(mask.shape[::-1])[::-1])


def full_mask(marked: np.ndarray, size: tuple[int, int], exact: np.ndarray | None = None) -> np.ndarray:
    """A mask that was marked on the copy, at the picture's own size (width, height).

    Args:
        marked: bool, at `proxy_size(size)`.
        exact: the mask at the picture's size from which a person went on, if any: it stays to the pixel wherever it was
            not edited.

    Raises:
        PictureError: `marked` belongs to another picture.
    """
    if marked.shape != proxy_size(size)[::-1]:
        raise PictureError("The marks belong to another picture; mark the damage again.")
    mask = _resampled(marked, size[::-1])
    if exact is None:
        return mask
    return np.where(mask == _resampled(proxy_mask(exact), size[::-1]), exact, mask)


def _resampled(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Each pixel is True if any that it stands for is. When n pixels become m, pixel i becomes pixel i * m // n."""
    for axis, (length, parts) in enumerate(zip(mask.shape, shape, strict=True)):
        if parts < length:
            starts = -(-np.arange(parts) * length // parts)
            mask = np.logical_or.reduceat(mask, starts, axis=axis)
        elif parts > length:
            mask = np.take(mask, np.arange(parts) * length // parts, axis=axis)
    return mask


def holes(original: Original) -> np.ndarray:
    """Wholly transparent places that do not reach the picture's border, bool at `proxy_size`: what was cut out of it,
    and not the background of a figure."""
    hidden = proxy_mask(original.transparent())
    outside = np.zeros_like(hidden)
    for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        outside[edge] = hidden[edge]
    before = -1
    while hidden.any() and (count := int(outside.sum())) != before:
        before = count
        for turned in range(4):  # sweeps to the right, in all four directions
            _sweep(np.rot90(outside, turned), np.rot90(hidden, turned))
    return hidden & ~outside


def _sweep(reached: np.ndarray, hidden: np.ndarray) -> None:
    """Carries what is reached on to the right, up to where `hidden` ends."""
    places = np.broadcast_to(np.arange(reached.shape[1]), reached.shape)
    last = np.maximum.accumulate(np.where(reached, places, -1), axis=1)
    stopped = np.maximum.accumulate(np.where(hidden, -1, places), axis=1)
    reached |= hidden & (last > stopped)


def read_mask(path: Path | str, size: tuple[int, int]) -> np.ndarray:
    """Reads a black-and-white mask: bool [H, W], True where it is at least half white. Transparent counts as black.

    Args:
        size: (width, height) of the picture it is for.

    Raises:
        PictureError: it has another size, or is damaged or no picture.
    """
    with opened(path) as picture:
        turn_upright(picture)
        if picture.size != tuple(size):
            mask, whole = (f"{width}×{height}" for width, height in (picture.size, size))
            said = "The mask has {mask} pixels and the picture {whole}; they must have the same size."
            raise PictureError(said, mask=mask, whole=whole)
        if picture.mode in DEEP_MODES:
            return eight_bit(deep_values(picture)) >= 128
        if picture.has_transparency_data:
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture)
        return np.asarray(picture.convert("L")) >= 128


def save_mask(mask: np.ndarray, path: Path | str) -> None:
    """Writes a mask, bool [H, W], as a PNG: white where it is True."""
    Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(path, "PNG")
