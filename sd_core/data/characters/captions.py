"""What is said of a character: in English or Chinese, in the words that people use for the same thing
(`wordings.toml`)."""

import random
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sd_core.data.captions import with_article

Attributes = Mapping[str, str]
Language = Literal["en", "zh"]
_Say = Callable[[str, str], str]
"""A word for a value of an attribute, by (attribute, value)."""

# Every attribute in the order of full captions, and the share of captions that name it; what is worn nearly always is,
# so that silence means "without".
MENTIONED = {
    "style": 0.75,
    "hair": 0.75,
    "hair style": 0.7,
    "hair colour": 0.8,
    "skin tone": 0.5,
    "glasses": 0.9,
    "earrings": 0.9,
    "beard": 0.9,
    "hat": 0.9,
    "accessory": 0.9,
    "clothes": 0.5,
    "clothes colour": 0.5,
    "expression": 0.55,
    "background": 0.75,
}
_WORN = ("glasses", "earrings", "beard", "hat", "accessory")
_TIED = ("ponytail", "braids")  # styles of hair that are said of what it is tied into
_USUAL = 0.5  # share of values that are called by their usual word
_CHINESE = 0.35  # share of captions in Chinese
_MIXED = 0.1  # and in both languages
_GIRL_OR_BOY = 0.3  # share of captions that say so

_WORDINGS: Mapping[Language, Mapping[str, Mapping[str, list[str]]]] = tomllib.loads(
    Path(__file__).with_name("wordings.toml").read_text("utf-8")
)


def caption_of(attributes: Attributes, language: Language = "en") -> str:
    """The one caption that names every attribute, for evaluation prompts. What is absent ("no hat") goes unsaid."""
    grammar = _GRAMMARS[language]

    def say(key: str, value: str) -> str:
        return _words(language, key, value)[0]

    return grammar.sentence(attributes.get("style"), "anyone", _phrases(grammar, attributes, say), say)


def random_caption(attributes: Attributes, seed: int, chinese: bool = True) -> str:
    """A natural caption that names a random part of the attributes in a random order and in random words of either
    language, or of both; the same for the same seed. Without `chinese`, all are English."""
    rng = random.Random(f"caption/{attributes['style']}/{seed}")
    said = {key: value for key, value in attributes.items() if rng.random() < MENTIONED[key]}
    style, subject = said.get("style"), _someone(attributes, rng) if rng.random() < _GIRL_OR_BOY else "anyone"
    mixed = rng.random() < _MIXED
    language: Language = "zh" if not mixed and rng.random() < _CHINESE else "en"

    def sayer(language: Language) -> _Say:
        def say(key: str, value: str) -> str:
            words = _words(language, key, value)
            return words[0] if rng.random() < _USUAL else words[int(rng.random() * len(words))]

        return say

    if not chinese:
        mixed, language = False, "en"
    grammar, say = _GRAMMARS[language], sayer(language)
    phrases = _phrases(grammar, said, say)
    if mixed:
        translated = _phrases(_GRAMMARS["zh"], said, sayer("zh"))
        both = {key: (phrases, translated)[rng.random() < 0.5][key] for key in phrases}
        return grammar.comma.join([grammar.named(style, subject, say), *_shuffled(both, rng).values()])
    shuffled = _shuffled(phrases, rng)
    if rng.random() < 0.5:
        return grammar.comma.join([grammar.named(style, subject, say), *shuffled.values()])
    return grammar.sentence(style, subject, shuffled, say)


def _words(language: Language, key: str, value: str) -> list[str]:
    """What people call a value. A style that nobody described is called by its name."""
    return _WORDINGS[language].get(key, {}).get(value) or [value.replace("-", " ")]


def _shuffled(phrases: dict[str, str], rng: random.Random) -> dict[str, str]:
    # random() is the one method that Python promises never to change.
    return dict(sorted(phrases.items(), key=lambda _: rng.random()))


def _someone(attributes: Attributes, rng: random.Random) -> str:
    """Whom people would say this is. Of short hair alone they might say either; of no person, neither."""
    if attributes.get("beard", "no beard") != "no beard":
        return "he"
    if attributes.get("hair") in ("long", "bun"):
        return "she"
    if "hair" not in attributes:
        return "anyone"
    return "she" if rng.random() < 0.3 and attributes["hair"] != "bald" else "he"


def _named_in_english(style: str | None, subject: str, say: _Say) -> str:
    """ "pixel art", "pixel art girl", "girl"."""
    if style and subject == "anyone":
        return say("style", style)
    return " ".join(filter(None, [style and say("style", style), say("subject", subject)]))


def _named_in_chinese(style: str | None, subject: str, say: _Say) -> str:
    """ "像素风格的女孩", "女孩"."""
    return (f"{say('style', style)}风格的" if style else "") + say("subject", subject)


