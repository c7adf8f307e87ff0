"""One picture file, of whatever kind, to one square of sRGB pixels."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from sd_core.errors import PictureError
from sd_core.pictures.color import DEEP_MODES, deep_values, eight_bit, lab_to_srgb, to_srgb

MAX_PIXELS = 40_000_000  # of an uploaded picture: 160 MB once decoded
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF", "AVIF")  # what people have; others' decoders stay closed
UNSHOWN = ("TIFF",)  # those of them that browsers do not show
NO_PICTURE = (
    "This file is damaged, is not a picture, or is of another kind than PNG, JPEG, WebP, AVIF, GIF, BMP and TIFF."
)

SUFFIXES = frozenset(
    ".jpg .jpeg .jfif .png .webp .gif .bmp .tif .tiff .avif .jp2 .ppm .pgm .pbm .pnm .tga .ico".split()
)
# Named, because Pillow also knows formats that run other programs (EPS) or fetch more than a picture.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "TGA", "ICO")
MIN_SIDE = 8  # pixels; less is an icon or a tracking dot, not a picture to learn from
MAX_TRAINING_PIXELS = 100_000_000  # of one to learn from: 3 bytes a pixel in memory, for each thread


class Unusable(ValueError):
    """A file that does not become a picture; the message is a plain phrase saying why."""


def decode(data: bytes, resolution: int) -> Image.Image:
    """Read a picture file as an upright RGB picture in sRGB, transparency on white, the first frame of an animation.

    A JPEG much larger than `resolution` may come smaller than it is, yet at least twice the resolution.
    Raises Unusable.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
            if picture.width * picture.height > MAX_TRAINING_PIXELS:
                raise Unusable(f"larger than {MAX_TRAINING_PIXELS // 1_000_000} megapixels")
            if min(picture.size) < MIN_SIDE:
                raise Unusable(f"smaller than {MIN_SIDE} pixels")
            picture.draft(None, (2 * resolution, 2 * resolution))
            return _to_rgb(ImageOps.exif_transpose(picture))
    except Unusable:
        raise
    except Image.DecompressionBombError as error:
        raise Unusable(f"larger than {MAX_TRAINING_PIXELS // 1_000_000} megapixels") from error
    except Exception as error:  # decoders raise whatever comes to their mind at broken files
        raise Unusable("not readable as a picture") from error


def squared(picture: Image.Image, resolution: int, fit: str) -> np.ndarray:
    """Resize with antialiasing. fit: "crop" the middle, "pad" with white, or "squash". uint8 [R, R, 3]."""
    size, filter_ = (resolution, resolution), Image.Resampling.LANCZOS
    if fit == "crop":
        picture = ImageOps.fit(picture, size, filter_)
    elif fit == "pad":
        picture = ImageOps.pad(picture, size, filter_, color="white")
    else:
        picture = picture.resize(size, filter_)
    return np.asarray(picture)


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode in DEEP_MODES:
        return Image.fromarray(eight_bit(deep_values(picture))).convert("RGB")
    if picture.mode == "LAB":
        return lab_to_srgb(picture)
    profile = picture.info.get("icc_profile")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    if profile and picture.mode in ("RGB", "CMYK"):
        picture = to_srgb(picture, profile)
    return picture.convert("RGB")


@contextmanager
def opened(path: Path | str) -> Iterator[Image.Image]:
    """The picture in a file, its size checked before it is decoded, and whatever goes wrong told in one sentence.

    Raises:
        PictureError: opening it, or anything done with it inside the `with`, failed.
    """
    try:
        Image.init()  # or Pillow fails on formats it has not met yet
        with Image.open(path, formats=[f for f in FORMATS if f in Image.OPEN]) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise _too_large()
            yield picture
    except PictureError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large() from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, zlib.error and others
        raise PictureError(NO_PICTURE) from error


def _too_large() -> PictureError:
    said = "This picture is too large; up to {millions} million pixels are allowed."
    return PictureError(said, millions=MAX_PIXELS // 1_000_000)


def open_picture(path: Path | str) -> Image.Image:
    """Reads an uploaded picture as RGB: turned upright as its EXIF says, and laid on white where it is transparent.

    Raises:
        PictureError: it is damaged, too large or no picture.
    """
    with opened(path) as picture:
        picture.load()
        return _as_rgb(ImageOps.exif_transpose(picture))


def is_shown_by_browsers(path: Path | str) -> bool:
    """Whether a page can show a picture file as it is. Raises PictureError as `opened`."""
    with opened(path) as picture:
        return picture.format not in UNSHOWN


def _as_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode in DEEP_MODES:
        picture = Image.fromarray(eight_bit(deep_values(picture)))
    if "A" in picture.mode or "a" in picture.mode or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


def fit_picture(picture: Image.Image, resolution: int) -> Tensor:
    """The centre of an RGB picture as uint8 [R, R, 3], resized with antialiasing."""
    fitted = ImageOps.fit(picture, (resolution, resolution), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(fitted))
