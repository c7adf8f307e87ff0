"""The DiceBear styles that characters are drawn in: `looks.toml` as values, and the colours that all styles share."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# A value is drawn by choosing one variant for each DiceBear component it names; none of them means "not drawn".
Value = Mapping[str, Sequence[str]]

# Names of colours are the same in every style, and so are their hex values.
HAIR_COLOURS = {
    "black": "#1b191e",
    "brown": "#6e4526",
    "blond": "#e8c35a",
    "red": "#c8381a",
    "gray": "#a4a7b0",
    "pink": "#f481b8",
    "blue": "#2e6fdf",
    "green": "#3aa655",
    "purple": "#8446c0",
}
SKIN_TONES = {"pale": "#fbdcc4", "tan": "#dfa06c", "brown": "#ab6b40", "dark": "#5a3825"}
BACKGROUNDS = {
    "white": "#ffffff",
    "gray": "#a4a7b0",
    "red": "#d92b2b",
    "orange": "#ff8c1a",
    "yellow": "#f7d42a",
    "green": "#3aa655",
    "blue": "#2e6fdf",
    "purple": "#8446c0",
    "pink": "#f481b8",
}
# Clothes, hats and earrings are of any of these colours that is unlike what they touch.
CLOTHES_COLOURS = {
    "white": "#f4f4f0",
    "black": "#2a2d3a",
    "red": "#8c2f39",
    "teal": "#2f6f73",
    "blue": "#3b4a8f",
    "turquoise": "#63b7b0",
    "olive": "#7d8f69",
}
DARK_FRAMES, LIGHT_FRAMES = "#191919", "#f4f4f0"  # glasses are dark, except on skin where that would not show


@dataclass(frozen=True, eq=False)
class Look:
    """How one style is drawn.

    name: of the style, as DiceBear has it.
    traits: attribute key -> value -> the components that draw it; a later trait takes over a component that an
        earlier one used (a cap that is drawn instead of hair), and the earlier attribute is then not there to see.
    tells: attribute key -> value -> component -> variants that show it: what else can be said of a variant that a trait
        chose.
    hair, skin, clothes, frames: the DiceBear colours that follow the one choice of that name (frames: of glasses).
    always: DiceBear options every picture has; what they leave open, DiceBear decides by the seed.
    hides: a value -> the values that cannot be seen any more because of it.
    edits: texts of the SVG, and what each is replaced by.
    """

    name: str
    traits: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    tells: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    hair: Sequence[str] = ("hair",)
    skin: Sequence[str] = ("skin",)
    clothes: Sequence[str] = ()
    frames: Sequence[str] = ()
    always: Mapping[str, Any] = field(default_factory=dict)
    hides: Mapping[str, Sequence[str]] = field(default_factory=dict)
    edits: Sequence[tuple[str, str]] = ()


def _words(value: Any) -> Any:
    """Every text in a table as the words in it."""
    if isinstance(value, dict):
        return {key: _words(each) for key, each in value.items()}
    return value.split() if isinstance(value, str) else value


_TABLES = tomllib.loads(Path(__file__).with_name("looks.toml").read_text("utf-8"))
*TRAINING_LOOKS, MICAH = (Look(name, **_words(table)) for name, table in _TABLES.items())

# Styles of line and shading that restorers learn to leave alone. Nobody has named what they draw, so captions name the
# style and the background only.
RESTORER_LOOKS = tuple(
    Look(name, hair=(), skin=())
    for name in "notionists open-peeps croodles big-ears constellation critters moods line-face planets clay".split()
)
