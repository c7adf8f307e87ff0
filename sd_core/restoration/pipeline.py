"""Damaged picture in, repaired picture out, with a restorer: any size, tile by tile.

The walk is the one that generates pictures, by a D that has seen the damage. Its first step, from `SIGMA_MAX`, lands on
the mean of all that the picture may have been: the most faithful answer, and a soft one. Further steps draw *one* of
those pictures: sharper, partly invented, and another one for another seed (Palette, Saharia et al. 2021,
arXiv:2111.05826).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from sd_core.device import inference_autocast
from sd_core.diffusion.inverse_problems import Consistent, KnownPixels
from sd_core.diffusion.noise import SIGMA_MAX
from sd_core.diffusion.sampling import D, euler
from sd_core.diffusion.schedules import karras_sigmas
from sd_core.diffusion.tiling import TILE, Span, Tiled, Window, area, around, islands, touching, windows
from sd_core.errors import UserError
from sd_core.models.conditioning import CELL, Conditioning, seen_from_afar
from sd_core.models.denoiser import Denoiser
from sd_core.pictures.pixels import to_float, to_pixels
from sd_core.restoration.exemplar import filled, holes_of
from sd_core.restoration.request import RestoreRequest, Restoring
from sd_core.restoration.routing import expert, spread_crops, white_noise
from sd_core.restoration.upscaling import Known, passes, pieces, released, upscaled

WALK_FROM = 1.0  # noise level at which a walk goes on after its first step: above what a repair leaves open
WALK_TO = 0.01  # as low as restorers learn, see `objectives.restoration.LEAST_SIGMA`
# An answer of one step is the mean of so many of the denoiser's `VIEWS`, up to so many pixels in the windows that are
# to be repaired: 512×512 is to take less than a second on two CPU cores.
VIEWED = ((4, 200_000), (2, 1_000_000))
# Up to so many pixels a walk keeps its numbers in float32; of more, in float16: the three copies of 40 megapixels that
# it needs take 0.7 GB.
EXACT_PIXELS = 4_000_000
UPSCALER_WORK = 4  # times a restorer's for a pixel of the smaller picture
PREVIEW_SIDE = 768  # pixels of a preview, at most


def restore(model: Denoiser, picture: Tensor, request: RestoreRequest) -> Iterator[Restoring]:
    """Repairs a picture.

    Args:
        model: a restorer, frozen as `checkpoint.load` gives it.
        picture: uint8 [H, W, 3], sRGB.
        request: what to do.

    Yields:
        a `Restoring` after each tile of each step; the last one has all candidates. Pixels that are not to be changed
        are the same as in `picture`, to the bit, unless it is enlarged. Before that, what is marked is repaired at its
        own size, which previews then have.

    Raises:
        UserError: the model is no restorer, nothing is marked, the mask has another size, or the enlarged picture
            would be too large.
    """
    if model.config.kind != "restorer":
        raise UserError("This model draws pictures and does not repair them; choose a restorer.")
    if not request.whole and request.mask is None:
        raise UserError("Mark the damage first, or clean the whole picture.")
    if request.mask is not None and request.mask.shape != picture.shape[:2]:
        raise UserError("The mask and the picture differ in size.")
    if request.upscale == 1:
        yield from _completed(_expert(model, picture, request), picture, request)
    else:
        yield from _enlarged(model, picture, request)


def _expert(model: Denoiser, picture: Tensor, request: RestoreRequest) -> Denoiser:
    """The network that does what is asked for best."""
    if not request.whole:
        return model.specialist or model
    return model if request.mask is not None else expert(model, to_float(spread_crops(picture)), request.level)


def _enlarged(model: Denoiser, picture: Tensor, request: RestoreRequest) -> Iterator[Restoring]:
    """Repairs what is marked, and enlarges the picture, see `upscaled`."""
    upscaler, windows_each = released(model.device), pieces(picture.shape[:2], request.upscale)
    index, repaired = 0, [picture]
    if request.mask is not None:
        marked = _marked_only(request)
        for done in _completed(_expert(model, picture, marked), picture, marked):
            yield replace(done, count=done.count + windows_each * request.answers, pictures=())
        index, repaired = done.count, done.pictures
    count = index + windows_each * request.answers
    level = white_noise(model, to_float(spread_crops(picture))) if request.level is None else request.level
    known = Known.of(level, request.jpeg_quality, request.strength)
    finished: list[Tensor] = []
    for answer in repaired:
        for larger in upscaled(upscaler, answer, request.upscale, known):
            index += 1
            yield Restoring(index, count, _reduced(larger), tuple(finished))
        finished.append(larger)
    yield Restoring(count, count, _reduced(finished[-1]), tuple(finished))


def _completed(network: Denoiser, picture: Tensor, request: RestoreRequest) -> Iterator[Restoring]:
    """The same as `restore`, by one network, at the picture's own size: wide holes are filled with pieces from
    elsewhere, and the rest is repaired."""
    holes = holes_of(request)
    if holes is None:
        yield from _repaired(network, picture, request)
        return
    rest = replace(request, mask=(request.mask & ~holes.mask) | holes.rim(), candidates=1)
    count = request.answers * (len(holes.each) + _count(_places(picture.shape[:2], rest), rest))
    index, finished = 0, []
    for seed in request.seeds():
        answer = picture.clone()
        for hole in holes.each:
            part = answer[hole.outer]
            answer[hole.outer] = filled(part, hole.own(holes.mask), request.mask[hole.outer], seed)
            index += 1
            yield Restoring(index, count, _reduced(answer), tuple(finished))
        begun = index
        for done in _repaired(network, answer, replace(rest, seed=seed)):
            index = begun + done.index
            yield replace(done, index=index, count=count, pictures=tuple(finished))
        finished.append(done.pictures[0])
    yield Restoring(count, count, _reduced(finished[-1]), tuple(finished))


def _marked_only(request: RestoreRequest) -> RestoreRequest:
    """What is repaired of a picture before it is enlarged."""
    return replace(request, whole=False, upscale=1)


def _repaired(network: Denoiser, picture: Tensor, request: RestoreRequest) -> Iterator[Restoring]:
    """The same as `restore`, by one network, at the picture's own size."""
    mask = request.mask
    damaged = _Damaged(picture, mask, None if mask is None else seen_from_afar(picture, mask), request)
    places = _places(picture.shape[:2], request)
    ask = partial(_asked, network, _views(places, request.steps))
    # In one step no window looks at what becomes of another.
    together = [[place] for place in places] if request.steps == 1 else islands(places)
    finished: list[Tensor] = []
    index, count = 0, _count(places, request)
    for seed in request.seeds():
        answer, generator = picture.clone(), torch.Generator().manual_seed(seed)
        for island in together:
            span = around(island)
            here, part = answer[span], damaged.cropped(span)
            for window, denoised in _walked(ask, part, [place.within(span) for place in island], generator):
                here[window.inner] = part.cropped(window.inner).repaired(denoised)
                index += 1
                yield Restoring(index, count, _reduced(answer), tuple(finished))
        finished.append(answer)
    yield Restoring(count, count, _reduced(finished[-1]), tuple(finished))


