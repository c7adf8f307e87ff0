"""A look at somebody's pictures before they are trained on: how many, what is left out and why, and some of them."""

import io
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sd_core.data.folder import evenly, open_folder, picture_names
from sd_core.data.pairs import open_clean
from sd_core.pictures.archive import Files, Skipped, open_files
from sd_core.pictures.pixels import to_pixels

HEAD = 2**20  # bytes of a file, in which most tell their size
FEWEST_PIXELS = 10_000  # a picture costs that much, however small it is
LOOKED_AT = 200  # pictures that are opened: a look at fifty thousand must not take minutes
LARGE_LOOKED_AT = 40  # the same at their own size, of up to 3 MB each in memory
EXAMPLES = 12


@dataclass(frozen=True)
class Preview:
    """What a folder or .zip holds.

    total: files that look like pictures.
    looked_at: how many of them were opened, spread evenly.
    usable: how many of those can be trained on.
    captioned: how many of those have a caption; None where captions are not looked at.
    examples, captions: some pictures, uint8 [N, R, R, 3], as training will see them; a restorer's [N, R, 2 R, 3] are
    damaged on the left, and on the right as they should become.
    skipped: what is left out of those that were looked at, and why.
    """

    total: int
    looked_at: int
    usable: int
    captioned: int | None
    examples: np.ndarray
    captions: tuple[str, ...]
    skipped: tuple[Skipped, ...]


def preview(path: Path, resolution: int, *, fit: str = "crop", caption_template: str = "{}") -> Preview:
    """Looks at a folder or .zip. Raises DataError when there is nothing to train on; see `sd_core.data.open_data`."""
    total = _pictures_in(path)
    wanted = dict(count=LOOKED_AT, fit=fit, caption_template=caption_template)
    with tempfile.TemporaryDirectory() as cache:
        pictures = open_folder(path, resolution, cache=Path(cache), **wanted)
        chosen = evenly(range(len(pictures)), EXAMPLES)
        shown = np.array(pictures.pixels[chosen])
    return Preview(
        total=total,
        looked_at=min(total, LOOKED_AT),
        usable=len(pictures),
        captioned=sum(map(bool, pictures.captions)),
        examples=shown,
        captions=tuple(pictures.captions[index] for index in chosen),
        skipped=pictures.skipped,
    )


def preview_pairs(path: Path, side: int) -> Preview:
    """The same for a restorer, which learns from crops of `side` pixels; see `sd_core.data.pairs.open_clean`."""
    total = _pictures_in(path)
    clean = open_clean(str(path), count=LARGE_LOOKED_AT, smallest=side)
    pairs = [clean.pair(side, torch.Generator().manual_seed(number)) for number in range(EXAMPLES)]
    shown = to_pixels(torch.stack([torch.cat([pair.damaged, pair.clean], dim=2) for pair in pairs]))
    return Preview(
        total=total,
        looked_at=min(total, LARGE_LOOKED_AT),
        usable=len(clean),
        captioned=None,
        examples=shown.numpy(),
        captions=("",) * EXAMPLES,
        skipped=clean.skipped,
    )


def pixels_in(path: Path, most: int, looked_at: int | None = None) -> int:
    """How many pixels are decoded when the pictures in a folder or .zip are read, or `looked_at` of them, spread
    evenly; more than `most` as soon as they are that many. Nothing is decoded, and little is read."""
    with closing(open_files(path)) as files:
        names = evenly(picture_names(files), looked_at)
        pixels = FEWEST_PIXELS * len(names)
        for name in names:
            if pixels > most:
                break
            pixels += _pixels_of(files, name, HEAD) or _pixels_of(files, name)
        return pixels


def _pixels_of(files: Files, name: str, read: int | None = None) -> int:
    """How many pixels a picture says it has in so many bytes of its file; 0 where it does not say."""
    try:
        with Image.open(io.BytesIO(files.read(name, read))) as picture:
            return picture.width * picture.height
    except Exception:  # decoders raise whatever comes to their mind at broken files, and archives do, too
        return 0


def _pictures_in(path: Path) -> int:
    """How many files look like pictures."""
    with closing(open_files(path)) as files:
        return len(picture_names(files))
