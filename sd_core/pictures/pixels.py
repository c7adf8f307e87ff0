"""The one way from uint8 pixels to float pictures, and back."""

import torch
from PIL import Image
from torch import Tensor


def to_float(pixels: Tensor) -> Tensor:
    """uint8 [..., H, W, 3] to float32 [..., 3, H, W] in [-1, 1], channels-last in memory."""
    return (pixels.float() / 127.5 - 1).movedim(-1, -3)


def to_pixels(pictures: Tensor) -> Tensor:
    """Pictures [..., 3, H, W], clipped to [-1, 1], to uint8 [..., H, W, 3] on the CPU: the inverse of `to_float`."""
    return ((pictures.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).movedim(-3, -1).cpu()


def to_image(pixels: Tensor) -> Image.Image:
    """uint8 [H, W, 3] as a Pillow picture."""
    return Image.fromarray(pixels.numpy())
