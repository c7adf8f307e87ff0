"""Wide holes filled with pieces from elsewhere in the picture.

A restorer's answer for a pixel is the mean of all that it may have been, which far from everything known is a smear. A
piece that fits what surrounds the hole is but one of those pictures, yet a sharp one: cloth goes on as cloth, grass as
grass (exemplar-based completion: Wexler et al. 2007, doi:10.1109/TPAMI.2007.60, by PatchMatch, Barnes et al. 2009,
doi:10.1145/1531326.1531330).
"""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from patchmatch import patch_match
from PIL import Image
from torch import Tensor

from sd_core.diffusion.tiling import Span, Window, area, around, islands, touching
from sd_core.restoration.request import RestoreRequest

CELL = 4  # pixels: how finely wide places are told from narrow ones
BRIDGED = 8  # cells: what is less wide, a restorer bridges better
CORNERS = 2  # cells by which a hole reaches beyond the squares that fit into it
PART, NEXT_TO = 128, 16  # pixels: a hole is found in parts, which belong together if no more is between them
NEAR = 64  # pixels to each side of a hole, at least, in which pieces are looked for, and as many as the hole is large
PATCH_RADIUS = 3  # pixels around the one that pieces are compared by
RIM = 2  # pixels along the edge of a hole
MOST = 250_000  # pixels that are looked at for a hole: 1 to 4 seconds; of more, the picture is reduced for it
# What it costs, in pixels that a restorer computes in the time: for each pixel looked at, and for each that is filled.
LOOKING, FILLING = 4, 20

_one_at_a_time = threading.Lock()  # the package has one seed


@dataclass(frozen=True)
class Hole:
    """A wide hole: where it is, part by part, and what is looked at to fill it, some of which is known."""

    parts: tuple[Span, ...]
    outer: Span

    def own(self, holes: Tensor) -> Tensor:
        """Which pixels of `outer` are this hole's among `holes`, bool [H, W]."""
        found = torch.zeros_like(holes[self.outer])
        for part in self.parts:
            found[Window(part, part).within(self.outer).inner] = holes[part]
        return found

    @property
    def work(self) -> int:
        """What filling it costs at most, in pixels that a restorer computes in the time."""
        looked_at, filled = area(self.outer), sum(map(area, self.parts))
        reduced = min(1.0, MOST / looked_at)
        return math.ceil(reduced * (LOOKING * looked_at + FILLING * filled))


@dataclass(frozen=True)
class Holes:
    """The wide holes of a picture, and where they are, bool [H, W]."""

    mask: Tensor
    each: tuple[Hole, ...]

    def rim(self) -> Tensor:
        """The pixels along their edges, bool [H, W], where a restorer joins what fills them to the picture."""
        found = torch.zeros_like(self.mask)
        for hole in self.each:
            own = hole.own(self.mask)
            found[hole.outer] |= own & _grown(~own, RIM)
        return found


def holes_of(request: RestoreRequest) -> Holes | None:
    """The holes that are to be filled with pieces from elsewhere, if there are any."""
    if request.mask is None or not request.exemplars or (request.whole and request.upscale == 1):
        return None
    found = wide(request.mask)
    holes = (_hole(island, found) for island in islands(list(touching(found, PART, NEXT_TO))))
    each = tuple(hole for hole in holes if not request.mask[hole.outer].all())
    if not each:
        return None
    mask = torch.zeros_like(found)
    for hole in each:
        mask[hole.outer] |= hole.own(found)
    return Holes(mask, each)


def wide(mask: Tensor) -> Tensor:
    """What of a mask, bool [H, W], a restorer cannot bridge: places into which a square of about `BRIDGED` cells fits,
    and what is marked right beside them. What lies beyond the picture's edge counts as lost. Nothing, where the package
    brings no PatchMatch for this machine."""
    if not mask.any() or not patch_match.patchmatch_available:
        return torch.zeros_like(mask)
    height, width = mask.shape
    padded = F.pad(mask, (0, -width % CELL, 0, -height % CELL), value=True)
    rows, columns = (side // CELL for side in padded.shape)
    lost = padded.view(rows, CELL, columns, CELL).all(3).all(1)
    radius = BRIDGED // 2
    found = _grown(~_grown(~lost, radius), radius + CORNERS)
    return found.repeat_interleave(CELL, 0).repeat_interleave(CELL, 1)[:height, :width] & mask


def _grown(mask: Tensor, radius: int) -> Tensor:
    """All pixels of a square of `radius` around those of a mask, bool [H, W]."""
    found = mask[None].float()
    for size in ((2 * radius + 1, 1), (1, 2 * radius + 1)):
        found = F.max_pool2d(found, size, stride=1, padding=(size[0] // 2, size[1] // 2))
    return found[0] > 0


def _hole(island: Sequence[Window], mask: Tensor) -> Hole:
    """Pieces are looked for as far around a hole as it is large, or less far where that is too much to look at."""
    parts = tuple(window.inner for window in island)
    inner = around([Window(part, part) for part in parts])
    for far in (1.0, 0.5, 0.0):
        outer = tuple(_widened(each, length, far) for each, length in zip(inner, mask.shape, strict=True))
        if area(outer) <= MOST:
            break
    return Hole(parts, outer)


def _widened(span: slice, length: int, far: float) -> slice:
    more = max(NEAR, int(far * (span.stop - span.start)))
    return slice(max(0, span.start - more), min(length, span.stop + more))


def filled(picture: Tensor, hole: Tensor, lost: Tensor, seed: int) -> Tensor:
    """A part of a picture with a hole filled.

    Args:
        picture: uint8 [H, W, 3].
        hole: bool [H, W], what is to be filled. The rest stays as it is, to the bit.
        lost: bool [H, W], what no piece may be taken from; not everything.
        seed: another one finds other pieces.
    """
    known = ~(hole | lost)
    size = tuple(math.ceil(side / math.sqrt(max(1.0, hole.numel() / MOST))) for side in hole.shape)
    small, missing, source = picture, hole, known
    if size != tuple(hole.shape):
        small, missing, source = _reduced(picture, hole, known, size)
    with _one_at_a_time:
        patch_match.set_random_seed(seed)
        others = (~missing & ~source).numpy()
        found = patch_match.inpaint(small.numpy(), missing.numpy(), global_mask=others, patch_size=PATCH_RADIUS)
    if size != tuple(hole.shape):
        found = np.array(Image.fromarray(found).resize(hole.shape[::-1], Image.Resampling.LANCZOS))
    return torch.where(hole[..., None], torch.from_numpy(found), picture)


def _reduced(picture: Tensor, hole: Tensor, known: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """A picture at a smaller size, each pixel the mean of what is known of it; what is missing there; and what is
    known: all that holds anything known, but for the edge of the hole, unless there is nothing else."""
    area = F.interpolate(torch.stack([hole, known])[None].float(), size, mode="area")[0]
    colours = F.interpolate((picture * known[..., None]).permute(2, 0, 1)[None].float(), size, mode="area")[0]
    small = (colours / area[1].clamp(min=1e-6)).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous()
    missing = area[0] > 0
    source = (area[1] > 0) & ~missing
    if not source.any():
        source = area[1] > 0
        missing &= ~source
    return small, missing, source
