"""Pictures of any size in bounded memory: windows with a margin around what each is asked for.

A restorer's answer for a pixel depends on its surroundings only, and hardly on those farther than `MARGIN`, so each
window is computed with that much of its surroundings, and the parts fit together without seams.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from sd_core.diffusion.sampling import D

TILE = 512  # pixels a side of what one window gives; with its margins, what one call computes
MARGIN = 64  # pixels around it: tiles of the released restorer then agree with the whole picture to 1/255
GRID = 16  # windows begin and end at multiples of it, so that the network's levels fall on the same pixels everywhere

Span = tuple[slice, slice]
"""A part of a picture: rows and columns."""


@dataclass(frozen=True)
class Window:
    """A part of a picture: `inner` is asked for, `outer` is looked at."""

    inner: Span
    outer: Span

    @property
    def inside(self) -> Span:
        """Where `inner` lies in `outer`."""
        return _within(self.inner, self.outer)

    def within(self, span: Span) -> "Window":
        """The same window of a picture that was cropped to `span`."""
        return Window(_within(self.inner, span), _within(self.outer, span))


def area(span: Span) -> int:
    """How many pixels a part of a picture has."""
    rows, columns = span
    return (rows.stop - rows.start) * (columns.stop - columns.start)


def _within(span: Span, other: Span) -> Span:
    """Where a part lies in another, which begins above it and to its left."""
    return tuple(slice(s.start - o.start, s.stop - o.start) for s, o in zip(span, other, strict=True))


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


def islands(places: Sequence[Window]) -> list[list[Window]]:
    """Groups of windows of which none looks at what another group gives, so that each can be walked for itself."""
    giving = defaultdict(list)  # the windows that give something of each tile of the picture
    for number, window in enumerate(places):
        for tile in _tiles(window.inner):
            giving[tile].append(number)
    parents = list(range(len(places)))  # a union-find forest

    def root(number: int) -> int:
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number

    for number, window in enumerate(places):
        for other in {other for tile in _tiles(window.outer) for other in giving[tile]}:
            if _overlap(window.outer, places[other].inner):
                parents[root(other)] = root(number)
    found = defaultdict(list)
    for number, window in enumerate(places):
        found[root(number)].append(window)
    return list(found.values())


def _tiles(span: Span) -> Iterator[tuple[int, int]]:
    rows, columns = (range(s.start // TILE, -(-s.stop // TILE)) for s in span)
    return product(rows, columns)


def _overlap(a: Span, b: Span) -> bool:
    return all(s.start < o.stop and o.start < s.stop for s, o in zip(a, b, strict=True))


def around(places: Sequence[Window]) -> Span:
    """The smallest part of a picture that holds all that these windows look at."""
    rows, columns = (
        slice(min(p.outer[axis].start for p in places), max(p.outer[axis].stop for p in places)) for axis in (0, 1)
    )
    return rows, columns


class Tiled:
    """A `D` for pictures of any size: asks for one window after the other, each with its surroundings.

    Args:
        given: the `D` of a window's outer part.
        places: the windows. Elsewhere the guess is 0.
    """

    def __init__(self, given: Callable[[Window], D], places: Sequence[Window]):
        self.given, self.places = given, places
        self._ready: tuple[Tensor, float, Tensor] | None = None

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        if self._ready is None or self._ready[0] is not x or self._ready[1] != float(sigma):
            for _ in self.ahead(x, sigma):
                pass
        (_, _, denoised), self._ready = self._ready, None
        return denoised

    def ahead(self, x: Tensor, sigma: Tensor) -> Iterator[tuple[Window, Tensor]]:
        """Works out the guess that the next call asks for, so that whoever waits for it can show what there is of it,
        or stop: gives each window with its inner part [B, C, h, w]."""
        denoised = torch.zeros_like(x)
        for window in self.places:
            part = self.given(window)(x[(..., *window.outer)], sigma)[(..., *window.inside)]
            denoised[(..., *window.inner)] = part
            yield window, part
        self._ready = x, float(sigma), denoised