def _phrases(grammar: "_Grammar", attributes: Attributes, say: _Say) -> dict[str, str]:
    """What a caption says for each attribute, hair as one, and clothes; nothing for what is absent."""
    phrases = {key: say(key, attributes[key]) for key in _WORN if not attributes.get(key, "no ").startswith("no ")}
    if hair := grammar.hair(attributes, say):
        phrases = {"hair": hair, **phrases}
    if "skin tone" in attributes:
        phrases["skin tone"] = grammar.skin.format(say("skin tone", attributes["skin tone"]))
    if clothes := _said(attributes, say, "clothes colour", "clothes"):
        phrases["clothes"] = grammar.clothes(clothes, "clothes" in attributes)
    if "expression" in attributes:
        phrases["expression"] = say("expression", attributes["expression"])
    if "background" in attributes:
        phrases["background"] = grammar.background.format(say("background", attributes["background"]))
    return phrases


def _english_clothes(words: list[str], kind_is_said: bool) -> str:
    worn = " ".join(words)
    return with_article(worn) if kind_is_said else f"{worn} clothes"


def _chinese_clothes(words: list[str], kind_is_said: bool) -> str:
    return "穿" + "".join(words) + ("" if kind_is_said else "衣服")


def _english_hair(attributes: Attributes, say: _Say) -> str:
    hair, style = attributes.get("hair"), attributes.get("hair style")
    if hair == "bald":
        return say("hair", "bald")
    before = ["hair"] * (hair in ("short", "long")) + ["hair style"] * (style not in _TIED) + ["hair colour"]
    tied = say("hair", hair) if hair == "bun" else say("hair style", style) if style in _TIED else ""
    phrase = " ".join(filter(None, [*_said(attributes, say, *before), "hair", tied]))
    return "" if phrase == "hair" else phrase


def _chinese_hair(attributes: Attributes, say: _Say) -> str:
    hair, style = attributes.get("hair"), attributes.get("hair style")
    if hair == "bald":
        return say("hair", "bald")
    colour, length, shape = (_said(attributes, say, key) for key in ("hair colour", "hair", "hair style"))
    if hair == "bun":
        return "".join([*colour, *(shape if style in ("curly", "wavy") else []), *length])
    if style in (*_TIED, "spiky"):
        return "".join([*colour, *length, *(["发"] if length else []), *shape])
    phrase = "".join([*colour, *length, *shape])
    if not phrase:
        return ""
    return phrase + ("发" if length or shape or len(phrase) == 1 else "头发")


def _said(attributes: Attributes, say: _Say, *keys: str) -> list[str]:
    return [say(key, attributes[key]) for key in keys if key in attributes]


def _english_sentence(style: str | None, subject: str, phrases: Mapping[str, str], say: _Say) -> str:
    """ "adventurer with long red hair and glasses, smiling, on a blue background" from phrases in any order."""
    expression, background, others = _apart(phrases)
    *others, last = others or [""]
    name = _named_in_english(style, subject, say)
    if last:
        name += " with " + " and ".join(filter(None, [", ".join(others), last]))
    return ", ".join(filter(None, [name, expression, background and f"on {with_article(background)}"]))


def _chinese_sentence(style: str | None, subject: str, phrases: Mapping[str, str], say: _Say) -> str:
    """ "红色长发、戴眼镜、微笑的女孩，蓝色背景" from phrases in any order."""
    expression, background, others = _apart(phrases)
    described = "、".join(filter(None, [*others, expression]))
    name = say("subject", subject) if described else _named_in_chinese(style, subject, say)
    if described and style:
        described = f"{say('style', style)}风格，{described}"
    return (f"{described}的" if described else "") + name + (f"，{background}" if background else "")


def _apart(phrases: Mapping[str, str]) -> tuple[str | None, str | None, list[str]]:
    """The expression, the background, and the rest, each of which has its own place in a sentence."""
    rest: Iterable[str] = (phrase for key, phrase in phrases.items() if key not in ("expression", "background"))
    return phrases.get("expression"), phrases.get("background"), list(rest)


@dataclass(frozen=True)
class _Grammar:
    """How a language puts words together: what stands between phrases, two phrases with a place for their word, and
    the functions that make the others."""

    comma: str
    skin: str
    background: str
    hair: Callable[[Attributes, _Say], str]
    clothes: Callable[[list[str], bool], str]
    named: Callable[[str | None, str, _Say], str]
    sentence: Callable[[str | None, str, Mapping[str, str], _Say], str]


_GRAMMARS: Mapping[Language, _Grammar] = {
    "en": _Grammar(
        ", ", "{} skin", "{} background", _english_hair, _english_clothes, _named_in_english, _english_sentence
    ),
    "zh": _Grammar("、", "{}皮肤", "{}背景", _chinese_hair, _chinese_clothes, _named_in_chinese, _chinese_sentence),
}
