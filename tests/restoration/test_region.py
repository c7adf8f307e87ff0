"""A square of a larger picture, worked on by a generator."""

import numpy as np
import pytest
import torch

from sd_core.errors import UserError
from sd_core.restoration.denoising import clean_square
from sd_core.restoration.inpainting import fill_square
from sd_core.restoration.region import CropBox
from sd_core.restoration.request import RestoreRequest


def picture(height=30, width=50):
    return torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_a_square_lies_where_it_is_put_and_never_outside():
    assert CropBox.within((50, 30)) == CropBox(10, 0, 30)
    assert CropBox.within((50, 30), 1, 1, 0.5) == CropBox(35, 15, 15)
    assert CropBox.within((50, 30), 0, 0, 0).side == 1
    with pytest.raises(UserError, match="between 0 and 100%"):
        CropBox.within((50, 30), 1.2)


def test_a_square_around_a_mask_is_as_large_and_as_near_as_the_picture_allows():
    mask = np.zeros((30, 50), bool)
    assert CropBox.around(mask) == CropBox.within((50, 30))
    mask[3:6, 30:34] = True
    assert CropBox.around(mask) == CropBox(17, 0, 30)
    mask[:, 48] = True
    assert CropBox.around(mask.T) == CropBox(0, 20, 30)
    with pytest.raises(UserError, match="inside the picture, which has 50×30"):
        CropBox(0, 1, 30).check((50, 30))


def test_at_its_own_size_a_square_is_taken_and_put_back_exactly():
    square, whole = CropBox(3, 5, 16), picture()
    part = square.taken(whole, 16)
    assert (part == whole[5:21, 3:19]).all()
    assert (square.put_back(whole, part) == whole).all()


def test_only_the_square_is_cleaned(generator):
    whole, square = picture(), CropBox(20, 4, 8)
    *_, last = clean_square(
        generator, whole, RestoreRequest(whole=True, square=square, sigma=40, steps=2, candidates=3)
    )
    mask = square.mask((50, 30))
    assert len(last.pictures) == 3 and last.index == last.count
    for cleaned in last.pictures:
        changed = (cleaned != whole).any(-1).numpy()
        assert changed[mask].mean() > 0.5 and not changed[~mask].any()
    assert (last.pictures[0] != last.pictures[1]).any(), "another seed, another answer"


def test_progress_counts_every_step_of_every_candidate(generator):
    request = RestoreRequest(whole=True, square=CropBox(0, 0, 8), sigma=40, steps=3, candidates=2)
    steps = list(clean_square(generator, picture(), request))
    assert [s.index for s in steps] == [1, 2, 3, 4, 5, 6, 6] and {s.count for s in steps} == {6}


def test_one_step_has_one_answer(generator):
    *_, last = clean_square(generator, picture(), RestoreRequest(whole=True, candidates=4))
    assert len(last.pictures) == 1


def test_the_mask_of_a_square_is_the_square():
    assert np.argwhere(CropBox(2, 1, 3).mask((8, 6))).tolist() == [[r, c] for r in (1, 2, 3) for c in (2, 3, 4)]


def test_only_what_is_missing_in_the_square_is_drawn_anew(generator):
    whole, square = picture(), CropBox(20, 4, 16)
    mask = torch.zeros(30, 50, dtype=torch.bool)
    mask[:10, :30] = True
    *_, last = fill_square(generator, whole, RestoreRequest(mask, square=square, steps=2, candidates=2))
    inside = mask.numpy() & square.mask((50, 30))
    assert len(last.pictures) == 2
    for drawn in last.pictures:
        changed = (drawn != whole).any(-1).numpy()
        assert changed[inside].mean() > 0.5 and not changed[~inside].any()


def test_a_square_without_marks_is_refused_in_one_sentence(generator):
    request = RestoreRequest(torch.zeros(30, 50, dtype=torch.bool), square=CropBox(0, 0, 8))
    with pytest.raises(UserError, match="move the square"):
        list(fill_square(generator, picture(), request))
