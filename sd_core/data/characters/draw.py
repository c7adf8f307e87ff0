"""Endless characters drawn with DiceBear, each captioned from the very choices it was drawn with.

Everything follows from (style, seed): the same pair gives the same attributes, caption and picture on every machine.
All styles are CC0 or CC BY; `credits` names their artists. Seeds below 10,000 are kept for evaluation, and so is one
whole style.
"""

import functools
import io
import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sd_core.data.cache import cached
from sd_core.data.characters.captions import MENTIONED, Attributes, random_caption
from sd_core.data.characters.styles import (
    BACKGROUNDS,
    CLOTHES_COLOURS,
    DARK_FRAMES,
    HAIR_COLOURS,
    LIGHT_FRAMES,
    MICAH,
    RESTORER_LOOKS,
    SKIN_TONES,
    TRAINING_LOOKS,
    Look,
)
from sd_core.data.picture_set import PictureSet
from sd_core.errors import DataError
from sd_core.progress import OnProgress, unwatched

DRAWING_VERSION = 3  # raise whenever a (style, seed) gives another picture or caption than before: caches are redrawn
STYLES: tuple[Look, ...] = tuple(TRAINING_LOOKS)
RESTORER_STYLES: tuple[Look, ...] = (*TRAINING_LOOKS, *RESTORER_LOOKS)
EVALUATION_STYLE = MICAH.name
HELD_OUT_SEEDS = range(0, 10_000)
FIRST_TRAINING_SEED = HELD_OUT_SEEDS.stop
DEFAULT_COUNT = 24_000  # pictures drawn when nobody says how many: a few minutes on two cores

_LOOKS = {look.name: look for look in (*TRAINING_LOOKS, MICAH, *RESTORER_LOOKS)}
_SUPERSAMPLING = 2  # drawn so much larger, and averaged: resvg alone leaves thin outlines ragged at 64x64
_PRESENT = {"glasses": 0.3, "earrings": 0.3, "beard": 0.2, "hat": 0.2, "accessory": 0.3}  # share that has one
_BALD = 0.1  # share of bald characters, where a style has them; other values are equally frequent
_LEAST_CONTRAST = 60  # Euclidean distance in sRGB below which two neighbouring colours are hard to tell apart


@dataclass(frozen=True)
class Character:
    """One drawn character. attributes holds only what can be seen; caption names a random part of it."""

    style: str
    seed: int
    attributes: Attributes
    caption: str
    svg: str


def attributes_of_style(style: str) -> dict[str, tuple[str, ...]]:
    """Every attribute a style has, with its possible values. Raises DataError for an unknown style."""
    look = _look(style)
    values = {"style": (style,)} | {key: tuple(options) for key, options in look.traits.items()}
    for key, options in look.tells.items():
        values[key] = (*values.get(key, ()), *options)
    if look.hair:
        values["hair colour"] = tuple(HAIR_COLOURS)
    if look.skin:
        values["skin tone"] = tuple(SKIN_TONES)
    if look.clothes:
        values["clothes colour"] = tuple(CLOTHES_COLOURS)
    values["background"] = tuple(BACKGROUNDS)
    return {key: values[key] for key in MENTIONED if key in values}


def attributes_of(style: str, seed: int) -> dict[str, str]:
    """What the character that belongs to (style, seed) looks like, without drawing it."""
    return _choose(style, seed)[0]


def character(style: str, seed: int, chinese: bool = True) -> Character:
    """Draw the character that belongs to (style, seed); without `chinese`, its caption is English. Raises DataError for
    an unknown style."""
    from dicebear import Avatar  # 0.3 s, which programs that draw nothing should not wait for

    attributes, options = _choose(style, seed)
    svg = Avatar(_definition(style), options).to_string()
    for drawn, instead in _look(style).edits:
        svg = svg.replace(drawn, instead)
    return Character(style, seed, attributes, random_caption(attributes, seed, chinese), svg)


def render(svg: str, size: int) -> np.ndarray:
    """Rasterise an SVG that fills its canvas. Returns uint8 [size, size, 3]."""
    import resvg_py

    side = size * _SUPERSAMPLING
    png = resvg_py.svg_to_bytes(svg_string=svg, width=side, height=side, skip_system_fonts=True)
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    return np.asarray(picture.resize((size, size), Image.Resampling.BOX))


def training_seeds(count: int, styles: Sequence[str]) -> range:
    """The first seeds, none of them held out, that give `count` characters when the styles take turns."""
    return range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + math.ceil(count / max(1, len(styles))))


def draw_set(
    styles: Sequence[str],
    seeds: range,
    resolution: int,
    *,
    count: int | None = None,
    chinese: bool = True,
    cache: Path | None = None,
    progress: OnProgress = unwatched,
) -> PictureSet:
    """Draw every seed in every style, the styles taking turns, on all cores, and remember the result on disk.

    seeds: consecutive seeds, shared by the styles. count: keep only the first so many pictures.
    chinese: caption some of them in Chinese.
    Safe to call from any thread: the drawing is done by processes of its own (see workers.py).
    Raises DataError for unknown styles or when nothing can be drawn.
    """
    for style in styles:
        _look(style)
    total = len(styles) * len(seeds) if count is None else min(count, len(styles) * len(seeds))
    if total < 1 or resolution < 1:
        raise DataError("Ask for at least one style, one character and one pixel.")
    job = {"styles": list(styles), "first_seed": seeds.start, "resolution": resolution, "count": total}
    job |= {} if chinese else {"chinese": False}
    versions = {name: version(name) for name in ("dicebear-core", "dicebear-styles", "resvg-py")}

    def make(path: Path) -> dict[str, Any]:
        from sd_core.data.characters.workers import draw_in_processes  # loky, which others should not wait for

        draw = functools.partial(_draw, tuple(styles), seeds.start, resolution, chinese)
        return {"captions": draw_in_processes(path, draw, total, resolution, progress)}

    pixels, info = cached(cache, "characters", {**job, **versions, "drawing": DRAWING_VERSION}, make)
    progress(total, total)
    # The styles have handedness (most look to one side), so a mirrored character is not one of theirs.
    return PictureSet("characters", pixels, tuple(info["captions"]), mirrorable=False, credits=credits(styles))


