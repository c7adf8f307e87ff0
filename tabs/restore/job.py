"""Repairs a picture for a visitor and tells how it goes: what the Restore tab and its API have in common.

Everything is allowed on one's own machine, less on a public Space. The environment variable SD_CORE_RESTORE overrides
what is found: `limited` sets a Space's limit anywhere, and `free` lifts it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sd_core.errors import UserError
from sd_core.models.registry import ModelRegistry
from sd_core.pictures.masks import full_mask, holes
from sd_core.pictures.metrics import SSIM_WINDOW, disagreement, psnr_and_ssim
from sd_core.pictures.original import OPAQUE, Original, open_original
from sd_core.pictures.output import save_png
from sd_core.pictures.pixels import to_image
from sd_core.pictures.previews import alpha, comparable, heat_map, looked_at, on_white, thumbnail
from sd_core.restoration.detection import FIND_PIXELS, find_damage
from sd_core.restoration.inpainting import RESAMPLING
from sd_core.restoration.pipeline import restore, work
from sd_core.restoration.region import CropBox, clean_square, fill_square
from sd_core.restoration.request import RestoreRequest, Restoring, answers
from tabs.common.hosting import allowed
from tabs.common.jobs import Stream, Waiting
from tabs.common.progress import Status, follow
from tabs.common.sessions import SESSIONS, Visitor
from tabs.common.words import say
from tabs.common.zero_gpu import compute, line

SHOWN_SIDE = 320  # pixels, of a candidate in the gallery
MAP_SIDE = 1024  # pixels, of the map of disagreement
# That a model computes for one repair: about ten minutes on two cores, as long as a training may last there.
MOST_PIXELS = 800_000_000


@dataclass(frozen=True, eq=False)
class RestoreJobRequest:
    """What a person asks for.

    Attributes:
        picture: a file.
        model: a restorer, or a generator, which works on a square.
        mask: bool [H, W], where the picture is lost; None for nowhere.
        whole, strength, sigma, upscale, steps, candidates, seed: as for `RestoreRequest`. A generator removes noise
            if it is `whole`, and else draws anew what the mask marks.
        fill: makes what is transparent inside the mask opaque.
        prompt: what the picture shows, for a generator.
        square: where a generator works; None for the largest in the middle.
        original: the file of the picture without damage, where the app did the damage.
    """

    picture: str
    model: str
    mask: np.ndarray | None = None
    whole: bool = False
    strength: float = 1.0
    sigma: float | None = None
    upscale: int = 1
    steps: int = 1
    candidates: int = 1
    seed: int = 0
    fill: bool = False
    prompt: str = ""
    square: CropBox | None = None
    original: str | None = None


@dataclass(frozen=True)
class Repaired:
    """A finished repair: files.

    Attributes:
        before: of the picture as it was.
        paths: of the candidates, to take home.
        shown: small copies of them.
        heat: the map of where candidates disagree, if there are several.
        original: as in `RestoreJobRequest`.
        notes: keys of `originals.NOTES`.
    """

    before: str
    paths: tuple[str, ...]
    shown: tuple[str, ...]
    heat: str | None
    original: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Shown:
    """What the page shows next: a status line, perhaps the file of a new preview, and at the end the repair."""

    status: str
    preview: Path | None = None
    repaired: Repaired | None = None


def repair(visitor: Visitor, registry: ModelRegistry, wanted: RestoreJobRequest) -> Iterator[Shown]:
    """Repairs a picture in the visitor's session. The last item has what was `repaired`: nothing, if it was stopped
    before the first candidate was finished. Once abandoned it says nothing more."""
    session, status = SESSIONS.of(visitor), Status(visitor)
    original = open_original(wanted.picture)
    job = _job(registry, wanted, original)
    check_work(job.pixels, visitor)
    newest = None
    stream = session.start(Stream(lambda: job.work(registry), line(registry)))
    for item, said, preview in follow(stream, session, status, lambda item: _preview(item.preview, job.outline)):
        newest = item
        if stream.abandoned:
            return
        yield Shown(said, preview)
    finished = newest.pictures if newest else ()
    if finished:
        yield Shown(status.keeping())
    repaired = _keep(session.new_folder(), original, finished, job.changed, wanted) if finished else None
    if stream.abandoned:
        return
    if len(finished) == job.answers:
        yield Shown(status.done(), repaired=repaired)
    else:
        yield Shown(status.stopped(newest.index if newest else 0, newest.count if newest else 1), repaired=repaired)


def _preview(picture: Tensor, outline: Image.Image | None) -> Image.Image:
    """A small copy of a repair under way, uint8 [h, w, 3], on white where `outline` is transparent."""
    image = to_image(picture)
    if outline:
        image.putalpha(outline.resize(image.size, Image.Resampling.NEAREST))
    return looked_at(on_white(image))


@dataclass(frozen=True, eq=False)
class _Job:
    """Attributes:
    model: its name.
    how, args: the function of sd_core that repairs, and what it takes after the model.
    changed: bool [H, W], what it may change; None for all.
    answers: how many candidates it ends with.
    pixels: how many the model computes.
    outline: how opaque what it makes will be, "L"; None where its previews are not of the whole picture, or opaque.
    """

    model: str
    how: Callable[..., Iterator[Restoring]]
    args: tuple
    changed: np.ndarray | None
    answers: int
    pixels: int
    outline: Image.Image | None = None

    def work(self, registry: ModelRegistry) -> Iterator[Restoring]:
        """The repair, piece by piece."""
        finished = ()
        for item in compute(registry, _pieces, (self.model, self.how, self.args), self.pixels):
            finished += item.pictures
            yield replace(item, pictures=finished)


def _pieces(
    registry: ModelRegistry, model: str, how: Callable[..., Iterator[Restoring]], args: tuple
) -> Iterator[Restoring]:
    """A repair with each finished picture only once: it may have a long way to go."""
    count = 0
    for item in how(registry.load(model), *args):
        yield replace(item, pictures=item.pictures[count:])
        count = len(item.pictures)


def _job(registry: ModelRegistry, wanted: RestoreJobRequest, original: Original) -> _Job:
    """Each kind of repair is one branch here."""
    rgb = torch.from_numpy(original.rgb())
    mask = None if wanted.mask is None else torch.from_numpy(wanted.mask)
    count = answers(wanted.candidates, wanted.steps)
    how = wanted.steps, wanted.seed, wanted.candidates
    model = registry.describe(wanted.model).model
    if model.kind == "restorer":
        request = RestoreRequest(
            mask, wanted.whole, wanted.sigma, wanted.strength, wanted.upscale, wanted.steps, wanted.candidates,
            wanted.seed,
        )  # fmt: skip
        changed = None if wanted.whole else wanted.mask
        pixels = work(rgb.shape[:2], request)
        outline = None
        if original.has_alpha:
            outline = alpha(original)
            if wanted.fill and changed is not None:
                outline = Image.fromarray(np.where(changed, OPAQUE, outline).astype(np.uint8))
        return _Job(wanted.model, restore, (rgb, request), changed, count, pixels, outline)
    square = wanted.square or CropBox.within(original.size)
    inside = square.mask(original.size)
    pixels = wanted.steps * wanted.candidates * model.resolution**2
    if wanted.whole:
        cleaned = rgb, square, wanted.sigma, wanted.prompt, *how
        return _Job(wanted.model, clean_square, cleaned, inside, count, pixels)
    if mask is None:
        raise UserError("Mark what is missing first.")
    drawn = rgb, mask, square, wanted.prompt, *how
    return _Job(wanted.model, fill_square, drawn, inside & wanted.mask, wanted.candidates, RESAMPLING * pixels)


def _keep(
    folder: Path,
    original: Original,
    pictures: tuple[Tensor, ...],
    changed: np.ndarray | None,
    wanted: RestoreJobRequest,
) -> Repaired:
    """Writes the candidates, each uint8 [H, W, 3], as files."""
    stem = Path(wanted.picture).stem.removesuffix("-restored")[:80] or "picture"
    paths, shown = [], []
    for number, picture in enumerate(pictures, 1):
        number_in_name = f"-{number}" if len(pictures) > 1 else ""
        paths.append(folder / f"{stem}-restored{number_in_name}.png")
        original.repaired(picture.numpy(), changed, wanted.fill and not wanted.whole).save(paths[-1])
        shown.append(folder / f"shown-{number}.png")
        thumbnail(paths[-1], SHOWN_SIDE).save(shown[-1])
    heat = None
    if len(pictures) > 1:
        heat = folder / "disagreement.png"
        every = -(-max(pictures[0].shape[:2]) // MAP_SIDE)
        heat_map(disagreement(pictures, every).numpy()).save(heat)
    return Repaired(
        wanted.picture, tuple(map(str, paths)), tuple(map(str, shown)), heat and str(heat), wanted.original,
        original.notes,
    )  # fmt: skip


def compared(repaired: Repaired, number: int) -> tuple[str, str]:
    """Files of the picture before, and of a candidate, at equal sizes, to be laid over one another."""
    path = Path(repaired.paths[number])
    files = tuple(str(path.with_name(f"{side}-{number}.png")) for side in ("before", "after"))
    if not Path(files[1]).exists():
        images = comparable(open_original(repaired.before), open_original(path))
        for image, file in zip(images, files, strict=True):
            image.save(file, compress_level=2)
    return files


def measured(repaired: Repaired, number: int) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """How close (PSNR in dB, SSIM) the picture was to the original before, and how close the candidate is. None where
    nobody knows the original, or the candidate has another size."""
    if repaired.original is None:
        return None
    truth, before, after = (
        torch.from_numpy(open_original(path).rgb())
        for path in (repaired.original, repaired.before, repaired.paths[number])
    )
    if not truth.shape == before.shape == after.shape or min(truth.shape[:2]) < SSIM_WINDOW:
        return None
    return psnr_and_ssim(before, truth), psnr_and_ssim(after, truth)


def propose(
    visitor: Visitor, registry: ModelRegistry, model: str, original: Original
) -> Iterator[np.ndarray | Waiting]:
    """Looks for damage in the visitor's session; gives the mask, bool [H, W], at the end. Once abandoned it says
    nothing more."""
    rgb = torch.from_numpy(original.rgb())

    def find():
        for found in compute(registry, _found, (model, rgb), min(rgb[..., 0].numel(), FIND_PIXELS)):
            yield found.numpy() | full_mask(holes(original), original.size)

    stream = SESSIONS.of(visitor).start(Stream(find, line(registry)))
    for item in stream:
        if stream.abandoned:
            return
        yield item


def _found(registry: ModelRegistry, model: str, picture: Tensor) -> Iterator[Tensor]:
    yield find_damage(registry.load(model), picture)


def clean_small(visitor: Visitor, registry: ModelRegistry, wanted: RestoreJobRequest) -> Iterator[Path | None]:
    """Removes noise from a picture's middle with a generator, and leaves it at the generator's own size. The last item
    is the file; the others are None, as is the last if it was stopped."""
    session = SESSIONS.of(visitor)
    job = _job(registry, wanted, open_original(wanted.picture))
    newest = None
    for item in session.start(Stream(lambda: job.work(registry), line(registry))):
        newest = newest if isinstance(item, Waiting) else item
        yield None
    if newest and newest.pictures:
        path = session.new_folder() / "restored.png"
        save_png(newest.preview, path)
        yield path


def check_work(pixels: int, visitor: Visitor | None) -> None:
    """Raises UserError if a repair for which a model computes so many pixels is more than is allowed here."""
    if pixels > MOST_PIXELS and allowed("SD_CORE_RESTORE", ("limited", "free")) == "limited":
        raise UserError(say(visitor, "too_much_work", times=max(1.1, pixels / MOST_PIXELS)))
