"""The picture that a visitor of the Restore tab works on."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from sd_core.pictures.original import open_original
from sd_core.pictures.previews import proxy
from tabs.restore.job import Repaired


@dataclass(frozen=True)
class Opened:
    """Attributes:
    path: its file, as it was uploaded or made.
    size: (width, height) in pixels.
    has_alpha: whether parts of it may be transparent.
    copy: the file of its copy (see `previews.proxy`), to mark and to show places on.
    """

    path: str
    size: tuple[int, int]
    has_alpha: bool
    copy: str

    def copied(self) -> Image.Image:
        """Its copy, made again if the system has tidied that away while the page stood open.

        Raises:
            PictureError: the picture itself is gone, too.
        """
        try:
            with Image.open(self.copy) as copy:
                return copy.copy()
        except FileNotFoundError:
            return proxy(open_original(self.path))


@dataclass(frozen=True)
class Made:
    """Files of a picture that the app made from another one, or that was left to go on from its repair.

    Attributes:
        picture: the file.
        original: what it was before all damage, or None where nobody knows.
        mask: of what is lost or was marked, if anything is.
        what: the kind of repair it calls for: "marked" or "whole", or None to leave it as it is.
        before: what it was repaired from, to go back to, as that was left.
        repaired: what came of it before it was left, and `candidate` the number of what was gone on from.
        copy_of: the file that is meant, where `picture` is but a copy of it that browsers can show.
    """

    picture: str | Path
    original: str | Path | None
    mask: Path | None = None
    what: str | None = None
    before: "Made | None" = None
    repaired: Repaired | None = None
    candidate: int = 0
    copy_of: str | None = None


def digest(path: str | Path) -> str:
    """Names a file by its content, whatever it is called."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
