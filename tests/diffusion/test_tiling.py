"""Windows: together they cover a picture once, and with their margins they give the same answer as the whole."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from sd_core.diffusion.sampling import dpmpp_2m, euler, heun
from sd_core.diffusion.schedules import karras_sigmas
from sd_core.diffusion.tiling import GRID, Tiled, Window, around, islands, touching, windows


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


def sees(window: Window, other: Window) -> bool:
    return all(a.start < b.stop and b.start < a.stop for a, b in zip(window.outer, other.inner, strict=True))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 10**6), st.integers(0, 9))
def test_islands_hold_each_window_once_and_see_nothing_of_one_another(height, width, seed, count):
    mask, generator = torch.zeros(height, width, dtype=torch.bool), torch.Generator().manual_seed(seed)
    for _ in range(count):
        row, column = (int(torch.randint(n, (), generator=generator)) for n in (height, width))
        mask[row : row + 9, column : column + 400] = True
    places = list(touching(mask))
    found = islands(places)
    assert sorted(map(id, places)) == sorted(id(window) for island in found for window in island)
    for number, island in enumerate(found):
        others = [window for other in found[:number] + found[number + 1 :] for window in other]
        assert not any(sees(a, b) or sees(b, a) for a in island for b in others)
        reached = island[:1]  # and each is one
        for window in reached:
            reached += [w for w in island if w not in reached and (sees(w, window) or sees(window, w))]
        assert len(reached) == len(island)
        rows, columns = around(island)
        assert all(rows.start <= w.outer[0].start and w.outer[1].stop <= columns.stop for w in island)


def test_a_picture_as_a_whole_is_one_island_however_many_windows_it_has():
    assert len(islands(list(windows(1, 2_000_000)))) == 1


def blurred(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """A `D` that looks 8 pixels far."""
    return F.avg_pool2d(x, 17, 1, 8, count_include_pad=False) / (1 + sigma)


@pytest.mark.parametrize("sampler", [euler, heun, dpmpp_2m])
def test_every_sampler_walks_tiles_as_it_walks_the_whole(sampler):
    sigmas = karras_sigmas(5)
    x = sigmas[0] * torch.randn(1, 3, 100, 150, generator=torch.Generator().manual_seed(0))
    tiled = Tiled(lambda window: blurred, list(windows(100, 150, tile=64, margin=8)))
    for ours, whole in zip(sampler(tiled, x, sigmas), sampler(blurred, x, sigmas), strict=True):
        torch.testing.assert_close(ours.x, whole.x, rtol=1e-4, atol=1e-4)


def test_a_guess_that_was_worked_out_ahead_is_not_worked_out_again():
    asked, places = [], list(windows(100, 150, tile=64, margin=8))
    tiled = Tiled(lambda window: asked.append(window) or blurred, places)
    x, y = torch.randn(2, 1, 3, 100, 150, generator=torch.Generator().manual_seed(0))
    for window, part in tiled.ahead(x, torch.tensor(1.0)):
        torch.testing.assert_close(part, blurred(x, 1.0)[(..., *window.inner)])
    assert asked == places
    torch.testing.assert_close(tiled(x, torch.tensor(1.0)), blurred(x, 1.0))
    assert asked == places
    for other, sigma in ((x, 1.0), (y, 1.0), (y, 2.0)):
        torch.testing.assert_close(tiled(other, torch.tensor(sigma)), blurred(other, sigma))
    assert len(asked) == 4 * len(places)


def test_where_no_window_is_nothing_is_guessed():
    mask = torch.zeros(700, 700, dtype=torch.bool)
    mask[600:, 600:] = True
    guess = Tiled(lambda window: lambda x, sigma: x + 1, list(touching(mask)))(
        torch.zeros(1, 3, 700, 700), torch.ones(())
    )
    assert torch.equal(guess[0, 0] == 1, mask)