def _count(places: Sequence[Window], request: RestoreRequest) -> int:
    """How many pieces of work these windows make."""
    return request.answers * request.steps * len(places)


def work(size: Sequence[int], request: RestoreRequest) -> int:
    """How many pixels a model computes at most to repair a picture of (height, width), each as often as it is computed:
    the time it takes goes with that."""
    if request.upscale == 1:
        there = _places(size, request)
        calls = request.steps * _views(there, request.steps) * request.answers
        repairing = calls * sum(area(window.outer) for window in there)
        holes = holes_of(request)
        filling = sum(hole.work for hole in holes.each) if holes else 0
        return repairing + filling * request.answers
    marked = work(size, _marked_only(request)) if request.mask is not None else 0
    return marked + UPSCALER_WORK * request.answers * sum(map(math.prod, passes(size, request.upscale)))


def _views(places: Sequence[Window], steps: int) -> int:
    """How many views each answer is the mean of: more than one where there is but one step, and not much to compute."""
    pixels = sum(area(window.inner) for window in places)
    return next((views for views, most in VIEWED if pixels <= most), 1) if steps == 1 else 1


def _places(size: Sequence[int], request: RestoreRequest) -> list[Window]:
    """The windows that are to be computed of a picture of (height, width)."""
    if request.whole:
        return list(windows(*size))
    return [] if request.mask is None else list(touching(request.mask))


