"""How strong the noise of a picture is, as a whole and around each place."""

import torch.nn.functional as F
from torch import Tensor

MAD_OF_NORMAL = 0.6745  # median absolute deviation of a normal variable, in standard deviations
CLIPPED_WITHIN = 2.0  # standard deviations from black or white, where noise is clipped and looks weaker than it is
FEWEST_BLOCKS = 0.1  # share of the picture below which the rest is no basis for an estimate
PASSES = 3  # of leaving out what is clipped, for which the noise level must be known
NOISE_AROUND = 16  # blocks of 2×2 pixels each way that the noise is averaged over
MEAN_OF_NORMAL = 0.7979  # mean absolute value of a normal variable, in standard deviations


def estimate_sigma(picture: Tensor) -> float:
    """The level of white noise in a picture, by the median absolute deviation of its finest diagonal detail (Donoho &
    Johnstone 1994, Biometrika 81, section 4.2): robust, since edges are few and noise is everywhere.

    Args:
        picture: [3, H, W] in [-1, 1], at least 2×2 pixels, at the size at which it was noised: resizing changes noise.

    Returns:
        sigma in units of the range [-1, 1]; `noise.to_levels` gives it on the scale 0-255.

    Raises:
        ValueError: the picture is smaller than 2×2 pixels.
    """
    if min(picture.shape[-2:]) < 2:
        raise ValueError("A picture must have at least 2×2 pixels for its noise to be measured.")
    height, width = (side // 2 * 2 for side in picture.shape[-2:])
    picture = picture[..., :height, :width].float()
    diagonal = diagonal_detail(picture)
    distance_to_clipping = 1 - F.avg_pool2d(picture, 2).abs()
    sigma = _deviation(diagonal)
    for _ in range(PASSES):
        inside = distance_to_clipping > CLIPPED_WITHIN * sigma
        if inside.float().mean() < FEWEST_BLOCKS:
            break
        sigma = _deviation(diagonal[inside])
    return sigma


def _deviation(values: Tensor) -> float:
    return float(values.abs().median()) / MAD_OF_NORMAL


def diagonal_detail(pictures: Tensor) -> Tensor:
    """The finest diagonal detail (Haar's wavelet) of pictures [..., H, W] with even sides, a value for each 2×2 pixels:
    [..., H / 2, W / 2]. White noise has the same standard deviation there as in the pixels."""
    rows = pictures[..., ::2, :] - pictures[..., 1::2, :]
    return (rows[..., ::2] - rows[..., 1::2]) / 2


def measured_noise(pictures: Tensor, lost: Tensor) -> Tensor:
    """How strong the noise is around each place, by the finest diagonal detail there, of which smooth surfaces and most
    edges have little (Donoho & Johnstone 1994, Biometrika 81, section 4.2). Fine texture counts as noise.

    Args:
        pictures: [B, 3, H, W].
        lost: bool [B, 1, H, W], places that tell nothing.

    Returns:
        standard deviations [B, 1, H, W], in the pictures' units.
    """
    height, width = pictures.shape[-2:]
    odd = (0, width % 2, 0, height % 2)
    pictures, known = F.pad(pictures, odd, mode="replicate"), F.pad((~lost).to(pictures), odd)
    detail = diagonal_detail(pictures).abs().mean(dim=1, keepdim=True)
    known = 1 - F.max_pool2d(1 - known, 2)
    sums, weights = (_around(x) for x in (detail * known, known))
    noise = sums / weights.clamp(min=1e-6) / MEAN_OF_NORMAL
    return F.interpolate(noise, scale_factor=2.0)[..., :height, :width]


def _around(values: Tensor) -> Tensor:
    """Means [B, 1, h, w] over the square around each place, with zeros beyond the edge: along one side, then the other,
    which is much faster than both at once."""
    reach, side = NOISE_AROUND, 2 * NOISE_AROUND + 1
    return F.avg_pool2d(F.avg_pool2d(values, (side, 1), 1, (reach, 0)), (1, side), 1, (0, reach))
