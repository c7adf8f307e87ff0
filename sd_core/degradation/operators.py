"""Ways a picture gets damaged, each a small class with parameters in units people know.

A damage is a function of one clean picture [3, H, W] in [-1, 1] and of a `torch.Generator` on the CPU, from which all
its chance comes: the same generator, the same damage. It gives a `Damaged` picture of the same shape and range, with
the places where the picture itself is lost (a scratch) rather than worse everywhere (a blur).
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sd_core.degradation.shapes import blobs, curve, rectangle, spots, uniform
from sd_core.diffusion.noise import to_unit
from sd_core.pictures.pixels import to_float, to_image, to_pixels

MAX_SIGMA = 255.0
VISIBLE = 1 / 32  # of a full covering: less is nothing to repair
MOST_STROKES = 400  # until the wanted share is covered
KERNELS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Damaged:
    """A damaged picture [3, H, W] in [-1, 1], and its mask [1, H, W]: 1 where the picture is lost, 0 elsewhere."""

    picture: Tensor
    mask: Tensor


class Damage(Protocol):
    """See the file's docstring."""

    name: ClassVar[str]

    def __call__(self, picture: Tensor, generator: torch.Generator) -> Damaged: ...


def damaged(picture: Tensor, damages: Sequence[Damage], generator: torch.Generator) -> Damaged:
    """One damage after another. What a blur smears into its surroundings counts as lost there too."""
    mask = torch.zeros_like(picture[:1])
    for damage in damages:
        if isinstance(damage, _Filter) and mask.any():
            mask = (damage.filtered(mask) > VISIBLE).to(mask)
        result = damage(picture, generator)
        picture, mask = result.picture, torch.maximum(mask, result.mask)
    return Damaged(picture, mask)


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must be between {low:g} and {high:g}, not {value}.")


def _everywhere(picture: Tensor) -> Damaged:
    """A picture that is worse, but nowhere lost."""
    return Damaged(picture, torch.zeros_like(picture[:1]))


# Noise


@dataclass(frozen=True)
class GaussianNoise:
    """Independent normal noise on every value, as from a camera in the dark. What leaves the range is clipped, as in a
    picture file.

    Attributes:
        sigma: its standard deviation on the scale 0-255.

    Raises:
        ValueError: sigma is out of its range.
    """

    name: ClassVar[str] = "Gaussian noise"
    sigma: float

    def __post_init__(self):
        _check("The noise level", self.sigma, 0, MAX_SIGMA)

    def __call__(self, picture: Tensor, generator: torch.Generator) -> Damaged:
        noise = torch.randn(picture.shape, generator=generator).to(picture)
        return _everywhere((picture + to_unit(self.sigma) * noise).clamp(-1, 1))


@dataclass(frozen=True)
class PoissonNoise:
    """The grain of counted light: stronger where it is bright, like film or a short exposure.

    Attributes:
        photons: counted where the picture is white; fewer are grainier.
    """

    name: ClassVar[str] = "Photon noise"
    photons: float

    def __post_init__(self):
        _check("The number of photons", self.photons, 1, 1e6)

    def __call__(self, picture: Tensor, generator: torch.Generator) -> Damaged:
        counted = torch.poisson((picture.contiguous() + 1) / 2 * self.photons, generator=generator)
        return _everywhere((counted / self.photons * 2 - 1).clamp(-1, 1))


# Blur and size


class _Filter:
    """A damage that mixes pixels with their neighbours: `filtered` does so to any [C, H, W]."""

    def filtered(self, planes: Tensor) -> Tensor:
        raise NotImplementedError

    def __call__(self, picture: Tensor, generator: torch.Generator) -> Damaged:
        return _everywhere(self.filtered(picture).clamp(-1, 1))


def _convolved(planes: Tensor, kernel: Tensor) -> Tensor:
    """Each plane [C, H, W] under a normalised kernel [k, k], the border repeated."""
    margin = kernel.shape[0] // 2
    padded = F.pad(planes[None], (margin,) * 4, mode="replicate")[0]
    weights = (kernel / kernel.sum()).to(planes)[None, None]
    return F.conv2d(padded[:, None], weights)[:, 0]


@dataclass(frozen=True)
class DefocusBlur(_Filter):
    """Out of focus: every point becomes a disc.

    Attributes:
        radius: of the disc, in pixels.
    """

    name: ClassVar[str] = "Out of focus"
    radius: float

    def __post_init__(self):
        _check("The radius", self.radius, 0, 50)

    def filtered(self, planes: Tensor) -> Tensor:
        reach = math.ceil(self.radius)
        across = torch.arange(-reach, reach + 1.0)
        distance = (across[:, None] ** 2 + across[None] ** 2).sqrt()
        return _convolved(planes, (self.radius + 0.5 - distance).clamp(0, 1))


