"""Ways a picture gets damaged, each a small class with parameters in units people know, within the ranges beside them.

A damage is a function of one clean picture [3, H, W] in [-1, 1] and of a `torch.Generator` on the CPU, from which all
its chance comes: the same generator, the same damage. It gives a `Damaged` picture of the same shape and range, with
the places where the picture itself is lost (a scratch) rather than worse everywhere (a blur).
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import Field
from torch import Tensor

from sd_core.degradation.shapes import blobs, curve, rectangle, spots, uniform
from sd_core.diffusion.noise import to_unit
from sd_core.pictures.pixels import to_float, to_image, to_pixels
from sd_core.validation import checked

Share = Annotated[float, Field(ge=0, le=1, title="The share")]  # of a picture, or of its contrast
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
    """See the file's docstring. One whose numbers are out of their range is a UserError when it is made."""

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


class _Worse:
    """A damage that makes the picture worse, but nowhere lost: `worse` gives one whose values may leave the range."""

    def worse(self, picture: Tensor, generator: torch.Generator) -> Tensor:
        raise NotImplementedError

    def __call__(self, picture: Tensor, generator: torch.Generator) -> Damaged:
        return Damaged(self.worse(picture, generator).clamp(-1, 1), torch.zeros_like(picture[:1]))


# Noise


@checked
class GaussianNoise(_Worse):
    """Independent normal noise on every value, as from a camera in the dark. What leaves the range is clipped, as in a
    picture file. `sigma` is its standard deviation on the scale 0-255."""

    sigma: float = Field(ge=0, le=255, title="The noise level")

    def worse(self, picture: Tensor, generator: torch.Generator) -> Tensor:
        return picture + to_unit(self.sigma) * torch.randn(picture.shape, generator=generator).to(picture)


@checked
class PoissonNoise(_Worse):
    """The grain of counted light: stronger where it is bright, like film or a short exposure. So many `photons` are
    counted where the picture is white; fewer are grainier."""

    photons: float = Field(ge=1, le=1e6, title="The number of photons")

    def worse(self, picture: Tensor, generator: torch.Generator) -> Tensor:
        counted = torch.poisson((picture.contiguous() + 1) / 2 * self.photons, generator=generator)
        return counted / self.photons * 2 - 1


# Blur and size


class _Filter(_Worse):
    """A damage that mixes pixels with their neighbours: `filtered` does so to any [C, H, W]."""

    def filtered(self, planes: Tensor) -> Tensor:
        raise NotImplementedError

    def worse(self, picture: Tensor, generator: torch.Generator) -> Tensor:
        return self.filtered(picture)


def _convolved(planes: Tensor, kernel: Tensor) -> Tensor:
    """Each plane [C, H, W] under a normalised kernel [k, k], the border repeated."""
    margin = kernel.shape[0] // 2
    padded = F.pad(planes[None], (margin,) * 4, mode="replicate")[0]
    weights = (kernel / kernel.sum()).to(planes)[None, None]
    return F.conv2d(padded[:, None], weights)[:, 0]


@checked
class DefocusBlur(_Filter):
    """Out of focus: every point becomes a disc of `radius` pixels."""

    radius: float = Field(ge=0, le=50, title="The radius")

    def filtered(self, planes: Tensor) -> Tensor:
        reach = math.ceil(self.radius)
        across = torch.arange(-reach, reach + 1.0)
        distance = (across[:, None] ** 2 + across[None] ** 2).sqrt()
        return _convolved(planes, (self.radius + 0.5 - distance).clamp(0, 1))


@checked
class MotionBlur(_Filter):
    """The camera moved: every point becomes a line of `length` pixels, at `angle` degrees to the horizontal."""

    length: float = Field(ge=0, le=100, title="The length")
    angle: float = 0.0

    def filtered(self, planes: Tensor) -> Tensor:
        reach = math.ceil(self.length / 2)
        along = torch.linspace(-self.length / 2, self.length / 2, 8 * reach + 1)[:, None]
        across = torch.arange(-reach, reach + 1.0)
        near_x = (1 - (across - along * math.cos(math.radians(self.angle))).abs()).clamp(0)
        near_y = (1 - (across - along * math.sin(math.radians(self.angle))).abs()).clamp(0)
        return _convolved(planes, (near_x[:, None, :] * near_y[:, :, None]).sum(0))


@checked
class Downscale(_Filter):
    """Shrunk `factor` times with `kernel`, and enlarged again to its old size, bicubically."""

    factor: float = Field(ge=1, le=16, title="The factor")
    kernel: Literal[tuple(KERNELS)] = Field("bicubic", title="The kernel")

    def filtered(self, planes: Tensor) -> Tensor:
        height, width = planes.shape[-2:]
        small = max(1, round(width / self.factor)), max(1, round(height / self.factor))

        def resized(plane: Tensor) -> Tensor:
            image = Image.fromarray(plane.contiguous().numpy(), mode="F").resize(small, KERNELS[self.kernel])
            return torch.from_numpy(np.asarray(image.resize((width, height), KERNELS["bicubic"])).copy())

        return torch.stack([resized(plane) for plane in planes.float().cpu()]).to(planes)


# Files


