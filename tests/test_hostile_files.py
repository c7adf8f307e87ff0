"""Texts and headers that strangers made to be read without end: each parser is done in a time that grows with their
length alone, and takes no more memory than they are worth."""

import io
import json
import struct
import time
import tracemalloc
import zipfile

import pytest
from PIL import Image, PngImagePlugin

from sd_core.data.folder import open_folder
from sd_core.errors import UserError
from sd_core.generation.infotext import Parameters, read_parameters
from sd_core.generation.seeds import Noise
from sd_core.models import checkpoint
from sd_core.models.text import Vocabulary, pieces
from sd_core.pictures.archive import open_files
from sd_core.pictures.decoding import open_picture
from sd_core.pictures.original import open_original
from sd_core.runs import metrics_log
from tabs.common.errors import plain_error, without_paths
from tabs.common.words import in_their_language

MEGABYTE = 2**20
SECONDS = 20  # of the processor, a hundred times what any of these takes; what is quadratic takes hours

# What a text is made of that is repeated until it is a megabyte long.
WORDS = [
    "a", " ", "\n", ",", ":", '"', "\\", "/", "{", "[", "(", "{}", "a ", "a:", "aa: ", 'aa: "\\", ', "aa: b, ", '\\"',
    "'/", "/a", " /a", "/a/", "C:\\", "' /", "9", "1 2:", "0.", "\u0301\u0316", "\ufdfa", "\U0001f469\u200d", "\0",
    "Negative prompt:", " holds ", " must be between ", "Steps: 1, Seed: 2, Size: 9x9, ", '{"a":', "<", "&",
]  # fmt: skip


