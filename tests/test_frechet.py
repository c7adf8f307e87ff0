"""The Fréchet distance agrees with its closed form for normal distributions."""

import pytest
import torch

from benchmarks.frechet import frechet_distance


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
