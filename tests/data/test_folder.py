"""Anybody's folder or .zip of pictures: captions, kinds of pictures, and files that are not to be trusted."""

import io
import json
import os
import stat
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
from png_files import png

from sd_core.data.captions import with_article
from sd_core.data.sources import open_data
from sd_core.errors import DataError
from sd_core.models.text import Vocabulary
from sd_core.pictures import archive, decoding
from sd_core.pictures.archive import Skipped


def picture(seed=0, size=(16, 16), mode="RGB", format="PNG", **options) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, format, **options)
    return buffer.getvalue()


def saved(image: Image.Image, format="PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.fixture(params=["folder", "zip"])
def opened(request, tmp_path):
    """Opens files, given as {name: bytes}, laid out in a folder or in a .zip: the two must not differ."""

    def open_(contents: dict[str, bytes], resolution=8, **options):
        path = tmp_path / "mine"
        if request.param == "zip":
            path = tmp_path / "mine.zip"
            with zipfile.ZipFile(path, "w") as archive:
                for name, content in contents.items():
                    archive.writestr(name, content)
        else:
            path.mkdir()
            for name, content in contents.items():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                (path / name).write_bytes(content)
        return open_data(str(path), resolution, cache=tmp_path / "cache", **options)

    return open_


def open_one(content: bytes, tmp_path: Path, name="it.png", resolution=8, **options):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / name).write_bytes(content)
    return open_data(str(tmp_path / "one"), resolution, cache=tmp_path / "cache", **options)


# Captions


def test_class_folders_are_captions(opened):
    pictures = opened({"red_panda/1.png": picture(1), "snow-leopard/2.png": picture(2), "3.png": picture(3)})
    assert pictures.captions == ("", "red panda", "snow leopard")


def test_folders_that_are_no_classes_are_looked_through(opened):
    pictures = opened({"train/cat/1.png": picture(1), "dog/images/2.png": picture(2), "test/3.png": picture(3)})
    assert sorted(pictures.captions) == ["", "cat", "dog"]


def test_a_template_puts_the_right_article_before_the_class(opened):
    contents = {"airplane/1.png": picture(1), "bird/2.png": picture(2), "bird/3.png": picture(3), "bird/3.txt": b"wing"}
    pictures = opened(contents, caption_template="a photo of {a}")
    assert pictures.captions == ("a photo of an airplane", "a photo of a bird", "wing")


def test_a_text_file_beside_a_picture_goes_before_its_folder(opened):
    pictures = opened({"cat/1.png": picture(1), "cat/1.txt": "\ufeffa sleepy\n cat \n".encode()})
    assert pictures.captions == ("a sleepy cat",)


def test_metadata_goes_before_everything(opened):
    lines = [{"file_name": "cat/1.png", "text": "from metadata"}, {"file_name": "cat/2.png"}]
    contents = {
        "metadata.jsonl": "\n".join(map(json.dumps, lines)).encode() + b"\n",
        "cat/1.png": picture(1),
        "cat/1.txt": b"from text",
        "cat/2.png": picture(2),
    }
    assert opened(contents).captions == ("from metadata", "cat")


def test_metadata_inside_a_folder_names_the_files_beside_it(opened):
    line = json.dumps({"file_name": "1.png", "text": "hello"}).encode()
    assert opened({"train/metadata.jsonl": line, "train/1.png": picture()}).captions == ("hello",)


def test_half_an_emoji_in_a_caption_is_no_reason_not_to_learn_it(opened):
    line = b'{"file_name": "1.png", "text": "a \\ud83d cat"}'
    captions = opened({"metadata.jsonl": line, "1.png": picture()}).captions
    assert captions == ("a ? cat",)
    assert "cat" in Vocabulary.learn(captions).words


def test_a_metadata_line_of_nothing_but_brackets_is_reported(opened):
    pictures = opened({"metadata.jsonl": b"[" * 100_000, "1.png": picture()})
    assert pictures.skipped == (Skipped("metadata.jsonl, line 1", "not a JSON object with a file_name"),)


def test_bad_metadata_lines_are_reported_and_the_rest_is_used(opened):
    lines = b'{"file_name": "1.png", "text": "one"}\nnonsense\n[1]\n{"file_name": 3}\n{"file_name": "gone.png"}'
    pictures = opened({"metadata.jsonl": lines, "1.png": picture()})
    assert pictures.captions == ("one",)
    assert pictures.skipped == (
        *(Skipped(f"metadata.jsonl, line {n}", "not a JSON object with a file_name") for n in (2, 3, 4)),
        Skipped("gone.png", "listed in metadata.jsonl, but missing"),
    )


