"""Repairing with a restorer: what is not to be changed is not, tiles leave no seams, and a seed gives its picture."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sd_core.diffusion.inverse_problems import Consistent, KnownPixels
from sd_core.diffusion.sampling import euler
from sd_core.diffusion.tiling import windows
from sd_core.errors import UserError
from sd_core.models.conditioning import Conditioning
from sd_core.models.denoiser import VIEWS
from sd_core.pictures.decoding import MAX_PIXELS
from sd_core.pictures.metrics import disagreement
from sd_core.pictures.pixels import to_float, to_pixels
from sd_core.restoration.detection import FIND_PIXELS, find_damage
from sd_core.restoration.pipeline import UPSCALER_WORK, WALK_FROM, restore, walk_sigmas, work
from sd_core.restoration.request import RestoreRequest, Restoring

MOST_VIEWS = len(VIEWS)


def picture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=generator)


def marked(height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.zeros(height, width, dtype=torch.bool)
    row, column = (int(torch.randint(n, (), generator=generator)) for n in (height, width))
    mask[row : row + 1 + height // 3, column : column + 1 + width // 4] = True
    return mask


def last(*args) -> Restoring:
    *_, item = restore(*args)
    return item


@settings(max_examples=25, deadline=None)
@given(st.integers(8, 70), st.integers(8, 70), st.integers(0, 10**6), st.integers(1, 3))
def test_outside_the_mask_nothing_changes_at_any_size(height, width, seed, steps):
    model, original, mask = some_restorer(), picture(height, width, seed), marked(height, width, seed)
    (repaired,) = last(model, original, RestoreRequest(mask=mask, steps=steps)).pictures
    assert torch.equal(repaired[~mask], original[~mask])
    assert not torch.equal(repaired[mask], original[mask])


_MODEL = None


def some_restorer():
    """One restorer for all examples of a property: hypothesis calls a test many times for one fixture."""
    global _MODEL
    if _MODEL is None:
        from sd_core.training.setup import new_restorer

        _MODEL = new_restorer("tiny", 32, 0).eval().requires_grad_(False)
        torch.manual_seed(0)
        for parameter in _MODEL.parameters():
            if not parameter.any():
                parameter.copy_(0.05 * torch.randn_like(parameter))
    return _MODEL


def test_what_lies_under_the_mask_does_not_matter():
    original, mask = picture(40, 50), marked(40, 50)
    scribbled = torch.where(mask[..., None], 255 - original, original)
    first, second = (last(some_restorer(), p, RestoreRequest(mask=mask)).pictures[0] for p in (original, scribbled))
    assert torch.equal(first, second)


def test_a_fresh_restorer_leaves_a_picture_as_it_is():
    from sd_core.training.setup import new_restorer

    fresh, original = new_restorer("tiny", 32, 0), picture(33, 47)
    assert torch.equal(last(fresh, original, RestoreRequest(whole=True)).pictures[0], original)


def untiled(picture: torch.Tensor, mask: torch.Tensor | None, steps: int, views: int, seed: int = 0) -> torch.Tensor:
    """The walk in a few lines: of a picture with no more than a window looks at, uint8 [H, W, 3], which is cleaned as a
    whole, or repaired where `mask` says."""
    source, noise = to_float(picture)[None], torch.Generator().manual_seed(seed)
    marks, level = (None, None) if mask is None else (mask[None, None], 0.0)
    denoiser = some_restorer().given(Conditioning.of(source, marks, level), views if steps == 1 else 1)
    if mask is not None:
        denoiser = Consistent(denoiser, KnownPixels(~mask), source)
    sigmas, shown = walk_sigmas(steps), source if mask is None else torch.where(mask, 0.0, source)
    x = shown + sigmas[0] * torch.randn(1, 3, *picture.shape[:2], generator=noise)
    with torch.inference_mode():
        *_, step = euler(denoiser, x, sigmas)
    return to_pixels(step.x)[0]


@settings(max_examples=20, deadline=None)
@given(st.integers(8, 64), st.integers(8, 64), st.integers(0, 99), st.sampled_from([1, 2, 5]), st.booleans())
def test_a_repair_is_the_walk_of_the_papers(height, width, seed, steps, whole):
    original, mask = picture(height, width, seed), None if whole else marked(height, width, seed)
    (repaired,) = last(some_restorer(), original, RestoreRequest(mask, whole, steps=steps, seed=seed)).pictures
    expected = untiled(original, mask, steps, MOST_VIEWS, seed)
    assert (repaired.int() - expected).abs().max() <= 1


@pytest.mark.parametrize(("height", "width", "views"), [(512, 500, 2), (300, 600, 4)])
def test_an_answer_of_one_step_is_the_mean_of_several_views(height, width, views):
    original = picture(height, width)
    (repaired,) = last(some_restorer(), original, RestoreRequest(whole=True)).pictures
    seen = (slice(0, 448), slice(0, 448))  # by the first window, farther from its border than it looks
    assert (repaired[seen].int() - untiled(original[:576, :576], None, 1, views)[seen]).abs().max() <= 1


def test_marks_far_apart_are_repaired_as_if_they_were_alone():
    original, masks = picture(300, 900), torch.zeros(2, 300, 900, dtype=torch.bool)
    masks[0, 10:20, 20:40] = masks[1, 250:260, 800:850] = True
    both, first = (
        last(some_restorer(), original, RestoreRequest(m, steps=3)).pictures[0] for m in (masks.any(0), masks[0])
    )
    assert torch.equal(both[masks[0]], first[masks[0]])
    assert not torch.equal(both[masks[1]], original[masks[1]])


PEAKS = """
import resource, torch
from sd_core.restoration.pipeline import restore
from sd_core.restoration.request import RestoreRequest
from sd_core.training.setup import new_restorer

