"""Damages with one dial, for people."""

import numpy as np
import pytest
import torch
from skimage.data import chelsea

from sd_core.degradation.presets import DIALS, damage_picture
from sd_core.pictures.metrics import psnr_and_ssim
from sd_core.pictures.original import Original

PICTURE = np.ascontiguousarray(chelsea()[30:210:2, 60:300:2])


def closeness_at(kind, strength):
    damaged, clean, _ = damage_picture(Original(PICTURE.copy()), kind, strength, 3)
    return psnr_and_ssim(torch.from_numpy(damaged.rgb()), torch.from_numpy(clean.rgb()))[0]


@pytest.mark.parametrize("kind", DIALS)
def test_more_is_worse_and_the_same_seed_does_the_same(kind):
    mild, severe = closeness_at(kind, 0), closeness_at(kind, 1)
    assert severe < mild - 3 and severe < 30
    assert closeness_at(kind, 1) == severe


def test_what_is_lost_is_known():
    damaged, clean, lost = damage_picture(Original(PICTURE.copy()), "scratches", 0.5, 0)
    changed = (damaged.pixels != clean.pixels).any(-1)
    assert lost.any() and not changed[~lost].any()
    assert not damage_picture(Original(PICTURE.copy()), "jpeg", 0.5, 0)[2].any()


def test_alpha_stays_and_a_large_picture_is_reduced():
    pixels = np.zeros((20, 4100, 4), np.uint8)
    pixels[..., 3] = 200
    damaged, clean, lost = damage_picture(Original(pixels), "holes", 0.5, 0)
    assert damaged.size == clean.size == (2048, 10) and lost.shape == (10, 2048)
    assert (damaged.pixels[..., 3] == 200).all()


def test_unknown_damages_are_named_in_one_sentence():
    with pytest.raises(ValueError, match="one of scratches"):
        damage_picture(Original(PICTURE.copy()), "rust", 0.5, 0)
