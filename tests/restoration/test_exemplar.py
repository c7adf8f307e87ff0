"""Wide holes are filled with pieces from elsewhere in the picture, and nothing else is."""

import numpy as np
import pytest
import torch

from sd_core.diffusion.noise import MAX_SEED
from sd_core.environment import CHECKPOINTS
from sd_core.models import checkpoint
from sd_core.restoration.exemplar import BRIDGED, CELL, MOST, filled, holes_of, wide
from sd_core.restoration.pipeline import restore
from sd_core.restoration.request import RestoreRequest


def disc(height: int, width: int, radius: int, row: int, column: int) -> torch.Tensor:
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None]
    return (rows - row) ** 2 + (columns - column) ** 2 < radius**2


def stripes(height: int, width: int) -> torch.Tensor:
    """Stripes 8 pixels wide, uint8 [H, W, 3]."""
    dark = (torch.arange(width) // 8 % 2)[None, :, None] == 0
    return torch.where(dark, torch.tensor([40, 60, 160]), torch.tensor([230, 220, 90])).expand(height, width, 3).byte()


def last(events):
    *_, newest = events
    return newest


@pytest.fixture(scope="module")
def restorer():
    return checkpoint.load(CHECKPOINTS / "restorer")


@pytest.mark.parametrize(("pixels", "is_wide"), [(CELL * BRIDGED, False), (CELL * (BRIDGED + 2), True)])
def test_what_a_square_of_that_size_fits_into_is_wide(pixels, is_wide):
    mask = torch.zeros(200, 300, dtype=torch.bool)
    mask[21 : 21 + pixels, 21 : 21 + pixels] = True
    assert wide(mask).any() == is_wide
    assert wide(mask).equal(mask) or not is_wide


def test_a_hole_is_wide_and_a_stroke_elsewhere_is_not():
    hole, stroke = disc(200, 300, 40, 120, 240), torch.zeros(200, 300, dtype=torch.bool)
    stroke[20 : 20 + CELL * BRIDGED, 20:180] = True
    assert wide(hole | stroke).equal(hole)


def test_a_hole_at_the_edge_of_the_picture_is_wide_too():
    mask = torch.zeros(200, 200, dtype=torch.bool)
    mask[:, : CELL * BRIDGED // 2 + CELL] = True
    assert wide(mask).equal(mask)


@pytest.mark.parametrize(
    ("how", "wanted"),
    [
        ({}, True),
        ({"exemplars": False}, False),
        ({"whole": True}, False),
        ({"whole": True, "upscale": 2}, True),
    ],
)
def test_pieces_are_taken_where_marked_places_alone_are_repaired(how, wanted):
    request = RestoreRequest(disc(200, 200, 50, 100, 100), **how)
    assert (holes_of(request) is not None) == wanted


def test_what_surrounds_a_hole_goes_on_in_it():
    picture, hole = stripes(160, 160), disc(160, 160, 40, 80, 80)
    damaged = torch.where(hole[..., None], 255, picture).byte()
    found = filled(damaged, hole, hole, seed=0)
    assert found[~hole].equal(damaged[~hole])
    assert (found[hole].int() - picture[hole]).abs().float().mean() < 8
    assert filled(damaged, hole, hole, seed=0).equal(found), "equal seeds give equal pieces"


def test_no_piece_is_taken_from_what_is_lost_as_well():
    picture, hole = stripes(160, 160), disc(160, 160, 30, 80, 80)
    lost = hole.clone()
    lost[:, 120:] = True
    damaged = torch.where(lost[..., None], torch.tensor([255, 0, 0]), picture).byte()
    found = filled(damaged, hole, lost, seed=0)
    red = (found[..., 0] > 200) & (found[..., 1] < 60) & (found[..., 2] < 60)
    assert not (red & hole).any()
    assert found[lost & ~hole].equal(damaged[lost & ~hole])


def test_a_large_hole_is_filled_at_a_smaller_size():
    picture = stripes(900, 900)
    hole = disc(900, 900, 250, 450, 450)
    damaged = torch.where(hole[..., None], 255, picture).byte()
    (only,) = holes_of(RestoreRequest(hole)).each
    assert only.own(hole).numel() > MOST
    found = filled(damaged, hole, hole, seed=0)
    assert found.shape == picture.shape and found[~hole].equal(damaged[~hole])
    assert not (found[hole] == 255).all(-1).any()


@pytest.mark.parametrize("lost", ["all", "all but two rows", "a grid"])
def test_a_hole_is_never_black_however_little_is_left_around_it(restorer, lost):
    picture = torch.full((1000, 900, 3), 200, dtype=torch.uint8)
    mask = disc(1000, 900, 300, 500, 450)
    if lost == "a grid":
        mask[::4] = mask[:, ::4] = True
    else:
        mask[:] = True
        if lost != "all":
            mask[:2] = False
    picture[mask] = 0
    (repaired,) = last(restore(restorer, picture, RestoreRequest(mask))).pictures
    assert repaired[500, 450].float().mean() > 90, "at least the grey of a restorer that knows nothing"
    assert repaired[~mask].equal(picture[~mask])


def test_holes_beside_one_another_are_filled_each_by_itself():
    mask = disc(400, 700, 75, 200, 190) | disc(400, 700, 75, 200, 460) | disc(400, 700, 30, 50, 660)
    holes = holes_of(RestoreRequest(mask))
    assert len(holes.each) == 3
    together = torch.zeros_like(mask, dtype=torch.int)
    for hole in holes.each:
        together[hole.outer] += hole.own(holes.mask).int()
    assert together.equal(holes.mask.int()), "each pixel is one hole's"


def test_holes_far_from_one_another_cost_no_more_than_both():
    one, other = disc(700, 3000, 40, 100, 100), disc(700, 3000, 40, 600, 2900)
    both, alone = (sum(h.work for h in holes_of(RestoreRequest(m)).each) for m in (one | other, one))
    assert both < 2.5 * alone


def test_a_restorer_joins_the_pieces_and_repairs_the_strokes(restorer):
    picture, hole = stripes(192, 256), disc(192, 256, 40, 96, 128)
    stroke = torch.zeros_like(hole)
    stroke[20:26, 10:200] = True
    mask = hole | stroke
    damaged = torch.where(mask[..., None], 255, picture).byte()
    events = list(restore(restorer, damaged, RestoreRequest(mask)))
    (repaired,), (smeared,) = (
        events[-1].pictures,
        last(restore(restorer, damaged, RestoreRequest(mask, exemplars=False))).pictures,
    )
    assert repaired[~mask].equal(damaged[~mask])
    assert {event.count for event in events} == {events[-1].index}
    assert [event.index for event in events] == sorted(event.index for event in events)

    def far_off(answer: torch.Tensor, where: torch.Tensor) -> float:
        return float((answer[where].int() - picture[where]).abs().float().mean())

    assert far_off(repaired, hole) < far_off(smeared, hole) / 2
    assert far_off(repaired, stroke) < far_off(smeared, stroke) + 2


def test_each_candidate_has_pieces_of_its_own(restorer):
    rng = np.random.default_rng(0)
    picture = torch.from_numpy(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).repeat_interleave(6, 0)
    picture = picture.repeat_interleave(6, 1)
    hole = disc(144, 192, 40, 72, 96)
    request = RestoreRequest(hole, steps=2, candidates=2, seed=5)
    first, second = last(restore(restorer, picture, request)).pictures
    assert (first[hole] != second[hole]).any()
    again = RestoreRequest(hole, steps=2, candidates=1, seed=6)
    assert last(restore(restorer, picture, again)).pictures[0].equal(second), "the next seed's answer is the second"


def test_the_highest_seed_has_candidates_too(restorer):
    request = RestoreRequest(disc(96, 96, 30, 48, 48), steps=2, candidates=2, seed=MAX_SEED)
    assert len(last(restore(restorer, stripes(96, 96), request)).pictures) == 2
