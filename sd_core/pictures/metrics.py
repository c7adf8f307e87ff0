"""How close pictures are: PSNR and SSIM to a known original, and how far candidates are from one another."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sd_core.pictures.color import ROWS
from sd_core.pictures.pixels import to_float

DATA_RANGE = 2.0  # pictures lie in [-1, 1]
SSIM_WINDOW, SSIM_SIGMA = 11, 1.5  # of Wang et al. 2004, section III-C
SSIM_K1, SSIM_K2 = 0.01, 0.03
BAND = 256  # rows of a large picture that are compared at once


def ssim(pictures: Tensor, originals: Tensor) -> Tensor:
    """Structural similarity of each picture (Wang et al. 2004), with its Gaussian window: 1 is equal.

    Args:
        pictures, originals: [B, 3, H, W] in [-1, 1], both sides at least 11 pixels.

    Returns:
        [B], averaged over channels and over the places where the window lies wholly inside the picture.

    Raises:
        ValueError: the shapes differ, or the pictures are smaller than the window.
    """
    if pictures.shape != originals.shape or pictures.ndim != 4:
        shapes = f"{list(pictures.shape)} and {list(originals.shape)}"
        raise ValueError(f"Pictures to compare must have one shape [B, 3, H, W], not {shapes}.")
    if min(pictures.shape[-2:]) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs pictures of at least {SSIM_WINDOW}×{SSIM_WINDOW} pixels.")
    x, y = pictures.double(), originals.double()
    mean_x, mean_y = _blurred(x), _blurred(y)
    variance_x, variance_y = _blurred(x * x) - mean_x**2, _blurred(y * y) - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    c1, c2 = (SSIM_K1 * DATA_RANGE) ** 2, (SSIM_K2 * DATA_RANGE) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return (luminance * structure).flatten(1).mean(1).float()


def psnr_and_ssim(picture: Tensor, original: Tensor) -> tuple[float, float]:
    """PSNR in dB and SSIM of one picture. In bands, so that a large picture needs little memory.

    Args:
        picture, original: uint8 [H, W, 3], of at least 11×11 pixels.

    Raises:
        ValueError: they differ in size, or are smaller than that.
    """
    if picture.shape != original.shape:
        raise ValueError("Pictures to compare must have the same size.")
    rows = len(picture) - SSIM_WINDOW + 1  # where a window begins
    similar = 0.0
    error = 0.0
    for top in range(0, max(rows, 1), BAND):
        count = min(BAND, rows - top)
        a, b = (to_float(p[top : top + count + SSIM_WINDOW - 1])[None] for p in (picture, original))
        similar += float(ssim(a, b)) * count
        last = top + count >= rows
        own = slice(None) if last else slice(0, count)
        error += float((a[:, :, own] - b[:, :, own]).double().square().sum())
    error /= picture.numel()
    return float("inf") if error == 0 else 10 * math.log10(DATA_RANGE**2 / error), similar / rows


def _blurred(x: Tensor) -> Tensor:
    """Gaussian-weighted mean over the window at every place where it fits."""
    offsets = torch.arange(SSIM_WINDOW, dtype=x.dtype, device=x.device) - SSIM_WINDOW // 2
    weights = (-(offsets**2) / (2 * SSIM_SIGMA**2)).exp()
    weights = weights / weights.sum()
    channels = x.shape[1]
    across = weights.expand(channels, 1, 1, -1)
    return F.conv2d(F.conv2d(x, across, groups=channels), across.transpose(2, 3), groups=channels)


def disagreement(pictures: Sequence[Tensor], every: int = 1) -> Tensor:
    """How far candidates, uint8 [H, W, 3] each, are from one another: the standard deviation of each pixel, on the
    scale 0-255, in the worst of its colours. Where it is high, what one sees was invented.

    Args:
        every: how many times smaller the map is, [H / every, W / every] rounded up. Each of its values is the highest
            of its block, so that no line is too thin to be seen.
    """
    height = len(pictures[0])
    rows = max(1, ROWS // every) * every  # whole blocks
    bands = []
    for top in range(0, height, rows):
        values = torch.stack([picture[top : top + rows].float() for picture in pictures])
        deviation = values.std(0, correction=0).amax(dim=2)
        bands.append(F.max_pool2d(deviation[None], every, ceil_mode=True)[0])
    return torch.cat(bands)
