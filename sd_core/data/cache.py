"""Pictures kept between runs: an entry is a folder of pixels.npy and info.json, and appears whole or not at all.

When all entries together are too large, those go that were not used for longest, and never one that a process uses:
whoever has its pixels holds a shared lock on its info.json, which the system frees when the process dies.
"""

import hashlib
import json
import os
import shutil
import tempfile
import weakref
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from sd_core.environment import default_cache
from sd_core.errors import DataError

try:
    import fcntl
except ImportError:  # Windows, where a file in use cannot be moved or removed anyway
    fcntl = None

MOST_BYTES = 8 * 2**30  # of all entries: tens of sets of own pictures
_CHUNK = 1 << 22  # bytes read at a time when checking an entry


def cached(
    root: Path | None, name: str, key: Mapping[str, Any], make: Callable[[Path], dict[str, Any]]
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return (pixels, info) for `key`, calling `make` only when there is no sound entry yet.

    make(path) writes uint8 [N, R, R, 3] to the .npy file `path` and returns what else is to be remembered, as JSON.
    pixels is a read-only memory map, whose entry stays while it lives. Raises DataError when the cache folder cannot be
    written.
    """
    root = default_cache() if root is None else Path(root)
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:20]
    entry = root / f"{name}-{digest}"
    found = _load(entry)
    if found is not None:
        return found
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _making(entry):  # the processes of one training need the same set at the same time
            found = _load(entry) or _make(root, entry, make)
    except OSError as error:
        raise DataError(
            f"The cache folder {root} cannot be written ({error.strerror or error}); "
            "make room there or set SD_CORE_CACHE to another folder."
        ) from error
    with suppress(OSError):  # the pictures are there, whatever becomes of older ones
        prune(root)
    return found


def prune(root: Path, most: int | None = None) -> None:
    """Removes the entries that were not used for longest until the others have at most `most` bytes (`MOST_BYTES`), and
    what a process that was killed left half made. What is in use stays."""
    for unfinished in root.glob(".*-*-*/"):
        lock = _making(root / unfinished.name[1:].rpartition("-")[0])
        with suppress(Timeout), lock.acquire(timeout=0):
            shutil.rmtree(unfinished, ignore_errors=True)
    entries = []
    for info in root.glob("*/info.json"):
        with suppress(OSError):  # removed at this moment
            size = sum(file.stat().st_size for file in info.parent.iterdir())
            entries.append((info.stat().st_mtime_ns, size, info.parent))
    left = sum(size for _, size, _ in entries)
    for _, size, entry in sorted(entries):
        if left <= (MOST_BYTES if most is None else most):
            return
        if _remove(entry):
            left -= size


def _remove(entry: Path) -> bool:
    """Removes an entry that nobody uses; whether that was so."""
    try:
        with (entry / "info.json").open("rb") as info:
            if fcntl:
                fcntl.flock(info, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with tempfile.TemporaryDirectory(
                prefix=f".{entry.name}-", dir=entry.parent, ignore_cleanup_errors=True
            ) as gone:
                os.replace(entry, Path(gone, "entry"))  # at once: nobody finds half of it
    except OSError:  # in use, or just removed by another
        return False
    return True


def _making(entry: Path) -> FileLock:
    """What a process holds while it makes an entry."""
    return FileLock(entry.parent / f".{entry.name}.lock")


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
    with ExitStack() as stack:
        try:
            held = stack.enter_context((entry / "info.json").open("rb"))
            if fcntl:
                with suppress(OSError):  # a file system without locks: then nobody can remove the entry either
                    fcntl.flock(held, fcntl.LOCK_SH)
            document = json.load(held)
            if _crc32(entry / "pixels.npy") != document["crc32"]:
                return None
            pixels, info = np.load(entry / "pixels.npy", mmap_mode="r", allow_pickle=False), document["info"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        weakref.finalize(pixels.base, stack.pop_all().close)  # the map, which lives as long as any view of its pixels
    with suppress(OSError):  # somebody else's cache
        os.utime(entry / "info.json")
    return pixels, info


def _crc32(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            value = zlib.crc32(chunk, value)
    return value
