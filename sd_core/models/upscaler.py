"""A picture at twice its size, in one look: a plain network that adds to a bicubic enlargement what that lacks.

    picture ── 3×3 ── block ── … ── block ── 3×3 ── pixel shuffle ──(+)── twice the size
       └─────────────────────── bicubic ─────────────────────────────┘

Everything happens at the small size, so that a wide network costs little (Shi et al. 2016, arXiv:1609.05158); blocks
have no norm, which would take the contrast out of a picture (EDSR, Lim et al. 2017, arXiv:1707.02921). Four times the
size is twice in a row.
"""

from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from sd_core.errors import CheckpointError
from sd_core.models.weights import frozen, read_network, write_network
from sd_core.validation import checked

RELEASED = "upscaler"  # the released upscaler's folder, beside those of other models
FACTOR = 2


@checked(error=CheckpointError)
class UpscalerConfig:
    """The shape of an `Upscaler`.

    Raises:
        CheckpointError: one of them is out of its range; the message is one sentence.
    """

    channels: Annotated[int, Field(ge=1, le=256)] = 48
    blocks: Annotated[int, Field(ge=0, le=64)] = 8


class Block(nn.Module):
    """x + conv(silu(conv(x))), which starts as the identity."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(x)))


class Upscaler(nn.Module):
    """Pictures to pictures twice as wide and high. Untrained it is a bicubic enlargement."""

    def __init__(self, config: UpscalerConfig | None = None):
        super().__init__()
        self.config = config = config or UpscalerConfig()
        self.stem = nn.Conv2d(3 + 2, config.channels, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(config.channels) for _ in range(config.blocks)))
        self.head = nn.Conv2d(config.channels, 3 * FACTOR**2, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @property
    def reach(self) -> int:
        """How many pixels to each side a result depends on: with so many around it, a part of a picture comes out as in
        the whole."""
        return 2 * self.config.blocks + 2

    def forward(self, pictures: Tensor, noise: Tensor | float = 0.0, compression: Tensor | float = 0.0) -> Tensor:
        """Pictures [B, 3, H, W] in [-1, 1] as [B, 3, 2H, 2W] in about [-1, 1], without what is known to be wrong.

        Args:
            noise: the standard deviation of white noise on them, in units of [-1, 1]; one, or one a picture [B].
            compression: how much JPEG took from them: 1 - quality / 100; one, or one a picture [B].
        """
        told = [torch.as_tensor(value).to(pictures).reshape(-1, 1, 1, 1) for value in (noise, compression)]
        seen = torch.cat([pictures, *(value.expand_as(pictures[:, :1]) for value in told)], dim=1)
        details = F.pixel_shuffle(self.head(self.blocks(self.stem(seen))), FACTOR)
        return F.interpolate(pictures, scale_factor=FACTOR, mode="bicubic") + details

    def save(self, folder: Path) -> None:
        """Writes `config.json` and `model.safetensors` (fp16) into `folder`, in one exchange like any model."""
        write_network(folder, RELEASED, self)

    @classmethod
    def load(cls, folder: Path) -> "Upscaler":
        """The upscaler saved in `folder`, in float32 and frozen.

        Raises:
            CheckpointError: `folder` holds none, or one of another format or shape.
        """
        config, weights = read_network(folder, RELEASED, UpscalerConfig)
        return frozen(lambda: cls(config), weights, folder)