class _Recoded(_Worse):
    """Saved in a format that loses some of it, and read again."""

    form: ClassVar[str]
    quality: int

    def worse(self, picture: Tensor, generator: torch.Generator) -> Tensor:
        file = io.BytesIO()
        to_image(to_pixels(picture)).save(file, self.form, quality=self.quality)
        return to_float(torch.from_numpy(np.array(Image.open(file).convert("RGB")))).to(picture)


@checked
class Jpeg(_Recoded):
    """Saved as a JPEG."""

    form: ClassVar[str] = "JPEG"
    quality: int = Field(ge=1, le=100, title="The JPEG quality")


@checked
class WebP(_Recoded):
    """Saved as a WebP."""

    form: ClassVar[str] = "WEBP"
    quality: int = Field(ge=0, le=100, title="The WebP quality")


# Colour


@checked
class Fading(_Worse):
    """Years of light: a `share` of the contrast goes, and everything drifts towards a pale grey."""

    share: Share

    def worse(self, picture: Tensor, generator: torch.Generator) -> Tensor:
        return torch.lerp(picture, torch.full_like(picture, 0.5), self.share)


@checked
class ColourCast(_Worse):
    """A tint over everything, as from old paper or the wrong light. Which colour channels shift is chance; the largest
    shift is `strength` on the scale 0-255."""

    strength: float = Field(ge=0, le=255, title="The strength")

    def worse(self, picture: Tensor, generator: torch.Generator) -> Tensor:
        shift = torch.rand(3, generator=generator) * 2 - 1
        shift = shift - shift.mean()  # a tint, not a change of brightness
        shift = shift / shift.abs().max().clamp(min=1e-3) * to_unit(self.strength)
        return picture + shift.to(picture)[:, None, None]


# Lost places


def _painted(picture: Tensor, cover: np.ndarray, colour: Tensor) -> Damaged:
    """`colour` [3] over the picture where `cover` [H, W] from 0 to 1 says."""
    cover = torch.from_numpy(cover).to(picture)[None]
    colour = colour[:, None, None].to(picture)
    return Damaged(torch.lerp(picture, colour.expand_as(picture), cover), (cover > VISIBLE).to(picture))


def _colour(generator: torch.Generator, greys: bool = False) -> Tensor:
    """Black, white, a grey or any colour [3]."""
    kind = uniform(generator, 0, 1)
    if kind < 0.3:
        return torch.full((3,), -1.0 if kind < 0.15 else 1.0)
    return torch.rand(1 if greys else 3, generator=generator).expand(3) * 2 - 1


@checked
class _Strokes:
    """Strokes of about `width` pixels, one after another, each in a colour of its own, until they cover `share` of the
    picture or a little more."""

    share: Share
    width: float = Field(ge=0.5, le=500, title="The width")

    wobble: ClassVar[float] = 0.0
    jagged: ClassVar[bool] = False
    greys: ClassVar[bool] = False

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


class Scratches(_Strokes):
    """Thin, nearly straight lines, mostly pale or dark."""

    wobble: ClassVar[float] = 0.15
    greys: ClassVar[bool] = True


class Tears(_Strokes):
    """Ragged lines across the picture, the paper's colour inside."""

    wobble: ClassVar[float] = 0.25
    jagged: ClassVar[bool] = True
    greys: ClassVar[bool] = True


class Scribbles(_Strokes):
    """Somebody drew on it with a felt-tip pen."""

    wobble: ClassVar[float] = 1.0


@checked
class Blocks:
    """Missing rectangles, `count` of them, which may overlap; without that they are `share` of the picture."""

    share: Share
    count: int = Field(1, ge=1, le=1000, title="The number of blocks")

    def __call__(self, picture: Tensor, generator: torch.Generator) -> Damaged:
        cover = np.zeros(picture.shape[-2:], np.float32)
        for _ in range(self.count):
            rectangle(cover, self.share / self.count, generator)
        return _painted(picture, cover, _colour(generator))


@checked
class Holes:
    """Holes with irregular outlines, as moths, mould or water leave them: together `share` of the picture, each about
    `size` times its shorter side."""

    share: Share
    size: float = Field(0.2, ge=0.01, le=1, title="The size")

    def __call__(self, picture: Tensor, generator: torch.Generator) -> Damaged:
        cover = blobs(tuple(picture.shape[-2:]), self.share, self.size, generator)
        return _painted(picture, cover, _colour(generator))


@checked
class Dust:
    """Small specks of about `radius` pixels, black or white, together `share` of the picture."""

    share: Share
    radius: float = Field(1.5, ge=0.5, le=50, title="The radius")

    def __call__(self, picture: Tensor, generator: torch.Generator) -> Damaged:
        cover = spots(tuple(picture.shape[-2:]), self.share, self.radius, generator)
        return _painted(picture, cover, torch.full((3,), 1.0 if uniform(generator, 0, 1) < 0.5 else -1.0))


@checked
class Stains:
    """Translucent blotches, as of tea, on `share` of the picture, which is still seen through them."""

    opacity: float = Field(ge=0, le=1, title="The opacity")
    share: Share = 0.2

    def __call__(self, picture: Tensor, generator: torch.Generator) -> Damaged:
        cover = blobs(tuple(picture.shape[-2:]), self.share, 0.4, generator) * np.float32(self.opacity)
        return _painted(picture, cover, torch.rand(3, generator=generator) - 0.6)
