"""One picture file, of whatever kind, to one square of sRGB pixels."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps

from sd_core.colour import DEEP_MODES, deep_values, eight_bit, lab_to_srgb, to_srgb

SUFFIXES = frozenset(
    ".jpg .jpeg .jfif .png .webp .gif .bmp .tif .tiff .avif .jp2 .ppm .pgm .pbm .pnm .tga .ico".split()
)
# Named, because Pillow also knows formats that run other programs (EPS) or fetch more than a picture.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "TGA", "ICO")
MIN_SIDE = 8  # pixels; less is an icon or a tracking dot, not a picture to learn from
MAX_PIXELS = 100_000_000  # a picture is 3 bytes a pixel in memory, for each thread


class Unusable(ValueError):
    """A file that does not become a picture; the message is a plain phrase saying why."""


def decode(data: bytes, resolution: int) -> Image.Image:
    """Read a picture file as an upright RGB picture in sRGB, transparency on white, the first frame of an animation.

    A JPEG much larger than `resolution` may come smaller than it is, yet at least twice the resolution.
    Raises Unusable.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise Unusable(f"larger than {MAX_PIXELS // 1_000_000} megapixels")
            if min(picture.size) < MIN_SIDE:
                raise Unusable(f"smaller than {MIN_SIDE} pixels")
            picture.draft(None, (2 * resolution, 2 * resolution))
            return _to_rgb(ImageOps.exif_transpose(picture))
    except Unusable:
        raise
    except Image.DecompressionBombError as error:
        raise Unusable(f"larger than {MAX_PIXELS // 1_000_000} megapixels") from error
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
