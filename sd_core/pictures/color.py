"""What the numbers of a picture file mean: colour spaces (ICC profiles) and grey values of more than 8 bits."""

import io
from contextlib import suppress

import numpy as np
from PIL import Image, ImageCms

DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")  # Pillow's, of grey values with more than 8 bits
ROWS = 256  # worked on at once, so that a large picture needs few copies of itself

# What Pillow's colour management raises at profiles that are broken, or made for another kind of picture.
_PROFILE_ERRORS = (ImageCms.PyCMSError, OSError, ValueError, TypeError)
_INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC  # the one that changes no colour both spaces have


# Depth


def deep_values(picture: Image.Image) -> np.ndarray:
    """The values of a picture in one of `DEEP_MODES`, where Pillow's own conversion would clip them.

    Returns:
        uint16 [H, W]; or uint8 [H, W], where the file has large numbers but uses 0 to 255. Integers up to 65,535 stay
        as they are. Larger ones are scaled so that the largest is white, and floats by the range they seem to be in
        ([0, 1], [0, 255] or [0, 65535]); what is negative or not a number becomes black.
    """
    values = np.asarray(picture)
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        return values.astype(np.uint16)  # in this machine's byte order
    peak = float(np.max(values, where=np.isfinite(values), initial=0))
    if picture.mode == "I" and peak <= 255:
        return values.clip(0, 255).astype(np.uint8)
    if picture.mode == "F" and peak <= 255:
        scale = 65535 if peak <= 1 else 257
    else:
        scale = 65535 / peak if peak > 65535 else 1
    deep = np.empty(values.shape, np.uint16)
    for top in range(0, len(values), ROWS):
        rows = np.nan_to_num(values[top : top + ROWS].astype(np.float64), nan=0)
        deep[top : top + ROWS] = (rows.clip(0, 65535 / scale) * scale).round()
    return deep


def eight_bit(values: np.ndarray) -> np.ndarray:
    """uint16 values rounded to uint8, of any shape; uint8 values as they are."""
    if values.dtype == np.uint8:
        return values
    eight = np.empty(values.shape, np.uint8)
    for top in range(0, len(values), ROWS):
        eight[top : top + ROWS] = (values[top : top + ROWS].astype(np.uint32) + 128) // 257
    return eight


# Colour spaces


def cmyk_to_srgb(picture: Image.Image, profile: bytes | None) -> tuple[Image.Image, bool]:
    """Printers' colours as RGB, and whether the profile could be used. Without one they are but an estimate."""
    if profile:
        with suppress(*_PROFILE_ERRORS):
            printer, srgb = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
            return ImageCms.profileToProfile(picture, printer, srgb, outputMode="RGB"), True
    return picture.convert("RGB"), False


def lab_to_srgb(picture: Image.Image) -> Image.Image:
    """A picture of Pillow's mode LAB as RGB."""
    return ImageCms.profileToProfile(
        picture, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
    )


class ColourSpace:
    """The colour space of a picture's 8-bit values, to sRGB and back.

    Args:
        profile: its ICC profile, for RGB or grey; None is sRGB.
        grey: whether the picture has one value a pixel instead of three.
        returns: whether colours are to come back. A profile that can only be read from, as some cameras' and scanners',
            is then left alone: its values pass as they are in both directions, so that what comes back still fits the
            rest of the picture.

    Raises:
        ValueError: the profile is broken or for another kind of picture.
    """

    def __init__(self, profile: bytes | None, grey: bool, returns: bool = True) -> None:
        self._grey = grey
        self._there = self._back = None
        self._mode = "RGB"  # of a grey picture too, where the profile is for RGB: many grey JPEGs carry one
        if profile is None:
            return
        try:
            space, srgb = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
            kind = space.profile.xcolor_space.strip()
            if kind not in (("RGB", "GRAY") if grey else ("RGB",)):
                raise ValueError(kind)
            if "srgb" in ImageCms.getProfileDescription(space).lower():
                return
            self._mode = "L" if kind == "GRAY" else "RGB"
            self._there = ImageCms.buildTransform(space, srgb, self._mode, "RGB", _INTENT)
        except _PROFILE_ERRORS as error:
            raise ValueError("This colour profile is broken or for another kind of picture.") from error
        if not returns:
            return
        try:
            self._back = ImageCms.buildTransform(srgb, space, "RGB", self._mode, _INTENT)
        except _PROFILE_ERRORS:
            self._there, self._mode = None, "RGB"

    @property
    def is_srgb(self) -> bool:
        """Whether values pass as they are."""
        return self._there is None

    def to_srgb(self, picture: Image.Image) -> Image.Image:
        """A picture of mode L (grey) or RGB as sRGB; the same one, if it is that."""
        picture = picture if picture.mode == self._mode else picture.convert(self._mode)
        return ImageCms.applyTransform(picture, self._there) if self._there else picture

    def from_srgb(self, rgb: np.ndarray) -> np.ndarray:
        """sRGB uint8 [H, W, 3] to uint8 [H, W] (grey, by luma) or [H, W, 3]: the inverse of `to_srgb`."""
        if self.is_srgb and not self._grey:
            return rgb
        picture = Image.fromarray(np.ascontiguousarray(rgb))
        picture = ImageCms.applyTransform(picture, self._back) if self._back else picture
        return np.asarray(picture.convert("L") if self._grey else picture)
