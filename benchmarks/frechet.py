"""The Fréchet distance between two sets of features: how alike two sets of pictures are as a whole."""

import torch
from torch import Tensor


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Fréchet distance between two sets of features, each taken as a normal distribution (Heusel et al. 2017,
    arXiv:1706.08500, eq. 6): |mean_a - mean_b|² + tr(C_a + C_b - 2 (C_a C_b)^½).

    The trace of the root is the sum of the roots of the eigenvalues of C_a^½ C_b C_a^½, a symmetric matrix, so that
    nothing complex appears and covariances without full rank do no harm. The estimate is biased upwards for small sets:
    compare it only between sets of the same size.

    Args:
        a, b: features [N, D] and [M, D], at least two of each.

    Raises:
        ValueError: the sets have features of different width, or too few of them.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError("Feature sets must be [N, D] and [M, D].")
    if min(len(a), len(b)) < 2:
        raise ValueError("A Fréchet distance needs at least two features on each side.")
    a, b = a.double(), b.double()
    covariance_a, covariance_b = torch.cov(a.T).reshape(a.shape[1], -1), torch.cov(b.T).reshape(b.shape[1], -1)
    values, vectors = torch.linalg.eigh(covariance_a)
    root_a = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    product = root_a @ covariance_b @ root_a
    shared = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0).sqrt().sum()
    shift = (a.mean(0) - b.mean(0)).square().sum()
    return max(0.0, float(shift + covariance_a.trace() + covariance_b.trace() - 2 * shared))
