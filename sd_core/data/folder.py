"""A folder or .zip of anybody's pictures, captioned in the ways people already use.

A picture's caption is, in this order: its "text" in a metadata.jsonl (Hugging Face imagefolder), the .txt file beside
it, the name of the class folder it lies in, or "".
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import PIL
from PIL import Image

from sd_core.data.cache import cached, write_pixels
from sd_core.data.captions import _HANDED, _NOT_CLASSES, MOST_CAPTION_BYTES, _caption, _metadata, _text
from sd_core.data.picture_set import PictureSet
from sd_core.errors import DataError
from sd_core.pictures.archive import Files, Skipped, open_files
from sd_core.pictures.decoding import SUFFIXES, Unusable, decode, squared

READER_VERSION = 1  # raise whenever the same files give other pictures or captions than before: caches are made anew
FITS = ("crop", "pad", "squash")
ABOUT = "about.json"  # written by pack(): name, mirrorable, credits

_BATCH = 512  # pictures decoded ahead of the one being written
_NOT_CLASSES |= {"photos", "data", "dataset", "raw"}


def open_folder(
    path: Path,
    resolution: int,
    *,
    count: int | None = None,
    fit: str = "crop",
    caption_template: str = "{}",
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PictureSet:
    """Open the pictures in a folder or .zip; see `sd_core.data.open_data` for the arguments.

    caption_template: what a class folder's name becomes: "{}" is the name, "{a}" the name with its article
    ("a photo of {a}" gives "a photo of an airplane"). Other captions are taken as they are.
    Pictures that cannot be used are in `skipped`; raises DataError when none can.
    """
    if fit not in FITS:
        raise DataError(f"Pictures cannot be fitted by {fit!r}; choose among {', '.join(FITS)}.")
    path = path.expanduser()
    files = open_files(path)
    try:
        key = {
            "files": files.fingerprint,
            "resolution": resolution,
            "count": count,
            "fit": fit,
            "caption_template": caption_template,
            "reader": READER_VERSION,
            "pillow": PIL.__version__,
        }

        def make(target: Path) -> dict[str, Any]:
            return _read(path, files, target, resolution, count, fit, caption_template, progress)

        pixels, info = cached(cache, "folder", key, make)
    finally:
        files.close()
    if progress is not None:
        progress(info["listed"], info["listed"])
    captions, about = tuple(info["captions"]), info["about"]
    return PictureSet(
        name=about.get("name", path.stem),
        pixels=pixels,
        captions=captions,
        mirrorable=about.get("mirrorable", not any(_HANDED.search(caption) for caption in captions)),
        skipped=tuple(Skipped(*entry) for entry in info["skipped"]),
        credits=about.get("credits", ""),
    )


def evenly(items: Sequence[Any], count: int | None) -> list[Any]:
    """At most `count` of the items, spread evenly, so that of a list sorted by class every class is kept."""
    if count is None or count >= len(items):
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]


def _read(
    path: Path,
    files: Files,
    target: Path,
    resolution: int,
    count: int | None,
    fit: str,
    caption_template: str,
    progress: Callable[[int, int], None] | None,
) -> dict[str, Any]:
    """Write the usable pictures to the .npy file `target`; returns their captions and everything else to remember."""
    names = evenly([name for name in files.names if PurePosixPath(name).suffix.lower() in SUFFIXES], count)
    texts, skipped = _metadata(files)
    skipped = [*files.skipped, *skipped]
    about = _about(files)  # a packed set is as its maker wanted it, repetitions included
    captions: list[str] = []

    def usable() -> Iterator[np.ndarray]:
        for name, pixels in usable_pictures(
            files, names, resolution, lambda picture: squared(picture, resolution, fit), skipped, bool(about), progress
        ):
            captions.append(_caption(files, name, texts, caption_template))
            yield pixels

    write_pixels(target, resolution, usable())
    if not captions:
        raise DataError(_nothing(path, skipped))
    return {
        "captions": captions,
        "skipped": [[_shown(entry.file), entry.reason] for entry in skipped],
        "about": about,
        "listed": len(names),
    }


def usable_pictures(
    files: Files,
    names: Sequence[str],
    resolution: int,
    finish: Callable[[Image.Image], np.ndarray],
    skipped: list[Skipped],
    repeats: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[str, np.ndarray]]:
    """Decodes the named files in threads, and gives each that can be used with its name, in order.

    resolution: as for `decode`. finish: makes pixels of a picture; it may raise Unusable. skipped: where the others are
    noted, pictures that were there before among them, unless `repeats` are wanted. progress: called with (files done,
    files in all).
    """
    seen: dict[bytes, str] = {}
    for done, (name, outcome) in enumerate(_decoded(files, names, resolution, finish), start=1):
        if isinstance(outcome, str):
            skipped.append(Skipped(_shown(name), outcome))
        else:
            digest, pixels = outcome
            original = seen.setdefault(digest, name)
            if original != name and not repeats:
                skipped.append(Skipped(_shown(name), f"the same picture as {_shown(original)}"))
            else:
                yield name, pixels
        if progress is not None:
            progress(done, len(names))


def _decoded(
    files: Files, names: Sequence[str], resolution: int, finish: Callable[[Image.Image], np.ndarray]
) -> Iterator[tuple[str, tuple[bytes, np.ndarray] | str]]:
    """Each name with (hash of its pixels, what `finish` made of it), or with the reason why it is of no use."""

    def outcome(name: str) -> tuple[bytes, np.ndarray] | str:
        try:
            data = files.read(name)
        except Exception:  # a broken archive fails in as many ways as a broken picture
            return "not readable"
        try:
            picture = decode(data, resolution)
            identity = hashlib.blake2b(f"{picture.size}".encode() + picture.tobytes(), digest_size=16).digest()
            return identity, finish(picture)
        except Unusable as error:
            return str(error)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(names), _BATCH):
            batch = names[start : start + _BATCH]
            yield from zip(batch, pool.map(outcome, batch), strict=True)


def _about(files: Files) -> dict[str, Any]:
    """What pack() wrote about the set; {} for a set that it did not write."""
    if ABOUT not in files.name_set:
        return {}
    try:
        about = json.loads(_text(files, ABOUT, MOST_CAPTION_BYTES))
        kinds = {"name": str, "mirrorable": bool, "credits": str}
        return {key: about[key] for key, kind in kinds.items() if isinstance(about[key], kind)}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}


def _shown(name: str) -> str:
    """A file's name as text that can be shown and stored, whatever bytes it is made of."""
    return name.encode("utf-8", "replace").decode("utf-8")


def _nothing(path: Path, skipped: Sequence[Skipped]) -> str:
    if not skipped:
        return f"There are no pictures in {path.name}; add some, as .jpg or .png for example."
    more = f", and {len(skipped) - 1} more were skipped" if len(skipped) > 1 else ""
    return f"There is no usable picture in {path.name}: {skipped[0].file} is skipped ({skipped[0].reason}){more}."
