"""Prompts into numbers: a tokenizer and a small transformer, both made for one data set's captions.

The tokenizer is byte-level BPE, so any text has tokens. But a word that no caption used has tokens whose meaning was
never learnt and would only add noise, so `Vocabulary` drops such words and says which.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn

from sd_core.models.unet import Context, multiply_adds

START, PADDING = "<start>", "<pad>"
TOKENIZER_SIZE = 1024  # captions of a small data set: most words get a token of their own
MAX_TOKENS = 64
PART = 256  # characters
# Words that hold a sentence together, and mean nothing to a model that has not learnt them.
FILLERS = frozenset(
    "a an the of in on at by to for from and or with who that is are was has have having wearing style "
    "个 一 位 名 只 张 在 里 的 了 着 是 有 和 与 及 穿".split()
)
_HAN = "\u3400-\u4dbf\u4e00-\u9fff"  # Chinese characters: they are written without spaces, so each counts as a word
_RUN = re.compile(r"\w+|[^\w\s]")  # a word, Chinese characters in a row, or a single sign such as a comma or an emoji
_CHINESE = re.compile(f"[{_HAN}]")
_PIECE = re.compile(rf"[{_HAN}]|(?:(?![{_HAN}])\w)+|[^\w\s]")


def pieces(text: str) -> list[str]:
    """The words, Chinese characters and signs of a text, in lower case and one Unicode form, so that "Blue" and "blue"
    are one word."""
    return _PIECE.findall(_normalised(text))


def reads_chinese(words: Iterable[str]) -> bool:
    """Whether any of these words is Chinese."""
    return any(_CHINESE.search(word) for word in words)


def _normalised(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", part) for part in _parts(text)).lower()


def _parts(text: str) -> Iterator[str]:
    """A text in parts that are short, since the time to normalise one grows with the square of the accents in a row. No
    letter is parted from its accents, unless it has more than any language has."""
    start = 0
    while start < len(text):
        end = start + PART
        while end < min(len(text), start + 2 * PART) and unicodedata.combining(text[end]):
            end += 1
        yield text[start:end]
        start = end


def _means_something(piece: str) -> bool:
    """Whether a piece is a word or a symbol such as an emoji, and neither a filler nor mere punctuation."""
    return piece not in FILLERS and any(sign.isalnum() or unicodedata.category(sign).startswith("S") for sign in piece)


@dataclass(frozen=True)
class ReadPrompt:
    """A prompt as the model will see it: `text`, and what was left out since its captions never used it: `unknown`
    words and symbols, each once, in the order of the prompt. Punctuation and `FILLERS` are left out without mention.
    `cut` says that it is longer than the model reads, so that its end is left out too."""

    text: str
    unknown: tuple[str, ...]
    cut: bool = False


class Vocabulary:
    """The words a model knows, and their tokens."""

    def __init__(self, tokenizer: Tokenizer, words: Iterable[str]):
        self.tokenizer = tokenizer
        self.words = frozenset(words)
        self._start = tokenizer.token_to_id(START)
        self._padding = tokenizer.token_to_id(PADDING)
        if self._start is None or self._padding is None:
            raise ValueError(f"The tokenizer lacks the tokens {START} and {PADDING}.")

    @classmethod
    def learn(cls, captions: Sequence[str]) -> "Vocabulary":
        """A vocabulary made for these captions."""
        normalised = [" ".join(pieces(caption)) for caption in captions]
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=TOKENIZER_SIZE,
            special_tokens=[PADDING, START],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(normalised, trainer)
        return cls(tokenizer, (word for caption in normalised for word in caption.split()))

    @classmethod
    def from_json(cls, text: str) -> "Vocabulary":
        """Reads what `to_json` wrote."""
        values = json.loads(text)
        return cls(Tokenizer.from_str(values["tokenizer"]), values["words"])

    def to_json(self) -> str:
        """All of it as one text."""
        return json.dumps({"words": sorted(self.words), "tokenizer": self.tokenizer.to_str()})

    def with_words_of(self, captions: Sequence[str]) -> "Vocabulary":
        """The same tokens, with the words of more captions counted as known: what fine-tuning needs."""
        return Vocabulary(self.tokenizer, self.words | {word for caption in captions for word in pieces(caption)})

    def __len__(self) -> int:
        return self.tokenizer.get_vocab_size()

    def read(self, prompt: str) -> ReadPrompt:
        """The prompt without the words the model does not know. Never fails."""
        # Vocabularies of before had Chinese words in one piece, as they stand between spaces.
        runs = _RUN.findall(_normalised(prompt))
        found = [piece for run in runs for piece in ([run] if run in self.words else _PIECE.findall(run))]
        unknown = dict.fromkeys(piece for piece in found if piece not in self.words and _means_something(piece))
        text = " ".join(piece for piece in found if piece in self.words)
        tokens = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ReadPrompt(text, tuple(unknown), len(tokens) >= MAX_TOKENS)

    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token numbers [B, L] and a mask [B, L], True where there is a token; L is at most `MAX_TOKENS`.

        A prompt's end beyond that is left out. An empty prompt is the start token alone.
        """
        known = [self.read(prompt).text for prompt in prompts]
        encoded = self.tokenizer.encode_batch(known, add_special_tokens=False)
        rows = [[self._start, *e.ids][:MAX_TOKENS] for e in encoded]
        tokens = torch.full((len(rows), max(map(len, rows), default=1)), self._padding)
        for i, row in enumerate(rows):
            tokens[i, : len(row)] = torch.tensor(row)
        return tokens, tokens != self._padding


class TextEncoder(nn.Module):
    """A transformer that is trained together with the UNet: token numbers to a `Context` of `channels`."""

    LAYERS = 2
    HEAD_CHANNELS = 32

    def __init__(self, tokens: int, channels: int):
        super().__init__()
        self.token = nn.Embedding(tokens, channels)
        self.position = nn.Parameter(torch.randn(MAX_TOKENS, channels) * 0.02)
        layer = nn.TransformerEncoderLayer(
            channels, channels // self.HEAD_CHANNELS, 4 * channels, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, self.LAYERS, nn.LayerNorm(channels), enable_nested_tensor=False)
        nn.init.normal_(self.token.weight, std=0.02)

    def forward(self, tokens: Tensor, mask: Tensor) -> Context:
        """Encodes `tokens` [B, L] under `mask` [B, L] as `Vocabulary.encode` gives them."""
        h = self.token(tokens) + self.position[: tokens.shape[1]]
        h = self.layers(h, src_key_padding_mask=~mask)
        present = mask[:, :, None].to(h.dtype)
        return Context(h, mask, (h * present).sum(1) / present.sum(1))

    def multiply_adds(self, tokens: int) -> int:
        """Those of encoding one prompt, see `unet.multiply_adds`."""
        attending = self.LAYERS * 2 * tokens**2 * self.token.embedding_dim
        return multiply_adds(tokens, self.layers) + attending