def _draw(
    styles: tuple[str, ...], first_seed: int, resolution: int, chinese: bool, index: int
) -> tuple[np.ndarray, str]:
    """The picture of an index, and its caption, when the styles take turns."""
    drawn = character(styles[index % len(styles)], first_seed + index // len(styles), chinese)
    return render(drawn.svg, resolution), drawn.caption


def credits(styles: Iterable[str]) -> str:
    """One line that names the artist, licence and source of each style, as the package of the styles does."""
    metas = (_metadata(name)["meta"] for name in styles)
    drawn = "; ".join(
        f"“{meta['source']['name']}” by {meta['creator']['name']} ({meta['license']['name']}, {meta['source']['url']})"
        for meta in metas
    )
    return f"Characters drawn with DiceBear (https://www.dicebear.com), remixes of {drawn}."


def _look(style: str) -> Look:
    if style not in _LOOKS:
        raise DataError(f"There is no character style {style!r}; choose among {', '.join(_LOOKS)}.")
    return _LOOKS[style]


@functools.cache
def _definition(style: str) -> Any:
    from dicebear import Style as Definition

    return Definition(_metadata(style))


def _metadata(style: str) -> dict[str, Any]:
    """What the package of the styles says of one: its components, and whom to thank for it."""
    return json.loads(files("dicebear_styles").joinpath(f"{_look(style).name}.json").read_text("utf-8"))


def _choose(style: str, seed: int) -> tuple[dict[str, str], dict[str, Any]]:
    """Choose what a character looks like. Returns (its visible attributes, the DiceBear options that draw it)."""
    look, rng = _look(style), random.Random(f"look/{style}/{seed}")
    chosen = {"style": style}
    options: dict[str, Any] = {"seed": f"{style}-{seed}", **look.always}
    drawn_by: dict[str, str] = {}  # component -> the attribute that uses it
    for key, values in look.traits.items():
        chosen[key] = _choose_value(rng, key, tuple(values))
        for component, variants in values[chosen[key]].items():
            if drawn_by.get(component, key) != key:
                chosen.pop(drawn_by[component])
            drawn_by[component] = key
            options[f"{component}Probability"] = 100 if variants else 0
            if variants:
                options[f"{component}Variant"] = _pick(rng, variants)
    for key, values in look.tells.items():
        for value, components in values.items():
            if any(options.get(f"{component}Variant") in variants for component, variants in components.items()):
                chosen[key] = value
    hidden = {unseen for value in chosen.values() for unseen in look.hides.get(value, ())}
    chosen = {key: value for key, value in chosen.items() if value not in hidden}
    _choose_colours(rng, look, chosen, options)
    return {key: chosen[key] for key in MENTIONED if key in chosen}, options


def _choose_value(rng: random.Random, key: str, values: Sequence[str]) -> str:
    for special, share in ((f"no {key}", 1 - _PRESENT.get(key, 1)), ("bald", _BALD)):
        if special in values:
            others = [value for value in values if value != special]
            return special if rng.random() < share else _pick(rng, others)
    return _pick(rng, values)


def _choose_colours(rng: random.Random, look: Look, chosen: dict[str, str], options: dict[str, Any]) -> None:
    """Add the colours to `chosen` and `options`, each unlike the ones it lies beside."""
    skin = _pick(rng, tuple(SKIN_TONES))
    hair = _pick(rng, _unlike(HAIR_COLOURS, SKIN_TONES[skin]))
    background = _pick(rng, _unlike(BACKGROUNDS, SKIN_TONES[skin], HAIR_COLOURS[hair]))
    chosen["background"] = background
    if look.skin:
        chosen["skin tone"] = skin
    if look.hair and chosen.get("hair", "bald") != "bald":
        chosen["hair colour"] = hair
    for component in look.skin:
        options[f"{component}Color"] = [SKIN_TONES[skin]]
    for component in look.hair:
        options[f"{component}Color"] = [HAIR_COLOURS[hair]]
    options["backgroundColor"] = [BACKGROUNDS[background]]
    light = skin == "dark" and chosen.get("glasses") == "glasses"
    for component in look.frames:
        options[f"{component}Color"] = [LIGHT_FRAMES if light else DARK_FRAMES]
    around = (SKIN_TONES[skin], HAIR_COLOURS[hair], BACKGROUNDS[background])
    for component in look.clothes:
        colour = _pick(rng, _unlike(CLOTHES_COLOURS, *around))
        chosen.setdefault("clothes colour", colour)  # of the first: the others are hats and jewellery
        options[f"{component}Color"] = [CLOTHES_COLOURS[colour]]


def _unlike(palette: Mapping[str, str], *colours: str) -> tuple[str, ...]:
    """The names of the palette's colours that can be told apart from all of `colours` (hex)."""

    def rgb(colour: str) -> tuple[int, ...]:
        return tuple(bytes.fromhex(colour[1:]))

    return tuple(n for n, c in palette.items() if all(math.dist(rgb(c), rgb(o)) >= _LEAST_CONTRAST for o in colours))


def _pick(rng: random.Random, choices: Sequence[str]) -> str:
    return choices[int(rng.random() * len(choices))]
