"""The repair of one picture, whoever asks for it: the page, the API, the command line or a folder.

Here, and nowhere else, is decided who works on what, what it may change, and how an answer becomes a picture in its own
colours again.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sd_core.errors import UserError
from sd_core.models.denoiser import Denoiser, ModelConfig
from sd_core.pictures.masks import full_mask, holes
from sd_core.pictures.original import Original
from sd_core.progress import OnProgress, unwatched
from sd_core.restoration.denoising import clean_square
from sd_core.restoration.detection import find_damage
from sd_core.restoration.exemplar import holes_of
from sd_core.restoration.inpainting import FILL_STEPS, RESAMPLING, STEP_WORK, fill_square
from sd_core.restoration.pipeline import restore, work
from sd_core.restoration.request import RestoreRequest, Restoring


def usual_steps(model: ModelConfig, whole: bool) -> int:
    """How many steps a repair takes unless somebody says otherwise."""
    return FILL_STEPS if model.kind == "generator" and not whole else 1


def repairing(model: Denoiser, picture: Tensor, request: RestoreRequest) -> Iterator[Restoring]:
    """Repairs uint8 [H, W, 3] with a model of any kind, in pieces: see `restore`, `clean_square`, `fill_square`. Raises
    UserError like them, and for a model of few steps, which has learnt where walks end and nothing of noise."""
    if model.config.few_steps:
        raise UserError("A fast model draws and does nothing else; choose the one that it was made of.")
    if model.config.kind == "restorer":
        return restore(model, picture, request)
    return (clean_square if request.whole else fill_square)(model, picture, request)


@dataclass(frozen=True, eq=False)
class RestoreJob:
    """What a repair of a picture comes to, as far as it is known before anything is computed.

    Attributes:
        original: the picture.
        request: what is asked for.
        changed: bool [H, W], what it may change; None for all.
        answers: how many candidates it ends with.
        pixels: how many the model computes at most, each as often as it is computed.
    """

    original: Original
    request: RestoreRequest
    changed: np.ndarray | None
    answers: int
    pixels: int

    @classmethod
    def planned(cls, model: ModelConfig, original: Original, request: RestoreRequest) -> "RestoreJob":
        """For a model of this kind and size.

        Raises:
            UserError: a generator's square is not inside the picture, or nothing is marked for it to draw.
        """
        mask = None if request.mask is None else request.mask.numpy()
        if model.kind == "restorer":
            request = replace(request, jpeg_quality=original.jpeg_quality)
        else:
            request = replace(request, upscale=1, exemplars=False)
        different = request.answers
        if model.kind == "restorer":
            changed = None if request.whole else mask
            return cls(original, request, changed, different, work(original.size[::-1], request))
        inside = request.square_in(original.size).mask(original.size)
        pixels = request.steps * request.candidates * model.side**2
        if request.whole:
            return cls(original, request, inside, different, pixels)
        if mask is None:
            raise UserError("Mark what is missing first.")
        return cls(original, request, inside & mask, request.candidates, RESAMPLING * STEP_WORK * pixels)

    @property
    def fills(self) -> bool:
        """Whether what is transparent becomes opaque where it is repaired."""
        return self.request.fill and not self.request.whole

    @property
    def exemplars(self) -> bool:
        """Whether wide holes are filled with pieces from elsewhere."""
        return holes_of(self.request) is not None

    def repaired(self, answer: Tensor) -> Original:
        """The picture with an answer, uint8 [H, W, 3]."""
        return self.original.repaired(answer.numpy(), self.changed, self.fills)


@dataclass(frozen=True)
class Repairer:
    """One way of repairing, for any number of pictures: calling it repairs one.

    Attributes:
        model: of any kind.
        request: how; its mask is each picture's own.
        finder: a restorer, to look for the damage where no mask says where it is.
    """

    model: Denoiser
    request: RestoreRequest
    finder: Denoiser | None = None

    def __call__(
        self, original: Original, mask: np.ndarray | None = None, progress: OnProgress = unwatched
    ) -> Original:
        """The first answer, in the picture's own colours.

        Args:
            mask: bool [H, W], where the picture is lost.
            progress: called with (pieces of work done, in all).

        Raises:
            UserError: as `repairing` and `RestoreJob.planned`; or no damage was found.
        """
        picture = torch.from_numpy(original.rgb())
        if mask is None and self.finder:
            mask = self.found(original, picture)
            if not mask.any() and not self.request.whole:
                raise UserError("No damage was found; mark it in a mask, or have the whole picture cleaned.")
        request = replace(self.request, mask=None if mask is None else torch.from_numpy(mask))
        job = RestoreJob.planned(self.model.config, original, request)
        for done in repairing(self.model, picture, job.request):
            progress(done.index, done.count)
        return job.repaired(done.pictures[0])

    def found(self, original: Original, picture: Tensor | None = None) -> np.ndarray:
        """Where a picture seems to be damaged, bool [H, W]; holes in it, too, if what is transparent is to be filled.
        `picture` is `original.rgb()`, where that is at hand: of a large picture it takes a while."""
        found = find_damage(self.finder, torch.from_numpy(original.rgb()) if picture is None else picture).numpy()
        return found | full_mask(holes(original), original.size) if self.request.fill else found
