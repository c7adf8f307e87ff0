"""Does a request for a visitor and tells how it goes: what the Generate tab, a walk and the API have in common."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch import Tensor

from sd_core.diffusion.sampling import Step
from sd_core.generation.infotext import save_pictures
from sd_core.generation.pipeline import generate, interpolate, walk_noises
from sd_core.generation.request import SAMPLERS, GenerationRequest
from sd_core.generation.trajectory import Trajectory
from sd_core.models.codec import Codec
from sd_core.models.registry import ModelRegistry
from sd_core.pictures.output import grid
from sd_core.pictures.pixels import to_pixels
from tabs.common.jobs import Stream
from tabs.common.progress import Status, follow
from tabs.common.sessions import SESSIONS, Batch, Visitor
from tabs.common.zero_gpu import compute, line


@dataclass(frozen=True)
class Walk:
    """Where a walk between two seeds goes, and in how many frames."""

    to_seed: int
    frames: int


@dataclass(frozen=True)
class Shown:
    """What the page shows next: a status line, perhaps the file of a new preview, and at the end the finished batch,
    and the steps to it if any were walked."""

    status: str
    preview: Path | None = None
    batch: Batch | None = None
    trajectory: Trajectory | None = None


@dataclass(frozen=True)
class Drawn(Step):
    """A step; the last has the finished pictures [N, 3, H, W], too."""

    pictures: Tensor | None = None


def draw(
    visitor: Visitor, registry: ModelRegistry, model: str, request: GenerationRequest, walk: Walk | None = None
) -> Iterator[Shown]:
    """Draws a batch in the visitor's session. Its last item has the `batch`, unless it was stopped."""
    session, trajectory, status = SESSIONS.of(visitor), Trajectory(), Status(visitor)
    noises = walk_noises(request, walk.to_seed, walk.frames) if walk else request.noises()

    def work():
        shape = registry.describe(model).model
        calls = 2 * SAMPLERS[request.sampler].calls_per_step * request.steps  # guided ones are two
        pixels = len(noises) * (calls * shape.side**2 + shape.resolution**2)
        trajectory.codec = registry.load(model).codec
        for step in compute(registry, _steps, (model, request, walk), pixels):
            trajectory.add(step)
            yield step

    stream = session.start(Stream(work, line(registry)))
    session.asked = request
    step = None
    for newest, said, preview in follow(stream, session, status, lambda step: _shown(step, trajectory.codec)):
        step = newest
        if trajectory.frames:
            session.trajectory = trajectory  # until then the page goes on showing the one before
        yield Shown(said, preview)
    if step is None or step.index < step.count:
        said = status.stopped(step.index if step else 0, step.count if step else request.steps)
        yield Shown(said, trajectory=trajectory if trajectory.frames else None)
        return
    paths = save_pictures(step.pictures, request, noises, model, session.new_folder())
    session.batch, session.chosen = Batch(model, request, noises, paths), 0
    yield Shown(status.done(), batch=session.batch, trajectory=trajectory)


def _steps(registry: ModelRegistry, model: str, request: GenerationRequest, walk: Walk | None) -> Iterator[Drawn]:
    loaded = registry.load(model)
    steps = interpolate(loaded, request, walk.to_seed, walk.frames) if walk else generate(loaded, request)
    for step in steps:
        pictures = loaded.codec.decode(step.x) if step.index == step.count else None
        yield Drawn(**vars(step), pictures=pictures)


def _shown(step: Drawn, codec: Codec) -> Image.Image:
    return grid(to_pixels(codec.preview(step.denoised) if step.pictures is None else step.pictures))
