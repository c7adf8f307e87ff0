"""PSNR and SSIM agree with scikit-image."""

import math

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from benchmarks.common import psnr
from sd_core.pictures.metrics import psnr_and_ssim, ssim
from sd_core.pictures.pixels import to_float


def pictures(seed: int, height: int = 24, width: int = 33) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    smooth = torch.nn.functional.interpolate(torch.rand((3, 3, 5, 6), generator=generator), (height, width))
    return smooth * 2 - 1


def noisy(clean: torch.Tensor, sigma: float) -> torch.Tensor:
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(9))
    return (clean + sigma * noise).clamp(-1, 1)


@pytest.mark.parametrize("sigma", [0.01, 0.1, 0.6])
def test_psnr_is_that_of_scikit_image(sigma):
    clean = pictures(0)
    damaged = noisy(clean, sigma)
    expected = [
        peak_signal_noise_ratio(c.numpy(), d.numpy(), data_range=2) for c, d in zip(clean, damaged, strict=True)
    ]
    torch.testing.assert_close(psnr(damaged, clean), torch.tensor(expected, dtype=torch.float32))


@pytest.mark.parametrize("sigma", [0.01, 0.1, 0.6])
def test_ssim_is_that_of_scikit_image(sigma):
    clean = pictures(1)
    damaged = noisy(clean, sigma)
    settings = dict(data_range=2, channel_axis=0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    expected = [
        structural_similarity(c.double().numpy(), d.double().numpy(), **settings)
        for c, d in zip(clean, damaged, strict=True)
    ]
    torch.testing.assert_close(ssim(damaged, clean), torch.tensor(expected, dtype=torch.float32))


def test_equal_pictures_have_infinite_psnr_and_ssim_of_one():
    clean = pictures(2)
    assert psnr(clean, clean).eq(math.inf).all()
    torch.testing.assert_close(ssim(clean, clean), torch.ones(3))


def test_pictures_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        ssim(pictures(0), pictures(0, width=32))
    with pytest.raises(ValueError, match="11×11"):
        ssim(pictures(0, height=10), pictures(0, height=10))


def test_closeness_of_a_large_picture_in_bands_is_that_of_the_whole():
    generator = torch.Generator().manual_seed(0)
    a = torch.randint(0, 256, (600, 40, 3), dtype=torch.uint8, generator=generator)
    b = (a.float() * 0.8 + 20).to(torch.uint8)
    b[300:] = 0
    in_bands = psnr_and_ssim(a, b)
    at_once = psnr(to_float(a)[None], to_float(b)[None]), ssim(to_float(a)[None], to_float(b)[None])
    assert in_bands == pytest.approx([float(value) for value in at_once], rel=1e-5)
    assert psnr_and_ssim(a, a) == (math.inf, pytest.approx(1))


def test_closeness_of_pictures_of_unlike_size_is_refused():
    with pytest.raises(ValueError, match="same size"):
        psnr_and_ssim(torch.zeros(20, 20, 3, dtype=torch.uint8), torch.zeros(20, 21, 3, dtype=torch.uint8))
