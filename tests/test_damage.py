"""Damages: what they do to a picture, and that it is the same every time."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sd_core.damage import GaussianNoise, to_levels, to_unit
from sd_core.metrics import psnr

GREY = torch.zeros(1, 3, 64, 64)


def test_the_noise_level_is_on_the_scale_of_8_bits():
    noisy = GaussianNoise(25)(GREY, torch.Generator().manual_seed(0))
    assert noisy.std() * 127.5 == pytest.approx(25, rel=0.03)


def test_units_convert_both_ways():
    assert to_levels(to_unit(25.0)) == pytest.approx(25)
    assert to_unit(127.5) == 1


def test_the_same_generator_gives_the_same_damage():
    first, second, other = (GaussianNoise(25)(GREY, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@given(st.floats(0, 255), st.integers(1, 4), st.integers(1, 20), st.integers(1, 20))
def test_shape_and_range_are_kept(sigma, batch, height, width):
    clean = torch.rand(batch, 3, height, width) * 2 - 1
    noisy = GaussianNoise(sigma)(clean, torch.Generator().manual_seed(0))
    assert noisy.shape == clean.shape
    assert noisy.abs().max() <= 1


def test_more_noise_is_farther_from_the_original():
    ratios = [psnr(GaussianNoise(s)(GREY, torch.Generator().manual_seed(0)), GREY) for s in (5, 15, 25, 50, 100)]
    assert ratios == sorted(ratios, reverse=True)


def test_no_noise_changes_nothing():
    assert torch.equal(GaussianNoise(0)(GREY, torch.Generator()), GREY)


@pytest.mark.parametrize("sigma", [-1, 256, float("nan")])
def test_impossible_levels_are_refused(sigma):
    with pytest.raises(ValueError, match="between 0 and 255"):
        GaussianNoise(sigma)