@dataclass(frozen=True)
class _Damaged:
    """A damaged picture.

    Attributes:
        source: uint8 [H, W, 3].
        mask: bool [H, W], where it is lost; None where nobody says.
        afar: see `seen_from_afar`.
        request: what else is to be done, and how.
    """

    source: Tensor
    mask: Tensor | None
    afar: Tensor | None
    request: RestoreRequest

    def cropped(self, span: Span) -> "_Damaged":
        """A part of it. It shares memory with the whole."""
        mask = None if self.mask is None else self.mask[span]
        cells = tuple(slice(s.start // CELL, -(-s.stop // CELL)) for s in span)
        return replace(
            self, source=self.source[span], mask=mask, afar=None if self.afar is None else self.afar[(..., *cells)]
        )

    def conditioning(self, device: torch.device) -> Conditioning:
        mask = None if self.mask is None else self.mask[None, None].to(device)
        afar = None if self.afar is None else self.afar[None].to(device)
        return Conditioning.of(to_float(self.source)[None].to(device), mask, self.request.level, afar)

    def repaired(self, denoised: Tensor) -> Tensor:
        """uint8 [H, W, 3]: as much of a guess [1, 3, H, W] as was asked for."""
        answer = self.source
        if self.request.whole:
            answer = to_pixels(torch.lerp(to_float(answer), denoised[0], self.request.strength))
        if self.mask is not None:
            answer = torch.where(self.mask[..., None], to_pixels(denoised[0]), answer)
        return answer


def _asked(model: Denoiser, views: int, damaged: _Damaged) -> D:
    """A restorer's `D` for a picture on the CPU; it works where the model is."""
    conditioning = damaged.conditioning(model.device)

    def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
        with torch.inference_mode(), inference_autocast(model.device):
            denoised = model.given(conditioning, views)(x.to(model.device, torch.float32), sigma)
        return denoised.float().cpu()

    return denoiser


def _walked(
    ask: Callable[[_Damaged], D], damaged: _Damaged, places: Sequence[Window], generator: torch.Generator
) -> Iterator[tuple[Window, Tensor]]:
    """Walks the windows of a picture down together: gives each, at every step, with its guess [1, 3, h, w]."""
    request, size = damaged.request, damaged.source.shape[:2]
    dtype = torch.float32 if math.prod(size) <= EXACT_PIXELS else torch.float16
    denoiser = tiled = Tiled(lambda window: ask(damaged.cropped(window.outer)), places)
    x = _floats(damaged.source, dtype)
    if not request.whole:
        denoiser = Consistent(tiled, KnownPixels(~damaged.mask), x)
    if damaged.mask is not None:
        x = torch.where(damaged.mask, 0.0, x)
    sigmas = walk_sigmas(request.steps)
    if request.steps > 1:  # the first guess looks at no noise
        for rows in x.split(TILE, dim=2):
            rows += sigmas[0] * torch.randn(rows.shape, generator=generator)
    for step in range(request.steps):
        yield from tiled.ahead(x, sigmas[step])
        if step < request.steps - 1:  # else the guess is the answer; a sampler that waits would keep the last guess
            x = next(euler(denoiser, x, sigmas[step : step + 2])).x


def _floats(picture: Tensor, dtype: torch.dtype) -> Tensor:
    """uint8 [H, W, 3] as [1, 3, H, W] in [-1, 1]; in parts, since a large one has no room for float32."""
    floats = torch.empty(1, 3, *picture.shape[:2], dtype=dtype)
    for top in range(0, len(picture), TILE):
        floats[0, :, top : top + TILE] = to_float(picture[top : top + TILE])
    return floats


def walk_sigmas(steps: int) -> Tensor:
    """The noise levels [steps + 1] of a walk: from `SIGMA_MAX`, where the first answer comes from, straight to where
    what that leaves open is decided."""
    if steps == 1:
        return torch.tensor([SIGMA_MAX, 0.0])
    return torch.cat([torch.tensor([SIGMA_MAX]), karras_sigmas(steps - 1, WALK_TO, WALK_FROM)])


def _reduced(picture: Tensor) -> Tensor:
    """A copy of uint8 [H, W, 3] small enough to be shown at every step: every n-th pixel."""
    every = -(-max(picture.shape[:2]) // PREVIEW_SIDE)
    return picture[::every, ::every].clone()
