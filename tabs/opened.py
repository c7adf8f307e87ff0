"""The picture that a visitor of the Restore tab works on."""

from dataclasses import dataclass

from PIL import Image

from sd_core.originals import open_original
from sd_core.proxies import proxy


@dataclass(frozen=True)
class Opened:
    """Attributes:
    path: its file, as it was uploaded or made.
    size: (width, height) in pixels.
    has_alpha: whether parts of it may be transparent.
    copy: the file of its copy (see `sd_core.proxies`), to mark and to show places on.
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
