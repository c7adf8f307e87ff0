"""Picture files in and out, safely and losslessly, and the one conversion each way between stored bytes and the
model's numbers.

Settings travel inside a PNG, in a text chunk named `parameters` and in the form that Stable Diffusion tools read.
"""

import json
import math
import re
import unicodedata
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, PngImagePlugin
from torch import Tensor

from sd_core.colour import DEEP_MODES, deep_values, eight_bit

MAX_PIXELS = 40_000_000  # of an uploaded picture: 160 MB once decoded
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF", "AVIF")  # what people have; others' decoders stay closed
UNSHOWN = ("TIFF",)  # those of them that browsers do not show
GRID_WIDTH = 768  # pixels, of a composed preview
LARGEST_TILE = 512
FRAME_MS = 120  # of an animation


class PictureError(ValueError):
    """A file is no picture this program can use; the message says why, in one sentence."""


def to_float(pixels: Tensor) -> Tensor:
    """uint8 [..., H, W, 3] to float32 [..., 3, H, W] in [-1, 1], channels-last in memory."""
    return (pixels.float() / 127.5 - 1).movedim(-1, -3)


def to_pixels(pictures: Tensor) -> Tensor:
    """Pictures [..., 3, H, W], clipped to [-1, 1], to uint8 [..., H, W, 3] on the CPU: the inverse of `to_float`."""
    return ((pictures.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).movedim(-3, -1).cpu()


# Reading

NO_PICTURE = (
    "This file is damaged, is not a picture, or is of another kind than PNG, JPEG, WebP, AVIF, GIF, BMP and TIFF."
)
_TOO_LARGE = f"This picture is too large; up to {MAX_PIXELS // 1_000_000} million pixels are allowed."


@contextmanager
def opened(path: Path | str) -> Iterator[Image.Image]:
    """The picture in a file, its size checked before it is decoded, and whatever goes wrong told in one sentence.

    Raises:
        PictureError: opening it, or anything done with it inside the `with`, failed.
    """
    try:
        Image.init()  # or Pillow fails on formats it has not met yet
        with Image.open(path, formats=[f for f in FORMATS if f in Image.OPEN]) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise PictureError(_TOO_LARGE)
            yield picture
    except PictureError:
        raise
    except Image.DecompressionBombError as error:
        raise PictureError(_TOO_LARGE) from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, zlib.error and others
        raise PictureError(NO_PICTURE) from error


def open_picture(path: Path | str) -> Image.Image:
    """Reads an uploaded picture as RGB: turned upright as its EXIF says, and laid on white where it is transparent.

    Raises:
        PictureError: it is damaged, too large or no picture.
    """
    with opened(path) as picture:
        picture.load()
        return _as_rgb(ImageOps.exif_transpose(picture))


def is_shown_by_browsers(path: Path | str) -> bool:
    """Whether a page can show a picture file as it is. Raises PictureError as `opened`."""
    with opened(path) as picture:
        return picture.format not in UNSHOWN


def _as_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode in DEEP_MODES:
        picture = Image.fromarray(eight_bit(deep_values(picture)))
    if "A" in picture.mode or "a" in picture.mode or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


def fit_picture(picture: Image.Image, resolution: int) -> Tensor:
    """The centre of an RGB picture as uint8 [R, R, 3], resized with antialiasing."""
    fitted = ImageOps.fit(picture, (resolution, resolution), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(fitted))


# Writing


def to_image(pixels: Tensor) -> Image.Image:
    """uint8 [H, W, 3] as a Pillow picture."""
    return Image.fromarray(pixels.numpy())


def save_png(pixels: Tensor, path: Path, parameters: "Parameters | None" = None) -> None:
    """Writes uint8 [H, W, 3] losslessly, with its settings inside."""
    info = PngImagePlugin.PngInfo()
    if parameters:
        info.add_text("parameters", parameters.text())  # iTXt where Latin-1 does not suffice
    to_image(pixels).save(path, "PNG", pnginfo=info)


def make_zip(paths: Sequence[Path], target: Path) -> Path:
    """Packs files into one .zip; names that occur twice are numbered. PNGs are compressed already: it only stores."""
    seen: set[str] = set()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in map(Path, paths):
            name, number = path.name, 2
            while name in seen:
                name, number = f"{path.stem}-{number}{path.suffix}", number + 1
            seen.add(name)
            archive.write(path, name)
    return target


def grid(pixels: Tensor, columns: int | None = None, width: int = GRID_WIDTH) -> Image.Image:
    """Pictures uint8 [N, H, W, 3] side by side, enlarged (smoothly) or reduced to about `width` pixels in all."""
    count, height, side = pixels.shape[:3]
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    tile = min(LARGEST_TILE, width // columns)
    tile_height = round(tile * height / side)
    sheet = Image.new("RGB", (columns * tile, rows * tile_height), (128, 128, 128))
    for i, picture in enumerate(pixels):
        enlarged = to_image(picture).resize((tile, tile_height), Image.Resampling.BICUBIC)
        sheet.paste(enlarged, (i % columns * tile, i // columns * tile_height))
    return sheet


def enlarged(path: Path | str) -> Image.Image:
    """One picture file at the size of a preview."""
    return grid(torch.from_numpy(np.array(open_picture(path)))[None])


def save_animation(frames: Sequence[Image.Image], path: Path, frame_ms: int = FRAME_MS, hold_ms: int = 1200) -> None:
    """Writes frames as an endless animation as the suffix says (.webp, .gif, .png). The last stays `hold_ms`."""
    first, *rest = frames
    times = [frame_ms] * len(rest) + [hold_ms]
    form = {".webp": {"quality": 88, "method": 2}, ".gif": {}, ".png": {}}[Path(path).suffix.lower()]
    first.save(path, save_all=True, append_images=rest, duration=times, loop=0, **form)


# Settings inside a PNG

_FIELD = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
_NEGATIVE = "Negative prompt:"
_NUMBERS = {
    "steps": ("Steps", int),
    "guidance": ("CFG scale", float),
    "seed": ("Seed", int),
    "strength": ("Denoising strength", float),
    "variation_seed": ("Variation seed", int),
    "variation_strength": ("Variation seed strength", float),
}
_FEWEST_FIELDS = 3  # a last line with fewer is part of the prompt, as other tools see it


@dataclass(frozen=True)
class Parameters:
    """The settings that made a picture. What a file does not tell is None.

    Attributes:
        prompt, negative_prompt: texts.
        steps, sampler, guidance, seed, model: as in other tools.
        size: (width, height) in pixels.
        strength: how far an image-to-image request went.
        variation_seed, variation_strength: the seed of noise blended in, and its share.
        variation_of: where other noise was blended in earlier, the whole recipe up to that.
        unread: the attributes above for which a file had something else than a number.
    """

    prompt: str = ""
    negative_prompt: str = ""
    steps: int | None = None
    sampler: str | None = None
    guidance: float | None = None
    seed: int | None = None
    size: tuple[int, int] | None = None
    model: str | None = None
    strength: float | None = None
    variation_seed: int | None = None
    variation_strength: float | None = None
    variation_of: str | None = None
    unread: tuple[str, ...] = ()

    def text(self) -> str:
        """In the form that Stable Diffusion tools write ("infotext"): prompt, negative prompt, and a line of fields.

        That form cannot hold every text. Where a prompt would not be read back as it was, a field repeats it exactly.
        """
        prompt, negative = _plain(self.prompt), _plain(self.negative_prompt)
        lines = [prompt] if prompt else []
        if negative:
            lines.append(f"{_NEGATIVE} {negative}")
        fields = {
            "Steps": self.steps,
            "Sampler": self.sampler,
            "CFG scale": self.guidance,
            "Seed": self.seed,
            "Size": "{}x{}".format(*self.size) if self.size else None,
            "Model": self.model,
            "Denoising strength": self.strength,
            "Variation seed": self.variation_seed,
            "Variation seed strength": self.variation_strength,
            "Variation of": self.variation_of,
        }
        fields = {name: _quoted(str(value)) for name, value in fields.items() if value is not None}
        back = Parameters.parse("\n".join([*lines, _field_line(fields)]))
        if (back.prompt, back.negative_prompt) != (self.prompt, self.negative_prompt):
            fields |= {
                "Exact prompt": json.dumps(self.prompt),
                "Exact negative prompt": json.dumps(self.negative_prompt),
            }
        return "\n".join([*lines, _field_line(fields)])

    @classmethod
    def parse(cls, text: str) -> "Parameters":
        """Reads what this or another tool wrote. Never fails: what cannot be understood is left out."""
        lines = text.strip("\n").split("\n")
        fields = {}
        if len(_FIELD.findall(lines[-1])) >= _FEWEST_FIELDS:
            fields = {name: _unquoted(value) for name, value in _FIELD.findall(lines.pop())}
        prompt, negative, in_negative = [], [], False
        for line in map(str.strip, lines):
            if line.startswith(_NEGATIVE):
                in_negative, line = True, line.removeprefix(_NEGATIVE).strip()
            (negative if in_negative else prompt).append(line)
        size = re.fullmatch(r"(\d{1,6})x(\d{1,6})", fields.get("Size", ""))
        numbers = {name: _number(fields, field, kind) for name, (field, kind) in _NUMBERS.items()}
        return cls(
            prompt=fields.get("Exact prompt", "\n".join(prompt)),
            negative_prompt=fields.get("Exact negative prompt", "\n".join(negative)),
            sampler=fields.get("Sampler"),
            size=(int(size[1]), int(size[2])) if size else None,
            model=fields.get("Model"),
            variation_of=fields.get("Variation of"),
            unread=tuple(name for name, (field, _) in _NUMBERS.items() if field in fields and numbers[name] is None),
            **numbers,
        )


def _plain(text: str) -> str:
    """A text without what a line of a PNG's text cannot hold: control characters and halves of surrogate pairs."""
    return "".join(c for c in text if c == "\n" or unicodedata.category(c) not in ("Cc", "Cs"))


def _field_line(fields: dict[str, str]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in fields.items())


def _quoted(text: str) -> str:
    """A field's value, as JSON where it would be misread otherwise."""
    awkward = text != text.strip() or text != _plain(text) or any(sign in text for sign in ',:\n"')
    return json.dumps(text) if awkward else text


def _unquoted(value: str) -> str:
    if value.startswith('"') and value.endswith('"'):
        try:
            return str(json.loads(value))
        except ValueError:
            return value
    return value.strip()


def _number(fields: dict, name: str, kind: type):
    try:
        number = kind(fields[name])
        return number if math.isfinite(number) else None
    except (KeyError, ValueError, OverflowError):
        return None


def read_parameters(path: Path | str) -> Parameters:
    """The settings inside a PNG.

    Raises:
        PictureError: it is no picture, or carries no settings.
    """
    with opened(path) as picture:
        picture.load()  # text may come after the pixels
        text = picture.info.get("parameters")
    if not isinstance(text, str) or not text.strip():
        raise PictureError(
            "This picture carries no settings; use a PNG as it was downloaded from a Stable Diffusion tool."
        )
    return Parameters.parse(text)