@dataclass(frozen=True)
class MotionBlur(_Filter):
    """The camera moved: every point becomes a straight line.

    Attributes:
        length: of the line, in pixels.
        angle: in degrees, 0 is horizontal.
    """

    name: ClassVar[str] = "Motion blur"
    length: float
    angle: float = 0.0

    def __post_init__(self):
        _check("The length", self.length, 0, 100)

    def filtered(self, planes: Tensor) -> Tensor:
        reach = math.ceil(self.length / 2)
        along = torch.linspace(-self.length / 2, self.length / 2, 8 * reach + 1)
        x, y = along * math.cos(math.radians(self.angle)), along * math.sin(math.radians(self.angle))
        across = torch.arange(-reach, reach + 1.0)
        near = (1 - (across - x[:, None]).abs()).clamp(0)[:, None, :] * (1 - (across - y[:, None]).abs()).clamp(0)[
            :, :, None
        ]
        return _convolved(planes, near.sum(0))


@dataclass(frozen=True)
class Downscale(_Filter):
    """Shrunk, and enlarged again to its old size.

    Attributes:
        factor: how many times smaller it was.
        kernel: it was shrunk with, one of `KERNELS`; it is enlarged bicubically.
    """

    name: ClassVar[str] = "Low resolution"
    factor: float
    kernel: str = "bicubic"

    def __post_init__(self):
        _check("The factor", self.factor, 1, 16)
        if self.kernel not in KERNELS:
            raise ValueError(f"The kernel is one of {', '.join(KERNELS)}, not {self.kernel!r}.")

    def filtered(self, planes: Tensor) -> Tensor:
        height, width = planes.shape[-2:]
        small = max(1, round(width / self.factor)), max(1, round(height / self.factor))

        def resized(plane: Tensor) -> Tensor:
            image = Image.fromarray(plane.contiguous().numpy(), mode="F").resize(small, KERNELS[self.kernel])
            return torch.from_numpy(np.asarray(image.resize((width, height), KERNELS["bicubic"])).copy())

        return torch.stack([resized(plane) for plane in planes.float().cpu()]).to(planes)


# Files


def _recoded(picture: Tensor, form: str, quality: int) -> Tensor:
    file = io.BytesIO()
    to_image(to_pixels(picture)).save(file, form, quality=quality)
    return to_float(torch.from_numpy(np.array(Image.open(file).convert("RGB")))).to(picture)


@dataclass(frozen=True)
class Jpeg:
    """Saved as a JPEG.

    Attributes:
        quality: from 1 to 100.
    """

    name: ClassVar[str] = "JPEG"
    quality: int

    def __post_init__(self):
        _check("The JPEG quality", self.quality, 1, 100)

    def __call__(self, picture: Tensor, generator: torch.Generator) -> Damaged:
        return _everywhere(_recoded(picture, "JPEG", self.quality))


@dataclass(frozen=True)
class WebP:
    """Saved as a WebP.

    Attributes:
        quality: from 0 to 100.
    """

    name: ClassVar[str] = "WebP"
    quality: int

    def __post_init__(self):
        _check("The WebP quality", self.quality, 0, 100)

    def __call__(self, picture: Tensor, generator: torch.Generator) -> Damaged:
        return _everywhere(_recoded(picture, "WEBP", self.quality))


# Colour


@dataclass(frozen=True)
class Fading:
    """Years of light: contrast goes, and everything drifts towards a pale grey.

    Attributes:
        share: how much of the contrast is gone, from 0 to 1.
    """

    name: ClassVar[str] = "Fading"
    share: float

    def __post_init__(self):
        _check("The share", self.share, 0, 1)

    def __call__(self, picture: Tensor, generator: torch.Generator) -> Damaged:
        return _everywhere(torch.lerp(picture, torch.full_like(picture, 0.5), self.share))


@dataclass(frozen=True)
class ColourCast:
    """A tint over everything, as from old paper or the wrong light.

    Attributes:
        strength: the largest shift of a colour channel on the scale 0-255; which channels shift is chance.
    """

    name: ClassVar[str] = "Colour cast"
    strength: float

    def __post_init__(self):
        _check("The strength", self.strength, 0, 255)

    def __call__(self, picture: Tensor, generator: torch.Generator) -> Damaged:
        shift = torch.rand(3, generator=generator) * 2 - 1
        shift = shift - shift.mean()  # a tint, not a change of brightness
        shift = shift / shift.abs().max().clamp(min=1e-3) * to_unit(self.strength)
        return _everywhere((picture + shift.to(picture)[:, None, None]).clamp(-1, 1))


# Lost places


def _painted(picture: Tensor, cover: np.ndarray, colour: Tensor) -> Damaged:
    """`colour` [3] or [3, H, W] over the picture where `cover` [H, W] from 0 to 1 says."""
    cover = torch.from_numpy(cover).to(picture)[None]
    colour = (colour if colour.ndim == 3 else colour[:, None, None]).to(picture)
    return Damaged(torch.lerp(picture, colour.expand_as(picture), cover), (cover > VISIBLE).to(picture))