def in_time(parse, text):
    """Parses a text, a tenth of it first, so that what is quadratic fails soon."""
    for part in (text[: len(text) // 10], text):
        begun = time.process_time()
        try:
            parse(part)
        except (UserError, OSError):
            pass
        assert time.process_time() - begun < SECONDS


def long(word):
    return word * (MEGABYTE // len(word))


TEXTS = {
    "settings in a picture": Parameters.parse,
    "the last line of them": lambda text: Parameters.parse("a prompt\n" + text.replace("\n", " ")),
    "a number in them": lambda text: Parameters.parse(f"a\nSteps: {text}, Seed: {text}, Size: {text}, Model: {text}"),
    "a variation": Noise.parse,
    "a seed of a variation": lambda text: Noise.parse(f"1 2:{text}"),
    "words of a prompt": pieces,
    "an error with paths": without_paths,
    "an error": lambda text: plain_error(UserError(f"There is no model {text}.")),
    "a number": lambda text: in_their_language(f"The {text} must be between {text}.", CHINESE),
}


class Chinese:
    headers = {"accept-language": "zh-CN"}


CHINESE = Chinese()


@pytest.mark.parametrize("parser", TEXTS)
def test_a_hostile_text_is_read_in_time(parser):
    for word in WORDS:
        in_time(TEXTS[parser], long(word))


@pytest.mark.parametrize("word", ["a", "\u0301\u0316", "red ", "\U0001f469\u200d", "9"])
def test_a_hostile_prompt_is_read_in_time(word):
    vocabulary = Vocabulary.learn(["red hair", "a red hat"])
    in_time(vocabulary.read, long(word))


def test_words_are_the_same_however_long_the_text_before_them():
    for before in range(0, 1200, 7):
        assert pieces("x " * before + "e\u0301te\u0301 ﬁn")[before:] == ["été", "fin"]
    assert pieces("é" * 3000) == pieces("e\u0301" * 3000)


@pytest.mark.parametrize("word", ["[", '{"a":', "9", "x\n", "[\n", '{"file_name": "a.png"}\n', '"\\u0000', "\n", "-"])
def test_hostile_captions_are_read_in_time(word, tmp_path):
    (tmp_path / "set").mkdir()
    Image.new("RGB", (16, 16), "red").save(tmp_path / "set" / "a.png")
    for name in ("metadata.jsonl", "about.json", "a.txt"):
        (tmp_path / "set" / name).write_text(long(word))
    begun = time.process_time()
    pictures = open_folder(tmp_path / "set", 8, cache=tmp_path / "cache")
    assert time.process_time() - begun < SECONDS
    assert len(pictures) == 1 and len(pictures.captions[0]) <= 5000 and len(pictures.skipped) <= 1001


def test_a_folder_named_as_a_template_multiplies_nothing(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        picture = io.BytesIO()
        Image.new("RGB", (16, 16), "red").save(picture, "PNG")
        archive.writestr("{}" * 16_000 + "/a.png", picture.getvalue())
    tracemalloc.start()
    pictures = open_folder(tmp_path / "a.zip", 8, caption_template="{a}" * 1000, cache=tmp_path / "cache")
    assert len(pictures.captions[0]) <= 5000 and tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()


@pytest.mark.parametrize("name", ["a", "/" * 60_000, "../" * 20_000, "a" * 60_000, "a/" * 30_000])
def test_a_hostile_listing_is_read_in_time(name, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number in range(MEGABYTE // (2 * len(name) + 100)):
            archive.writestr(f"{number}{name}", b"")
    begun = time.process_time()
    open_files(tmp_path / "a.zip").close()
    assert time.process_time() - begun < SECONDS


@pytest.mark.parametrize("word", ["[", '{"a":', "9", "\n", "[\n", '{"step": 1}\n', '{"step": 9', "[" * 4000 + "\n"])
def test_a_hostile_log_is_read_in_time(word, tmp_path):
    for size in (1, 3):
        (tmp_path / "metrics.jsonl").write_text(long(word) * size)
        begun = time.process_time()
        assert isinstance(metrics_log.read(tmp_path / "metrics.jsonl", 2000), list)
        assert time.process_time() - begun < SECONDS


@pytest.mark.parametrize("text", ["[", '{"a":', "9", '"\\u0000', '{"format": 1, "words": ["', " "])
def test_a_hostile_checkpoint_is_refused_in_time(text, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(long(text))
    (folder / "tokenizer.json").write_text(long(text))
    header = long(text).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    for read in (checkpoint.describe, checkpoint.load):
        begun = time.process_time()
        with pytest.raises(UserError):
            read(folder)
        assert time.process_time() - begun < SECONDS


def png_with(kind: bytes, data: bytes) -> bytes:
    """A small PNG with one more chunk."""
    info, file = PngImagePlugin.PngInfo(), io.BytesIO()
    info.add(kind, data)
    Image.new("RGB", (16, 16), "red").save(file, "PNG", pnginfo=info)
    return file.getvalue()


def tags(count: int, each: int) -> bytes:
    """A TIFF whose many tags all mean the same long value."""
    entries = [(256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8)]
    entries += [(277, 3, 1, 1), (278, 3, 1, 8), (279, 4, 1, 64), *((1000 + i, 1, each, 8) for i in range(count))]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<I", 8 + each) + bytes(each) + directory + bytes(4)


def jpeg_with(*segments: tuple[int, bytes]) -> bytes:
    """A small JPEG with more segments."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(file, "JPEG")
    more = b"".join(bytes((0xFF, kind)) + struct.pack(">H", len(data) + 2) + data for kind, data in segments)
    return file.getvalue()[:2] + more + file.getvalue()[2:]


def chunks(data: bytes, size: int = 65_000) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


XMP = b"http://ns.adobe.com/xap/1.0/\0"
PICTURES = {
    "a TIFF whose tags share a value": tags(60_000, 100_000),
    "a PNG whose tags share a value": png_with(b"eXIf", tags(60_000, 100_000)),
    "a JPEG whose tags share a value": jpeg_with(
        *((0xE1, b"Exif\0\0" + part) for part in chunks(tags(30_000, 100_000)))
    ),
    "a long XMP": jpeg_with(*((0xE1, XMP + part) for part in chunks(b"<tiff:Orientation=" * 58_000))),
    "a long text": png_with(b"tEXt", b"parameters\0" + b"a" * (MEGABYTE - 100)),
    "a long profile": jpeg_with(*((0xE2, b"ICC_PROFILE\0" + bytes((i + 1, 16)) + bytes(65_000)) for i in range(16))),
}


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("read", [open_picture, open_original, read_parameters])
def test_a_hostile_header_takes_neither_time_nor_memory(name, read, tmp_path):
    (tmp_path / "a").write_bytes(PICTURES[name])
    tracemalloc.start()
    begun = time.process_time()
    try:
        read(tmp_path / "a")
    except UserError:
        pass
    assert time.process_time() - begun < SECONDS
    assert tracemalloc.get_traced_memory()[1] < 60e6
    tracemalloc.stop()


def test_the_settings_of_a_picture_are_still_read(tmp_path):
    text = "a prompt: with, signs\nNegative prompt: none\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 8x9"
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", text)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
    found = read_parameters(tmp_path / "a.png")
    assert (found.prompt, found.steps, found.seed, found.size) == ("a prompt: with, signs", 20, 5, (8, 9))
    assert json.loads(json.dumps(found.sampler)) == "Euler a"
