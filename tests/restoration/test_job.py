"""Who works on what, decided in one place, and an answer as a picture in its own colours."""

import numpy as np
import pytest
import torch

from sd_core.errors import UserError
from sd_core.pictures.original import Original
from sd_core.restoration.inpainting import FILL_STEPS
from sd_core.restoration.job import Repairer, RestoreJob, repairing, usual_steps
from sd_core.restoration.region import CropBox
from sd_core.restoration.request import RestoreRequest


@pytest.fixture
def original() -> Original:
    """A picture, half of it transparent."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    pixels[:, :15, 3], pixels[:, 15:, 3] = 0, 255
    return Original(pixels)


def marks(columns: slice) -> torch.Tensor:
    mask = torch.zeros(20, 30, dtype=torch.bool)
    mask[6:12, columns] = True
    return mask


def test_a_restorer_changes_what_is_marked_or_all(restorer, original):
    mask = marks(slice(10, 14))
    marked, whole = (RestoreJob.planned(restorer.config, original, RestoreRequest(mask, w)) for w in (False, True))
    assert (marked.changed == mask.numpy()).all() and whole.changed is None


def test_a_generator_works_in_a_square_around_what_is_marked_unless_another_is_given(generator, original):
    request = RestoreRequest(marks(slice(24, 28)))
    job = RestoreJob.planned(generator.config, original, request)
    assert (job.changed == request.mask.numpy()).all()
    elsewhere = RestoreRequest(request.mask, square=CropBox(0, 0, 20))
    assert not RestoreJob.planned(generator.config, original, elsewhere).changed.any()
    cleaned = RestoreJob.planned(generator.config, original, RestoreRequest(whole=True))
    assert (cleaned.changed == CropBox.within((30, 20)).mask((30, 20))).all()


def test_a_job_that_cannot_be_done_is_refused_before_it_begins(generator, original):
    for request, words in (
        (RestoreRequest(), "Mark what is missing"),
        (RestoreRequest(whole=True, square=CropBox(20, 0, 20)), "inside the picture"),
    ):
        with pytest.raises(UserError, match=words):
            RestoreJob.planned(generator.config, original, request)


@pytest.mark.parametrize(
    ("kind", "options", "count"),
    [
        ("restorer", {"whole": True, "steps": 1, "candidates": 3}, 1),
        ("restorer", {"whole": True, "steps": 2, "candidates": 3}, 3),
        ("generator", {"whole": True, "steps": 1, "candidates": 3}, 1),
        ("generator", {"mask": marks(slice(10, 20)), "steps": 1, "candidates": 3}, 3),
    ],
)
def test_as_many_answers_come_as_were_promised(kind, options, count, restorer, generator, original):
    model = {"restorer": restorer, "generator": generator}[kind]
    request = RestoreRequest(**options)
    job = RestoreJob.planned(model.config, original, request)
    *_, last = repairing(model, torch.from_numpy(original.rgb()), request)
    assert job.answers == len(last.pictures) == count and job.pixels > 0


@pytest.mark.parametrize("fill", [False, True])
def test_what_is_transparent_where_it_is_marked_becomes_opaque_on_demand(restorer, original, fill):
    mask = marks(slice(10, 20))
    repaired = Repairer(restorer, RestoreRequest(fill=fill))(original, mask.numpy())
    assert (repaired.pixels[mask.numpy()][:, 3] == 255).all() == fill
    assert (repaired.pixels[~mask.numpy()] == original.pixels[~mask.numpy()]).all()


def test_drawing_anew_takes_many_steps_and_all_else_one(generator, restorer):
    assert usual_steps(generator.config, whole=False) == FILL_STEPS
    assert [usual_steps(generator.config, True), usual_steps(restorer.config, False)] == [1, 1]