model = new_restorer("tiny", 32, 0).eval().requires_grad_(False)
picture, mask = torch.zeros(5000, 8000, 3, dtype=torch.uint8), torch.zeros(5000, 8000, dtype=torch.bool)
mask[10:13, 20:70] = mask[-13:-10, -70:-20] = True
for steps in (1, 3):
    list(restore(model, picture, RestoreRequest(mask, steps=steps)))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="it counts memory otherwise")
def test_scratches_in_opposite_corners_of_a_large_picture_need_no_memory_for_what_lies_between():
    found = subprocess.run([sys.executable, "-c", PEAKS], check=True, capture_output=True, text=True).stdout
    one_step, several = map(int, found.split())
    assert several - one_step < 5000 * 8000 * 3 / (1 if sys.platform == "darwin" else 1024), "a byte for each value"


@pytest.mark.parametrize("steps", [1, 3])
def test_a_seed_gives_its_picture_again(steps):
    request = RestoreRequest(whole=True, steps=steps, seed=5)
    first, second = (last(some_restorer(), picture(24, 30), request).pictures[0] for _ in range(2))
    assert torch.equal(first, second)


def test_candidates_follow_their_seeds_and_differ():
    model, original, mask = some_restorer(), picture(24, 30), marked(24, 30)
    both = last(model, original, RestoreRequest(mask=mask, steps=3, candidates=2, seed=5)).pictures
    alone = last(model, original, RestoreRequest(mask=mask, steps=3, seed=6)).pictures
    assert torch.equal(both[1], alone[0])
    assert not torch.equal(both[0], both[1])
    where = disagreement(both)
    assert where[mask].max() > 0
    assert where[~mask].max() == 0


