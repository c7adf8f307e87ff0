"""Codecs: the space a model works in, and the way there and back.

`Identity` is pixels. `Autoencoder` is our own small network, which makes latents an eighth as wide and high:

    picture ─ 1/2 ─ 1/4 ─ 1/8 ─ latents ─ 1/8 ─ 1/4 ─ 1/2 ─ picture
               32    64   128      8      128    64    32    channels

It has no norm and no attention, so that a latent depends on the pixels near it alone: any size works, a large picture
is worked on in tiles without a seam, and no colour shifts with what else is in the picture.
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sd_core.errors import CheckpointError
from sd_core.models.unet import keep_variance

FORMAT = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"
DOWNSAMPLING = 8  # pixels a latent is wide and high
TILE = 128  # latents a tile is wide and high, without its margins: its activations take 200 MB a picture
RELU_GAIN = 2**0.5  # ReLU lets half of a normal variable's power through


class Identity:
    """The codec of models that work in pixels."""

    channels, downsampling = 3, 1

    def encode(self, pictures: Tensor) -> Tensor:
        """The pictures [B, 3, H, W] in [-1, 1] themselves."""
        return pictures

    def decode(self, latents: Tensor, size: tuple[int, int] | None = None, noise: float = 0.0) -> Tensor:
        """The pictures [B, 3, H, W] themselves."""
        return latents

    def preview(self, latents: Tensor) -> Tensor:
        """The pictures [B, 3, H, W] themselves."""
        return latents


@dataclass(frozen=True)
class AutoencoderConfig:
    """The shape of an `Autoencoder`: channels and blocks of its levels, the finest (half the picture's size) first."""

    latent_channels: int = 8
    widths: tuple[int, int, int] = (32, 64, 128)
    encoder_blocks: tuple[int, int, int] = (1, 2, 2)
    decoder_blocks: tuple[int, int, int] = (2, 3, 3)


class Block(nn.Module):
    """x + conv(relu(conv(relu(x)))), which starts as the identity."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


def _blocks(channels: int, count: int) -> list[nn.Module]:
    return [Block(channels) for _ in range(count)]


class Autoencoder(nn.Module):
    """Pictures to latents of unit variance and back.

    `encode`, `decode` and `preview` are for use; training calls `encoder` and `decoder`, which work in the network's
    own units, and then `fit` once.
    """

    downsampling = DOWNSAMPLING

    def __init__(self, config: AutoencoderConfig = AutoencoderConfig()):
        super().__init__()
        self.config = config
        self.channels = channels = config.latent_channels
        fine, middle, coarse = config.widths
        down, up = config.encoder_blocks, config.decoder_blocks
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(12, fine, 3, padding=1),
            *_blocks(fine, down[0]),
            nn.Conv2d(fine, middle, 2, stride=2),
            *_blocks(middle, down[1]),
            nn.Conv2d(middle, coarse, 2, stride=2),
            *_blocks(coarse, down[2]),
            nn.Conv2d(coarse, channels, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(channels + 1, coarse, 3, padding=1),
            *_blocks(coarse, up[2]),
            nn.ConvTranspose2d(coarse, middle, 2, stride=2),
            *_blocks(middle, up[1]),
            nn.ConvTranspose2d(middle, fine, 2, stride=2),
            *_blocks(fine, up[0]),
            nn.Conv2d(fine, 12, 3, padding=1),
            nn.PixelShuffle(2),
        )
        self.register_buffer("mean", torch.zeros(channels))  # of each channel of the encoder's output
        self.register_buffer("std", torch.ones(channels))
        self.register_buffer("colours", torch.zeros(3, channels + 1))  # latents and a constant to RGB
        self.apply(keep_variance)
        for block in self.modules():
            if isinstance(block, Block):
                block.conv1.weight.data.mul_(RELU_GAIN)
                nn.init.zeros_(block.conv2.weight)
        self.to(memory_format=torch.channels_last)

    def encode(self, pictures: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] in [-1, 1] as latents [B, C, ceil(H / 8), ceil(W / 8)] of unit variance.

        What 8 does not divide is continued to the right and below, mirrored.
        """
        height, width = pictures.shape[-2:]
        bottom, right = -height % DOWNSAMPLING, -width % DOWNSAMPLING
        if bottom or right:
            mode = "reflect" if bottom < height and right < width else "replicate"
            pictures = F.pad(pictures, (0, right, 0, bottom), mode=mode)
        own = _tiled(self.encoder, pictures, DOWNSAMPLING, 1, _reach(self.config.encoder_blocks))
        return (own - _per_channel(self.mean)) / _per_channel(self.std)

    def decode(self, latents: Tensor, size: tuple[int, int] | None = None, noise: float = 0.0) -> Tensor:
        """Latents [B, C, h, w] as pictures [B, 3, H, W] in [-1, 1].

        Args:
            size: the pictures' height and width, at most 8 h and 8 w; without it, 8 h and 8 w.
            noise: how far the latents are from those of any picture, as the standard deviation of noise on them. 0 is
                for what `encode` gave; generated latents become cleaner pictures with more.
        """
        own = latents * _per_channel(self.std) + _per_channel(self.mean)
        level = torch.full_like(own[:, :1], noise)
        told, margin = torch.cat([own, level], dim=1), _reach(self.config.decoder_blocks)
        pictures = _tiled(self.decoder, told, 1, DOWNSAMPLING, margin)
        height, width = size or pictures.shape[-2:]
        return pictures[..., :height, :width].clamp(-1, 1)

    def preview(self, latents: Tensor) -> Tensor:
        """A quick look: latents [B, C, h, w] as small pictures [B, 3, h, w] in [-1, 1], by a linear map."""
        weight, bias = self.colours[:, :-1, None, None], self.colours[:, -1]
        return F.conv2d(latents, weight.to(latents.dtype), bias.to(latents.dtype)).clamp(-1, 1)

    @torch.no_grad()
    def fit(self, pictures: Tensor) -> None:
        """Sets what follows from the trained weights: the latents' statistics and the colours of previews.

        Args:
            pictures: a few hundred [N, 3, H, W] in [-1, 1], of all the kinds it was trained on.
        """
        self.mean.zero_()
        self.std.fill_(1)
        latents = torch.cat([self.encode(few) for few in pictures.split(16)])
        self.mean.copy_(latents.mean((0, 2, 3)))
        self.std.copy_(latents.std((0, 2, 3)))
        latents = (latents - _per_channel(self.mean)) / _per_channel(self.std)
        rows = F.pad(latents.movedim(1, -1).flatten(0, -2), (0, 1), value=1.0)
        means = F.avg_pool2d(pictures, DOWNSAMPLING).movedim(1, -1).flatten(0, -2)
        self.colours.copy_(torch.linalg.lstsq(rows, means).solution.T)

    def save(self, folder: Path) -> None:
        """Writes `config.json` and `model.safetensors` (fp16) into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        config = {"format": FORMAT, "autoencoder": asdict(self.config)}
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")
        save_file({k: v.half().contiguous() for k, v in self.state_dict().items()}, folder / WEIGHTS)

    @classmethod
    def load(cls, folder: Path | str) -> "Autoencoder":
        """The autoencoder saved in `folder`, in float32 and frozen.

        Raises:
            CheckpointError: `folder` holds none, or one of another format or shape.
        """
        folder = Path(folder)
        try:
            config = json.loads((folder / CONFIG).read_text("utf-8"))
            if config["format"] != FORMAT:
                raise ValueError(f"its format is {config['format']!r}, and this program reads {FORMAT}")
            shape = {k: tuple(v) if isinstance(v, list) else v for k, v in config["autoencoder"].items()}
            model = cls(AutoencoderConfig(**shape))
            model.load_state_dict({k: v.float() for k, v in load_file(folder / WEIGHTS).items()})
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(f"{folder} holds no autoencoder that this program can read: {error}.") from error
        return model.eval().requires_grad_(False)


def _reach(blocks: tuple[int, int, int]) -> int:
    """How many latents to each side a result depends on: with so many around it, a tile comes out as in the whole."""
    fine, middle, coarse = blocks
    return math.ceil((2 * fine + 1) / 4 + 2 * middle / 2 + 2 * coarse + 1)


def _per_channel(values: Tensor) -> Tensor:
    return values[:, None, None]


def _tiled(network: Callable[[Tensor], Tensor], x: Tensor, seen: int, made: int, margin: int) -> Tensor:
    """network(x), tile by tile where x [B, C, H, W] is large; the same to rounding.

    Args:
        seen, made: how many pixels of x, and of what the network makes of it, a latent is wide and high.
        margin: how many latents to each side of a tile the network sees besides.
    """
    height, width = x.shape[-2] // seen, x.shape[-1] // seen
    if max(height, width) <= TILE + 2 * margin:
        return network(x)

    def tile(top: int, left: int) -> Tensor:
        first, start = max(0, top - margin), max(0, left - margin)
        last, end = top + TILE + margin, left + TILE + margin
        whole = network(x[..., first * seen : last * seen, start * seen : end * seen])
        top, left = top - first, left - start
        return whole[..., top * made : (top + TILE) * made, left * made : (left + TILE) * made]

    rows = (torch.cat([tile(top, left) for left in range(0, width, TILE)], -1) for top in range(0, height, TILE))
    return torch.cat(list(rows), -2)
