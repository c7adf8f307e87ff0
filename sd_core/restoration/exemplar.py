"""Wide holes filled with pieces from elsewhere in the picture.

A restorer's answer for a pixel is the mean of all that it may have been, which far from everything known is a smear. A
piece that fits what surrounds the hole is but one of those pictures, yet a sharp one: cloth goes on as cloth, grass as
grass (exemplar-based completion: Wexler et al. 2007, doi:10.1109/TPAMI.2007.60, by PatchMatch, Barnes et al. 2009,
doi:10.1145/1531326.1531330).
"""

import math
import threading

import numpy as np
import torch
import torch.nn.functional as F
from patchmatch import patch_match
from PIL import Image
from torch import Tensor

from sd_core.diffusion.tiling import Span, Window, around, islands, touching
from sd_core.restoration.request import RestoreRequest

BRIDGED = 32  # pixels: what is less wide, a restorer bridges better
PATCH_RADIUS = 3  # pixels around the one that pieces are compared by
NEAR = 64  # pixels to each side of a hole, at least, in which pieces are looked for, and as many as the hole is large
RIM = 2  # pixels along the edge of a hole
MOST = 400_000  # pixels in which pieces are looked for at a time, which takes about 2 seconds; more are reduced

_one_at_a_time = threading.Lock()  # the package has one seed


def wide_holes(request: RestoreRequest) -> Tensor | None:
    """Where pieces from elsewhere are wanted, bool [H, W]; None for nowhere."""
    if request.mask is None or not request.exemplars or (request.whole and request.upscale == 1):
        return None
    found = wide(request.mask)
    return found if found.any() else None


def wide(mask: Tensor) -> Tensor:
    """Those holes in a mask, bool [H, W], that a restorer cannot bridge, since a square of `BRIDGED` pixels fits in.
    What lies beyond the picture's edge counts as lost. None, where this machine has no PatchMatch."""
    found = torch.zeros_like(mask)
    if not mask.any() or not patch_match.patchmatch_available:
        return found
    rows, columns = (hit.nonzero()[:, 0] for hit in (mask.any(1), mask.any(0)))
    span = tuple(slice(max(0, int(hit[0]) - 1), int(hit[-1]) + 2) for hit in (rows, columns))
    core = ~_grown(~mask[span], BRIDGED // 2)
    found[span] = _grown(core, BRIDGED) & mask[span]
    return found


def _grown(mask: Tensor, radius: int) -> Tensor:
    """All pixels of a square of `radius` around those of a mask, bool [H, W]."""
    found = mask[None].float()
    for size in ((2 * radius + 1, 1), (1, 2 * radius + 1)):
        found = F.max_pool2d(found, size, stride=1, padding=(size[0] // 2, size[1] // 2))
    return found[0] > 0


def places(holes: Tensor) -> list[Span]:
    """The parts of a picture that must be looked at to fill `holes`, bool [H, W], each by itself."""
    spans = []
    for island in islands(list(touching(holes))):
        inner = around([Window(window.inner, window.inner) for window in island])
        spans.append(tuple(_widened(each, length) for each, length in zip(inner, holes.shape, strict=True)))
    return spans


def rim(holes: Tensor) -> Tensor:
    """The pixels along the edge of holes, bool [H, W], where a restorer joins what fills them to the picture."""
    found = torch.zeros_like(holes)
    for span in places(holes):
        found[span] = holes[span] & _grown(~holes[span], RIM)
    return found


def _widened(span: slice, length: int) -> slice:
    more = max(NEAR, span.stop - span.start)
    return slice(max(0, span.start - more), min(length, span.stop + more))


def looked_through(holes: Tensor) -> int:
    """In how many pixels pieces are looked for to fill holes, bool [H, W]."""
    return sum(min(MOST, math.prod(each.stop - each.start for each in span)) for span in places(holes))


def filled(picture: Tensor, holes: Tensor, lost: Tensor, seed: int) -> Tensor:
    """A part of a picture with its holes filled.

    Args:
        picture: uint8 [H, W, 3].
        holes: bool [H, W], what is to be filled. The rest stays as it is, to the bit.
        lost: bool [H, W], what no piece may be taken from.
        seed: another one finds other pieces.
    """
    factor = math.ceil(math.sqrt(holes.numel() / MOST))
    small, hole, not_taken = picture.numpy(), holes.numpy(), (lost & ~holes).numpy()
    if factor > 1:
        size = -(-small.shape[1] // factor), -(-small.shape[0] // factor)
        small = np.array(Image.fromarray(small).resize(size, Image.Resampling.BOX))
        hole, not_taken = (_any_of(mask, size) for mask in (hole, not_taken))
    with _one_at_a_time:
        patch_match.set_random_seed(seed)
        found = patch_match.inpaint(small, hole, global_mask=not_taken & ~hole, patch_size=PATCH_RADIUS)
    if factor > 1:
        found = np.array(Image.fromarray(found).resize(holes.shape[::-1], Image.Resampling.LANCZOS))
    return torch.where(holes[..., None], torch.from_numpy(found), picture)


def _any_of(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask at another size, where each pixel holds whether any of those that it stands for did."""
    return np.asarray(Image.fromarray(mask.astype(np.float32)).resize(size, Image.Resampling.BOX)) > 0
