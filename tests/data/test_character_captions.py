"""Captions of characters: true, natural, in two languages, and in the words that people use."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sd_core.data.characters.captions import caption_of, random_caption
from sd_core.data.characters.draw import STYLES, attributes_of
from sd_core.data.characters.styles import BACKGROUNDS, HAIR_COLOURS, SKIN_TONES
from sd_core.models.text import Vocabulary

styles = st.sampled_from([style.name for style in STYLES])
seeds = st.integers(0, 10**9)

CHARACTER = {
    "style": "pixel-art",
    "hair": "long",
    "hair style": "curly",
    "hair colour": "red",
    "glasses": "glasses",
    "hat": "no hat",
    "beard": "beard",
    "clothes colour": "blue",
    "expression": "smiling",
    "background": "orange",
}


def words_of(caption: str) -> str:
    return f" {caption} ".replace(",", " ")


@settings(max_examples=300, deadline=None)
@given(styles, seeds)
def test_a_caption_says_only_what_is_drawn(style, seed):
    attributes = attributes_of(style, seed)
    caption = words_of(random_caption(attributes, seed))
    for value in ("bald", "bun", "curly", "ponytail", "sunglasses", "smiling", "sad", "angry", "surprised", "tiara"):
        assert f" {value} " not in caption or value in attributes.values()
    for key, thing, chinese in (
        ("glasses", "glasses", "戴眼镜"),
        ("earrings", "earrings", "耳环"),
        ("hat", "hat", "帽"),
    ):
        said = f" {thing} " in caption.replace("dark glasses", "") or chinese in caption
        assert not said or attributes[key] == thing
    for names, key, noun in (
        (HAIR_COLOURS, "hair colour", "hair"),
        (SKIN_TONES, "skin tone", "skin"),
        (BACKGROUNDS, "background", "background"),
    ):
        for name in names:
            assert f" {name} {noun} " not in caption.replace("yellow hair", "blond hair") or attributes[key] == name
    for chinese, name in (("红色背景", "red"), ("蓝色背景", "blue"), ("橙色背景", "orange")):
        assert chinese not in caption.replace("粉红色", "") or attributes["background"] == name


@settings(max_examples=100, deadline=None)
@given(styles, seeds)
def test_the_full_caption_names_every_attribute(style, seed):
    attributes = attributes_of(style, seed)
    caption = words_of(caption_of(attributes)).replace("-", " ")
    for key, value in attributes.items():
        word = value.replace("-", " ")
        assert value.startswith("no ") or f" {word} " in caption, (key, caption)


def test_captions_read_naturally():
    assert caption_of(CHARACTER) == (
        "pixel art with long curly red hair, glasses, a beard and blue clothes, smiling, on an orange background"
    )
    assert caption_of({"style": "dylan"}) == "dylan"
    assert caption_of({"hair": "bun", "hair colour": "blue"}) == "character with blue hair in a bun"
    assert caption_of({"hair": "long", "hair style": "braids"}) == "character with long hair in braids"
    assert caption_of({"clothes": "dress", "clothes colour": "olive"}) == "character with an olive dress"


def test_captions_read_naturally_in_chinese():
    assert caption_of(CHARACTER, "zh") == "像素风格，红色长卷发、戴眼镜、大胡子、穿蓝色衣服、微笑的人物，橙色背景"
    assert caption_of({"style": "dylan"}, "zh") == "迪伦风格的人物"
    assert caption_of({"hair": "bun", "hair colour": "blue"}, "zh") == "蓝色丸子头的人物"
    assert caption_of({"hair colour": "red"}, "zh") == "红色头发的人物"
    assert caption_of({"clothes": "dress", "clothes colour": "white"}, "zh") == "穿白色连衣裙的人物"


def test_captions_vary_and_may_leave_anything_out():
    captions = [random_caption(attributes_of("adventurer", seed), seed) for seed in range(600)]
    assert len(set(captions)) > 500
    assert any("adventurer" not in caption and caption.isascii() for caption in captions)
    assert any(len(caption.split()) <= 4 for caption in captions)
    assert {"gray", "grey", "silver"} <= {word.strip(",") for caption in captions for word in caption.split()}


def test_captions_come_in_both_languages_and_in_a_mixture():
    captions = [random_caption(attributes_of("toon-head", seed), seed) for seed in range(300)]
    english = [caption for caption in captions if caption.isascii()]
    chinese = [caption for caption in captions if not any(letter.isascii() for letter in caption.replace("T恤", ""))]
    assert len(english) > 120 and len(chinese) > 60
    assert len(captions) - len(english) - len(chinese) > 5


@pytest.mark.parametrize(
    "prompt", ["红色长发、戴眼镜的女孩", "a girl with ginger hair and spectacles", "像素风格, long violet hair, 微笑"]
)
def test_what_people_write_is_made_of_words_that_captions_use(prompt):
    captions = [random_caption(attributes_of(style.name, seed), seed) for seed in range(200) for style in STYLES]
    assert Vocabulary.learn(captions).read(prompt).unknown == ()
