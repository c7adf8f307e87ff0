"""Overlays that imitate painting on flat drawings: gradients, soft shading, thin curves, glow, texture, small text.

What is restored in the end are painted characters, and none of those may be trained on; these are what flat drawings
lack of them.
"""

import functools

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from sd_core.degradation.shapes import blobs, curve, uniform

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def painted_over(picture: Tensor, generator: torch.Generator) -> Tensor:
    """A picture [3, H, W] in [-1, 1] with one or two overlays."""
    overlays = (_gradient, _shading, _hair, _glow, _texture, _text)
    for i in torch.randperm(len(overlays), generator=generator)[: 1 + int(uniform(generator, 0, 2))].tolist():
        picture = overlays[i](picture, generator).clamp(-1, 1)
    return picture


def _over(picture: Tensor, cover: np.ndarray, colour: Tensor) -> Tensor:
    return torch.lerp(picture, colour[:, None, None].expand_as(picture), torch.from_numpy(cover)[None])


def _any_colour(generator: torch.Generator) -> Tensor:
    return torch.rand(3, generator=generator) * 2 - 1


def _gradient(picture: Tensor, generator: torch.Generator) -> Tensor:
    """From one colour to another across the picture, translucent."""
    height, width = picture.shape[-2:]
    direction = torch.randn(2, generator=generator)
    ramp = direction[0] * torch.linspace(-1, 1, height)[:, None] + direction[1] * torch.linspace(-1, 1, width)[None]
    ramp = torch.sigmoid(ramp * uniform(generator, 0.5, 2))
    a, b = _any_colour(generator)[:, None, None], _any_colour(generator)[:, None, None]
    return torch.lerp(picture, a + (b - a) * ramp, uniform(generator, 0.1, 0.5))


def _shading(picture: Tensor, generator: torch.Generator) -> Tensor:
    """Soft light and shadow."""
    height, width = picture.shape[-2:]
    cells = int(uniform(generator, 2, 5))
    light = torch.nn.functional.interpolate(
        torch.rand(1, 1, cells, cells, generator=generator), (height, width), mode="bicubic", align_corners=False
    )[0]
    return (picture + 1) * (1 + (light - 0.6) * uniform(generator, 0.3, 1.2)) - 1


def _hair(picture: Tensor, generator: torch.Generator) -> Tensor:
    """Strands of about a pixel's width, nearly parallel in colour."""
    colour = _any_colour(generator)
    for _ in range(int(uniform(generator, 2, 9))):
        cover = curve(tuple(picture.shape[-2:]), uniform(generator, 0.6, 1.8), generator, 0.4)
        shade = (colour + uniform(generator, -0.2, 0.2)).clamp(-1, 1)
        picture = _over(picture, cover * np.float32(uniform(generator, 0.4, 1)), shade)
    return picture


def _glow(picture: Tensor, generator: torch.Generator) -> Tensor:
    """Light around a point."""
    height, width = picture.shape[-2:]
    x, y = uniform(generator, 0, width), uniform(generator, 0, height)
    squared = (torch.arange(height)[:, None] - y) ** 2 + (torch.arange(width)[None] - x) ** 2
    light = torch.exp(-squared / (2 * (min(height, width) * uniform(generator, 0.05, 0.3)) ** 2))
    tint = torch.rand(3, generator=generator)[:, None, None]
    return 1 - (1 - picture) * (1 - light * tint * uniform(generator, 0.4, 1))


def _texture(picture: Tensor, generator: torch.Generator) -> Tensor:
    """Canvas or paper: fine noise, stretched in one direction."""
    height, width = picture.shape[-2:]
    stretch = int(uniform(generator, 1, 5))
    noise = torch.randn(1, 1, height // stretch + 1, width, generator=generator)
    noise = torch.nn.functional.interpolate(noise, (height, width), mode="bilinear", align_corners=False)[0]
    patch = torch.from_numpy(blobs((height, width), uniform(generator, 0.3, 1), 0.5, generator))[None]
    return picture + noise * patch * uniform(generator, 0.02, 0.12)


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def _text(picture: Tensor, generator: torch.Generator) -> Tensor:
    """A few small letters."""
    height, width = picture.shape[-2:]
    picks = torch.randint(len(LETTERS), (int(uniform(generator, 3, 10)),), generator=generator).tolist()
    canvas = Image.new("L", (width, height))
    place = uniform(generator, -0.1, 0.6) * width, uniform(generator, 0, 0.9) * height
    text = "".join(LETTERS[i] for i in picks)
    ImageDraw.Draw(canvas).text(place, text, 255, _font(int(uniform(generator, 8, 22))))
    return _over(picture, np.asarray(canvas, np.float32) / 255, _any_colour(generator))
