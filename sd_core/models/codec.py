"""Codecs: the space a model works in, and the way there and back.

`Identity` is pixels. `Latents` is what our own small network makes of them, an eighth as wide and high:

    picture ─ 1/2 ─ 1/4 ─ 1/8 ─ latents ─ 1/8 ─ 1/4 ─ 1/2 ─ picture
               32    64   128      8      128    64    32    channels

It has no norm and no attention, so that a latent depends on the pixels near it alone: any size works, a large picture
is worked on in tiles without a seam, and no colour shifts with what else is in the picture.
"""

import copy
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Protocol
from weakref import WeakValueDictionary

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from sd_core.device import autocast
from sd_core.diffusion.noise import SIGMA_DATA
from sd_core.environment import checkpoints_folder
from sd_core.errors import CheckpointError
from sd_core.models.unet import keep_variance
from sd_core.models.weights import frozen, halved, read_network, write_network
from sd_core.validation import checked

RELEASED = "autoencoder"  # the released autoencoder's folder, beside those of the models that use it
DOWNSAMPLING = 8  # pixels a latent is wide and high
TILE = 128  # latents a tile is wide and high, without its margins: its activations take 200 MB a picture
RELU_GAIN = 2**0.5  # ReLU lets half of a normal variable's power through
GENERATED_NOISE = 0.1  # how far what a model denoises is from any picture's latents, see `Autoencoder.decode`
CHUNK = 16  # pictures that are coded at a time: bounds memory


class Codec(Protocol):
    """A space to work in, whose values have about the spread of pictures, `SIGMA_DATA`: so a noise level means as much
    in each, and schedules, guidance and training need not tell them apart.

    Attributes:
        channels: of what a model works on.
        downsampling: pixels that one of its places is wide and high.
    """

    channels: int
    downsampling: int

    def encode(self, pictures: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] in [-1, 1] as what a model works on, [B, channels, h, w]."""

    def decode(self, latents: Tensor) -> Tensor:
        """The way back."""

    def preview(self, latents: Tensor) -> Tensor:
        """A quick look, [B, 3, h, w] in about [-1, 1]."""


class Identity:
    """The codec of models that work in pixels."""

    channels, downsampling = 3, 1

    def encode(self, pictures: Tensor) -> Tensor:
        """The pictures [B, 3, H, W] in [-1, 1] themselves."""
        return pictures

    def decode(self, latents: Tensor) -> Tensor:
        """The pictures [B, 3, H, W] themselves."""
        return latents

    def preview(self, latents: Tensor) -> Tensor:
        """The pictures [B, 3, H, W] themselves."""
        return latents


Width = Annotated[int, Field(ge=1, le=512)]
Blocks = Annotated[int, Field(ge=0, le=8)]


@checked(error=CheckpointError)
class AutoencoderConfig:
    """The shape of an `Autoencoder`: channels and blocks of its levels, the finest (half the picture's size) first.

    Raises:
        CheckpointError: one of them is out of its range; the message is one sentence.
    """

    latent_channels: int = Field(8, ge=1, le=64)
    widths: tuple[Width, Width, Width] = (32, 64, 128)
    encoder_blocks: tuple[Blocks, Blocks, Blocks] = (1, 2, 2)
    decoder_blocks: tuple[Blocks, Blocks, Blocks] = (2, 3, 3)


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

    def __init__(self, config: AutoencoderConfig | None = None):
        super().__init__()
        self.config = config = config or AutoencoderConfig()
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
        """Writes `config.json` and `model.safetensors` (fp16) into `folder`, in one exchange like any model."""
        write_network(folder, RELEASED, self)

    @classmethod
    def load(cls, folder: Path | str) -> "Autoencoder":
        """The autoencoder saved in `folder`, in float32 and frozen.

        Raises:
            CheckpointError: `folder` holds none, or one of another format or shape.
        """
        config, weights = read_network(Path(folder), RELEASED, AutoencoderConfig)
        return cls.of(config, weights, Path(folder))

    @classmethod
    def of(cls, config: AutoencoderConfig, weights: Mapping[str, Tensor], folder: Path) -> "Autoencoder":
        """The autoencoder of these weights, read from `folder`, in float32 and frozen.

        Raises:
            CheckpointError: they are of another shape.
        """
        return frozen(lambda: cls(config), weights, folder)


class Latents:
    """The codec of models that work in an autoencoder's latents. It works where its input is, and is shared: a copy of
    a model has the same one.

    Attributes:
        autoencoder: on the CPU.
        digest: tells it from any other.
    """

    downsampling = DOWNSAMPLING
    _shared: "WeakValueDictionary[str, Latents]" = WeakValueDictionary()

    def __init__(self, autoencoder: Autoencoder, digest: str):
        self.autoencoder, self.digest, self.channels = autoencoder, digest, autoencoder.channels
        self._elsewhere: dict[torch.device, Autoencoder] = {}

    @classmethod
    def of(cls, autoencoder: Autoencoder) -> "Latents":
        """The codec of an autoencoder, the same one for equal weights: a process has each once."""
        known = hashlib.sha256(json.dumps(asdict(autoencoder.config), sort_keys=True).encode())
        for name, value in sorted(halved(autoencoder.state_dict()).items()):
            known.update(name.encode())
            known.update(value.numpy().tobytes())
        digest = known.hexdigest()
        return cls._shared.setdefault(digest, cls(autoencoder, digest))

    @classmethod
    def released(cls) -> "Latents":
        """That of the released autoencoder. Raises CheckpointError if it is not there."""
        return cls.of(Autoencoder.load(checkpoints_folder() / RELEASED))

    def __deepcopy__(self, memo: dict) -> "Latents":
        return self

    def encode(self, pictures: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] in [-1, 1] as latents [B, C, ceil(H / 8), ceil(W / 8)]."""
        network = self._network(pictures)
        return torch.cat([SIGMA_DATA * network.encode(few) for few in pictures.split(CHUNK)])

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [B, C, h, w] that a model made as pictures [B, 3, 8 h, 8 w] in [-1, 1]."""
        network, scaled = self._network(latents), latents / SIGMA_DATA
        with autocast(latents.device):
            pictures = [network.decode(few, noise=GENERATED_NOISE).to(latents.dtype) for few in scaled.split(CHUNK)]
        return torch.cat(pictures)

    def preview(self, latents: Tensor) -> Tensor:
        """A quick look: small pictures [B, 3, h, w] in [-1, 1]."""
        return self._network(latents).preview(latents / SIGMA_DATA)

    def _network(self, x: Tensor) -> Autoencoder:
        """The autoencoder where x is. Copies, since several threads may ask from different devices."""
        if x.device == next(self.autoencoder.parameters()).device:
            return self.autoencoder
        if x.device not in self._elsewhere:
            self._elsewhere[x.device] = copy.deepcopy(self.autoencoder).to(x.device)
        return self._elsewhere[x.device]


def enlarged_preview(codec: Codec, latents: Tensor) -> Tensor:
    """`codec.preview` of latents [B, C, h, w] at the size of the pictures, [B, 3, H, W] in about [-1, 1]: soft, and
    almost free."""
    preview, factor = codec.preview(latents), codec.downsampling
    return preview if factor == 1 else F.interpolate(preview, scale_factor=factor, mode="bicubic")


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
