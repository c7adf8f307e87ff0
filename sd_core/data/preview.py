"""A look at somebody's pictures before they are trained on: how many, what is left out and why, and some of them."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from .decoding import SUFFIXES
from .files import open_files
from .folder import evenly, open_folder
from .pictures import Skipped

LOOKED_AT = 200  # pictures that are opened: a look at fifty thousand must not take minutes


@dataclass(frozen=True)
class Preview:
    """What a folder or .zip holds.

    total: files that look like pictures.
    looked_at: how many of them were opened, spread evenly.
    usable: how many of those can be trained on.
    captioned: how many of those have a caption.
    examples, captions: some pictures, uint8 [N, R, R, 3], as training will see them.
    skipped: what is left out of those that were looked at, and why.
    """

    total: int
    looked_at: int
    usable: int
    captioned: int
    examples: np.ndarray
    captions: tuple[str, ...]
    skipped: tuple[Skipped, ...]


def preview(
    path: Path,
    resolution: int,
    *,
    fit: str = "crop",
    caption_template: str = "{}",
    examples: int = 12,
    most: int = LOOKED_AT,
) -> Preview:
    """Looks at a folder or .zip. Raises DataError when there is nothing to train on; see `sd_core.data.open_data`."""
    files = open_files(path)
    try:
        total = sum(PurePosixPath(name).suffix.lower() in SUFFIXES for name in files.names)
    finally:
        files.close()
    with tempfile.TemporaryDirectory() as cache:
        pictures = open_folder(
            path, resolution, count=most, fit=fit, caption_template=caption_template, cache=Path(cache)
        )
        chosen = evenly(range(len(pictures)), examples)
        shown = np.array(pictures.pixels[chosen])
    return Preview(
        total=total,
        looked_at=min(total, most),
        usable=len(pictures),
        captioned=sum(map(bool, pictures.captions)),
        examples=shown,
        captions=tuple(pictures.captions[index] for index in chosen),
        skipped=pictures.skipped,
    )
