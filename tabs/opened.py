"""The picture that a visitor of the Restore tab works on."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Opened:
    """Attributes:
    path: its file, as it was uploaded or made.
    size: (width, height) in pixels.
    has_alpha: whether parts of it may be transparent.
    copy: the file of a small copy, to show a place on.
    """

    path: str
    size: tuple[int, int]
    has_alpha: bool
    copy: str
