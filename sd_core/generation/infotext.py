"""The settings of a picture as text in its file, written and read in the form that Stable Diffusion tools share."""

import json
import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from torch import Tensor

from sd_core.errors import PictureError
from sd_core.generation.request import SAMPLERS, GenerationRequest
from sd_core.generation.seeds import Noise
from sd_core.pictures.decoding import opened
from sd_core.pictures.output import save_png
from sd_core.pictures.pixels import to_pixels

# A field as other tools write it. What a name is made of is looked at from its first sign on, and once: a text without
# any colon must not be searched from each of its letters. So many fields and characters no tool writes.
_FIELD = re.compile(r'(?<![\w \-/])[ \-/]*(\w[\w \-/]+):\s*("(?:[^\\"]|\\.)++"|[^,]*)(?:,|$)')
_MOST_FIELDS, _MOST_TEXT = 64, 400_000
_NEGATIVE = "Negative prompt:"
_FEWEST_FIELDS = 3  # a last line with fewer is part of the prompt, as other tools see it


def _size(text: str) -> tuple[int, int]:
    width, height = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text).groups()
    return int(width), int(height)


_FIELDS = {  # of `Parameters`: how other tools call each, in their order, and how it is read
    "steps": ("Steps", int),
    "sampler": ("Sampler", str),
    "guidance": ("CFG scale", float),
    "seed": ("Seed", int),
    "size": ("Size", _size),
    "model": ("Model", str),
    "strength": ("Denoising strength", float),
    "variation_seed": ("Variation seed", int),
    "variation_strength": ("Variation seed strength", float),
    "variation_of": ("Variation of", str),
}


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
        fields = {}
        for attribute, (name, _) in _FIELDS.items():
            if (value := getattr(self, attribute)) is not None:
                fields[name] = _quoted("{}x{}".format(*value) if attribute == "size" else str(value))
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
        lines = text[:_MOST_TEXT].strip("\n").split("\n")
        found = [field.groups() for field in islice(_FIELD.finditer(lines[-1]), _MOST_FIELDS)]
        fields = {}
        if len(found) >= _FEWEST_FIELDS:
            fields = {name: _unquoted(value) for name, value in found}
            lines.pop()
        prompt, negative, in_negative = [], [], False
        for line in map(str.strip, lines):
            if line.startswith(_NEGATIVE):
                in_negative, line = True, line.removeprefix(_NEGATIVE).strip()
            (negative if in_negative else prompt).append(line)
        values = {key: _read(fields[field], kind) for key, (field, kind) in _FIELDS.items() if field in fields}
        return cls(
            prompt=fields.get("Exact prompt", "\n".join(prompt)),
            negative_prompt=fields.get("Exact negative prompt", "\n".join(negative)),
            unread=tuple(key for key, value in values.items() if value is None and key != "size"),
            **values,
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


def _read(text: str, kind: Callable):
    """A field's value; None where it is none of its kind, or no finite number."""
    try:
        value = kind(text)
        return value if kind not in (int, float) or math.isfinite(value) else None
    except (ValueError, AttributeError, OverflowError):
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


def sampler_called(name: str | None) -> str | None:
    """The key of the sampler that a tool's settings call `name` ("DPM++ 2M Karras", "Euler a", "DDIM"), or None."""
    words = (name or "").casefold().removesuffix(" karras").strip()
    for key, sampler in SAMPLERS.items():
        names = (key, sampler.label, sampler.written, *sampler.also)
        if words in (each.casefold().removesuffix(" karras") for each in names):
            return key
    return None


def parameters(request: GenerationRequest, noise: Noise, model_name: str, size: tuple[int, int]) -> Parameters:
    """The settings that make one picture again, as they go into its file; `size` is (width, height)."""
    *earlier, last = noise.blended or (None,)
    return Parameters(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        steps=request.steps,
        sampler=SAMPLERS[request.sampler].written,
        guidance=request.guidance,
        seed=noise.seed,
        size=size,
        model=model_name,
        strength=None if request.start is None else request.strength,
        variation_seed=last[0] if last else None,
        variation_strength=last[1] if last else None,
        variation_of=str(Noise(noise.seed, tuple(earlier))) if earlier else None,
    )


def request_again(settings: Parameters) -> tuple[GenerationRequest, tuple[str, ...]]:
    """The request for the one picture that a file's settings describe, defaults standing in for what they leave out.

    The picture that an image-to-image request started from is not in its settings.

    Returns:
        The request, and the names of the settings that had to be left out: in other tools' files they may be out of
        the ranges here.
    """
    wrong = list(settings.unread)
    given: dict[str, object] = {
        "prompt": settings.prompt,
        "negative_prompt": settings.negative_prompt,
        "steps": settings.steps,
        "sampler": sampler_called(settings.sampler),
        "guidance": settings.guidance,
        "seed": settings.seed,
        "strength": settings.strength,
    }
    if settings.variation_seed is not None and settings.seed is not None:
        try:
            given["variation_of"] = Noise.parse(settings.variation_of or str(settings.seed))
        except ValueError:
            wrong.append("variation_of")
        else:
            given |= {"variation_strength": settings.variation_strength, "seed": settings.variation_seed}
    request = GenerationRequest()
    for name, value in given.items():
        if value is not None:
            try:
                request = replace(request, **{name: value})
            except ValueError:
                wrong.append(name)
    return request, tuple(wrong)


def save_pictures(
    pictures: Tensor, request: GenerationRequest, noises: Sequence[Noise], model_name: str, folder: Path
) -> list[Path]:
    """Writes `pictures` [N, 3, H, W] to `folder` as PNGs that carry their settings, and returns their paths.
    None that is there is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = to_pixels(pictures)
    size = (pixels.shape[2], pixels.shape[1])
    stem = re.sub(r"[^\w.-]+", "-", model_name)
    paths = []
    for picture, noise in zip(pixels, noises, strict=True):
        name = "-".join([stem, str(noise.seed), *(f"{seed}x{share:g}" for seed, share in noise.blended)])
        path, number = folder / f"{name[:120]}.png", 1
        while path.exists():  # of another prompt, perhaps
            number += 1
            path = folder / f"{name[:120]}-{number}.png"
        save_png(picture, path, parameters(request, noise, model_name, size).text())
        paths.append(path)
    return paths
