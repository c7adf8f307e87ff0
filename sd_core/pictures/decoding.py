"""A picture file, of whatever kind, as upright sRGB pixels: the one way to them for all who read pictures."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from sd_core.errors import PictureError
from sd_core.pictures.color import DEEP_MODES, ColourSpace, cmyk_to_srgb, deep_values, eight_bit, lab_to_srgb

MAX_PIXELS = 40_000_000  # of an uploaded picture: 160 MB once decoded
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF", "AVIF")  # what people have; others' decoders stay closed
UNSHOWN = ("TIFF",)  # those of them that browsers do not show
NO_PICTURE = (
    "This file is damaged, is not a picture, or is of another kind than PNG, JPEG, WebP, AVIF, GIF, BMP and TIFF."
)

# Of a picture to learn from.
DATA_PIXELS = 100_000_000  # 3 bytes each in memory, for each thread
DATA_FORMATS = (*FORMATS, "JPEG2000", "PPM", "TGA", "ICO")  # named: Pillow also knows some that run programs (EPS)
SUFFIXES = frozenset(
    ".jpg .jpeg .jfif .png .webp .gif .bmp .tif .tiff .avif .jp2 .ppm .pgm .pbm .pnm .tga .ico".split()
)
MIN_SIDE = 8  # pixels; on less there is nothing to learn from, and nothing to go by in repairing
STANDARD_QUANTISATION = 3688  # the sum of the brightness table of JPEG's Annex K, which quality 50 means

GREY_MODES = ("1", "L", "LA", "La")


class Unusable(Exception):
    """A file that does not become a picture to learn from; the message is a plain phrase saying why."""


def _opened_as(formats: tuple[str, ...], file: Path | str | io.BytesIO) -> Image.Image:
    """A picture of one of these formats, not decoded yet."""
    Image.init()  # or Pillow fails on formats it has not met yet
    return Image.open(file, formats=[name for name in formats if name in Image.OPEN])


# What a file's values mean


def turn_upright(picture: Image.Image) -> None:
    """Decodes a picture and turns it as its EXIF orientation says."""
    picture.load()
    try:
        ImageOps.exif_transpose(picture, in_place=True)
    except Exception:  # Pillow raises SyntaxError and others at a broken EXIF block, which says nothing of the pixels
        pass


def jpeg_quality(picture: Image.Image) -> int | None:
    """The quality from 1 to 100 with which a JPEG file was saved, on the scale of the Independent JPEG Group; None of
    other files. It follows from how coarsely brightness is quantised."""
    tables = getattr(picture, "quantization", None)
    if not tables or 0 not in tables:
        return None
    scale = 100 * sum(tables[0]) / STANDARD_QUANTISATION
    return max(1, min(100, round(100 - scale / 2 if scale <= 100 else 5000 / scale)))


def plain_mode(picture: Image.Image) -> tuple[Image.Image, bytes | None, list[str]]:
    """A picture of 8 bits a value as L, LA, RGB or RGBA.

    Returns:
        It, the profile of its colours then (None is sRGB), and what there is to say about it, as keys of
        `original.NOTES`.
    """
    mode, profile = picture.mode, picture.info.get("icc_profile") or None
    if mode == "CMYK":
        converted, used = cmyk_to_srgb(picture, profile)
        return converted, None, ["cmyk", "profile_ignored"] if profile and not used else ["cmyk"]
    if mode == "LAB":
        return lab_to_srgb(picture), None, ["other_colours"]
    plain = ("L" if mode in GREY_MODES else "RGB") + ("A" if picture.has_transparency_data else "")
    said = {"1": ["one_bit"], "P": ["palette"], "PA": ["palette"], "YCbCr": ["other_colours"], "HSV": ["other_colours"]}
    return picture if mode == plain else picture.convert(plain), profile, said.get(mode, [])


def as_srgb(picture: Image.Image) -> Image.Image:
    """A decoded picture of any mode as RGB in sRGB, on white where it is transparent.

    A profile that is broken or made for another kind of picture is passed over.
    """
    if picture.mode in DEEP_MODES:
        profile = picture.info.get("icc_profile") or None
        picture = Image.fromarray(eight_bit(deep_values(picture)))
    else:
        picture, profile, _ = plain_mode(picture)
    alpha = picture.getchannel("A") if picture.mode in ("LA", "RGBA") else None
    colours = picture.convert(picture.mode[:-1]) if alpha else picture
    grey = colours.mode == "L"
    try:
        space = ColourSpace(profile, grey, returns=False)
    except ValueError:
        space = ColourSpace(None, grey)
    colours = space.to_srgb(colours)
    if alpha:
        colours.putalpha(alpha)
        colours = Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours).convert("RGB")
    return colours


# Pictures to learn from


def decode(data: bytes, resolution: int) -> Image.Image:
    """Read a picture file as an upright RGB picture in sRGB, transparency on white, the first frame of an animation.

    A JPEG much larger than `resolution` may come smaller than it is, yet at least twice the resolution.
    Raises Unusable.
    """
    try:
        with _opened_as(DATA_FORMATS, io.BytesIO(data)) as picture:
            if picture.width * picture.height > DATA_PIXELS:
                raise Image.DecompressionBombError
            if min(picture.size) < MIN_SIDE:
                raise Unusable(f"smaller than {MIN_SIDE} pixels")
            picture.draft(None, (2 * resolution, 2 * resolution))
            turn_upright(picture)
            return as_srgb(picture)
    except Unusable:
        raise
    except Image.DecompressionBombError as error:
        raise Unusable(f"larger than {DATA_PIXELS // 1_000_000} megapixels") from error
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


# Uploads


@contextmanager
def opened(path: Path | str) -> Iterator[Image.Image]:
    """The picture in a file, its size checked before it is decoded, and whatever goes wrong told in one sentence.

    Raises:
        PictureError: opening it, or anything done with it inside the `with`, failed.
    """
    try:
        with _opened_as(FORMATS, path) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            yield picture
    except PictureError:
        raise
    except Image.DecompressionBombError as error:
        said = "This picture is too large; up to {millions} million pixels are allowed."
        raise PictureError(said, millions=MAX_PIXELS // 1_000_000) from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, zlib.error and others
        raise PictureError(NO_PICTURE) from error


def open_picture(path: Path | str) -> Image.Image:
    """Reads an uploaded picture as upright RGB in sRGB, laid on white where it is transparent.

    Raises:
        PictureError: it is damaged, too large or no picture.
    """
    with opened(path) as picture:
        turn_upright(picture)
        return as_srgb(picture)


def is_shown_by_browsers(path: Path | str) -> bool:
    """Whether a page can show a picture file as it is. Raises PictureError as `opened`."""
    with opened(path) as picture:
        return picture.format not in UNSHOWN


def fit_picture(picture: Image.Image, resolution: int) -> Tensor:
    """The centre of an RGB picture as uint8 [R, R, 3], resized with antialiasing."""
    return torch.from_numpy(squared(picture, resolution, "crop").copy())
