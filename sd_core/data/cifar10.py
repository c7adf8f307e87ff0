"""CIFAR-10, downloaded by torchvision, with captions like "a photo of an airplane"."""

import tempfile
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
from PIL import Image

from sd_core.data.cache import cached, write_pixels
from sd_core.data.captions import with_article
from sd_core.data.folder import evenly
from sd_core.data.picture_set import PictureSet
from sd_core.errors import DataError
from sd_core.pictures.decoding import squared
from sd_core.progress import OnProgress, unwatched

NATIVE_RESOLUTION = 32
PICTURES = 50_000
PATIENCE = 15.0  # seconds of silence after which a download has failed
CREDITS = "CIFAR-10: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009."
_REPORT_EVERY = 1000  # pictures
_BLOCK = 1 << 18  # bytes


def open_cifar10(
    resolution: int,
    *,
    count: int | None = None,
    cache: Path | None = None,
    progress: OnProgress = unwatched,
) -> PictureSet:
    """The 50,000 training pictures, or `count` of them. Raises DataError when they cannot be downloaded."""
    pixels, info = cached(cache, "cifar10", {"resolution": NATIVE_RESOLUTION}, lambda path: _download(path, progress))
    chosen = evenly(range(len(pixels)), count)
    captions = tuple(f"a photo of {with_article(info['classes'][info['labels'][index]])}" for index in chosen)
    if resolution != NATIVE_RESOLUTION:

        def resize(path: Path) -> dict[str, Any]:
            write_pixels(path, resolution, _resized(pixels, chosen, resolution, progress))
            return {}

        pixels, _ = cached(cache, "cifar10", {"resolution": resolution, "count": len(chosen)}, resize)
    elif len(chosen) < len(pixels):
        pixels = pixels[chosen]
    progress(len(chosen), len(chosen))
    return PictureSet("cifar10", pixels, captions, mirrorable=True, credits=CREDITS)


def _download(path: Path, progress: OnProgress) -> dict[str, Any]:
    """Write the pictures to the .npy file `path` at their own size; returns the labels and the names of the classes."""
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity

    # In a folder of its own, which goes away: a download that breaks off leaves nothing for the next one to trip over.
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        archive = Path(folder, CIFAR10.filename)
        try:
            _fetch(CIFAR10.url, archive, progress)
        except (OSError, HTTPException) as error:
            raise _failed(error) from error
        try:
            if not check_integrity(archive, CIFAR10.tgz_md5):
                raise ValueError("what came is not the whole archive")
            source = CIFAR10(folder, train=True, download=True)  # finds the archive, checks and unpacks it
        except Exception as error:  # no space, a broken archive: torchvision raises each differently
            raise _failed(error) from error
    np.save(path, np.asarray(source.data, dtype=np.uint8))
    return {"labels": [int(label) for label in source.targets], "classes": list(source.classes)}


def _fetch(url: str, file: Path, progress: OnProgress) -> None:
    """Download to `file`, telling how many pictures' worth has come. torchvision's own waits for ever."""
    with urlopen(url, timeout=PATIENCE) as response, file.open("wb") as out:
        whole = int(response.headers.get("Content-Length") or 0)
        while block := response.read(_BLOCK):
            out.write(block)
            if whole:
                progress(min(PICTURES, PICTURES * out.tell() // whole), PICTURES)


def _failed(error: Exception) -> DataError:
    reason = str(getattr(error, "reason", "") or error).strip() or type(error).__name__
    return DataError(
        "CIFAR-10 could not be downloaded ({reason}); check the connection and try again, or use a .zip of it with one "
        "folder per class.",
        reason=reason.splitlines()[0],
    )


def _resized(pixels: np.ndarray, chosen: list[int], resolution: int, progress: OnProgress) -> Iterator[np.ndarray]:
    for done, index in enumerate(chosen, start=1):
        yield squared(Image.fromarray(pixels[index]), resolution, "squash")
        if done % _REPORT_EVERY == 0:
            progress(done, len(chosen))
