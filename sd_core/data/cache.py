"""Pictures kept between runs: an entry is a folder of pixels.npy and info.json, and appears whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from sd_core.folders import default_cache

from .pictures import DataError

_CHUNK = 1 << 22  # bytes read at a time when checking an entry


def cached(
    root: Path | None, name: str, key: Mapping[str, Any], make: Callable[[Path], dict[str, Any]]
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return (pixels, info) for `key`, calling `make` only when there is no sound entry yet.

    make(path) writes uint8 [N, R, R, 3] to the .npy file `path` and returns what else is to be remembered, as JSON.
    pixels is a read-only memory map. Raises DataError when the cache folder cannot be written.
    """
    root = default_cache() if root is None else Path(root)
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:20]
    entry = root / f"{name}-{digest}"
    found = _load(entry)
    if found is not None:
        return found
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{entry.name}.lock"):  # the processes of one training need the same set at the same time
            return _load(entry) or _make(root, entry, make)
    except OSError as error:
        raise DataError(
            f"The cache folder {root} cannot be written ({error.strerror or error}); "
            "make room there or set SD_CORE_CACHE to another folder."
        ) from error


def _make(root: Path, entry: Path, make: Callable[[Path], dict[str, Any]]) -> tuple[np.ndarray, dict[str, Any]]:
    """Make an entry aside and move it into place; a damaged one gives way."""
    with tempfile.TemporaryDirectory(prefix=f".{entry.name}-", dir=root, ignore_cleanup_errors=True) as folder:
        work = Path(folder, "entry")
        work.mkdir()
        info = make(work / "pixels.npy")
        document = {"info": info, "crc32": _crc32(work / "pixels.npy")}
        (work / "info.json").write_text(json.dumps(document), encoding="utf-8")
        if entry.exists():
            shutil.rmtree(entry)
        os.replace(work, entry)
    found = _load(entry)
    if found is None:
        raise DataError(f"The cache folder {root} did not keep what was written; set SD_CORE_CACHE to another folder.")
    return found


def write_pixels(path: Path, resolution: int, pictures: Iterable[np.ndarray]) -> None:
    """Write pictures, uint8 [R, R, 3] each and as many as come, to the .npy file `path` as uint8 [N, R, R, 3]."""

    def header(count: int) -> dict[str, Any]:
        return {"descr": "|u1", "fortran_order": False, "shape": (count, resolution, resolution, 3)}

    count = 0
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header(0))
        start = file.tell()
        for picture in pictures:
            file.write(np.ascontiguousarray(picture).data)
            count += 1
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, header(count))
        assert file.tell() == start, "numpy pads headers so that the first axis can grow in place"


def _load(entry: Path) -> tuple[np.ndarray, dict[str, Any]] | None:
    """The entry's (pixels, info), or None when it is missing or damaged."""
    try:
        document = json.loads((entry / "info.json").read_text(encoding="utf-8"))
        if _crc32(entry / "pixels.npy") != document["crc32"]:
            return None
        return np.load(entry / "pixels.npy", mmap_mode="r", allow_pickle=False), document["info"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _crc32(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            value = zlib.crc32(chunk, value)
    return value
