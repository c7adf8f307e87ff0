"""Shapes that damage leaves on a picture: curves, rectangles, blobs and spots, as the share [H, W] of each pixel that
they cover, from 0 to 1. All chance comes from a `torch.Generator`."""

import math

import numpy as np
import torch
from PIL import Image, ImageDraw

SUPERSAMPLING = 2  # drawn larger and averaged, for smooth edges
BEND_POINTS = 24  # a curve is drawn as so many straight pieces


def uniform(generator: torch.Generator, low: float, high: float) -> float:
    """One number, evenly from `low` to `high`."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def curve(
    size: tuple[int, int], width: float, generator: torch.Generator, wobble: float, jagged: bool = False
) -> np.ndarray:
    """A line of `width` pixels from anywhere to anywhere, at times beyond the border.

    Args:
        size: height and width of the picture.
        wobble: how far it strays from straight: 0 not at all, 1 about as far as it is long.
        jagged: with a ragged edge, as of torn paper.
    """
    height, across = size
    ends = torch.rand(2, 2, generator=generator).numpy() * 1.4 - 0.2
    length = float(np.linalg.norm(ends[1] - ends[0]))
    handles = ends + (torch.rand(2, 2, generator=generator).numpy() * 2 - 1) * max(length, 0.3) * wobble
    t = np.linspace(0, 1, BEND_POINTS)[:, None]
    points = (
        (1 - t) ** 3 * ends[0] + 3 * t * (1 - t) ** 2 * handles[0] + 3 * t**2 * (1 - t) * handles[1] + t**3 * ends[1]
    )
    points = points * (across, height)
    if jagged:
        points = points + (torch.rand(BEND_POINTS, 2, generator=generator).numpy() - 0.5) * 2 * width
    return _drawn(size, points, width, jagged, generator)


def _drawn(
    size: tuple[int, int], points: np.ndarray, width: float, jagged: bool, generator: torch.Generator
) -> np.ndarray:
    """The line through `points` (x, y), drawn in the smallest box that holds it: pictures are large, lines thin."""
    height, across = size
    cover = np.zeros(size, np.float32)
    margin = width + 2
    left, top = np.floor(points.min(0) - margin).clip(0).astype(int)
    right, bottom = np.ceil(points.max(0) + margin).astype(int)
    right, bottom = min(right, across), min(bottom, height)
    if right <= left or bottom <= top:
        return cover
    canvas = Image.new("L", ((right - left) * SUPERSAMPLING, (bottom - top) * SUPERSAMPLING))
    draw = ImageDraw.Draw(canvas)
    scaled = (points - (left, top)) * SUPERSAMPLING
    widths = np.full(len(points), width)
    if jagged:
        widths = width * (0.4 + 1.2 * torch.rand(len(points), generator=generator).numpy())
    for i in range(len(points) - 1):
        thick = max(1, round(widths[i] * SUPERSAMPLING))
        draw.line([tuple(scaled[i]), tuple(scaled[i + 1])], 255, thick)
        radius = (thick - 1) / 2
        x, y = scaled[i + 1]
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], 255)  # round joints and ends
    small = canvas.resize((right - left, bottom - top), Image.Resampling.BOX)
    cover[top:bottom, left:right] = np.asarray(small, np.float32) / 255
    return cover


def rectangle(cover: np.ndarray, share: float, generator: torch.Generator) -> None:
    """Sets an upright rectangle that covers `share` of the picture `cover` [H, W] to 1; it lies all inside."""
    height, width = cover.shape
    proportion = math.exp(uniform(generator, -0.7, 0.7))
    tall = min(height, round(math.sqrt(share * proportion) * height))
    wide = min(width, round(math.sqrt(share / proportion) * width))
    top, left = (int(uniform(generator, 0, 1) * room) for room in (height - tall + 1, width - wide + 1))
    cover[top : top + tall, left : left + wide] = 1


def blobs(size: tuple[int, int], share: float, scale: float, generator: torch.Generator) -> np.ndarray:
    """Irregular patches, together `share` of the picture, each about `scale` times its shorter side across."""
    height, width = size
    if share <= 0:
        return np.zeros(size, np.float32)
    cells = [max(2, round(side / min(size) / scale) + 1) for side in size]
    rough = torch.rand(*cells, generator=generator).numpy()
    fine = torch.rand(*(4 * c for c in cells), generator=generator).numpy()
    surface = np.zeros(size, np.float32)
    for plane, weight in ((rough, 1.0), (fine, 0.3)):
        surface += weight * np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC))
    threshold = np.quantile(surface[:: max(1, height // 256), :: max(1, width // 256)], 1 - share)
    edge = max(1e-4, 2 * float(np.abs(np.diff(surface, axis=1)).mean())) if width > 1 else 1e-4  # about a pixel wide
    return np.clip((surface - threshold) / edge + 0.5, 0, 1).astype(np.float32)


def spots(size: tuple[int, int], share: float, radius: float, generator: torch.Generator) -> np.ndarray:
    """Round specks of about `radius` pixels all over, together about `share` of the picture."""
    height, width = size
    count = math.ceil(share * height * width / (math.pi * radius**2)) if share > 0 else 0
    canvas = Image.new("L", (width * SUPERSAMPLING, height * SUPERSAMPLING))
    draw = ImageDraw.Draw(canvas)
    placed = torch.rand(count, 3, generator=generator).numpy() * (width, height, 1)
    for x, y, chance in placed * (SUPERSAMPLING, SUPERSAMPLING, 1):
        reach = radius * (0.5 + chance) * SUPERSAMPLING
        draw.ellipse([x - reach, y - reach, x + reach, y + reach], 255)
    return np.asarray(canvas.resize((width, height), Image.Resampling.BOX), np.float32) / 255
