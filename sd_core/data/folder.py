"""A folder or .zip of anybody's pictures, captioned in the ways people already use.

A picture's caption is, in this order: its "text" in a metadata.jsonl (Hugging Face imagefolder), the .txt file beside
it, the name of the class folder it lies in, or "".
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import PIL
from PIL import Image

from sd_core.data.cache import cached, write_pixels
from sd_core.data.captions import HANDED, caption_of, read_metadata, read_text, sound
from sd_core.data.picture_set import PictureSet
from sd_core.errors import DataError
from sd_core.pictures.archive import Files, Skipped, open_files
from sd_core.pictures.decoding import SUFFIXES, Unusable, decode, squared
from sd_core.progress import OnProgress, unwatched

READER_VERSION = 2  # raise whenever the same files give other pictures or captions than before: caches are made anew
FITS = ("crop", "pad", "squash")
ABOUT = "about.json"  # written by pack(): name, mirrorable, credits

_BATCH = 512  # pictures decoded ahead of the one being written


def open_folder(
    path: Path,
    resolution: int,
    *,
    count: int | None = None,
    fit: str = "crop",
    caption_template: str = "{}",
    cache: Path | None = None,
    progress: OnProgress = unwatched,
) -> PictureSet:
    """Open the pictures in a folder or .zip; see `sd_core.data.open_data` for the arguments.

    caption_template: what a class folder's name becomes: "{}" is the name, "{a}" the name with its article
    ("a photo of {a}" gives "a photo of an airplane"). Other captions are taken as they are.
    Pictures that cannot be used are in `skipped`; raises DataError when none can.
    """
    if fit not in FITS:
        raise DataError(f"Pictures cannot be fitted by {fit!r}; choose among {', '.join(FITS)}.")
    path = path.expanduser()
    wanted = {"resolution": resolution, "count": count, "fit": fit, "caption_template": caption_template}
    with closing(open_files(path)) as files:
        key = {"files": files.fingerprint, **wanted, "reader": READER_VERSION, "pillow": PIL.__version__}
        pixels, info = cached(cache, "folder", key, partial(_read, path, files, progress, **wanted))
    progress(info["listed"], info["listed"])
    captions, about = tuple(info["captions"]), info["about"]
    return PictureSet(
        name=about.get("name", path.stem),
        pixels=pixels,
        captions=captions,
        mirrorable=about.get("mirrorable", not any(HANDED.search(caption) for caption in captions)),
        skipped=tuple(Skipped(*entry) for entry in info["skipped"]),
        credits=about.get("credits", ""),
    )


def picture_names(files: Files) -> list[str]:
    """Those files that look like pictures by their names."""
    return [name for name in files.names if PurePosixPath(name).suffix.lower() in SUFFIXES]


def evenly(items: Sequence[Any], count: int | None) -> list[Any]:
    """At most `count` of the items, spread evenly, so that of a list sorted by class every class is kept."""
    if count is None or count >= len(items):
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]


def _read(
    path: Path,
    files: Files,
    progress: OnProgress,
    target: Path,
    resolution: int,
    count: int | None,
    fit: str,
    caption_template: str,
) -> dict[str, Any]:
    """Write the usable pictures to the .npy file `target`; returns their captions and everything else to remember."""
    names = evenly(picture_names(files), count)
    texts, skipped = read_metadata(files)
    skipped = [*files.skipped, *skipped]
    about = _about(files)  # a packed set is as its maker wanted it, repetitions included
    finish = partial(squared, resolution=resolution, fit=fit)
    captions: list[str] = []

    def usable() -> Iterator[np.ndarray]:
        for name, pixels in usable_pictures(files, names, resolution, finish, skipped, bool(about), progress):
            captions.append(caption_of(files, name, texts, caption_template))
            yield pixels

    write_pixels(target, resolution, usable())
    if not captions:
        raise _nothing(path, skipped)
    return {
        "captions": captions,
        "skipped": [[sound(entry.file), entry.reason] for entry in skipped],
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
    progress: OnProgress = unwatched,
) -> Iterator[tuple[str, np.ndarray]]:
    """Decodes the named files in threads, and gives each that can be used with its name, in order.

    resolution: as for `decode`. finish: makes pixels of a picture; it may raise Unusable. skipped: where the others are
    noted, pictures that were there before among them, unless `repeats` are wanted. progress: called with (files done,
    files in all).
    """
    seen: dict[bytes, str] = {}
    for done, (name, outcome) in enumerate(_decoded(files, names, resolution, finish), start=1):
        if isinstance(outcome, str):
            skipped.append(Skipped(sound(name), outcome))
        else:
            digest, pixels = outcome
            original = seen.setdefault(digest, name)
            if original != name and not repeats:
                skipped.append(Skipped(sound(name), f"the same picture as {sound(original)}"))
            else:
                yield name, pixels
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
        about = json.loads(read_text(files, ABOUT))
        kinds = {"name": str, "mirrorable": bool, "credits": str}
        return {key: about[key] for key, kind in kinds.items() if isinstance(about[key], kind)}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}


def _nothing(path: Path, skipped: Sequence[Skipped]) -> DataError:
    if not skipped:
        return DataError("There are no pictures in {place}; add some, as .jpg or .png for example.", place=path.name)
    first, more = skipped[0], f", and {len(skipped) - 1} more were skipped" if len(skipped) > 1 else ""
    return DataError(f"There is no usable picture in {path.name}: {first.file} is skipped ({first.reason}){more}.")
