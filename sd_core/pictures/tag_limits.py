"""A limit to what Pillow reads of a picture's tags (TIFF, EXIF). Importing this file sets it.

Each tag says where its value lies and how long it is, and Pillow reads them all at once. So a file of 300 kB whose
3,000 tags all mean the same 300 kB takes a gigabyte before anybody knows its size, and one of a megabyte all the memory
there is. No honest tag shares its value, so that together they are no longer than the file.
"""

import os
from collections.abc import Callable
from functools import wraps
from typing import IO

from PIL.TiffImagePlugin import ImageFileDirectory_v2

SLACK = 65_536  # bytes, for the directory itself and for short values that tools write once for several tags


class _Frugal:
    """An open file of which no more is read than it is long."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        place = file.tell()
        self._left = file.seek(0, os.SEEK_END) + SLACK
        file.seek(place)
        self.tell, self.seek = file.tell, file.seek

    def read(self, count: int = -1) -> bytes:
        if count < 0 or count > self._left:
            raise OSError("The tags are longer than the file that they are in.")  # Pillow goes on without the rest
        data = self._file.read(count)
        self._left -= len(data)
        return data


def _limited(load: Callable[[ImageFileDirectory_v2, IO[bytes]], None]):
    @wraps(load)
    def limited(self: ImageFileDirectory_v2, fp: IO[bytes]) -> None:
        load(self, _Frugal(fp))

    return limited


if not hasattr(ImageFileDirectory_v2.load, "__wrapped__"):
    ImageFileDirectory_v2.load = _limited(ImageFileDirectory_v2.load)
