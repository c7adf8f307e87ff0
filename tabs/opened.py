"""The picture that a visitor of the Restore tab works on."""

from dataclasses import dataclass


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
