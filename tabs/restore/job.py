"""Repairs a picture for a visitor and tells how it goes: what the Restore tab and its API have in common.

Everything is allowed on one's own machine, less on a public Space. The environment variable SD_CORE_RESTORE overrides
what is found: `limited` sets a Space's limit anywhere, and `free` lifts it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sd_core.errors import UserError
from sd_core.models.denoiser import ModelConfig
from sd_core.models.registry import ModelRegistry
from sd_core.pictures.masks import full_mask, holes
from sd_core.pictures.metrics import SSIM_WINDOW, disagreement, psnr_and_ssim
from sd_core.pictures.original import OPAQUE, Original, open_original
from sd_core.pictures.output import save_png
from sd_core.pictures.pixels import to_image
from sd_core.pictures.previews import comparable, heat_map, looked_at, on_white, thumbnail
from sd_core.restoration.detection import FIND_PIXELS, find_damage
from sd_core.restoration.job import RestoreJob, repairing
from sd_core.restoration.request import RestoreRequest, Restoring
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
        request: what is to be done.
        original: the file of the picture without damage, where the app did the damage.
    """

    picture: str
    model: str
    request: RestoreRequest
    original: str | Path | None = None


@dataclass(frozen=True)
class Repaired:
    """A finished repair: files.

    Attributes:
        before: of the picture as it was.
        paths: of the candidates, to take home.
        shown: small copies of them.
        heat: the map of where candidates disagree, if there are several.
        original: as in `RestoreJobRequest`.
        notes: keys of `original.NOTES`.
        unchanged: for each candidate, whether nothing was found to clean in it.
        exemplars: whether wide holes were filled with pieces from elsewhere.
        enlarged: (width, height) before and after, of a picture that was enlarged.
    """

    before: str
    paths: tuple[str, ...]
    shown: tuple[str, ...]
    heat: str | None
    original: str | Path | None
    notes: tuple[str, ...]
    unchanged: tuple[bool, ...]
    exemplars: bool = False
    enlarged: tuple[tuple[int, int], tuple[int, int]] | None = None


@dataclass(frozen=True)
class Shown:
    """What the page shows next: a status line, perhaps the file of a new preview, and at the end the repair."""

    status: str
    preview: Path | None = None
    repaired: Repaired | None = None


def repair(visitor: Visitor, registry: ModelRegistry, wanted: RestoreJobRequest) -> Iterator[Shown]:
    """Repairs a picture in the visitor's session. The last item has what was `repaired`: nothing, if it was stopped
    before the first candidate was finished. Once abandoned it says no more than that all is ready. Raises UserError if
    it is more work than is allowed here."""
    session, status = SESSIONS.of(visitor), Status(visitor)
    job = _planned(registry, wanted)
    if job.pixels > MOST_PIXELS and allowed("SD_CORE_RESTORE", ("limited", "free")) == "limited":
        raise UserError(say(visitor, "too_much_work", times=max(1.1, job.pixels / MOST_PIXELS)))
    outline = _outline(job, registry.describe(wanted.model).model)
    newest = None
    stream = session.start(Stream(lambda: _work(registry, wanted.model, job), line(registry)))
    for item, said, preview in follow(stream, session, status, lambda item: _preview(item.preview, outline)):
        newest = item
        if stream.abandoned:
            break
        yield Shown(said, preview)
    finished = newest.pictures if newest and not stream.abandoned else ()
    if finished:
        yield Shown(status.keeping())
    repaired = _keep(session.new_folder(), job, finished, wanted) if finished else None
    if stream.abandoned:  # a step that was told of on the way may reach the page after what took its place
        yield Shown(status.ready())
    elif len(finished) == job.answers:
        yield Shown(status.done(), repaired=repaired)
    else:
        yield Shown(status.stopped(newest.index if newest else 0, newest.count if newest else 1), repaired=repaired)


def _preview(picture: Tensor, outline: Image.Image | None) -> Image.Image:
    """A small copy of a repair under way, uint8 [h, w, 3], on white where `outline` is transparent."""
    image = to_image(picture)
    if outline:
        image.putalpha(outline.resize(image.size, Image.Resampling.NEAREST))
    return looked_at(on_white(image))


def _planned(registry: ModelRegistry, wanted: RestoreJobRequest) -> RestoreJob:
    return RestoreJob.planned(registry.describe(wanted.model).model, open_original(wanted.picture), wanted.request)


