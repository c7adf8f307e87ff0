"""What each DiceBear style can draw, and what a person would call it.

The tables were made by looking at every variant at 64x64. Variants whose name would be arguable (chin-length hair, a
mouth too small to read) are left out, so that a caption never says what the picture does not show.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# A value is drawn by choosing one variant for each DiceBear component it names; () means "not drawn".
Value = Mapping[str, tuple[str, ...]]

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
# Clothes, hats and earrings are of any of these colours that is unlike what they touch; captions do not name it.
CLOTHES_COLOURS = ("#f4f4f0", "#2a2d3a", "#8c2f39", "#2f6f73", "#3b4a8f", "#63b7b0", "#7d8f69")
DARK_FRAMES, LIGHT_FRAMES = "#191919", "#f4f4f0"  # glasses are dark, except on skin where that would not show


@dataclass(frozen=True)
class Style:
    """A DiceBear style and whom to thank for it (from the metadata of dicebear-styles)."""

    name: str
    title: str
    artist: str
    licence: str
    source: str


@dataclass(frozen=True)
class Look:
    """How one style is drawn.

    traits: attribute key -> value -> the components that draw it; a later trait takes over a component that an
        earlier one used (a cap that is drawn instead of hair), and the earlier attribute is then not there to see.
    hair, skin, clothes, frames: the DiceBear colours that follow the one choice of that name (frames: of glasses).
    always: DiceBear options every picture has; what they leave open, DiceBear decides by the seed.
    hides: a value -> the values that cannot be seen any more because of it.
    edits: text of the SVG -> what it is replaced by.
    """

    style: Style
    traits: Mapping[str, Mapping[str, Value]]
    hair: tuple[str, ...] = ("hair",)
    skin: tuple[str, ...] = ("skin",)
    clothes: tuple[str, ...] = ()
    frames: tuple[str, ...] = ()
    always: Mapping[str, Any] = field(default_factory=dict)
    hides: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    edits: Mapping[str, str] = field(default_factory=dict)


def _numbered(prefix: str, *numbers: int) -> tuple[str, ...]:
    return tuple(f"{prefix}{number:02d}" for number in numbers)


def _variants(*numbers: int) -> tuple[str, ...]:
    return _numbered("variant", *numbers)


_EXPRESSIONS = ("smiling", "sad", "angry", "surprised")
_CALM_BROWS = _variants(3, 4, 5, 6, 8, 10, 12, 13, 14, 15)

ADVENTURER = Look(
    Style(
        "adventurer",
        "Adventurer",
        "Lisa Wischofsky",
        "CC BY 4.0",
        "https://www.figma.com/community/file/1184595184137881796",
    ),
    traits={
        "hair": {
            "bald": {"hair": _numbered("short", 19)},
            "short": {"hair": _numbered("short", 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 14, 16, 17, 18)},
            "long": {"hair": _numbered("long", 1, 4, 5, 6, 7, 8, 9, 17, 18, 19, 20, 22, 24)},
            "bun": {"hair": _numbered("long", 10, 11) + _numbered("short", 5)},
        },
        "glasses": {
            "glasses": {"glasses": _variants(2, 4, 5)},
            "sunglasses": {"glasses": _variants(1)},
            "no glasses": {"glasses": ()},
        },
        "beard": {"mustache": {"details": ("mustache",)}, "no beard": {"details": ()}},
        "expression": {
            "smiling": {"mouth": _variants(1, 5, 22, 23, 25, 26, 28, 30), "eyebrows": _CALM_BROWS},
            "angry": {"mouth": _variants(9, 11, 14), "eyebrows": _variants(1, 2)},
            "surprised": {"mouth": _variants(3, 7), "eyebrows": _CALM_BROWS, "eyes": _variants(1, 2, 24, 26)},
        },
    },
    frames=("glasses",),
    always={
        "eyesVariant": list(_variants(1, 2, 3, 4, 6, 7, 9, 16, 20, 22, 23, 24, 25, 26)),
        "earringsProbability": 0,
        "scale": 1.05,
        "translateY": 2,
    },
    hides={"sunglasses": _EXPRESSIONS},
)

BIG_SMILE = Look(
    Style(
        "big-smile",
        "Custom Avatar",
        "Ashley Seo",
        "CC BY 4.0",
        "https://www.figma.com/community/file/881358461963645496",
    ),
    traits={
        "hair": {
            "bald": {"hair": ()},
            "short": {"hair": ("shortHair", "shavedHead", "curlyShortHair", "bowlCutHair")},
            "long": {"hair": ("bangs", "straightHair", "wavyBob", "braids")},
            "bun": {"hair": ("bunHair", "froBun")},
        },
        "glasses": {
            "glasses": {"accessories": ("glasses",)},
            "sunglasses": {"accessories": ("sunglasses",)},
            "no glasses": {"accessories": ()},
        },
        "expression": {
            "smiling": {
                "mouth": ("openedSmile", "teethSmile", "awkwardSmile", "gapSmile", "braces"),
                "eyes": ("normal", "cheery", "winking"),
            },
            "sad": {"mouth": ("openSad",), "eyes": ("sad", "confused")},
            "angry": {"mouth": ("unimpressed",), "eyes": ("angry",)},
        },
    },
    always={"scale": 0.95, "translateY": 5},
    hides={"sunglasses": _EXPRESSIONS},
)

DYLAN = Look(
    Style(
        "dylan",
        "Dylan! The Avatar Generator",
        "Natalia Spivak",
        "CC BY 4.0",
        "https://www.figma.com/community/file/1356575240759683500",
    ),
    traits={
        "hair": {
            "bald": {"hair": ()},
            "short": {"hair": ("flatTop", "parting", "plain", "shortCurls", "spiky", "wavy")},
            "long": {"hair": ("roundBob", "longCurls", "shaggy", "fluffy")},
        },
        "beard": {"beard": {"facialHair": ("default",)}, "no beard": {"facialHair": ()}},
        "expression": {
            "smiling": {"mood": ("happy", "superHappy")},
            "sad": {"mood": ("sad",)},
            "angry": {"mood": ("angry",)},
        },
    },
)

LORELEI = Look(
    Style(
        "lorelei",
        "Lorelei",
        "Lisa Wischofsky",
        "CC0 1.0",
        "https://www.figma.com/community/file/1198749693280469639",
    ),
    traits={
        "hair": {
            "short": {"hair": _variants(1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 22, 28, 39, 43, 44, 47)},
            "long": {"hair": _variants(13, 15, 16, 21, 23, 24, 32, 35, 40, 41)},
            "bun": {"hair": _variants(14, 38, 45, 46)},
        },
        "glasses": {
            "glasses": {"glasses": _variants(1, 3, 4)},
            "sunglasses": {"glasses": _variants(2)},
            "no glasses": {"glasses": ()},
        },
        "beard": {"beard": {"beard": _variants(1, 2)}, "no beard": {"beard": ()}},
        "expression": {
            "smiling": {"mouth": _numbered("happy", 2, 3, 5, 6, 12, 16), "eyebrows": _variants(2, 5, 7, 9, 12)},
            "sad": {"mouth": _numbered("sad", 2, 4, 5), "eyebrows": _variants(1, 10)},
            "surprised": {"mouth": _numbered("sad", 1), "eyebrows": _variants(5, 7, 9)},
        },
    },
    frames=("glasses",),
    always={
        "eyesVariant": list(_variants(2, 4, 6, 8, 9, 10, 11, 12, 14, 16, 20, 21, 23, 24)),
        "earringsProbability": 0,
        "frecklesProbability": 0,
        "hairAccessoriesProbability": 0,
    },
    hides={"beard": _EXPRESSIONS, "sunglasses": _EXPRESSIONS},
)

MINIAVS = Look(
    Style(
        "miniavs",
        "Miniavs - Free Avatar Creator",
        "Webpixels",
        "CC BY 4.0",
        "https://www.figma.com/community/file/923211396597067458",
    ),
    traits={
        "hair": {
            "bald": {"hair": ()},
            "short": {"hair": ("classic01", "classic02", "curly", "elvis", "stylish")},
            "long": {"hair": ("long", "ponyTail")},
        },
        "glasses": {"glasses": {"glasses": ("normal",)}, "no glasses": {"glasses": ()}},
        "beard": {"mustache": {"mustache": ("freddy", "horshoe", "pencilThin")}, "no beard": {"mustache": ()}},
    },
    clothes=("body",),
)

PERSONAS = Look(
    Style("personas", "Personas by Draftbit", "Draftbit - draftbit.com", "CC BY 4.0", "https://personas.draftbit.com/"),
    traits={
        "hair": {
            "bald": {"hair": ("bald",)},
            "short": {"hair": ("fade", "shortCombover", "shortComboverChops", "curlyHighTop")},
            "long": {"hair": ("extraLong", "long", "sideShave")},
            "bun": {"hair": ("bunUndercut", "straightBun", "curlyBun")},
        },
        "glasses": {
            "glasses": {"eyes": ("glasses",)},
            "sunglasses": {"eyes": ("sunglasses",)},
            "no glasses": {"eyes": ("happy", "open", "sleep", "wink")},
        },
        "beard": {
            "beard": {"facialHair": ("beardMustache",)},
            "mustache": {"facialHair": ("walrus", "pyramid")},
            "no beard": {"facialHair": ()},
        },
        "hat": {"hat": {"hair": ("beanie", "cap")}, "no hat": {}},
        "expression": {
            "smiling": {"mouth": ("bigSmile", "smile")},
            "sad": {"mouth": ("frown",)},
            "surprised": {"mouth": ("surprise",)},
        },
    },
    hair=("hair", "facialHair"),
    clothes=("clothing",),
    hides={"beard": _EXPRESSIONS},
    edits={'fill="white" opacity=".36"': 'fill="white" opacity=".1"'},  # a veil under which all dark skin looks gray
)

PIXEL_ART = Look(
    Style(
        "pixel-art",
        "Pixel Art",
        "DiceBear",
        "CC0 1.0",
        "https://www.figma.com/community/file/1198754108850888330",
    ),
    traits={
        "hair": {
            "bald": {"hair": ()},
            "short": {"hair": _numbered("short", 1, 2, 3, 4, 6, 8, 9, 10, 14, 15, 16, 17, 19, 22)},
            "long": {"hair": _numbered("long", 1, 2, 3, 7, 8, 9, 12, 13, 20)},
        },
        "glasses": {"glasses": {"glasses": _numbered("light", 1, 2, 5, 6, 7)}, "no glasses": {"glasses": ()}},
        "earrings": {"earrings": {"accessories": _variants(1, 2, 3)}, "no earrings": {"accessories": ()}},
        "hat": {"hat": {"hat": _variants(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)}, "no hat": {"hat": ()}},
        "expression": {
            "smiling": {"mouth": _numbered("happy", 6, 9)},
            "sad": {"mouth": _numbered("sad", 1)},
            "surprised": {"mouth": _numbered("happy", 1, 12)},
        },
    },
    clothes=("clothing", "hat", "accessories"),
    always={
        "beardProbability": 0,
        "glassesColor": [DARK_FRAMES],  # light ones would be one with the eyes
        "mouthColor": ["#de0f0d", "#c0352f"],
    },
    hides={"hat": ("bald", "short")},
)

TOON_HEAD = Look(
    Style(
        "toon-head",
        "ToonHead",
        "Johan Melin",
        "CC BY 4.0",
        "https://www.figma.com/community/file/1589627891082866389",
    ),
    traits={
        "hair": {
            "bald": {"hair": (), "rearHair": ()},
            "short": {"hair": ("sideComed", "spiky", "undercut"), "rearHair": ()},
            "long": {"hair": ("sideComed", "undercut"), "rearHair": ("longStraight", "longWavy", "shoulderHigh")},
            "bun": {"hair": ("bun",), "rearHair": ()},
        },
        "beard": {
            "beard": {"beard": ("fullBeard", "longBeard")},
            "mustache": {"beard": ("moustacheTwirl",)},
            "no beard": {"beard": ()},
        },
        "expression": {
            "smiling": {"mouth": ("laugh",), "eyebrows": ("happy", "neutral")},
            "sad": {"mouth": ("sad",), "eyebrows": ("sad",)},
            "angry": {"mouth": ("angry",), "eyebrows": ("angry",)},
            "surprised": {"mouth": ("agape",), "eyebrows": ("raised",)},
        },
    },
    clothes=("clothes",),
)

MICAH = Look(
    Style(
        "micah",
        "Avatar Illustration System",
        "Micah Lanier",
        "CC BY 4.0",
        "https://www.figma.com/community/file/829741575478342595",
    ),
    traits={
        "hair": {
            "bald": {"hair": ("mrClean",)},
            "short": {"hair": ("fonze", "dannyPhantom")},
            "long": {"hair": ("full",)},
        },
        "glasses": {"glasses": {"glasses": ("round", "square")}, "no glasses": {"glasses": ()}},
        "beard": {"beard": {"facialHair": ("beard",)}, "no beard": {"facialHair": ()}},
        "expression": {
            "smiling": {"mouth": ("smile", "laughing")},
            "sad": {"mouth": ("frown", "sad")},
            "surprised": {"mouth": ("surprised",)},
        },
    },
    hair=("hair", "facialHair"),
    skin=("base",),
    clothes=("shirt",),
    frames=("glasses",),
    always={"earringsProbability": 0},
    hides={"beard": _EXPRESSIONS},
)

TRAINING_LOOKS = (ADVENTURER, BIG_SMILE, DYLAN, LORELEI, MINIAVS, PERSONAS, PIXEL_ART, TOON_HEAD)

# Styles of line and shading that restorers learn to leave alone. Nobody has named what they draw, so captions name the
# style and the background only.
_DICEBEAR, _FIGMA = "https://www.dicebear.com", "https://www.figma.com/community/file"
RESTORER_LOOKS = tuple(
    Look(Style(name, title, artist, licence, source), traits={}, hair=(), skin=())
    for name, title, artist, licence, source in (
        ("notionists", "Notionists", "Zoish", "CC0 1.0", "https://heyzoish.gumroad.com/l/notionists"),
        ("open-peeps", "Open Peeps", "Pablo Stanley", "CC0 1.0", "https://www.openpeeps.com/"),
        ("croodles", "Croodles - Doodle your face", "vijay verma", "CC BY 4.0", f"{_FIGMA}/966199982810283152"),
        ("big-ears", "Face Generator", "The Visual Team", "CC BY 4.0", f"{_FIGMA}/986078800058673824"),
        ("constellation", "Constellation", "DiceBear", "CC0 1.0", _DICEBEAR),
        ("critters", "Critters", "DiceBear", "CC0 1.0", _DICEBEAR),
        ("moods", "Moods", "DiceBear", "CC0 1.0", _DICEBEAR),
        ("line-face", "Line Face", "DiceBear", "CC0 1.0", _DICEBEAR),
        ("planets", "Planets", "DiceBear", "CC0 1.0", _DICEBEAR),
        ("clay", "Clay", "DiceBear", "CC0 1.0", _DICEBEAR),
    )
)
