"""Repairing with a restorer: what is not to be changed is not, tiles leave no seams, and a seed gives its picture."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sd_core.diffusion.tiling import touching, windows
from sd_core.models.denoiser import Denoiser
from sd_core.pictures.decoding import MAX_PIXELS
from sd_core.pictures.metrics import disagreement
from sd_core.restoration import detection, pipeline
from sd_core.restoration.detection import find_damage
from sd_core.restoration.pipeline import enlarged, restore, walk_sigmas, work
from sd_core.restoration.request import RestoreRequest, Restoring

MOST_VIEWS = pipeline.VIEWED[0][0]


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


@pytest.fixture
def small_tiles(monkeypatch):
    def shorter(height, width):
        return windows(height, width, tile=32, margin=16)

    monkeypatch.setattr(pipeline, "windows", shorter)
    monkeypatch.setattr(pipeline, "touching", partial(touching, tile=32, margin=16))


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


@pytest.mark.parametrize("steps", [1, 3])
def test_with_a_margin_as_wide_as_the_network_sees_tiles_are_the_whole(steps, monkeypatch):
    request, original = RestoreRequest(whole=True, steps=steps), picture(40, 900)
    answers = []
    for tile in (1024, 256):
        monkeypatch.setattr(pipeline, "windows", lambda h, w, tile=tile: windows(h, w, tile, margin=208))
        answers.append(last(some_restorer(), original, request).pictures[0].int())
    whole, tiled = answers
    assert (tiled - whole).abs().max() <= 1


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
def test_a_hole_of_any_width_begins_from_the_colours_around_it(side, small_tiles):
    from sd_core.training.setup import new_restorer

    fresh = new_restorer("tiny", 32, 0)  # it gives back what it is shown
    original = torch.tensor([40, 90, 200], dtype=torch.uint8).expand(330, 350, 3).clone()
    mask = torch.zeros(330, 350, dtype=torch.bool)
    mask[15 : 15 + side, 20 : 20 + side] = True
    damaged = torch.where(mask[..., None], 255, original).to(torch.uint8)
    (repaired,) = last(fresh, damaged, RestoreRequest(mask=mask)).pictures
    assert (repaired.int() - original).abs().max() <= 1


@pytest.mark.parametrize("factor", [2, 4])
def test_an_enlarged_picture_is_that_much_larger(factor):
    (repaired,) = last(some_restorer(), picture(20, 25), RestoreRequest(whole=True, upscale=factor)).pictures
    assert repaired.shape == (20 * factor, 25 * factor, 3)


def test_what_would_grow_too_large_is_refused():
    side = int(MAX_PIXELS**0.5)
    with pytest.raises(ValueError, match="million pixels"):
        enlarged(torch.zeros(1, 1, 1, dtype=torch.uint8).expand(side, side, 3), 2)


def test_every_tile_of_every_step_is_told(small_tiles):
    events = list(restore(some_restorer(), picture(40, 64), RestoreRequest(whole=True, steps=2, candidates=2)))
    assert [e.index for e in events] == [*range(1, 17), 16]
    assert {e.count for e in events} == {16}
    assert [len(e.pictures) for e in events] == [0] * 8 + [1] * 8 + [2]
    assert all(e.preview.dtype == torch.uint8 for e in events)


def looked_at(height, width):
    """Pixels of all windows of a picture, with what they share."""
    spans = [window.outer for window in pipeline.windows(height, width)]
    return sum((rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in spans)


def test_the_work_of_a_repair_is_what_its_windows_hold(small_tiles):
    whole = RestoreRequest(whole=True, steps=3, candidates=2)
    assert work((20, 20), whole) == 6 * 400
    assert work((20, 20), replace(whole, upscale=2)) == MOST_VIEWS * 400 + 6 * looked_at(40, 40)
    assert work((20, 20), replace(whole, steps=1)) == MOST_VIEWS * 400
    mask = torch.zeros(2000, 2000, dtype=torch.bool)
    mask[1000:1010, 1000:1010] = True
    assert work((2000, 2000), RestoreRequest(mask)) < MOST_VIEWS * 200**2


def test_a_picture_of_512_pixels_is_looked_at_twice():
    assert work((512, 512), RestoreRequest(whole=True)) == 2 * looked_at(512, 512)


def test_the_more_there_is_to_repair_the_less_often_it_is_looked_at(monkeypatch):
    monkeypatch.setattr(pipeline, "VIEWED", ((4, 400), (2, 500)))
    looks, one_step = [], RestoreRequest(whole=True)
    monkeypatch.setattr(
        Denoiser, "at_once", lambda self, conditioning, views: looks.append(views) or (conditioning.damaged, None)
    )
    for width in (20, 21, 25, 26):
        last(some_restorer(), picture(20, width), one_step)
    assert looks == [4, 2, 2, 1]
    assert [work((20, width), one_step) for width in (20, 21, 25, 26)] == [4 * 400, 2 * 420, 2 * 500, 520]
    assert work((20, 20), replace(one_step, steps=3)) == 3 * 400


def test_a_walk_begins_where_the_most_faithful_answer_comes_from():
    assert walk_sigmas(1).tolist() == [80, 0]
    many = walk_sigmas(6)
    assert len(many) == 7
    assert many[0] == 80
    assert many[1] == pytest.approx(pipeline.WALK_FROM)
    assert many[-1] == 0
    assert (many.diff() < 0).all()


def test_damage_is_looked_for_at_any_size(monkeypatch):
    monkeypatch.setattr(detection, "FIND_PIXELS", 500)
    mask = find_damage(some_restorer(), picture(33, 47))
    assert mask.shape == (33, 47)
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
    with pytest.raises(ValueError, match=words):
        list(restore(some_restorer(), picture(20, 20), RestoreRequest(**options)))


@pytest.mark.parametrize(
    "options",
    [{"steps": 0}, {"candidates": 9}, {"strength": 3}, {"sigma": 300}, {"upscale": 3}, {"whole": False, "upscale": 2}],
)
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="must be between|enlarged"):
        RestoreRequest(**{"whole": True, **options})


def test_a_generator_is_refused(generator):
    with pytest.raises(ValueError, match="choose a restorer"):
        list(restore(generator, picture(8, 8), RestoreRequest(whole=True)))