@pytest.mark.parametrize(("caption", "mirrorable"), [("a cat", True), ("a cat on the Left", False), ("bright", True)])
def test_pictures_may_be_mirrored_unless_a_caption_says_left_or_right(opened, caption, mirrorable):
    assert opened({"1.png": picture(), "1.txt": caption.encode()}).mirrorable is mirrorable


@given(st.sampled_from(["airplane", "Elephant", "ibis", "owl", "urn"]), st.sampled_from(["cat", "dog", "zebra", ""]))
def test_articles(vowel, other):
    assert with_article(vowel) == f"an {vowel}"
    assert with_article(other) == f"a {other}"


# Pictures


def test_pictures_of_the_right_size_keep_their_pixels(opened):
    assert np.array_equal(
        opened({"1.png": picture(5)}, resolution=16).pixels[0], np.asarray(Image.open(io.BytesIO(picture(5))))
    )


@pytest.mark.parametrize(
    ("mode", "format"),
    [(m, "PNG") for m in ("1", "L", "LA", "P", "RGB", "RGBA")]
    + [(m, "TIFF") for m in ("CMYK", "LAB", "I;16", "I", "F", "RGBA", "LA", "1")]
    + [(m, "JPEG") for m in ("L", "CMYK", "RGB")]
    + [("RGB", f) for f in ("WEBP", "GIF", "BMP", "PPM", "TGA", "JPEG2000", "ICO")],
)
def test_every_mode_and_format_is_read(tmp_path, mode, format):
    flat = Image.new("RGB", (32, 32), (128, 128, 128))
    if mode == "LAB":
        flat = ImageCms.profileToProfile(
            flat, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        )
    elif mode == "I;16":
        flat = Image.fromarray(np.full((32, 32), 128 * 257, np.uint16))
    else:
        flat = flat.convert(mode)
    pixels = open_one(saved(flat, format), tmp_path).pixels[0]
    if mode == "1":  # black and white dots
        assert 100 < pixels.mean() < 156
    else:
        assert np.abs(pixels.astype(int) - 128).max() <= 6  # CMYK and JPEG round


def test_transparency_becomes_white(tmp_path):
    image = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 8, 16))
    pixels = open_one(saved(image), tmp_path, resolution=16).pixels[0]
    assert tuple(pixels[0, 0]) == (255, 0, 0) and tuple(pixels[0, 15]) == (255, 255, 255)


