"""PSNR and SSIM agree with scikit-image; the Fréchet distance with its closed form for normal distributions."""

import math

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from sd_core.pictures.metrics import frechet_distance, psnr, psnr_and_ssim, ssim
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
        psnr(pictures(0), pictures(0, width=32))
    with pytest.raises(ValueError, match="11×11"):
        ssim(pictures(0, height=10), pictures(0, height=10))


def with_moments(mean: torch.Tensor, covariance: torch.Tensor, count: int = 400, seed: int = 0) -> torch.Tensor:
    """Features [count, D] whose sample mean and covariance are exactly these."""
    x = torch.randn((count, len(mean)), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    x = x - x.mean(0)
    x = torch.linalg.solve_triangular(torch.linalg.cholesky(torch.cov(x.T)), x.T, upper=False).T
    return x @ torch.linalg.cholesky(covariance).T + mean


def test_frechet_distance_of_diagonal_normal_distributions_is_its_closed_form():
    mean_a, mean_b = torch.tensor([0.0, 1.0, -2.0]).double(), torch.tensor([0.5, 1.0, 2.0]).double()
    std_a, std_b = torch.tensor([1.0, 2.0, 0.1]).double(), torch.tensor([3.0, 0.5, 0.1]).double()
    a = with_moments(mean_a, torch.diag(std_a**2))
    b = with_moments(mean_b, torch.diag(std_b**2), count=300, seed=1)
    expected = float((mean_a - mean_b).square().sum() + (std_a - std_b).square().sum())
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_turned_normal_distributions_is_its_closed_form():
    """For two 2×2 covariances tr (C_a C_b)^½ = sqrt(tr C_a C_b + 2 sqrt(det C_a C_b))."""
    a_cov, b_cov = torch.tensor([[2.0, 1.2], [1.2, 1.0]]).double(), torch.tensor([[1.0, -0.7], [-0.7, 3.0]]).double()
    mean = torch.zeros(2).double()
    product = a_cov @ b_cov
    root = (product.trace() + 2 * product.det().sqrt()).sqrt()
    expected = float(a_cov.trace() + b_cov.trace() - 2 * root)
    measured = frechet_distance(with_moments(mean, a_cov), with_moments(mean, b_cov, seed=1))
    assert measured == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_a_set_to_itself_is_zero_even_without_full_rank():
    """Fewer features than dimensions, and one that never changes."""
    few = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    few[:, 3] = 0
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-5)
    other = torch.randn(6, 16, generator=torch.Generator().manual_seed(1))
    assert frechet_distance(few, other) == pytest.approx(frechet_distance(other, few), rel=1e-6)


def test_frechet_distance_refuses_sets_that_cannot_be_compared():
    with pytest.raises(ValueError, match=r"\[N, D\]"):
        frechet_distance(torch.zeros(4, 3), torch.zeros(4, 2))
    with pytest.raises(ValueError, match="at least two"):
        frechet_distance(torch.zeros(1, 3), torch.zeros(4, 3))


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
