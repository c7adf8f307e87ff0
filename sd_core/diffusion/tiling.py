"""Pictures of any size in bounded memory: windows with a margin around what each is asked for.

A restorer's answer for a pixel depends on its surroundings only, and hardly on those farther than `MARGIN`, so each
window is computed with that much of its surroundings, and the parts fit together without seams.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

TILE = 512  # pixels a side of what one window gives; with its margins, what one call computes
MARGIN = 64  # pixels around it: tiles of the released restorer then agree with the whole picture to 1/255
GRID = 16  # windows begin and end at multiples of it, so that the network's levels fall on the same pixels everywhere


@dataclass(frozen=True)
class Window:
    """A part of a picture: `inner` is asked for, `outer` is looked at. Each is (rows, columns)."""

    inner: tuple[slice, slice]
    outer: tuple[slice, slice]

    @property
    def inside(self) -> tuple[slice, slice]:
        """Where `inner` lies in `outer`."""
        return tuple(slice(i.start - o.start, i.stop - o.start) for i, o in zip(self.inner, self.outer, strict=True))


def windows(height: int, width: int, tile: int = TILE, margin: int = MARGIN) -> Iterator[Window]:
    """Windows whose inner parts cover a picture of `height` by `width` pixels, each pixel once."""
    for rows in _spans(height, tile):
        for columns in _spans(width, tile):
            yield _window(rows, columns, height, width, margin)


def _spans(length: int, tile: int) -> list[slice]:
    return [slice(start, min(start + tile, length)) for start in range(0, length, tile)]


def _window(rows: slice, columns: slice, height: int, width: int, margin: int) -> Window:
    def grown(span: slice, length: int) -> slice:
        return slice(max(0, span.start - margin) // GRID * GRID, min(length, -(-(span.stop + margin) // GRID) * GRID))

    return Window((rows, columns), (grown(rows, height), grown(columns, width)))


def touching(mask: Tensor, tile: int = TILE, margin: int = MARGIN) -> Iterator[Window]:
    """The windows that a repair of `mask`, bool [H, W], needs: each is cut down to what of the mask it holds."""
    height, width = mask.shape
    for window in windows(height, width, tile, margin):
        part = mask[window.inner]
        if part.any():
            rows, columns = (
                slice(span.start + int(hit[0]), span.start + int(hit[-1]) + 1)
                for span, hit in zip(
                    window.inner, (part.any(1).nonzero()[:, 0], part.any(0).nonzero()[:, 0]), strict=True
                )
            )
            yield _window(rows, columns, height, width, margin)