def _outline(job: RestoreJob, model: ModelConfig) -> Image.Image | None:
    """How opaque what is repaired will be, "L"; None where previews are not of the whole picture, or opaque."""
    if model.kind == "generator" or not job.original.has_alpha:
        return None
    outline = job.original.alpha()
    if job.fills and job.changed is not None:
        outline = np.where(job.changed, np.uint8(OPAQUE), outline)
    return Image.fromarray(outline)


def _work(registry: ModelRegistry, model: str, job: RestoreJob) -> Iterator[Restoring]:
    """The repair, piece by piece, by the model of that name."""
    finished, args = (), (model, torch.from_numpy(job.original.rgb()), job.request)
    for item in compute(registry, _pieces, args, job.pixels):
        finished += item.pictures
        yield replace(item, pictures=finished)


def _pieces(registry: ModelRegistry, model: str, picture: Tensor, request: RestoreRequest) -> Iterator[Restoring]:
    """A repair with each finished picture only once: it may have a long way to go."""
    count = 0
    for item in repairing(registry.load(model), picture, request):
        yield replace(item, pictures=item.pictures[count:])
        count = len(item.pictures)


def _keep(folder: Path, job: RestoreJob, pictures: tuple[Tensor, ...], wanted: RestoreJobRequest) -> Repaired:
    """Writes the candidates, each uint8 [H, W, 3], as files."""
    stem = Path(wanted.picture).stem.removesuffix("-restored")[:80] or "picture"
    paths, shown = [], []
    for number, picture in enumerate(pictures, 1):
        number_in_name = f"-{number}" if len(pictures) > 1 else ""
        paths.append(folder / f"{stem}-restored{number_in_name}.png")
        job.repaired(picture).save(paths[-1])
        shown.append(folder / f"shown-{number}.png")
        thumbnail(paths[-1], SHOWN_SIDE).save(shown[-1])
    heat = None
    if len(pictures) > 1:
        heat = folder / "disagreement.png"
        every = -(-max(pictures[0].shape[:2]) // MAP_SIDE)
        heat_map(disagreement(pictures, every).numpy()).save(heat)
    unchanged, size = (False,) * len(pictures), (pictures[0].shape[1], pictures[0].shape[0])
    enlarged = (job.original.size, size) if size != job.original.size else None
    if job.request.whole and job.request.strength > 0:
        before = torch.from_numpy(job.original.rgb())
        unchanged = tuple(torch.equal(picture, before) for picture in pictures)
    return Repaired(
        wanted.picture, tuple(map(str, paths)), tuple(map(str, shown)), heat and str(heat), wanted.original,
        job.original.notes, unchanged, job.exemplars, enlarged,
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


def propose(visitor: Visitor, registry: ModelRegistry, model: str, original: Original) -> Iterator[np.ndarray | None]:
    """Looks for damage in the visitor's session. The last item is the mask, bool [H, W]; the others are None, as is the
    last if it was stopped. Once abandoned it says nothing more."""
    rgb = torch.from_numpy(original.rgb())

    def find():
        for found in compute(registry, _found, (model, rgb), min(rgb[..., 0].numel(), FIND_PIXELS)):
            yield found.numpy() | full_mask(holes(original), original.size)

    stream, mask = SESSIONS.of(visitor).start(Stream(find, line(registry))), None
    for item in stream:
        if stream.abandoned:
            return
        mask = mask if isinstance(item, Waiting) else item
        yield mask


def _found(registry: ModelRegistry, model: str, picture: Tensor) -> Iterator[Tensor]:
    yield find_damage(registry.load(model), picture)


def clean_small(visitor: Visitor, registry: ModelRegistry, wanted: RestoreJobRequest) -> Iterator[Path | None]:
    """Removes noise from a picture's middle with a generator, and leaves it at the generator's own size. The last item
    is the file; the others are None, as is the last if it was stopped."""
    session, job = SESSIONS.of(visitor), _planned(registry, wanted)
    newest = None
    for item in session.start(Stream(lambda: _work(registry, wanted.model, job), line(registry))):
        newest = newest if isinstance(item, Waiting) else item
        yield None
    if newest and newest.pictures:
        path = session.new_folder() / "restored.png"
        save_png(newest.preview, path)
        yield path