def test_palette_transparency_becomes_white(tmp_path):
    image = Image.new("P", (16, 16), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    assert (open_one(saved(image, transparency=0), tmp_path).pixels == 255).all()


def test_phones_pictures_stand_upright(tmp_path):
    image = Image.new("RGB", (16, 16), "white")
    image.paste("black", (0, 0, 16, 8))  # black above, as the sensor saw it
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180 degrees
    pixels = open_one(saved(image, exif=exif), tmp_path, resolution=16).pixels[0]
    assert pixels[0].min() == 255 and pixels[15].max() == 0


def test_another_colour_space_becomes_srgb(tmp_path):
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ"))  # any profile that is not sRGB
    content = saved(Image.new("RGB", (16, 16), (200, 100, 50)), icc_profile=lab.tobytes())
    assert len(open_one(content, tmp_path)) == 1
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    content = saved(Image.new("RGB", (16, 16), (200, 100, 51)), icc_profile=srgb)
    (tmp_path / "one" / "it.png").write_bytes(content)
    assert tuple(open_data(str(tmp_path / "one"), 8, cache=tmp_path / "c").pixels[0, 0, 0]) == (200, 100, 51)


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_other_shapes_become_square(tmp_path, fit):
    image = Image.new("RGB", (32, 16), "black")
    image.paste("red", (8, 0, 24, 16))  # the middle square
    pixels = open_one(saved(image), tmp_path, resolution=16, fit=fit).pixels[0]
    red, black, white = (255, 0, 0), (0, 0, 0), (255, 255, 255)
    middle_left, top = tuple(pixels[8, 0]), tuple(pixels[0, 8])
    assert (middle_left, top) == {"crop": (red, red), "pad": (black, white), "squash": (black, red)}[fit]


def test_shrinking_averages_instead_of_dropping_pixels(tmp_path):
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    pixels = open_one(saved(Image.fromarray(stripes)), tmp_path, resolution=8).pixels
    assert np.abs(pixels.astype(int) - 127).max() <= 8


# What is skipped, and why


@pytest.mark.filterwarnings("ignore:Image size")
def test_unusable_pictures_are_skipped_with_a_reason(opened):
    contents = {
        "a.png": picture(1),
        "broken.png": picture(2)[:100],
        "copy.png": picture(1),
        "huge.png": png(10_001, 10_000),
        "text.jpg": b"hello",
        "tiny.png": picture(3, (16, 7)),
        "notes.pdf": b"ignored",
        "README.md": b"ignored",
    }
    pictures = opened(contents)
    assert len(pictures) == 1
    assert {entry.file: entry.reason for entry in pictures.skipped} == {
        "broken.png": "not readable as a picture",
        "copy.png": "the same picture as a.png",
        "huge.png": "larger than 100 megapixels",
        "text.jpg": "not readable as a picture",
        "tiny.png": "smaller than 8 pixels",
    }


def test_files_that_systems_leave_behind_are_ignored(opened):
    contents = {"a.png": picture(1), "._a.png": b"x", "__MACOSX/a.png": b"x", ".git/b.png": picture(2)}
    pictures = opened(contents)
    assert len(pictures) == 1 and pictures.skipped == ()


def test_a_postscript_file_in_disguise_is_not_run(tmp_path):
    with pytest.raises(DataError, match="not readable as a picture"):
        open_one(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n", tmp_path)


def test_count_keeps_some_of_every_class(opened):
    contents = {f"{name}/{i}.png": picture(hash((name, i)) % 2**32) for name in "abcd" for i in range(5)}
    assert opened(contents, count=8).captions == ("a", "a", "b", "b", "c", "c", "d", "d")


# Archives that are not to be trusted


def zipped(tmp_path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes], **options) -> str:
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return str(path)


def test_entries_that_lead_elsewhere_are_skipped(tmp_path):
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    names = ["../up.png", "/etc/root.png", "C:/windows.png", "a/../../b.png", "..\\up.png"]
    source = zipped(tmp_path, ("ok.png", picture()), (link, b"/etc/passwd"), *((name, picture(1)) for name in names))
    pictures = open_data(source, 8, cache=tmp_path / "cache")
    assert len(pictures) == 1
    reasons = {entry.file: entry.reason for entry in pictures.skipped}
    assert reasons.pop("link.png") == "it is a link, not a file"
    assert reasons == dict.fromkeys(names, "its path leads out of the archive")


def test_nested_and_encrypted_entries_are_skipped(tmp_path):
    source = zipped(tmp_path, ("ok.png", picture()), ("inner.zip", b"PK"), ("secret.png", picture(1)))
    content = bytearray(Path(source).read_bytes())
    central = content.rfind(b"PK\x01\x02")  # the last entry's record in the directory
    content[central + 8] |= 1
    Path(source).write_bytes(content)
    pictures = open_data(source, 8, cache=tmp_path / "cache")
    assert {(e.file, e.reason) for e in pictures.skipped} == {
        ("inner.zip", "it is an archive inside the archive"),
        ("secret.png", "it is encrypted"),
    }


@pytest.mark.parametrize(
    ("limit", "value", "sentence"),
    [
        ("MAX_FILES", 1, "holds 2 files, more than 1; split it"),
        ("MAX_TOTAL_BYTES", 1000, "would unpack to .* too much; split it"),
        ("RATIO_MATTERS_FROM", 1000, "times its size, as no pictures do; it is refused"),
    ],
)
def test_bombs_are_refused_in_one_sentence(tmp_path, monkeypatch, limit, value, sentence):
    source = zipped(tmp_path, ("a.bmp", bytes(10**6)), ("b.bmp", bytes(10**6)), compression=zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(archive, limit, value)
    with pytest.raises(DataError, match=sentence):
        open_data(source, 8, cache=tmp_path / "cache")


def test_an_entry_too_large_for_memory_is_skipped(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_FILE_BYTES", 2**20)
    source = zipped(tmp_path, ("a.png", picture()), ("b.png", bytes(2**20 + 1)))
    assert open_data(source, 8, cache=tmp_path / "c").skipped == (Skipped("b.png", "it is larger than 1 MiB"),)


def test_nothing_is_unpacked_to_disk(tmp_path):
    source = zipped(tmp_path, ("a.png", picture()))
    open_data(source, 8, cache=tmp_path / "cache")
    written = sorted(path.name for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock")
    assert written == ["info.json", "pixels.npy", "set.zip"]


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)


@settings(max_examples=40, deadline=None)
@given(st.lists(NAMES, min_size=1, max_size=4, unique=True))
def test_whatever_entries_are_called_the_rest_is_read(names):
    with tempfile.TemporaryDirectory() as folder:
        entries = [(zipfile.ZipInfo(f"{name}.png"), picture(i + 1)) for i, name in enumerate(names)]
        source = zipped(Path(folder), ("ok.png", picture(0)), *entries)
        pictures = open_data(source, 8, cache=Path(folder, "cache"))
        assert 1 <= len(pictures) <= len(names) + 1
        json.dumps([[entry.file, entry.reason] for entry in pictures.skipped]).encode()


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_damaged_archive_is_read_in_part_or_refused(data):
    with tempfile.TemporaryDirectory() as folder:
        source = Path(zipped(Path(folder), ("cat/a.png", picture()), ("cat/b.png", picture(1))))
        content = bytearray(source.read_bytes())
        for _ in range(data.draw(st.integers(1, 8))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        source.write_bytes(content[: data.draw(st.integers(1, len(content)))])
        try:
            assert len(open_data(str(source), 8, cache=Path(folder, "cache"))) <= 2
        except DataError as error:
            assert str(error).endswith(".")


# The whole set


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: None, "There is no folder or .zip at .*; check the path."),
        (lambda path: path.mkdir(), "There are no pictures in it; add some"),
        (lambda path: path.write_bytes(picture()), "neither a folder nor a .zip"),
    ],
)
def test_a_path_without_pictures_is_one_clear_sentence(tmp_path, make, sentence):
    make(tmp_path / "it")
    with pytest.raises(DataError, match=sentence):
        open_data(str(tmp_path / "it"), 8, cache=tmp_path / "cache")


def test_a_broken_zip_is_one_clear_sentence(tmp_path):
    (tmp_path / "it.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(DataError, match="it.zip cannot be read as a .zip"):
        open_data(str(tmp_path / "it.zip"), 8, cache=tmp_path / "cache")


def test_wrong_options_are_one_clear_sentence(tmp_path):
    for options, sentence in [
        ({"fit": "stretch"}, "choose among crop, pad, squash"),
        ({"count": 0}, "at least 1"),
        ({"styles": ["dylan"]}, "built-in characters only"),
    ]:
        with pytest.raises(DataError, match=sentence):
            open_data(str(tmp_path), 8, **options)
    with pytest.raises(DataError, match="resolution of at least 1"):
        open_data(str(tmp_path), 0)


def test_a_set_that_changed_is_read_again(opened, tmp_path):
    first = opened({"a.png": picture(1)})
    target = tmp_path / "mine"
    if target.exists():
        (target / "b.png").write_bytes(picture(2))
    else:
        target = tmp_path / "mine.zip"
        with zipfile.ZipFile(target, "a") as archive:
            archive.writestr("b.png", picture(2))
    second = open_data(str(target), 8, cache=tmp_path / "cache")
    assert (len(first), len(second)) == (1, 2)


def test_a_set_is_read_once_and_then_remembered(opened, tmp_path, monkeypatch):
    calls = []
    first = opened({"a.png": picture(1), "b.png": b"?"}, progress=lambda *done: calls.append(done))
    assert calls[-1] == (2, 2)
    monkeypatch.setattr(decoding.Image, "open", None)
    again = open_data(str(next(tmp_path.glob("mine*"))), 8, cache=tmp_path / "cache")
    assert np.array_equal(again.pixels, first.pixels)
    assert (again.captions, again.skipped) == (first.captions, first.skipped)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "not json", "missing"])
