"""What a restorer is shown beside the picture: first guesses of what is lost and of how strong the noise is."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sd_core.diffusion.noise_estimation import measured_noise
from sd_core.diffusion.tiling import GRID
from sd_core.models.conditioning import CELL, CONDITIONING_CHANNELS, Conditioning, filled, seen_from_afar
from sd_core.pictures.pixels import to_float

sides = st.integers(1, 40)


def ramp(height: int, width: int) -> torch.Tensor:
    """A smooth picture [1, 3, H, W]."""
    rows, columns = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)
    return torch.stack([rows.expand(height, width), columns.expand(height, width), (rows + columns) / 2])[None]


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def hole(height: int, width: int, *span: slice) -> torch.Tensor:
    lost = torch.zeros(1, 1, height, width, dtype=torch.bool)
    lost[(..., *span)] = True
    return lost


# What is lost


@given(sides, sides, st.floats(0, 1), st.integers(0, 1000))
def test_what_is_not_lost_stays_and_the_rest_is_within_range(height, width, share, seed):
    picture = noise(2, 3, height, width, seed=seed).clamp(-1, 1)
    lost = torch.rand((2, 1, height, width), generator=torch.Generator().manual_seed(seed)) < share
    answer = filled(picture, lost)
    torch.testing.assert_close(torch.where(lost, 0, answer), torch.where(lost, 0, picture))
    assert answer.abs().max() <= 1


def test_a_smooth_picture_is_continued_over_a_scratch_and_a_hole():
    picture = ramp(64, 64)
    for lost in (hole(64, 64, slice(30, 33)), hole(64, 64, slice(20, 36), slice(24, 40))):
        error = (filled(picture, lost) - picture).abs()
        assert error.max() < 0.12
        assert error[:, :, lost[0, 0]].mean() < 0.04


def test_a_scratch_continues_the_slopes_on_both_sides_of_it():
    valley = torch.linspace(-1, 1, 65).square().expand(1, 3, 65, 65)
    span = slice(31, 34)  # the valley's floor
    answer = filled(valley, hole(65, 65, slice(None), span))
    level = valley[..., 30:31] - valley[..., span]  # the error of whoever draws a straight line from edge to edge
    assert (answer - valley).abs().max() < 0.5 * level.max()


def test_pictures_are_filled_the_same_alone_and_together():
    pictures = noise(3, 3, 24, 24)
    lost = torch.cat([hole(24, 24, slice(4, 7)), hole(24, 24, slice(0, 0)), hole(24, 24, slice(9, 12))])
    alone = torch.cat([filled(pictures[i : i + 1], lost[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(filled(pictures, lost), alone)


def test_a_picture_without_losses_is_the_same_one():
    picture = noise(1, 3, 9, 7)
    assert torch.equal(filled(picture, torch.zeros(1, 1, 9, 7, dtype=torch.bool)), picture)


def test_what_is_far_from_everything_known_is_grey():
    answer = filled(torch.ones(1, 3, 256, 256), hole(256, 256, slice(8, 248), slice(8, 248)))
    assert answer[..., 120:136, 120:136].abs().max() < 1e-4
    assert answer[..., 16, 16].min() > 0.9


def test_pictures_with_nothing_lost_far_from_all_that_is_known_need_no_look_from_afar():
    picture = torch.randint(0, 256, (100, 90, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    lost = torch.zeros(100, 90, dtype=torch.bool)
    assert seen_from_afar(picture, lost) is None
    lost[20:60, 10:60] = True
    assert seen_from_afar(picture, lost) is None


@pytest.mark.parametrize("height", [400, 205])
def test_from_afar_the_middle_of_a_hole_looks_like_its_surroundings(height):
    picture = torch.tensor([40, 90, 200], dtype=torch.uint8).expand(height, 190, 3).clone()
    lost = torch.zeros(height, 190, dtype=torch.bool)
    lost[5:-20, 7:180] = True
    picture[lost] = 255
    afar = seen_from_afar(picture, lost)
    assert afar.shape == (3, -(-height // CELL), -(-190 // CELL))
    torch.testing.assert_close(afar, to_float(picture[-1:, :1]).expand_as(afar), atol=1e-3, rtol=0)
    assert not seen_from_afar(picture, torch.ones_like(lost)).any()  # nothing is known: grey


def test_a_tile_is_filled_as_the_whole_picture_is():
    picture = noise(1, 3, 160, 160)
    lost = hole(160, 160, slice(60, 100), slice(60, 110))
    tile = (..., slice(GRID, 9 * GRID), slice(2 * GRID, 9 * GRID))
    torch.testing.assert_close(filled(picture[tile], lost[tile]), filled(picture, lost)[tile])


# How strong the noise is


@pytest.mark.parametrize("sigma", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("size", [(64, 64), (65, 63), (33, 33)])
def test_noise_is_measured_on_a_smooth_picture(sigma, size):
    level = measured_noise(0.5 * ramp(*size) + sigma * noise(1, 3, *size), hole(*size, slice(0, 0)))
    assert level.shape == (1, 1, *size)
    torch.testing.assert_close(level, torch.full_like(level, sigma), rtol=0.2, atol=0.01)
    assert level.mean() == pytest.approx(sigma, rel=0.06, abs=0.01)


def test_lost_places_do_not_count_as_noise_or_as_its_absence():
    picture = 0.1 * noise(1, 3, 64, 64)
    lost = hole(64, 64, slice(16, 48), slice(16, 64))
    for under in (0.0, 5.0):
        level = measured_noise(torch.where(lost, under * noise(1, 3, 64, 64, seed=1), picture), lost)
        torch.testing.assert_close(level, torch.full_like(level, 0.1), rtol=0.25, atol=0)


def test_noise_is_measured_place_by_place():
    picture = noise(1, 3, 32, 256)
    picture[..., 128:] *= 0.1
    level = measured_noise(picture, torch.zeros(1, 1, 32, 256, dtype=torch.bool))
    assert level[..., :64].min() > 0.8
    assert level[..., 192:].max() < 0.13


@given(sides, sides)
def test_a_picture_of_any_size_gives_finite_channels(height, width):
    picture = noise(2, 3, height, width)
    for mask in (None, torch.zeros(2, 1, height, width), torch.ones(2, 1, height, width)):
        for sigma in (None, 0.1):
            conditioning = Conditioning.of(picture, mask, sigma)
            channels = conditioning.channels(conditioning.base())
            assert channels.shape == (2, CONDITIONING_CHANNELS, height, width)
            assert channels.isfinite().all()


def test_the_network_is_told_what_is_known_and_what_is_only_measured():
    picture, mask = 0.2 * noise(1, 3, 32, 32), hole(32, 32, slice(4, 6)).float()
    told = Conditioning.of(picture, mask, 0.3)
    untold = Conditioning.of(picture)
    lost, mask_unknown, level, measured = told.channels(told.base())[0, 3:]
    assert torch.equal(lost, mask[0, 0])
    assert torch.equal(level, torch.full((32, 32), 0.3))
    assert not mask_unknown.any() and not measured.any()
    lost, mask_unknown, level, measured = untold.channels(untold.base())[0, 3:]
    assert not lost.any() and mask_unknown.all() and measured.all()
    torch.testing.assert_close(level, torch.full((32, 32), 0.2), rtol=0.2, atol=0)


def test_who_knows_the_noise_alone_knows_that_nothing_is_lost():
    picture = ramp(8, 8)
    assert not Conditioning.of(picture, sigma=0.3).mask.any()
    assert (Conditioning.of(picture).mask < 0).all()
