"""Windows: together they cover a picture once, and with their margins they give the same answer as the whole."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sd_core.diffusion.tiling import GRID, touching, windows


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([32, 64, 128]), st.integers(0, 40))
def test_windows_cover_each_pixel_once_and_look_at_their_surroundings(height, width, tile, margin):
    covered = torch.zeros(height, width, dtype=torch.int)
    for window in windows(height, width, tile, margin):
        covered[window.inner] += 1
        whole = torch.arange(height * width).view(height, width)
        assert torch.equal(whole[window.outer][window.inside], whole[window.inner])
        for inner, outer, length in zip(window.inner, window.outer, (height, width), strict=True):
            assert outer.start % GRID == 0
            assert outer.start <= max(0, inner.start - margin)
            assert outer.stop == min(length, -(-(inner.stop + margin) // GRID) * GRID)
    assert (covered == 1).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 10**6), st.integers(0, 5))
def test_windows_that_touch_a_mask_cover_it_and_little_else(height, width, seed, count):
    mask = torch.zeros(height, width, dtype=torch.bool)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        row, column = (int(torch.randint(n, (), generator=generator)) for n in (height, width))
        mask[row : row + 9, column : column + 5] = True
    covered = torch.zeros_like(mask)
    for window in touching(mask, tile=64):
        assert not covered[window.inner].any()
        covered[window.inner] = True
        part = mask[window.inner]
        assert part[0].any() and part[-1].any() and part[:, 0].any() and part[:, -1].any()
    assert not (mask & ~covered).any()


def test_nothing_marked_needs_no_window():
    assert list(touching(torch.zeros(20, 20, dtype=torch.bool))) == []
