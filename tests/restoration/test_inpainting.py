"""Filling missing parts with a generator: what is known stays, candidates differ, and a seed gives its picture."""

import pytest
import torch

from sd_core.errors import UserError
from sd_core.restoration.inpainting import fill
from sd_core.restoration.request import Restoring


@pytest.fixture
def picture() -> torch.Tensor:
    return torch.randint(0, 256, (8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def mask() -> torch.Tensor:
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[2:6, 3:8] = True
    return mask


def last(*args, **options) -> Restoring:
    *_, item = fill(*args, **options)
    return item


def test_what_is_not_missing_stays_and_what_is_missing_is_drawn(generator, picture, mask):
    (drawn,) = last(generator, picture, mask, steps=3).pictures
    assert torch.equal(drawn[~mask], picture[~mask])
    assert not torch.equal(drawn[mask], picture[mask])


def test_what_lies_in_the_hole_does_not_matter(generator, picture, mask):
    scribbled = torch.where(mask[..., None], 255 - picture, picture)
    first, second = (last(generator, p, mask, steps=2, seed=4).pictures[0] for p in (picture, scribbled))
    assert torch.equal(first, second)


def test_candidates_follow_their_seeds_and_differ(generator, picture, mask):
    both = last(generator, picture, mask, steps=2, candidates=2, seed=4).pictures
    alone = last(generator, picture, mask, steps=2, seed=5).pictures[0]
    assert (both[1].int() - alone.int()).abs().max() <= 1
    assert not torch.equal(both[0], both[1])


def test_every_step_is_told_and_the_last_has_the_pictures(generator, picture, mask):
    steps = list(fill(generator, picture, mask, steps=4))
    assert [(s.index, s.count, len(s.pictures)) for s in steps] == [(1, 4, 0), (2, 4, 0), (3, 4, 0), (4, 4, 1)]


def test_what_makes_no_sense_is_told_in_one_sentence(generator, restorer, picture, mask):
    for model, p, m, words in (
        (restorer, picture, mask, "drawn by a generator"),
        (generator, picture[:4], mask, "works at 8×8"),
        (generator, picture, mask & False, "Mark what is missing"),
    ):
        with pytest.raises(UserError, match=words):
            last(model, p, m)
