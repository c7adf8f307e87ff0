"""Which files a request may name.

A visitor is a stranger, and sends whatever he likes in place of a file. Gradio looks only at what calls itself one of
its files: a bare path, or a dictionary that does not say so, goes straight to the handler. So every path that a request
names comes through here, for all tabs and endpoints (see inputs.py), and is used only if it lies in the folder of
uploads, which also holds copies of all that the page was handed, or in the folder of the visitor's own session.
"""

import stat
from contextlib import suppress
from pathlib import Path

from gradio.utils import get_upload_folder

from sd_core.errors import UserError
from tabs.common.sessions import SESSIONS, Visitor
from tabs.common.words import say

MAX_UPLOAD_BYTES = 4 * 2**30  # of one's own pictures, where the owner of the page sets no other limit
LONGEST_PATH = 4096  # characters
SERVED = "/gradio_api/file="  # what comes before a file's path in its address


def uploaded(value: object, visitor: Visitor | None, most: int = MAX_UPLOAD_BYTES) -> Path:
    """The file that a request names, with all links followed.

    Args:
        value: as it came: Gradio's dictionary of a file, with or without its marks, or a bare path.
        visitor: who sent it.
        most: bytes.

    Raises:
        UserError: it is no regular file in the folder of uploads or the visitor's own, or too large.
        FileNotFoundError: it was one, and is gone.
    """
    path = _inside(_named(value), visitor)
    if path is None:
        raise UserError(say(visitor, "not_uploaded"))
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UserError(say(visitor, "not_uploaded"))
    if status.st_size > most:
        raise UserError(say(visitor, "file_too_large", megabytes=most // 2**20))
    return path


def _named(value: object) -> str:
    """The path that a value stands for; "" for none."""
    path = value.get("path") if isinstance(value, dict) else value
    if not isinstance(path, str) or len(path) > LONGEST_PATH or "\0" in path:
        return ""
    if path.startswith(("http://", "https://")):  # of this page's own files, which need not be fetched
        return path.partition(SERVED)[2]
    return path


def _inside(path: str, visitor: Visitor | None) -> Path | None:
    """Where a path leads; None unless that is inside one of the folders."""
    folders = [Path(get_upload_folder()), SESSIONS.folder_of(visitor)]
    with suppress(OSError, RuntimeError, ValueError):  # names that are too long, links in a circle
        found = Path(path).resolve()
        if path and any(folder and found.is_relative_to(folder.resolve()) for folder in folders):
            return found
    return None