def test_a_damaged_cache_is_made_again(tmp_path, damage):
    good = np.array(open_one(picture(), tmp_path).pixels)
    (entry,) = (tmp_path / "cache").glob("folder-*")
    pixels, info = entry / "pixels.npy", entry / "info.json"
    content = bytearray(pixels.read_bytes())
    if damage == "truncated":
        pixels.write_bytes(content[:-10])
    elif damage == "flipped":
        content[-1] ^= 255
        pixels.write_bytes(content)
    elif damage == "not json":
        info.write_text("{")
    else:
        pixels.unlink()
    assert np.array_equal(open_data(str(tmp_path / "one"), 8, cache=tmp_path / "cache").pixels, good)


def test_the_cache_folder_is_set_by_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SD_CORE_CACHE", str(tmp_path / "here"))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.png").write_bytes(picture())
    open_data(str(tmp_path / "set"), 8)
    assert (tmp_path / "here").is_dir()


def test_a_cache_that_cannot_be_written_is_one_clear_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.png").write_bytes(picture())
    with pytest.raises(DataError, match="set SD_CORE_CACHE"):
        open_data(str(tmp_path / "set"), 8, cache=tmp_path / "file" / "cache")


def test_links_to_pictures_are_followed(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "real.png").write_bytes(picture())
    os.symlink(tmp_path / "real.png", tmp_path / "set" / "link.png")
    os.symlink(tmp_path / "gone.png", tmp_path / "set" / "dangling.png")
    assert len(open_data(str(tmp_path / "set"), 8, cache=tmp_path / "cache")) == 1
