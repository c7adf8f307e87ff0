"""An uploaded picture kept exactly as its file has it, for repairing a part of it.

The model sees an 8-bit sRGB copy. What it repaired is converted back into the file's own colour space and depth and put
in the place of the old values; every other value stays as it was.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from sd_core.errors import PictureError
from sd_core.pictures.color import DEEP_MODES, ROWS, ColourSpace, deep_values, eight_bit
from sd_core.pictures.decoding import MIN_SIDE, jpeg_quality, opened, plain_mode, turn_upright

COMPRESSION = 2  # of a PNG: a sixth of the time of 6, which is 10 to 15% smaller
OPAQUE = 255
NOTES = {  # what the user should know about what comes back, by the key that `Original.notes` holds
    "first_frame": "This file holds several pictures; only the first is used.",
    "cmyk": "CMYK colours come back as sRGB.",
    "palette": "A picture with a palette comes back in full colour (RGB).",
    "other_colours": "LAB, YCbCr and HSV colours come back as RGB.",
    "one_bit": "A black-and-white picture comes back as 8-bit grey.",
    "sixteen_bit_grey": "16-bit grey is kept; what is repaired has 8 bits of detail.",
    "sixteen_bit_colour": "16-bit colours are read as 8 bits.",
    "deep_grey": "Grey values of more than 16 bits come back as 16 bits.",
    "profile_ignored": "This file's colour profile is broken or of another kind, and was left out.",
}


@dataclass(frozen=True, eq=False)
class Original:
    """A picture as Pillow decodes its file, upright.

    Attributes:
        pixels: what `save` writes: uint8 [H, W] (grey), [H, W, 2] (grey, alpha), [H, W, 3] or [H, W, 4] (RGBA, alpha
            not multiplied in), or uint16 [H, W] (grey). Read-only.
        profile: the ICC profile that says what the colours mean; None is sRGB.
        notes: keys of `NOTES`.
        transparent_value: the one 16-bit value that means transparent, if any.
        jpeg_quality: the quality from 1 to 100 of a JPEG file.
    """

    pixels: np.ndarray
    profile: bytes | None = None
    notes: tuple[str, ...] = ()
    transparent_value: int | None = None
    jpeg_quality: int | None = None

    def __post_init__(self) -> None:
        self.pixels.flags.writeable = False

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def has_alpha(self) -> bool:
        return self._channels in (2, 4) or self.transparent_value is not None

    def transparent(self) -> np.ndarray:
        """Where nothing is seen at all: bool [H, W]."""
        return self._hidden(self.pixels)

    def alpha(self) -> np.ndarray:
        """How opaque each pixel is, of a picture that `has_alpha`: uint8 [H, W]."""
        if self._deep:
            return np.where(self.transparent(), 0, OPAQUE).astype(np.uint8)
        return np.ascontiguousarray(self.pixels[..., -1])

    def rgb(self) -> np.ndarray:
        """The model's copy: sRGB uint8 [H, W, 3]. Where the picture is transparent, the colours nearby go on."""
        space = self._space()
        rgb = np.empty((*self.pixels.shape[:2], 3), np.uint8)
        for top in range(0, len(rgb), ROWS):
            rgb[top : top + ROWS] = self._seen(self.pixels[top : top + ROWS], space)
        if self.has_alpha and self.transparent().any():
            _fill(rgb, self.alpha())
        return rgb

    def repaired(self, rgb: np.ndarray, mask: np.ndarray | None = None, fill: bool = False) -> "Original":
        """The picture with new colours, in its own colour space and depth.

        Outside the mask every value is the same, alpha included. Inside it, too, alpha and what is wholly transparent
        stay, unless `fill` is given; and so do values whose sRGB copy did not change.

        Args:
            rgb: the new colours, sRGB, uint8 [H, W, 3]. Without a mask it may be of another size, to which the alpha is
                then resized.
            mask: bool [H, W], True where they are wanted; None for the whole picture.
            fill: makes everything inside the mask opaque, so that what was missing there is seen.

        Raises:
            ValueError: shapes that do not fit.
        """
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
            raise ValueError("The repaired picture must be uint8 values of shape [H, W, 3].")
        if mask is not None and not (rgb.shape[:2] == mask.shape == self.pixels.shape[:2] and mask.dtype == bool):
            raise ValueError("The mask must be True or False for each pixel, and of the size of both pictures.")
        same_size = rgb.shape[:2] == self.pixels.shape[:2]
        pixels = self.pixels.copy() if same_size else self._canvas(rgb.shape[1], rgb.shape[0])
        space = self._space()
        for top in range(0, len(pixels), ROWS):
            rows = pixels[top : top + ROWS]  # a view
            inside = np.s_[:] if mask is None else mask[top : top + ROWS]
            new, old = rgb[top : top + ROWS][inside], rows[inside]
            if mask is not None:  # the selected pixels, as a picture of one row
                new, old = new[None], old[None]
            if new.size:
                rows[inside] = self._merged(old, new, space, fill, same_size).reshape(rows[inside].shape)
        return replace(self, pixels=pixels)

    def save(self, path: Path | str) -> None:
        """Writes a PNG with the same values, alpha and ICC profile, whatever the suffix. No other metadata is kept."""
        extra = {} if self.transparent_value is None else {"transparency": self.transparent_value}
        Image.fromarray(self.pixels).save(path, "PNG", icc_profile=self.profile, compress_level=COMPRESSION, **extra)

    @property
    def _channels(self) -> int:
        return self.pixels.shape[2] if self.pixels.ndim == 3 else 1

    @property
    def _deep(self) -> bool:
        return self.pixels.dtype == np.uint16

    def _space(self) -> ColourSpace:
        return ColourSpace(self.profile, grey=self._channels < 3)

    def _hidden(self, pixels: np.ndarray) -> np.ndarray:
        if self.transparent_value is not None:
            return pixels == self.transparent_value
        return pixels[..., -1] == 0 if self.has_alpha else np.zeros(pixels.shape[:2], bool)

    def _colours(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels without their alpha, as a view."""
        return {1: pixels, 2: pixels[..., 0], 3: pixels, 4: pixels[..., :3]}[self._channels]

    def _seen(self, pixels: np.ndarray, space: ColourSpace) -> np.ndarray:
        values = eight_bit(self._colours(pixels))
        if space.is_srgb and values.ndim == 3:
            return values
        return np.asarray(space.to_srgb(Image.fromarray(np.ascontiguousarray(values))))

    def _canvas(self, width: int, height: int) -> np.ndarray:
        """Pixels of another size which have the alpha, resized, and no colours yet."""
        canvas = np.zeros((height, width, *self.pixels.shape[2:]), self.pixels.dtype)
        if self.has_alpha:
            resized = np.asarray(Image.fromarray(self.alpha()).resize((width, height), Image.Resampling.LANCZOS))
            if self._deep:
                canvas[:] = np.where(resized < 128, self.transparent_value, _next_to(self.transparent_value))
            else:
                canvas[..., -1] = resized
        return canvas

    def _merged(self, old: np.ndarray, new: np.ndarray, space: ColourSpace, fill: bool, comparable: bool) -> np.ndarray:
        """Old pixels [H, W, ...] with new sRGB colours [H, W, 3]. comparable: whether the old ones have colours."""
        colours = space.from_srgb(new)
        if self._deep:
            colours = colours.astype(np.uint16) * 257
        if self.transparent_value is not None:  # no repaired pixel may become that
            colours[colours == self.transparent_value] = _next_to(self.transparent_value)
        # On a new canvas, too, hidden 16-bit values stay: they are the alpha.
        stay = self._hidden(old) if not fill and (comparable or self._deep) else np.zeros(old.shape[:2], bool)
        if comparable and (self._deep or not space.is_srgb):  # else the result is the same
            visible = ~self._hidden(old)
            stay |= visible & (self._seen(old, space) == new).all(axis=-1)
        merged = old.copy()
        target = self._colours(merged)
        target[~stay] = colours[~stay]
        if fill and self._channels in (2, 4):
            merged[..., -1] = OPAQUE
        return merged


def _next_to(value: int) -> int:
    return value - 1 if value else 1


def _fill(rgb: np.ndarray, alpha: np.ndarray) -> None:
    """Carries the colours around wholly transparent places into them, so that none hidden there shows as a fringe.

    Each level of a pyramid averages what is seen of the level below, until all of it is filled; then, back down, what
    is not seen is taken from above (push-pull: Gortler et al. 1996, "The lumigraph", section 3.4).

    Args:
        rgb: uint8 [H, W, 3], changed in place.
        alpha: uint8 [H, W]. Colours that are hardly seen are kept, but do not spread: many programs leave dark ones.
    """
    solid = alpha >= max(1, int(alpha.max()) // 2)
    levels = [Image.fromarray(np.dstack([rgb, np.where(solid, OPAQUE, 0).astype(np.uint8)]))]
    while levels[-1].getextrema()[3][0] == 0 and max(levels[-1].size) > 1:
        smaller = levels[-1].convert("RGBa").reduce(2).convert("RGBA")  # RGBa: without what is not seen
        smaller.putalpha(smaller.getchannel("A").point(_ANY))
        levels.append(smaller)
    filled = Image.new("RGB", levels[-1].size, "white")  # stays where nothing is seen at all
    while levels:
        level = levels.pop()
        filled = filled.resize(level.size, Image.Resampling.BILINEAR)
        filled.paste(level.convert("RGB"), mask=level.getchannel("A"))
    for top in range(0, len(rgb), ROWS):
        hidden = alpha[top : top + ROWS] == 0
        rgb[top : top + ROWS][hidden] = _rows(filled, top)[hidden]


_ANY = [0] + [OPAQUE] * 255  # a table of alpha values: all that is seen counts in full


# Reading


def open_original(path: Path | str) -> Original:
    """Reads an uploaded picture; of an animation the first frame.

    Raises:
        PictureError: it is damaged, too large, smaller than 8×8 pixels or no picture.
    """
    with opened(path) as picture:
        if min(picture.size) < MIN_SIDE:
            said = "This picture has {width}×{height} pixels; at least {least}×{least} are needed."
            raise PictureError(said, width=picture.width, height=picture.height, least=MIN_SIDE)
        quality = jpeg_quality(picture)
        reduced = any(";16" in str(tile.args) for tile in picture.tile)  # as stored; known only before loading
        turn_upright(picture)
        original = to_original(picture)
        notes = list(original.notes)
        if reduced and original.pixels.dtype == np.uint8:
            notes.append("sixteen_bit_colour")
        if _has_more(picture):
            notes.append("first_frame")
        return replace(original, notes=tuple(notes), jpeg_quality=quality)


def to_original(picture: Image.Image) -> Original:
    """A loaded picture of any mode as an original. Its orientation is taken as it is."""
    profile, notes, transparent_value = picture.info.get("icc_profile") or None, [], None
    if picture.mode in DEEP_MODES:
        pixels = deep_values(picture)
        if pixels.dtype == np.uint16:
            notes.append("sixteen_bit_grey" if picture.mode.startswith("I;") else "deep_grey")
            transparent_value = picture.info.get("transparency")
    else:
        picture, profile, notes = plain_mode(picture)
        pixels = _array(picture)
    try:
        ColourSpace(profile, grey=pixels.ndim == 2 or pixels.shape[2] == 2)
    except ValueError:
        profile = None
        notes.append("profile_ignored")
    return Original(pixels, profile, tuple(notes), transparent_value)


def _array(picture: Image.Image) -> np.ndarray:
    """The values of a picture of 8 bits. In parts, since Pillow hands out a picture by way of two more copies."""
    bands = () if picture.mode == "L" else (len(picture.mode),)
    pixels = np.empty((picture.height, picture.width, *bands), np.uint8)
    for top in range(0, len(pixels), ROWS):
        pixels[top : top + ROWS] = _rows(picture, top)
    return pixels


def _rows(picture: Image.Image, top: int) -> np.ndarray:
    return np.asarray(picture.crop((0, top, picture.width, min(top + ROWS, picture.height))))


def _has_more(picture: Image.Image) -> bool:
    """Whether the file holds further frames or pages. (A phone's MPO does not count: its others are not for people.)"""
    try:
        return picture.format != "MPO" and getattr(picture, "is_animated", False)
    except Exception:  # it looks for the second frame, which may be damaged
        return False
