"""Whatever is uploaded, the answer is a picture or one sentence, and it comes soon."""

import io
import random
import struct
import time
import warnings
import zlib
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from colour_profiles import ADOBE_RGB, rgb_profile
from PIL import Image
from png_files import png

from sd_core.errors import PictureError
from sd_core.models.registry import ModelRegistry
from sd_core.pictures.decoding import MAX_PIXELS
from sd_core.pictures.masks import read_mask
from sd_core.pictures.original import open_original
from tabs.common.sessions import SESSIONS
from tabs.restore.picture import Opened
from tabs.restore.tab import RestoreTab

VARIANTS = 2400  # of all formats together
UPLOADED = 7  # of each kind, one of each corruption, that also go through the page
SECONDS = 5.0  # that one file may take
SMALL = 100_000  # pixels; a larger picture that came out of a small file is opened, but not worked on here


def picture(mode, seed=0):
    rng = np.random.default_rng(seed)
    smooth = Image.fromarray(rng.integers(0, 256, (4, 6, 4), dtype=np.uint8)).resize((36, 28))
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 65536, (28, 36), dtype=np.uint16))
    return smooth.convert("L").convert(mode) if mode == "I" else smooth.convert("RGB" if mode == "P" else mode)


def saved(mode, form, **options):
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    first = picture(mode).quantize() if mode == "P" else picture(mode)
    if form not in ("GIF", "BMP", "AVIF"):
        options |= {"exif": exif}
    if form in ("PNG", "JPEG", "WEBP", "TIFF") and mode in ("RGB", "RGBA"):
        options |= {"icc_profile": rgb_profile(ADOBE_RGB)}
    first.save(file, form, **options)
    return file.getvalue()


def animated(form):
    return saved("RGB", form, save_all=True, append_images=[picture("RGB", seed) for seed in (1, 2)])


WHOLE = {
    "png-1": saved("1", "PNG"),
    "png-p": saved("P", "PNG", transparency=3),
    "png-rgb": saved("RGB", "PNG", transparency=(1, 2, 3)),
    "png-rgba": saved("RGBA", "PNG"),
    "png-16": saved("I;16", "PNG", transparency=7),
    "png-animated": animated("PNG"),
    "jpeg": saved("RGB", "JPEG"),
    "jpeg-progressive": saved("RGB", "JPEG", progressive=True),
    "jpeg-grey": saved("L", "JPEG"),
    "jpeg-cmyk": saved("CMYK", "JPEG"),
    "mpo": animated("MPO"),
    "webp": saved("RGBA", "WEBP"),
    "webp-lossless": saved("RGB", "WEBP", lossless=True),
    "webp-animated": animated("WEBP"),
    "gif": saved("P", "GIF", transparency=3),
    "gif-animated": animated("GIF"),
    "bmp": saved("RGB", "BMP"),
    "bmp-p": saved("P", "BMP"),
    "tiff": saved("RGB", "TIFF"),
    "tiff-lzw": saved("RGBA", "TIFF", compression="tiff_lzw"),
    "tiff-deflate": saved("I;16", "TIFF", compression="tiff_adobe_deflate"),
    "tiff-jpeg": saved("RGB", "TIFF", compression="jpeg"),
    "tiff-float": saved("F", "TIFF"),
    "tiff-cmyk": saved("CMYK", "TIFF"),
    "tiff-pages": animated("TIFF"),
    "avif": saved("RGB", "AVIF", speed=10),
    "avif-alpha": saved("RGBA", "AVIF", speed=10),
}


# Ways of corrupting a file: (data, randomness) -> data


def truncated(data, rng):
    return data[: rng.randrange(len(data))]


def flipped(data, rng):
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def flipped_in_the_header(data, rng):
    data = bytearray(data)
    for _ in range(rng.choice((1, 2, 4))):
        data[rng.randrange(min(len(data), 128))] = rng.randrange(256)
    return bytes(data)


def with_absurd_numbers(data, rng):
    """A size, a count or an offset somewhere is far too large, or zero."""
    data = bytearray(data)
    where, number = rng.randrange(min(len(data) - 4, 400)), rng.choice((0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF))
    order = rng.choice("<>")
    data[where : where + 4] = struct.pack(
        order + ("I" if number > 0xFFFF else "HH"), *[number] * (1 + (number < 65536))
    )
    return bytes(data)


def spliced(data, rng):
    """It begins like another file."""
    other = rng.choice(list(WHOLE.values()))
    return other[: rng.randrange(4, 200)] + data[rng.randrange(len(data)) :]


def shuffled(data, rng):
    """A piece is cut out, doubled, or moved."""
    a, b, c = sorted(rng.randrange(len(data)) for _ in range(3))
    return rng.choice((data[:a] + data[b:], data[:b] + data[a:], data[:a] + data[b:c] + data[a:b] + data[c:]))


def with_right_checksums(data, rng):
    """Corrupted inside the chunks of a PNG, whose checksums would give it away; other files at random."""
    if not data.startswith(b"\x89PNG"):
        return flipped(data, rng)
    out, position = data[:8], 8
    victim = rng.randrange(8)
    for index in range(100):
        if position >= len(data):
            break
        length = int.from_bytes(data[position : position + 4], "big")
        kind, content = data[position + 4 : position + 8], bytearray(data[position + 8 : position + 8 + length])
        if index == victim and content:
            content[rng.randrange(len(content))] = rng.randrange(256)
        out += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        position += 12 + length
    return out


