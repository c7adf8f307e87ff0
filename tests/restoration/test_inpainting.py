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


# In latents


@pytest.fixture
def large_picture() -> torch.Tensor:
    return torch.randint(0, 256, (32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def corner() -> torch.Tensor:
    mask = torch.zeros(32, 32, dtype=torch.bool)
    mask[3:7, 2:9] = True
    return mask


def test_a_generator_of_latents_changes_nothing_that_is_there(latent_generator, large_picture, corner):
    *_, almost, end = fill(latent_generator, large_picture, corner, steps=3, candidates=2)
    assert almost.preview.shape == (32, 32, 3) and len(end.pictures) == 2
    for shown in (almost.preview, *end.pictures):
        assert torch.equal(shown[~corner], large_picture[~corner])
        assert not torch.equal(shown[corner], large_picture[corner])


def test_nothing_in_the_hole_leaks_through_the_encoder(latent_generator, large_picture, corner):
    scribbled = torch.where(corner[..., None], 255 - large_picture, large_picture)
    first, second = (last(latent_generator, p, corner, steps=2).pictures[0] for p in (large_picture, scribbled))
    assert torch.equal(first, second)


def test_what_is_known_far_from_the_hole_is_heard_in_latents(latent_generator, large_picture, corner):
    other = torch.where((torch.arange(32) > 24)[:, None, None], 255 - large_picture, large_picture)
    first, second = (last(latent_generator, p, corner, steps=2).pictures[0] for p in (large_picture, other))
    assert not torch.equal(first[corner], second[corner])
