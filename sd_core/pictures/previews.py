"""Smaller copies of a picture, to look at and to mark: a page cannot handle 40 million pixels, and need not.

A mask that was marked on a copy belongs to the picture at full size. The ways there and back agree: a pixel of the copy
stands for the same block of the picture in both.
"""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from sd_core.pictures.masks import MARKED_SIDE, proxy_size
from sd_core.pictures.original import OPAQUE, Original, open_original

COMPARED_SIDE = 2048  # pixels of the copies that are laid over one another, which one can zoom into
LOOKED_AT = 512  # pixels up to which a small picture is enlarged to be compared
COARSE = 3  # times larger, from which on single pixels are shown as squares
OUTLINE = "#6366f1"  # indigo
HEAT = np.array([[0, 0, 4], [101, 21, 110], [212, 72, 66], [250, 193, 39], [252, 255, 164]], np.float32)  # "inferno"
FULL_HEAT = 48.0  # disagreement on the scale 0-255 that is shown as bright as can be


def proxy(original: Original, longest: int | None = None) -> Image.Image:
    """The copy of a picture, sRGB, with alpha where it has some: at `proxy_size`, or reduced to `longest` a side."""
    image = Image.fromarray(original.rgb())
    size = reduced_size(original.size, longest) if longest else proxy_size(original.size)
    if original.has_alpha:
        image.putalpha(Image.fromarray(original.alpha()))
    if size == image.size:
        return image
    coarse = size[0] >= COARSE * image.width
    return image.resize(size, Image.Resampling.NEAREST if coarse else Image.Resampling.LANCZOS, reducing_gap=3.0)


def framed(copy: Image.Image, colour: int | tuple[int, int, int]) -> Image.Image:
    """A copy at `proxy_size` in the middle of a square of `MARKED_SIDE`."""
    opaque = (*colour, OPAQUE) if copy.mode == "RGBA" else colour
    square = Image.new(copy.mode, (MARKED_SIDE, MARKED_SIDE), opaque)
    square.paste(copy, _frame(copy.size))
    return square


def unframed(marks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The part of marks [MARKED_SIDE, MARKED_SIDE] that lies on the copy of a picture of (width, height)."""
    width, height = proxy_size(size)
    left, top = _frame((width, height))
    return marks[top : top + height, left : left + width]


def _frame(size: tuple[int, int]) -> tuple[int, int]:
    """Left and top of the copy in its frame."""
    return (MARKED_SIDE - size[0]) // 2, (MARKED_SIDE - size[1]) // 2


def reduced_size(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """(width, height), reduced to fit where it does not."""
    scale = min(1.0, longest / max(size))
    return tuple(max(1, round(side * scale)) for side in size)


def on_white(image: Image.Image) -> Image.Image:
    """RGB; what is transparent becomes white."""
    if image.mode != "RGBA":
        return image.convert("RGB")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def comparable(before: Original, after: Original) -> tuple[Image.Image, Image.Image]:
    """Copies of two states of a picture, RGB and of the same size, to be laid over one another."""
    old, new = (on_white(proxy(picture, COMPARED_SIDE)) for picture in (before, after))
    new = looked_at(new)
    return old.resize(new.size, Image.Resampling.BICUBIC), new


def looked_at(image: Image.Image) -> Image.Image:
    """The picture, enlarged smoothly where it has but few pixels."""
    factor = max(1, LOOKED_AT // max(image.size))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)


def outlined(image: Image.Image, left: int, top: int, side: int) -> Image.Image:
    """RGB with a square of it marked: all else is pale."""
    image = on_white(image)
    box = (left, top, left + side, top + side)
    shown = Image.blend(image, Image.new("RGB", image.size, "white"), 0.6)
    shown.paste(image.crop(box), box)
    ImageDraw.Draw(shown).rectangle((left, top, left + side - 1, top + side - 1), None, OUTLINE, max(2, side // 100))
    return shown


def heat_map(levels: np.ndarray) -> Image.Image:
    """Values [H, W] on the scale 0-255, as `disagreement` gives them, as colours from black to pale yellow."""
    position = np.clip(levels / FULL_HEAT, 0, 1) * (len(HEAT) - 1)
    colours = [np.interp(position, np.arange(len(HEAT)), channel) for channel in HEAT.T]
    return Image.fromarray(np.stack(colours, axis=-1).round().astype(np.uint8))


def thumbnail(path: Path | str, side: int) -> Image.Image:
    """A picture file, RGB, at most `side` pixels a side; few pixels are enlarged one by one, so that grain is seen.

    Raises:
        PictureError: as `open_original`.
    """
    image = on_white(proxy(open_original(path), side))
    factor = max(1, side // max(image.size))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def data_url(picture: Image.Image) -> str:
    """A small RGB picture as a URL that holds it, a JPEG."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
