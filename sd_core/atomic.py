"""Files that are replaced in one step: whoever reads finds the old one or the new one, whole, and so does a crash."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_NAMED = 40  # characters of a file's name that its unfinished replacement repeats: a whole one could be too long


@contextmanager
def replacing(file: Path, durable: bool = False) -> Iterator[Path]:
    """A new file to write, hidden beside `file`, which takes its place when the block ends.

    A block that fails leaves `file` as it was, and nothing else. Several writers may do this at once; the last wins.

    Args:
        file: what to replace, or to make.
        durable: forces the new file to the disk first, so that a power cut after the exchange cannot find it empty.
    """
    new = file.with_name(f".{file.name[:_NAMED]}-{uuid.uuid4().hex[:12]}.new")
    try:
        yield new
        if durable:
            with open(new, "rb") as opened:
                os.fsync(opened.fileno())
        os.replace(new, file)
    except BaseException:
        with suppress(OSError):
            new.unlink()
        raise


def remove_unfinished(folder: Path, names: str) -> None:
    """Removes what killed writers of the files `names` (a pattern) left in `folder`, while nobody writes them."""
    for unfinished in folder.glob(f".{names}-*.new"):
        unfinished.unlink(missing_ok=True)