CORRUPTIONS = [
    truncated,
    flipped,
    flipped_in_the_header,
    with_absurd_numbers,
    spliced,
    shuffled,
    with_right_checksums,
]


def check(file):
    """Opens and repairs a file. True if it was a picture; None of the errors may be any other than one sentence."""
    began = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of what it corrects
            original = open_original(file)
            if original.size[0] * original.size[1] <= SMALL:
                mask = np.zeros(original.size[::-1], bool)
                mask[2:5, 3:6] = True
                repaired = original.repaired(255 - original.rgb(), mask)
                out = io.BytesIO()
                repaired.save(out)
                assert np.array_equal(open_original(out).pixels, repaired.pixels)
    except PictureError as error:
        assert str(error).count(".") == 1 and str(error).endswith("."), error
        original = None
    assert time.process_time() - began < SECONDS
    return original is not None


def variant(kind, number):
    return CORRUPTIONS[number % len(CORRUPTIONS)](WHOLE[kind], random.Random(f"{kind} {number}"))


@pytest.mark.parametrize("kind", WHOLE)
def test_a_corrupted_file_is_a_picture_or_one_sentence(kind):
    assert check(io.BytesIO(WHOLE[kind]))
    refused = 0
    for number in range(-(-VARIANTS // len(WHOLE))):
        refused += not check(io.BytesIO(variant(kind, number)))
    assert refused > 0


def test_at_least_2000_variants_are_tried():
    assert VARIANTS >= 2000 and {name.split("-")[0] for name in WHOLE} == set(
        "png jpeg mpo webp gif bmp tiff avif".split()
    )


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    """The Restore tab, without models."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder / "uploads"))
        with gr.Blocks(), gr.Tab() as around:
            yield RestoreTab(ModelRegistry(folder / "checkpoints", folder / "runs", "cpu"), around)
    SESSIONS.close()


def check_upload(tab, path, said):
    """Opens a file in the page. True if it is open then; if not, one sentence must have been `said`."""
    visitor = gr.Request(SimpleNamespace(headers={}), session_hash="a fuzzer")
    said.clear()
    upload, known = str(path), {}
    for _ in range(2):  # what browsers do not show comes a second time, as a copy that they do
        began = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            changes = tab.on_picture({"path": upload}, known, "marked", None, visitor)
        assert time.process_time() - began < SECONDS
        if any(isinstance(value, Opened) for value in changes.values()):
            assert not said
            return True
        if said:
            break
        upload = next(value for part, value in changes.items() if part.elem_id == "restore-picture")
        known = next(value for value in changes.values() if isinstance(value, dict) and value)
    assert len(said) == 1 and said[0].count(".") == 1 and str(path.parent) not in said[0]
    return False


@pytest.mark.parametrize("kind", WHOLE)
def test_the_page_opens_an_upload_or_says_one_sentence(kind, tab, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(gr, "Warning", said.append)
    path = tmp_path / f"upload.{kind.split('-')[0]}"
    path.write_bytes(WHOLE[kind])
    assert check_upload(tab, path, said)
    for number in range(UPLOADED):
        path.write_bytes(variant(kind, number))
        assert check_upload(tab, path, said) == check(path)


NOT_PICTURES = {
    "nothing": b"",
    "one byte": b"\x89",
    "text": b"this is a letter, not a picture\n" * 50,
    "html": b"<!DOCTYPE html><html><img src=x></html>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
    "zip": b"PK\x05\x06" + bytes(18),
    "pdf": b"%PDF-1.7\n%%EOF",
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
    "zeros": bytes(5000),
    "noise": random.Random(0).randbytes(5000),
    "ppm": b"P6 9 9 255\n" + bytes(243),  # a picture, of a kind whose decoder stays closed
    "no size": png(0, 0),
    "no width": png(0, 100),
    "a line": png(10_000, 1, data=bytes(30_001)),
    "a dot": png(1, 1, data=bytes(4)),
    "a bomb": png(20_000, 20_000),
    "a larger bomb": png(2**31 - 1, 2**31 - 1),
    "a bit too large": png(MAX_PIXELS // 4000, 4001),
    "an honest bomb": png(30_000, 30_000, 1, 0, bytes(3751 * 30_000)),
    "a bomb of text": png(9, 9, before=(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000)))),
    "gif of nothing": b"GIF89a" + bytes(7),
    "gif of 65535 squared": b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\2L\1\0;",
    "bmp of 2 gigapixels": b"BM"
    + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 50_000, 40_000, 1, 24, 0, 0, 0, 0, 0, 0),
}


@pytest.mark.parametrize("name", NOT_PICTURES)
def test_what_is_no_picture_is_refused_in_one_sentence(tmp_path, name):
    file = tmp_path / "upload.png"
    file.write_bytes(NOT_PICTURES[name])
    assert not check(file)
    with pytest.raises(PictureError) as raised:
        read_mask(file, (9, 8))
    assert str(raised.value).count(".") == 1 and str(tmp_path) not in str(raised.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    assert not check(tmp_path / "none.png") and not check(tmp_path)


def test_a_bomb_in_place_of_a_profile_is_refused_and_a_broken_profile_is_not():
    pixels = bytes(9 * 28)
    assert not check(io.BytesIO(png(9, 9, data=pixels, before=(b"iCCP", b"a\0\0" + zlib.compress(bytes(50_000_000))))))
    assert check(io.BytesIO(png(9, 9, data=pixels, before=(b"iCCP", b"a\0\0no zlib stream"))))