@pytest.mark.parametrize(("height", "width", "every"), [(1000, 700, 3), (300, 2, 5), (3, 1000, 4), (513, 20, 1)])
def test_a_thin_disagreement_is_on_the_map_wherever_it_is(height, width, every):
    same, other = torch.full((2, height, width, 3), 90, dtype=torch.uint8)
    row, column = height - 1, width // 2
    other[:, column, 0] = 130
    other[row, :, 1] = 110
    where = disagreement([same, other], every)
    assert where.shape == (-(-height // every), -(-width // every))
    assert (where[:, column // every] == 20).all() and (where[-1] >= 10).all()
    where[:, column // every] = where[-1] = 0
    assert where.max() == 0, "and nowhere else"


def test_one_step_has_but_one_answer():
    assert len(last(some_restorer(), picture(16, 16), RestoreRequest(whole=True, candidates=4)).pictures) == 1


def test_strength_goes_from_nothing_to_more_than_the_models_own():
    original = picture(24, 24)
    none, full, double = (
        last(some_restorer(), original, RestoreRequest(whole=True, strength=s)).pictures[0].float() for s in (0, 1, 2)
    )
    assert torch.equal(none, original.float())
    assert (double - none).abs().mean() > 1.2 * (full - none).abs().mean() > 0


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.5])
def test_what_is_marked_is_repaired_whatever_the_strength(strength):
    original, mask = picture(40, 40), marked(40, 40)
    request = RestoreRequest(mask=mask, whole=True)
    full, some = (
        last(some_restorer(), original, r).pictures[0] for r in (request, replace(request, strength=strength))
    )
    assert torch.equal(full[mask], some[mask]) and not torch.equal(full[~mask], some[~mask])


def test_a_told_noise_level_counts_where_something_is_marked_too():
    original, mask = picture(40, 40), marked(40, 40)
    low, high = (
        last(some_restorer(), original, RestoreRequest(mask=mask, whole=True, sigma=sigma)).pictures[0]
        for sigma in (5, 100)
    )
    assert not torch.equal(low, high)


@pytest.mark.parametrize("side", [40, 160, 300])
def test_a_hole_of_any_width_begins_from_the_colours_around_it(side):
    from sd_core.training.setup import new_restorer

    fresh = new_restorer("tiny", 32, 0)  # it gives back what it is shown
    original = torch.tensor([40, 90, 200], dtype=torch.uint8).expand(330, 720, 3).clone()
    mask = torch.zeros(330, 720, dtype=torch.bool)
    mask[15 : 15 + side, 390 : 390 + side] = True
    damaged = torch.where(mask[..., None], 255, original).to(torch.uint8)
    (repaired,) = last(fresh, damaged, RestoreRequest(mask=mask)).pictures
    assert (repaired.int() - original).abs().max() <= 1


@pytest.mark.parametrize("factor", [2, 4])
def test_an_enlarged_picture_is_that_much_larger(factor):
    (repaired,) = last(some_restorer(), picture(20, 25), RestoreRequest(whole=True, upscale=factor)).pictures
    assert repaired.shape == (20 * factor, 25 * factor, 3)


def test_what_would_grow_too_large_is_refused():
    side = int(MAX_PIXELS**0.5)
    huge = torch.zeros(1, 1, 1, dtype=torch.uint8).expand(side, side, 3)
    with pytest.raises(UserError, match="million pixels"):
        next(restore(some_restorer(), huge, RestoreRequest(whole=True, upscale=2)))


def test_what_is_marked_is_repaired_before_a_picture_is_enlarged():
    mask = torch.zeros(20, 25, dtype=torch.bool)
    mask[5:12, 5:12] = True
    request = RestoreRequest(mask, whole=True, upscale=2, steps=2, candidates=2)
    *going, done = restore(some_restorer(), picture(20, 25), request)
    assert [event.index for event in going] == [1, 2, 3, 4, 4, 5, 6]
    assert {event.count for event in (*going, done)} == {done.index} == {6}
    (plain,) = last(some_restorer(), picture(20, 25), RestoreRequest(whole=True, upscale=2)).pictures
    for answer in done.pictures:
        assert answer.shape == (40, 50, 3)
        assert (answer[10:24, 10:24] != plain[10:24, 10:24]).any()
    assert (done.pictures[0] != done.pictures[1]).any()


def test_every_tile_of_every_step_is_told():
    events = list(restore(some_restorer(), picture(20, 600), RestoreRequest(whole=True, steps=2, candidates=2)))
    assert [e.index for e in events] == [*range(1, 9), 8]
    assert {e.count for e in events} == {8}
    assert [len(e.pictures) for e in events] == [0] * 4 + [1] * 4 + [2]
    assert all(e.preview.dtype == torch.uint8 for e in events)


def looked_at(height, width):
    """Pixels of all windows of a picture, with what they share."""
    spans = [window.outer for window in windows(height, width)]
    return sum((rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in spans)


def test_the_work_of_a_repair_is_what_its_windows_hold():
    whole = RestoreRequest(whole=True, steps=3, candidates=2)
    assert work((20, 20), whole) == 6 * 400
    assert work((600, 700), whole) == 6 * looked_at(600, 700)
    assert work((300, 400), replace(whole, upscale=2)) == UPSCALER_WORK * 300 * 400
    assert work((300, 400), replace(whole, upscale=4)) == UPSCALER_WORK * (300 * 400 + 600 * 800)
    assert work((20, 20), replace(whole, steps=1)) == MOST_VIEWS * 400
    mask = torch.zeros(2000, 2000, dtype=torch.bool)
    mask[1000:1010, 1000:1010] = True
    assert work((2000, 2000), RestoreRequest(mask)) < MOST_VIEWS * 200**2


def test_the_more_there_is_to_repair_the_less_often_it_is_looked_at():
    sides = {400: 4, 512: 2, 1000: 2, 1001: 1}
    for side, views in sides.items():
        assert work((side, side), RestoreRequest(whole=True)) == views * looked_at(side, side)


def test_a_walk_begins_where_the_most_faithful_answer_comes_from():
    assert walk_sigmas(1).tolist() == [80, 0]
    many = walk_sigmas(6)
    assert len(many) == 7
    assert many[0] == 80
    assert many[1] == pytest.approx(WALK_FROM)
    assert many[-1] == 0
    assert (many.diff() < 0).all()


@pytest.mark.parametrize(("height", "width"), [(33, 47), (1001, FIND_PIXELS // 1000)])
def test_damage_is_looked_for_at_any_size(height, width):
    mask = find_damage(some_restorer(), picture(height, width))
    assert mask.shape == (height, width)
    assert mask.dtype == torch.bool


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "Mark the damage first"),
        ({"mask": torch.zeros(20, 20, dtype=torch.bool)}, "Mark the damage first"),
        ({"mask": torch.ones(5, 5, dtype=torch.bool)}, "differ in size"),
    ],
)
def test_what_makes_no_sense_is_told_in_one_sentence(options, words):
    with pytest.raises(UserError, match=words):
        list(restore(some_restorer(), picture(20, 20), RestoreRequest(**options)))


@pytest.mark.parametrize(
    "options",
    [
        *({"steps": n} for n in (0, 51, 2.5, "2", True)),
        *({"candidates": n} for n in (0, 9)),
        *({"strength": s} for s in (-0.1, 3, float("nan"))),
        *({"sigma": s} for s in (-1, 300, "20")),
        *({"seed": s} for s in (-1, 2**32, 1.5)),
        {"upscale": 3},
        {"whole": False, "upscale": 2},
    ],
)
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(UserError, match="must be|A seed is|enlarged"):
        RestoreRequest(**{"whole": True, **options})


def test_a_generator_is_refused(generator):
    with pytest.raises(UserError, match="choose a restorer"):
        list(restore(generator, picture(8, 8), RestoreRequest(whole=True)))
