"""Picture files written, losslessly; and what is made of several pictures: a .zip, a grid, an animation.

Settings travel inside a PNG, in a text chunk named `parameters` and in the form that Stable Diffusion tools read.
"""

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, PngImagePlugin
from torch import Tensor

from sd_core.pictures.decoding import open_picture
from sd_core.pictures.pixels import to_image

GRID_WIDTH = 768  # pixels, of a composed preview
LARGEST_TILE = 512
FRAME_MS, HOLD_MS = 120, 1200  # of an animation, and of its last picture


def save_png(pixels: Tensor, path: Path, settings: str = "") -> None:
    """Writes uint8 [H, W, 3] losslessly, with its settings as text inside."""
    info = PngImagePlugin.PngInfo()
    if settings:
        info.add_text("parameters", settings)  # iTXt where Latin-1 does not suffice
    to_image(pixels).save(path, "PNG", pnginfo=info)


def make_zip(paths: Sequence[Path], target: Path) -> Path:
    """Packs files into one .zip; names that occur twice are numbered. PNGs are compressed already: it only stores."""
    seen: set[str] = set()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in map(Path, paths):
            name, number = path.name, 2
            while name in seen:
                name, number = f"{path.stem}-{number}{path.suffix}", number + 1
            seen.add(name)
            archive.write(path, name)
    return target


def grid(pixels: Tensor, columns: int | None = None, width: int = GRID_WIDTH) -> Image.Image:
    """Pictures uint8 [N, H, W, 3] side by side, enlarged (smoothly) or reduced to about `width` pixels in all."""
    count, height, side = pixels.shape[:3]
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    tile = min(LARGEST_TILE, width // columns)
    tile_height = round(tile * height / side)
    sheet = Image.new("RGB", (columns * tile, rows * tile_height), (128, 128, 128))
    for i, picture in enumerate(pixels):
        enlarged = to_image(picture).resize((tile, tile_height), Image.Resampling.BICUBIC)
        sheet.paste(enlarged, (i % columns * tile, i // columns * tile_height))
    return sheet


def enlarged(path: Path | str) -> Image.Image:
    """One picture file at the size of a preview."""
    return grid(torch.from_numpy(np.array(open_picture(path)))[None])


def save_animation(frames: Sequence[Image.Image], path: Path, frame_ms: int = FRAME_MS) -> None:
    """Writes frames as an endless animation as the suffix says (.webp, .gif, .png). The last stays `HOLD_MS`."""
    first, *rest = frames
    times = [frame_ms] * len(rest) + [HOLD_MS]
    form = {".webp": {"quality": 88, "method": 2}, ".gif": {}, ".png": {}}[Path(path).suffix.lower()]
    first.save(path, save_all=True, append_images=rest, duration=times, loop=0, **form)