def _colour(generator: torch.Generator, greys: bool = False) -> Tensor:
    """Black, white, a grey or any colour [3]."""
    kind = uniform(generator, 0, 1)
    if kind < 0.3:
        return torch.full((3,), -1.0 if kind < 0.15 else 1.0)
    return torch.rand(1 if greys else 3, generator=generator).expand(3) * 2 - 1


@dataclass(frozen=True)
class _Strokes:
    """Strokes, one after another, each in a colour of its own, until they cover enough.

    Attributes:
        share: of the picture that they cover, from 0 to 1; it may be a little more.
        width: of a stroke, in pixels.
    """

    share: float
    width: float

    wobble: ClassVar[float] = 0.0
    jagged: ClassVar[bool] = False
    greys: ClassVar[bool] = False

    def __post_init__(self):
        _check("The share", self.share, 0, 1)
        _check("The width", self.width, 0.5, 500)

    def __call__(self, picture: Tensor, generator: torch.Generator) -> Damaged:
        mask = torch.zeros_like(picture[:1])
        for _ in range(MOST_STROKES):
            if float(mask.mean()) >= self.share:
                break
            width = self.width * uniform(generator, 0.6, 1.4)
            cover = curve(tuple(picture.shape[-2:]), width, generator, self.wobble, self.jagged)
            stroke = _painted(picture, cover, _colour(generator, self.greys))
            picture, mask = stroke.picture, torch.maximum(mask, stroke.mask)
        return Damaged(picture, mask)


@dataclass(frozen=True)
class Scratches(_Strokes):
    """Thin, nearly straight lines, mostly pale or dark."""

    name: ClassVar[str] = "Scratches"
    wobble: ClassVar[float] = 0.15
    greys: ClassVar[bool] = True


@dataclass(frozen=True)
class Tears(_Strokes):
    """Ragged lines across the picture, the paper's colour inside."""

    name: ClassVar[str] = "Tears"
    wobble: ClassVar[float] = 0.25
    jagged: ClassVar[bool] = True
    greys: ClassVar[bool] = True


@dataclass(frozen=True)
class Scribbles(_Strokes):
    """Somebody drew on it with a felt-tip pen."""

    name: ClassVar[str] = "Scribbles"
    wobble: ClassVar[float] = 1.0


@dataclass(frozen=True)
class Blocks:
    """Missing rectangles.

    Attributes:
        share: of the picture that is missing, from 0 to 1.
        count: of rectangles; they may overlap.
    """

    name: ClassVar[str] = "Missing blocks"
    share: float
    count: int = 1

    def __post_init__(self):
        _check("The share", self.share, 0, 1)
        _check("The number of blocks", self.count, 1, 1000)

    def __call__(self, picture: Tensor, generator: torch.Generator) -> Damaged:
        size = tuple(picture.shape[-2:])
        cover = np.zeros(size, np.float32)
        for _ in range(self.count):
            rectangle(cover, self.share / self.count, generator)
        return _painted(picture, cover, _colour(generator))


@dataclass(frozen=True)
class Holes:
    """Holes with irregular outlines, as moths, mould or water leave them.

    Attributes:
        share: of the picture that is missing, from 0 to 1.
        size: of a typical hole, as a share of the picture's shorter side.
    """

    name: ClassVar[str] = "Holes"
    share: float
    size: float = 0.2

    def __post_init__(self):
        _check("The share", self.share, 0, 1)
        _check("The size", self.size, 0.01, 1)

    def __call__(self, picture: Tensor, generator: torch.Generator) -> Damaged:
        cover = blobs(tuple(picture.shape[-2:]), self.share, self.size, generator)
        return _painted(picture, cover, _colour(generator))


@dataclass(frozen=True)
class Dust:
    """Small specks and hairs, black or white.

    Attributes:
        share: of the picture that they cover, from 0 to 1.
        radius: of a speck, in pixels.
    """

    name: ClassVar[str] = "Dust"
    share: float
    radius: float = 1.5

    def __post_init__(self):
        _check("The share", self.share, 0, 1)
        _check("The radius", self.radius, 0.5, 50)

    def __call__(self, picture: Tensor, generator: torch.Generator) -> Damaged:
        cover = spots(tuple(picture.shape[-2:]), self.share, self.radius, generator)
        return _painted(picture, cover, torch.full((3,), 1.0 if uniform(generator, 0, 1) < 0.5 else -1.0))


@dataclass(frozen=True)
class Stains:
    """Translucent blotches, as of tea: the picture is still seen through them.

    Attributes:
        opacity: from 0 to 1.
        share: of the picture that they cover, from 0 to 1.
    """

    name: ClassVar[str] = "Stains"
    opacity: float
    share: float = 0.2

    def __post_init__(self):
        _check("The opacity", self.opacity, 0, 1)
        _check("The share", self.share, 0, 1)

    def __call__(self, picture: Tensor, generator: torch.Generator) -> Damaged:
        cover = blobs(tuple(picture.shape[-2:]), self.share, 0.4, generator) * np.float32(self.opacity)
        return _painted(picture, cover, torch.rand(3, generator=generator) - 0.6)
