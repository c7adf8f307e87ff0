"""Prompts: whatever a person types becomes numbers, and what the model cannot know is named."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from sd_core.models.text import MAX_TOKENS, TOKENIZER_SIZE, TextEncoder, Vocabulary, pieces

CAPTIONS = (
    "adventurer with long red hair, glasses, on a blue background",
    "Lorelei with short Brown hair and a beard",
    "ein Mädchen mit blauem Hut",
    "红色 头发",
    "",
)


@pytest.fixture(scope="module")
def words() -> Vocabulary:
    return Vocabulary.learn(CAPTIONS)


@pytest.fixture(scope="module")
def encoder(words) -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder(len(words), 32).eval().requires_grad_(False)


# Any text


@given(st.text())
def test_any_text_can_be_read_and_encoded(words, encoder, text):
    read = words.read(text)
    assert set(read.text.split()) <= words.words
    tokens, mask = words.encode([text])
    assert tokens.shape == mask.shape and 1 <= tokens.shape[1] <= MAX_TOKENS
    context = encoder(tokens, mask)
    assert context.tokens.isfinite().all() and context.pooled.isfinite().all()


@given(st.lists(st.text(max_size=20), min_size=1, max_size=4))
def test_a_vocabulary_can_be_learnt_from_any_captions_and_knows_all_their_words(captions):
    words = Vocabulary.learn(captions)
    for caption in captions:
        read = words.read(caption)
        assert read.unknown == ()
        assert read.text.split() == pieces(caption)
    tokens, mask = words.encode(captions)
    assert mask[:, 0].all()
    assert int(tokens.max()) < len(words)


@pytest.mark.parametrize("prompt", ["", "   \n\t ", "zebra", "🦓", "!!!"])
def test_a_prompt_without_known_words_is_the_empty_prompt(words, prompt):
    tokens, mask = words.encode([prompt])
    empty, _ = words.encode([""])
    assert torch.equal(tokens, empty)
    assert mask.sum() == 1


def test_a_prompt_of_a_thousand_words_is_cut_at_the_end(words):
    long = ["long", "red", "hair"] * 334
    tokens, mask = words.encode([" ".join(long)])
    assert tokens.shape == (1, MAX_TOKENS) and mask.all()
    first, _ = words.encode([" ".join(long[:20])])
    assert torch.equal(tokens[:, : first.shape[1]], first)


def test_chinese_and_accents_are_words_like_any_other(words):
    assert words.read("红色 头发, Mädchen").unknown == ()
    assert words.read("绿色 头发").text == "色 头 发"
    assert words.read("绿色 头发").unknown == ("绿",)


def test_chinese_needs_no_spaces(words):
    assert words.read("头发红色").unknown == ()
    assert words.read("a红b色").text == "a 红 色"


def test_a_vocabulary_that_has_chinese_words_in_one_piece_still_knows_them(words):
    before = Vocabulary(words.tokenizer, {"红色", "头发"})
    assert before.read("红色 头发").text == "红色 头发"


def test_a_word_is_the_same_in_any_unicode_form_and_case(words):
    assert words.read("MA\u0308DCHEN with RED hair").text == "mädchen with red hair"
    assert words.read("ｒｅｄ").text == "red"  # noqa: RUF001


# Unknown words


def test_unknown_words_are_dropped_and_named_once_in_the_order_of_the_prompt(words):
    read = words.read("a zebra 🦓 with red wings, Zebra; and a top hat 🦓")
    assert read.text == "a with red , and a"
    assert read.unknown == ("zebra", "🦓", "wings", "top", "hat")


def test_unknown_punctuation_is_dropped_without_mention(words):
    read = words.read('red hair! (long); "brown" — beard... ¿short?')
    assert read.text == "red hair long brown beard short"
    assert read.unknown == ()


def test_words_that_only_hold_a_sentence_together_are_dropped_without_mention(words):
    assert words.read("the person is wearing a red hat at the beach").unknown == ("person", "hat", "beach")
    assert words.read("一个在海边的红色的人").unknown == ("海", "边", "人")


def test_a_single_unknown_letter_or_number_is_named(words):
    assert words.read("7 x red").unknown == ("7", "x")


@pytest.mark.parametrize(
    ("prompt", "named"), [("👩🏽\u200d🚀", {"👩", "🚀"}), ("❤️", {"❤"}), ("red + blue €", {"+", "€"})]
)
def test_emoji_and_symbols_are_named(words, prompt, named):
    assert named <= set(words.read(prompt).unknown)


def test_known_words_are_kept_in_their_order(words):
    caption = CAPTIONS[0]
    assert words.read(caption).text == "adventurer with long red hair , glasses , on a blue background"
    assert words.read(caption).unknown == ()


def test_a_prompt_is_encoded_as_if_its_unknown_words_were_not_there(words):
    with_unknown, _ = words.encode(["red zebra hair 🦓"])
    without, _ = words.encode(["red hair"])
    assert torch.equal(with_unknown, without)


def test_a_marker_typed_by_a_person_is_only_text(words):
    tokens, _ = words.encode(["<pad> <start> red"])
    plain, _ = words.encode(["red"])
    assert torch.equal(tokens, plain)


def test_fine_tuning_adds_words_and_keeps_the_tokens(words):
    more = words.with_words_of(["a red Zebra 🦓"])
    assert more.read("a zebra 🦓").unknown == ()
    assert words.read("a zebra 🦓").unknown == ("zebra", "🦓")
    assert len(more) == len(words)
    assert torch.equal(more.encode(CAPTIONS)[0], words.encode(CAPTIONS)[0])
    assert more.encode(["zebra"])[1].sum() > 1


# Tokens


def test_different_captions_have_different_tokens(words):
    tokens, _ = words.encode(["red hair", "brown hair", "hair red", ""])
    assert len({tuple(row) for row in tokens.tolist()}) == 4


def test_a_tokenizer_stays_small(words):
    many = Vocabulary.learn([f"word{i} and other{i * 7}" for i in range(5000)])
    assert len(words) <= TOKENIZER_SIZE and len(many) == TOKENIZER_SIZE


def test_a_saved_tokenizer_gives_the_same_tokens(words, tmp_path):
    words.tokenizer.save(str(tmp_path / "tokenizer.json"))
    loaded = Vocabulary(Tokenizer.from_file(str(tmp_path / "tokenizer.json")), words.words)
    prompts = [*CAPTIONS, "long zebra hair 🦓"]
    assert torch.equal(loaded.encode(prompts)[0], words.encode(prompts)[0])
    assert loaded.read("zebra red") == words.read("zebra red")


def test_the_same_captions_make_the_same_vocabulary(words):
    again = Vocabulary.learn(CAPTIONS)
    assert again.tokenizer.to_str() == words.tokenizer.to_str()
    assert again.words == words.words


def test_a_foreign_tokenizer_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="lacks the tokens <start> and <pad>"):
        Vocabulary(Tokenizer(models.BPE()), [])


# The encoder


def test_padding_in_a_batch_does_not_change_a_prompts_encoding(words, encoder):
    alone = encoder(*words.encode(["red hair"]))
    together = encoder(*words.encode(["red hair", CAPTIONS[0]]))
    length = alone.tokens.shape[1]
    assert together.tokens.shape[1] > length
    torch.testing.assert_close(together.tokens[:1, :length], alone.tokens, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together.pooled[:1], alone.pooled, rtol=1e-4, atol=1e-5)
    assert together.mask[0].tolist() == [True] * length + [False] * (together.mask.shape[1] - length)


def test_the_order_of_words_matters_to_the_encoder(words, encoder):
    context = encoder(*words.encode(["red hair blue background", "blue hair red background"]))
    assert not torch.allclose(context.pooled[0], context.pooled[1], atol=1e-3)


def test_a_prompt_longer_than_the_model_reads_says_so(words):
    known = sorted(words.words)[0]
    assert not words.read(known).cut
    assert words.read(" ".join([known] * 1000)).cut
