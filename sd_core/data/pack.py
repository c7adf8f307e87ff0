"""A set of pictures as one .zip, so that training on any machine needs one file."""

import io
import json
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from sd_core.atomic import replacing
from sd_core.data.captions import METADATA
from sd_core.data.folder import ABOUT
from sd_core.data.picture_set import PictureSet
from sd_core.errors import DataError
from sd_core.progress import OnProgress, unwatched

_BATCH = 512  # pictures encoded ahead of the one being written
_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest a .zip can say; the same set gives the same file at any time


def pack(pictures: PictureSet, path: Path, progress: OnProgress = unwatched) -> None:
    """Write PNG pictures, a metadata.jsonl and an about.json to the .zip `path`, whole or not at all.

    `open_data(path, pictures.resolution)` gives the same pixels, captions, name, mirrorable and credits back.
    Raises DataError when the file cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as new, zipfile.ZipFile(new, "w") as archive:
            _write(pictures, archive, progress)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror or error}); choose another place.") from error


def _write(pictures: PictureSet, archive: zipfile.ZipFile, progress: OnProgress) -> None:
    about = {"name": pictures.name, "mirrorable": pictures.mirrorable, "credits": pictures.credits}
    names = [f"pictures/{index:06d}.png" for index in range(len(pictures))]
    lines = (
        json.dumps({"file_name": name, "text": caption}, ensure_ascii=False)
        for name, caption in zip(names, pictures.captions, strict=True)
    )
    _add(archive, ABOUT, json.dumps(about, ensure_ascii=False, indent=2), zipfile.ZIP_DEFLATED)
    _add(archive, METADATA, "\n".join(lines), zipfile.ZIP_DEFLATED)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(names), _BATCH):
            batch = range(start, min(start + _BATCH, len(names)))
            for index, data in zip(batch, pool.map(lambda i: _png(pictures.pixels[i]), batch), strict=True):
                _add(archive, names[index], data, zipfile.ZIP_STORED)
                progress(index + 1, len(names))


def _add(archive: zipfile.ZipFile, name: str, data: bytes | str, compression: int) -> None:
    if isinstance(data, str):
        data = data.encode("utf-8", "replace")  # a caption may hold what is no text, such as half of an emoji
    info = zipfile.ZipInfo(name, _DATE)
    info.create_system = 3  # Unix, on every system: the same set gives the same file
    info.external_attr = 0o644 << 16
    archive.writestr(info, data, compression)


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()
