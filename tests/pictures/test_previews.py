"""Copies of pictures to look at and to mark, and the way of a mask from the one to the other and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sd_core.pictures.masks import MARKED_SIDE, full_mask, holes, proxy_mask, proxy_size
from sd_core.pictures.original import Original
from sd_core.pictures.previews import comparable, framed, heat_map, on_white, proxy, thumbnail, unframed

SIZES = st.tuples(st.integers(8, 3000), st.integers(8, 3000))


def some_mask(size, seed=0, share=0.001):
    return np.random.default_rng(seed).random(size[::-1]) < share


@given(SIZES)
def test_a_copy_is_large_enough_to_be_marked_and_keeps_its_proportions(size):
    width, height = proxy_size(size)
    assert max(width, height) == MARKED_SIDE
    assert width / height == pytest.approx(size[0] / size[1], rel=0.6 / min(width, height))


@given(SIZES, st.integers(0, 9))
def test_a_mask_that_nobody_edited_comes_back_as_it_was(size, seed):
    exact = some_mask(size, seed)
    assert (full_mask(proxy_mask(exact), size, exact) == exact).all()


@given(SIZES)
def test_every_lost_pixel_is_seen_on_the_copy(size):
    exact = some_mask(size)
    assert (full_mask(proxy_mask(exact), size) >= exact).all()


def test_what_was_erased_is_gone_and_what_was_added_is_there():
    size = (2600, 2000)
    exact = np.zeros(size[::-1], bool)
    exact[100:103, ::2] = True
    marks = proxy_mask(exact)
    marks[:, :512] = False
    marks[400:410, 600:700] = True
    mask = full_mask(marks, size, exact)
    assert not mask[:, :1300].any()
    assert (mask[100:103, 1304:] == exact[100:103, 1304:]).all(), "to the pixel where nobody edited"
    assert mask[1020:1040, 1530:1770].all()


def test_marks_of_another_picture_are_refused():
    with pytest.raises(ValueError, match="another picture"):
        full_mask(np.zeros((600, 600), bool), (700, 600))


def test_few_pixels_are_enlarged_and_their_marks_come_back():
    assert proxy_size((64, 32)) == (1024, 512)
    marks = np.zeros((512, 1024), bool)
    marks[18, 34] = True
    mask = full_mask(marks, (64, 32))
    assert mask.sum() == 1 and mask[1, 2]


def test_marks_are_put_into_a_frame_and_taken_out_of_it():
    marks = proxy_mask(some_mask((700, 300), share=0.1))
    square = framed(Image.fromarray(marks).convert("L"), 0)
    assert square.size == (MARKED_SIDE, MARKED_SIDE)
    assert (unframed(np.asarray(square) > 0, (700, 300)) == marks).all()
    assert framed(Image.new("RGBA", (1024, 512)), (1, 2, 3)).getpixel((5, 5)) == (1, 2, 3, 255)


def test_a_hole_is_missing_and_the_background_of_a_figure_is_not():
    pixels = np.full((700, 900, 4), 255, np.uint8)
    pixels[:200, :, 3] = 0  # background, with a bay that winds into the figure
    pixels[200:500, 100:120, 3] = 0
    pixels[480:500, 100:400, 3] = 0
    pixels[300:400, 600:650, 3] = 0  # a hole
    found = full_mask(holes(Original(pixels)), (900, 700))
    expected = np.zeros((700, 900), bool)
    expected[300:400, 600:650] = True
    assert (found == expected).all()
    assert not holes(Original(pixels[..., :3].copy())).any()


def test_copies_to_compare_have_one_size_and_no_transparency():
    before = Original(np.full((60, 80, 4), 90, np.uint8))
    after = Original(np.full((120, 160, 4), 90, np.uint8))
    a, b = comparable(before, after)
    assert a.size == b.size == (480, 360) and a.mode == b.mode == "RGB"


def test_what_is_transparent_is_shown_white():
    assert on_white(Image.new("RGBA", (2, 2), (9, 9, 9, 0))).getpixel((0, 0)) == (255, 255, 255)


def test_a_copy_shows_alpha_of_every_kind_of_picture():
    deep = Original(np.full((600, 600), 7, np.uint16), transparent_value=7)
    grey = Original(np.full((600, 600, 2), 0, np.uint8))
    for picture in (deep, grey):
        assert proxy(picture).getextrema()[3] == (0, 0)


def test_a_thumbnail_of_few_pixels_shows_each(tmp_path):
    Original(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "a.png")
    assert thumbnail(tmp_path / "a.png", 100).size == (96, 96)


def test_more_disagreement_is_brighter():
    shown = np.asarray(heat_map(np.linspace(0, 60, 50)[None]).convert("L")).astype(int)[0]
    assert (np.diff(shown) >= 0).all() and shown[0] < 10 and shown[-1] > 200
