"""Damaged picture in, repaired picture out, with a restorer: any size, tile by tile.

The walk is the one that generates pictures, by a D that has seen the damage. Its first step, from `SIGMA_MAX`, lands on
the mean of all that the picture may have been: the most faithful answer, and a soft one. Further steps draw *one* of
those pictures: sharper, partly invented, and another one for another seed (Palette, Saharia et al. 2021,
arXiv:2111.05826).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sd_core.device import inference_autocast
from sd_core.diffusion.noise import SIGMA_MAX
from sd_core.diffusion.schedules import karras_sigmas
from sd_core.diffusion.tiling import Window, touching, windows
from sd_core.models.conditioning import CELL, Conditioning, seen_from_afar
from sd_core.models.denoiser import Denoiser
from sd_core.pictures.decoding import MAX_PIXELS
from sd_core.pictures.pixels import to_float, to_image, to_pixels
from sd_core.restoration.request import RestoreRequest, Restoring, answers
from sd_core.restoration.routing import expert, spread_crops

WALK_FROM = 1.0  # noise level at which a walk goes on after its first step: above what a repair leaves open
WALK_TO = 0.01  # as low as restorers learn, see `objectives.restoration.LEAST_SIGMA`
# An answer of one step is the mean of so many of the denoiser's `VIEWS`, up to so many pixels in the windows that are
# to be repaired: 512×512 is to take less than a second on two CPU cores.
VIEWED = ((4, 200_000), (2, 1_000_000))
PREVIEW_SIDE = 768  # pixels of a preview, at most


def restore(model: Denoiser, picture: Tensor, request: RestoreRequest) -> Iterator[Restoring]:
    """Repairs a picture.

    Args:
        model: a restorer, frozen as `checkpoint.load` gives it.
        picture: uint8 [H, W, 3], sRGB.
        request: what to do.

    Yields:
        a `Restoring` after each tile of each step; the last one has all candidates. Pixels that are not to be changed
        are the same as in `picture`, to the bit. A noisy picture that is to be enlarged is cleaned first, at its own
        size, which its previews then have.

    Raises:
        ValueError: the model is no restorer, nothing is marked, the mask has another size, or the enlarged picture
            would be too large.
    """
    if model.config.kind != "restorer":
        raise ValueError("This model draws pictures and does not repair them; choose a restorer.")
    if not request.whole and (request.mask is None or not request.mask.any()):
        raise ValueError("Mark the damage first, or clean the whole picture.")
    if request.mask is not None and request.mask.shape != picture.shape[:2]:
        raise ValueError("The mask and the picture differ in size.")
    if request.mask is not None and not request.mask.any():
        request = replace(request, mask=None)
    size = picture.shape[:2]
    _check_enlarged(size, request.upscale)
    network = model
    if not request.whole:
        network = model.specialist or model
    elif request.mask is None:
        network = expert(model, to_float(spread_crops(picture)), request.level)
    if request.upscale == 1 or network is model:
        yield from _repaired(network, picture, request)
        return
    first, then = _noise_first(request)
    before, after = (_count(_places(size, each), each) for each in (first, then))
    for cleaned in _repaired(network, picture, first):
        yield replace(cleaned, count=before + after, pictures=())
    finished: list[Tensor] = []
    for done in _repaired(model, cleaned.pictures[0], then):
        for answer in done.pictures[len(finished) :]:
            finished.append(_blended(picture, answer, request))
        yield replace(done, index=before + done.index, count=before + after, pictures=tuple(finished))


def _noise_first(request: RestoreRequest) -> tuple[RestoreRequest, RestoreRequest]:
    """Enlarging in two goes, for the specialist and the restorer: enlarged noise would be white no more."""
    first = replace(request, upscale=1, steps=1, strength=1.0)
    return first, replace(request, sigma=None, strength=1.0)


def _blended(picture: Tensor, answer: Tensor, request: RestoreRequest) -> Tensor:
    """An answer, uint8 [H, W, 3], as strong as it was asked for, beside the mere enlargement of the picture."""
    if request.strength == 1:
        return answer
    plain, blended = enlarged(picture, request.upscale), torch.empty_like(answer)
    for window in windows(*answer.shape[:2]):
        ends = (to_float(each[window.inner]) for each in (plain, answer))
        blended[window.inner] = to_pixels(torch.lerp(*ends, request.strength))
    return blended


def _repaired(network: Denoiser, picture: Tensor, request: RestoreRequest) -> Iterator[Restoring]:
    """The same as `restore`, by one network in one go."""
    source = enlarged(picture, request.upscale)
    mask = _resized(request.mask, source.shape[:2])
    afar = None if mask is None else seen_from_afar(source, mask)
    places = _places(picture.shape[:2], request)
    finished: list[Tensor] = []
    index, count = 0, _count(places, request)
    for number in range(answers(request.candidates, request.steps)):
        walk = _Walk(network, source, mask, afar, places, request, request.seed + number)
        for preview in walk.run():
            index += 1
            yield Restoring(index, count, preview, tuple(finished))
        finished.append(walk.picture)
    yield Restoring(count, count, _reduced(finished[-1]), tuple(finished))


def _count(places: Sequence[Window], request: RestoreRequest) -> int:
    """How many pieces of work these windows make."""
    return answers(request.candidates, request.steps) * request.steps * len(places)


def work(size: Sequence[int], request: RestoreRequest) -> int:
    """How many pixels a model computes at most to repair a picture of (height, width), each as often as it is computed:
    the time it takes goes with that."""
    places = _places(size, request)
    calls = request.steps * _views(places, request.steps) * answers(request.candidates, request.steps)
    first = work(size, _noise_first(request)[0]) if request.upscale > 1 and request.mask is None else 0
    return first + calls * sum(_pixels(window.outer) for window in places)


def _pixels(span: tuple[slice, slice]) -> int:
    rows, columns = span
    return (rows.stop - rows.start) * (columns.stop - columns.start)


def _views(places: Sequence[Window], steps: int) -> int:
    """How many views each answer is the mean of: more than one where there is but one step, and not much to compute."""
    pixels = sum(_pixels(window.inner) for window in places)
    return next((views for views, most in VIEWED if pixels <= most), 1) if steps == 1 else 1


def _places(size: Sequence[int], request: RestoreRequest) -> list[Window]:
    """The windows that are to be computed of a picture of (height, width), once it is enlarged."""
    if request.whole:
        return list(windows(*(side * request.upscale for side in size)))
    return [] if request.mask is None else list(touching(request.mask))


def enlarged(picture: Tensor, factor: int) -> Tensor:
    """uint8 [H, W, 3] bicubically `factor` times larger: what a restorer then sharpens.

    Raises:
        ValueError: it would be larger than `MAX_PIXELS`.
    """
    if factor == 1:
        return picture
    height, width = (side * factor for side in picture.shape[:2])
    _check_enlarged(picture.shape[:2], factor)
    return torch.from_numpy(np.array(to_image(picture).resize((width, height), Image.Resampling.BICUBIC)))


def _check_enlarged(size: Sequence[int], factor: int) -> None:
    if factor > 1 and math.prod(size) * factor**2 > MAX_PIXELS:
        raise ValueError(f"Enlarged {factor} times it would have more than {MAX_PIXELS // 1_000_000} million pixels.")


def _resized(mask: Tensor | None, size: Sequence[int]) -> Tensor | None:
    if mask is None or mask.shape == tuple(size):
        return mask
    return F.interpolate(mask[None, None].float(), tuple(size))[0, 0] > 0


class _Walk:
    """One candidate on its way. Only the windows in `places` are computed; the rest of the picture stays as it is."""

    def __init__(
        self,
        model: Denoiser,
        source: Tensor,
        mask: Tensor | None,
        afar: Tensor | None,
        places: Sequence[Window],
        request: RestoreRequest,
        seed: int,
    ):
        self.model, self.source, self.mask, self.afar = model, source, mask, afar
        self.places, self.request = places, request
        self.picture = source.clone()  # the answer so far
        self.generator = torch.Generator().manual_seed(seed)
        self.views = _views(places, request.steps)
        # The walk's own numbers, as large as what is computed; one step needs none.
        self.top, self.left, self.height, self.width = _box(places)

    def run(self) -> Iterator[Tensor]:
        """A preview after each window of each step.

        Each step is Euler's (DDIM): x = D + sigma' / sigma (x - D). At first x is D plus noise: at
        `SIGMA_MAX` the noise is all there is. Kept is how far x is from the source: what is not repaired is known, and
        its D is the source.
        """
        sigmas = walk_sigmas(self.request.steps).tolist()
        away = None
        for sigma, following in zip(sigmas, sigmas[1:], strict=False):
            kept = 0.0 if away is None else following / sigma
            if not following:
                after = None
            elif away is None:
                after = torch.randn(3, self.height, self.width, generator=self.generator).mul_(following)
            else:
                after = kept * away
            for window in self.places:
                looked_at = None if away is None else away[(slice(None), *self._inside(window.outer))]
                denoised = self._denoised(looked_at, sigma, window)
                self._keep(denoised, window)
                if after is not None:
                    repaired_by = denoised - to_float(self.source[window.inner])
                    after[(slice(None), *self._inside(window.inner))] += (1 - kept) * repaired_by
                yield _reduced(self.picture)
            away = after

    def _inside(self, span: tuple[slice, slice]) -> tuple[slice, slice]:
        """The same place, in the walk's own numbers."""
        rows, columns = span
        return (
            slice(rows.start - self.top, rows.stop - self.top),
            slice(columns.start - self.left, columns.stop - self.left),
        )

    def _denoised(self, away: Tensor | None, sigma: float, window: Window) -> Tensor:
        """D [3, h, w] on the CPU for a window's inner part. `away` is how far x [3, H, W] is from the source in its
        outer part."""
        device = self.model.device
        damaged = to_float(self.source[window.outer])[None].to(device)
        mask = None if self.mask is None else self.mask[window.outer][None, None].to(device)
        afar = None if self.afar is None else self._afar(window).to(device)
        conditioning = Conditioning.of(damaged, mask, self.request.level, afar)
        with torch.inference_mode(), inference_autocast(device):
            if away is None:
                denoised, _ = self.model.at_once(conditioning, self.views)
            else:
                denoised, _ = self.model.restored(damaged + away.to(device), torch.tensor(sigma), conditioning)
        return denoised[0][(slice(None), *window.inside)].float().cpu()

    def _afar(self, window: Window) -> Tensor:
        rows, columns = (slice(span.start // CELL, -(-span.stop // CELL)) for span in window.outer)
        return self.afar[None, :, rows, columns]

    def _keep(self, denoised: Tensor, window: Window) -> None:
        """Writes an answer into the picture, as far as it was asked for."""
        answer = self.source[window.inner]
        if self.request.whole:
            answer = to_pixels(torch.lerp(to_float(answer), denoised, self.request.strength))
        if self.mask is not None:
            answer = torch.where(self.mask[window.inner][..., None], to_pixels(denoised), answer)
        self.picture[window.inner] = answer


def walk_sigmas(steps: int) -> Tensor:
    """The noise levels [steps + 1] of a walk: from `SIGMA_MAX`, where the first answer comes from, straight to where
    what that leaves open is decided."""
    if steps == 1:
        return torch.tensor([SIGMA_MAX, 0.0])
    return torch.cat([torch.tensor([SIGMA_MAX]), karras_sigmas(steps - 1, WALK_TO, WALK_FROM)])


def _box(places: Sequence[Window]) -> tuple[int, int, int, int]:
    """Top, left, height and width of the part of the picture that all windows together look at."""
    top, left = (min(p.outer[axis].start for p in places) for axis in (0, 1))
    bottom, right = (max(p.outer[axis].stop for p in places) for axis in (0, 1))
    return top, left, bottom - top, right - left


def _reduced(picture: Tensor) -> Tensor:
    """A copy of uint8 [H, W, 3] small enough to be shown at every step: every n-th pixel."""
    every = -(-max(picture.shape[:2]) // PREVIEW_SIDE)
    return picture[::every, ::every].clone()
