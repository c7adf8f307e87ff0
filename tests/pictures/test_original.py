"""Repairing a part of a picture changes that part and nothing else, whatever the file."""

import io
import pickle

import numpy as np
import pytest
from colour_profiles import ADOBE_RGB, DISPLAY_P3, SRGB, grey_profile, rgb_profile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageCms, ImageOps
from png_files import png

from sd_core.errors import PictureError
from sd_core.pictures.masks import read_mask, save_mask
from sd_core.pictures.original import NOTES, open_original, to_original

ORIENTATION = 0x0112
BUILT_IN_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
TURNS = {  # what each EXIF orientation asks for, on an array [H, W, ...]
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


def noise(*shape, seed=0, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def example(mode, width=12, height=9, seed=0):
    """A picture of noise in a mode of Pillow's."""
    if mode.startswith("I;16"):
        values = noise(height, width, seed=seed, dtype=np.uint16)
        return Image.fromarray(values.astype(">u2") if mode == "I;16B" else values)
    if mode == "I":
        return Image.fromarray(noise(height, width, seed=seed, dtype=np.uint16).astype(np.int32))
    if mode == "F":
        return Image.fromarray(np.random.default_rng(seed).random((height, width), dtype=np.float32))
    bands = {"1": 1, "L": 1, "P": 1, "LA": 2, "La": 2, "PA": 2, "RGBA": 4, "RGBa": 4, "RGBX": 4, "CMYK": 4}.get(mode, 3)
    if mode == "1":
        return Image.fromarray(noise(height, width, seed=seed) > 127)
    values = noise(height, width, bands, seed=seed)
    values[:2, :2] = 3  # in a palette, what some of the files below make transparent
    picture = Image.frombytes(mode, (width, height), values.tobytes())
    if mode in ("P", "PA"):
        picture.putpalette(noise(256, 3, seed=1).tobytes())
    return picture


def saved(picture, form="PNG", **options):
    file = io.BytesIO()
    picture.save(file, form, **options)
    file.seek(0)
    return file


def decoded(file, mode=None):
    """The values that Pillow itself sees, upright."""
    file.seek(0)
    with Image.open(file) as picture:
        upright = ImageOps.exif_transpose(picture)
        return np.asarray(upright.convert(mode) if mode and mode != upright.mode else upright)


def written(original):
    """What is read back of an original that was saved."""
    file = io.BytesIO()
    original.save(file)
    return file


def repainted(original, seed=1):
    """Colours that differ from those of the picture everywhere."""
    return (original.rgb().astype(int) + 64 + noise(*original.rgb().shape, seed=seed) % 128).astype(np.uint8)


# The promise

# format, mode, options of saving, mode of the result
FILES = [
    ("PNG", "1", {}, "L"),
    ("PNG", "L", {}, "L"),
    ("PNG", "L", {"transparency": 77}, "LA"),
    ("PNG", "LA", {}, "LA"),
    ("PNG", "P", {}, "RGB"),
    ("PNG", "P", {"transparency": 3}, "RGBA"),
    ("PNG", "P", {"transparency": bytes(range(200))}, "RGBA"),
    ("PNG", "RGB", {}, "RGB"),
    ("PNG", "RGB", {"transparency": (1, 2, 3)}, "RGBA"),
    ("PNG", "RGBA", {}, "RGBA"),
    ("PNG", "I;16", {}, "I;16"),
    ("TIFF", "1", {}, "L"),
    ("TIFF", "L", {}, "L"),
    ("TIFF", "LA", {}, "LA"),
    ("TIFF", "P", {}, "RGB"),
    ("TIFF", "RGB", {"compression": "tiff_lzw"}, "RGB"),
    ("TIFF", "RGBA", {}, "RGBA"),
    ("TIFF", "CMYK", {}, "RGB"),
    ("TIFF", "RGB", {"compression": "jpeg"}, "RGB"),
    ("TIFF", "I;16", {}, "I;16"),
    ("TIFF", "I;16B", {}, "I;16"),
    ("TIFF", "I", {}, "I;16"),
    ("JPEG", "L", {}, "L"),
    ("JPEG", "RGB", {}, "RGB"),
    ("JPEG", "CMYK", {}, "RGB"),
    ("MPO", "RGB", {}, "RGB"),
    ("WEBP", "RGB", {}, "RGB"),
    ("WEBP", "RGBA", {"lossless": True}, "RGBA"),
    ("AVIF", "RGB", {"speed": 10}, "RGB"),
    ("AVIF", "RGBA", {"speed": 10}, "RGBA"),
    ("GIF", "P", {}, "RGB"),
    ("GIF", "P", {"transparency": 3}, "RGBA"),
    ("BMP", "RGB", {}, "RGB"),
    ("BMP", "P", {}, "RGB"),
    ("BMP", "1", {}, "L"),
]
CAN_BE_TURNED = {"PNG", "TIFF", "JPEG", "WEBP", "AVIF", "MPO"}
CAN_HAVE_A_PROFILE = {"PNG", "TIFF", "JPEG", "WEBP", "AVIF"}


def values(array):
    """Without what byte order or the type of an integer changes."""
    return array.astype(np.int64)


@pytest.mark.parametrize(("form", "mode", "options", "result"), FILES)
@settings(max_examples=25)
@given(data=st.data())
def test_outside_the_mask_every_value_is_as_pillow_decodes_it(form, mode, options, result, data):
    width, height = data.draw(st.tuples(st.integers(8, 20), st.integers(8, 20)))
    extra = {}
    if form in CAN_BE_TURNED and form != "AVIF":
        extra["exif"] = Image.Exif()
        extra["exif"][ORIENTATION] = data.draw(st.sampled_from(range(1, 9)))
    if form in CAN_HAVE_A_PROFILE and mode != "CMYK":
        profile = data.draw(st.sampled_from([None, rgb_profile(DISPLAY_P3), BUILT_IN_SRGB]))
        extra |= {"icc_profile": profile} if profile else {}
    file = saved(example(mode, width, height, seed=data.draw(st.integers(0, 99))), form, **options, **extra)
    original = open_original(file)
    before = decoded(file, None if result == "I;16" else result)
    assert original.size == before.shape[1::-1] and original.has_alpha == ("A" in result)

    mask = data.draw(arrays.arrays(bool, before.shape[:2]))
    repaired = original.repaired(repainted(original), mask)
    back = written(repaired)
    after = decoded(back)
    with Image.open(back) as picture:
        assert picture.format == "PNG" and picture.mode == result and ORIENTATION not in picture.getexif()
        assert picture.info.get("icc_profile") == extra.get("icc_profile")
    assert np.array_equal(values(after)[~mask], values(before)[~mask])
    if "A" in result:
        assert np.array_equal(after[..., -1], before[..., -1])
    assert np.array_equal(original.pixels, open_original(file).pixels)  # a repair is a new picture


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "I;16", "1", "CMYK"])
def test_inside_the_mask_the_new_colours_are_seen(mode):
    file = saved(example(mode), "TIFF")
    original, mask = open_original(file), noise(9, 12) > 127
    grey = mode in ("L", "LA", "I;16", "1")
    new = np.repeat(noise(9, 12, 1, seed=5), 3, axis=2) if grey else noise(9, 12, 3, seed=5)
    visible = mask & ~original.transparent()
    assert np.array_equal(original.repaired(new, mask).rgb()[visible], new[visible])


def test_colours_become_grey_in_a_grey_picture():
    original = to_original(example("L"))
    new = noise(9, 12, 3)
    assert np.array_equal(original.repaired(new).pixels, np.asarray(Image.fromarray(new).convert("L")))


@pytest.mark.parametrize(
    "mode",
    ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"]
    + ["I", "I;16", "I;16B", "I;16L", "I;16N", "F"],
)
def test_every_mode_of_pillow_can_be_repaired_and_taken_home(mode):
    original = to_original(example(mode))
    assert set(original.notes) <= set(NOTES)
    mask = noise(9, 12) > 127
    repaired = original.repaired(repainted(original), mask)
    back = open_original(written(repaired))
    assert np.array_equal(back.pixels, repaired.pixels)
    assert np.array_equal(repaired.pixels[~mask], original.pixels[~mask])
    assert original.repaired(original.rgb(), mask).pixels.tobytes() == original.pixels.tobytes()


def test_shapes_that_do_not_fit_are_refused():
    original = to_original(example("RGB"))
    for bad in (noise(9, 12), noise(9, 12, 4), noise(9, 12, 3).astype(int)):
        with pytest.raises(ValueError, match=r"\[H, W, 3\]"):
            original.repaired(bad)
    with pytest.raises(ValueError, match="of the size"):
        original.repaired(noise(18, 24, 3), np.ones((18, 24), bool))
    with pytest.raises(ValueError, match="of the size"):
        original.repaired(noise(9, 12, 3), np.ones((12, 9), bool))
    with pytest.raises(ValueError, match="True or False"):
        original.repaired(noise(9, 12, 3), np.ones((9, 12), np.uint8))
    with pytest.raises(ValueError, match="uint8"):
        original.repaired(noise(9, 12, 3).astype(np.float32))


def test_an_original_can_be_stored_and_never_changes():
    original = open_original(saved(example("RGBA"), icc_profile=rgb_profile(ADOBE_RGB)))
    copy = pickle.loads(pickle.dumps(original))
    assert np.array_equal(copy.pixels, original.pixels) and copy.profile == original.profile
    with pytest.raises(ValueError):
        original.pixels[0] = 0
    original.rgb()[:] = 0  # the model's copy is its own


# Orientation


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", TURNS)
def test_every_orientation_stands_upright(form, orientation):
    picture, exif = example("RGB"), Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"lossless": True} if form == "WEBP" else {}
    original = open_original(saved(picture, form, exif=exif, **options))
    assert np.array_equal(original.pixels, TURNS[orientation](np.asarray(picture)))


@pytest.mark.parametrize("form", ["JPEG", "AVIF", "MPO"])
@pytest.mark.parametrize("orientation", TURNS)
def test_every_orientation_of_a_photograph_stands_upright(form, orientation):
    corner = np.zeros((32, 48, 3), np.uint8)
    corner[:8, :8] = 255  # above, left
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    seen = open_original(saved(Image.fromarray(corner), form, exif=exif, quality=95)).pixels > 127
    assert np.array_equal(seen, TURNS[orientation](corner > 127))


def test_a_broken_exif_block_does_not_spoil_a_picture():
    original = open_original(saved(example("RGB"), exif=b"Exif\0\0no such thing"))
    assert np.array_equal(original.pixels, np.asarray(example("RGB")))


# Depth


def test_16_bits_are_kept_outside_the_mask_and_whatever_did_not_change():
    original = open_original(saved(example("I;16")))
    assert original.pixels.dtype == np.uint16 and "sixteen_bit_grey" in original.notes
    new = original.rgb()
    new[4:, :] = 200
    repaired = open_original(written(original.repaired(new)))
    assert np.array_equal(repaired.pixels[:4], original.pixels[:4])
    assert (repaired.pixels[4:] == 200 * 257).all()


def test_the_16_bit_value_that_means_transparent_stays_apart():
    values = noise(9, 12, dtype=np.uint16)
    values[2:5] = 65535  # white means transparent
    original = open_original(saved(Image.fromarray(values), transparency=65535))
    assert original.has_alpha and np.array_equal(original.transparent(), values == 65535)
    white = np.full((9, 12, 3), 255, np.uint8)
    repaired = original.repaired(white)
    file = written(repaired)
    with Image.open(file) as picture:
        assert picture.info["transparency"] == 65535
    assert np.array_equal(open_original(file).transparent(), original.transparent())
    assert not original.repaired(white, fill=True).transparent().any()
    larger = original.repaired(np.repeat(np.repeat(white, 2, 0), 2, 1))
    assert larger.transparent()[5:9].all() and not larger.transparent()[12:].any()


def png_of_16_bit_colours():
    """Which Pillow reads, as 8 bits, but cannot write."""

    return io.BytesIO(png(12, 9, 16, data=b"".join(b"\0" + noise(12 * 6, seed=y).tobytes() for y in range(9))))


@pytest.mark.parametrize(
    ("peak", "white"), [(1.0, 65535), (255.0, 65535), (40_000.0, 40_000), (1e9, 65535), (0.5, 32768)]
)
def test_floats_are_scaled_by_the_range_they_are_in(peak, white):
    values = np.full((9, 12), peak, np.float32)
    values[0, :4] = [0, -1, np.nan, -np.inf]
    pixels = to_original(Image.fromarray(values)).pixels
    assert pixels.dtype == np.uint16 and (pixels[1:] == white).all() and (pixels[0, :4] == 0).all()


# Colour spaces


def to_srgb_by_hand(rgb, primaries, gamma):
    linear = (rgb / 255) ** gamma @ np.array(primaries) @ np.linalg.inv(np.array(SRGB))
    linear = linear.clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("primaries", [DISPLAY_P3, ADOBE_RGB])
def test_the_model_sees_srgb(primaries):
    original = open_original(saved(example("RGB"), icc_profile=rgb_profile(primaries)))
    expected = to_srgb_by_hand(original.pixels, primaries, 2.2)
    assert np.abs(original.rgb() - expected).max() <= 1.5
    assert np.abs(original.rgb().astype(int) - original.pixels).max() > 8


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("primaries", [DISPLAY_P3, ADOBE_RGB])
@given(seed=st.integers(0, 99))
def test_new_colours_return_to_the_files_own_space(mode, primaries, seed):
    original = open_original(saved(example(mode, seed=seed), icc_profile=rgb_profile(primaries)))
    new = noise(9, 12, 3, seed=seed + 1) // 2 + 64  # 8 bits of a wider space are too few for the most vivid colours
    repaired = original.repaired(new)
    visible = ~original.transparent()
    assert np.abs(repaired.rgb().astype(int) - new)[visible].max() <= 2
    assert repaired.profile == original.profile


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
@pytest.mark.parametrize("profile", [grey_profile(1.8), rgb_profile(ADOBE_RGB, 1.8), BUILT_IN_SRGB])
def test_grey_pictures_have_profiles_too(mode, profile):
    original = open_original(saved(example(mode), icc_profile=profile))
    assert original.profile == profile and not {"profile_ignored"} & set(original.notes)
    new = np.repeat(noise(9, 12, 1, seed=3) // 2 + 64, 3, axis=2)
    visible = ~original.transparent()
    assert np.abs(original.repaired(new).rgb().astype(int) - new)[visible].max() <= 2


@pytest.mark.parametrize(
    "profile", [b"no profile", rgb_profile(ADOBE_RGB)[:200], grey_profile(2.2), b"\0" * 3000], ids=range(4)
)
def test_a_profile_that_does_not_fit_is_ignored_and_said(profile):
    original = open_original(saved(example("RGB"), icc_profile=profile))
    assert "profile_ignored" in original.notes and original.profile is None
    assert np.array_equal(original.rgb(), np.asarray(example("RGB")))


def test_cmyk_with_a_broken_profile_is_read_without_it():
    original = open_original(saved(example("CMYK"), "TIFF", icc_profile=b"no profile"))
    assert original.notes == ("cmyk", "profile_ignored")
    assert np.array_equal(original.pixels, np.asarray(example("CMYK").convert("RGB")))


# Transparency


def test_colours_under_transparent_places_are_those_nearby():
    pixels = np.zeros((40, 64, 4), np.uint8)  # transparent black
    pixels[10:30, 8:28] = (200, 30, 30, 255)
    pixels[10:30, 36:56] = (30, 30, 200, 255)
    pixels[12:18, 12:18, 3] = 0
    pixels[12:18, 12:18, :3] = 0
    rgb = to_original(Image.fromarray(pixels)).rgb()
    assert np.array_equal(rgb[pixels[..., 3] > 0], pixels[pixels[..., 3] > 0][:, :3])
    assert np.abs(rgb[14, 14].astype(int) - (200, 30, 30)).max() <= 8
    assert np.abs(rgb[9, 16].astype(int) - (200, 30, 30)).max() <= 24 and rgb.max(axis=2).min() > 90


def test_a_picture_of_nothing_is_white():
    assert (to_original(Image.new("RGBA", (9, 8))).rgb() == 255).all()


def test_hidden_colours_stay_unless_the_hole_is_to_be_filled():
    original = to_original(example("RGBA"))
    pixels = original.pixels.copy()
    pixels[3:6, 3:6, 3] = 0
    original, mask = to_original(Image.fromarray(pixels)), np.zeros((9, 12), bool)
    mask[2:7, 2:7] = True
    new = noise(9, 12, 3, seed=4)
    kept, filled = original.repaired(new, mask), original.repaired(new, mask, fill=True)
    assert np.array_equal(kept.pixels[3:6, 3:6], pixels[3:6, 3:6])
    assert np.array_equal(kept.pixels[..., 3], pixels[..., 3])
    assert (filled.pixels[mask][:, 3] == 255).all() and np.array_equal(filled.pixels[mask][:, :3], new[mask])
    assert np.array_equal(filled.pixels[~mask], pixels[~mask])


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("factor", [2, 4])
def test_a_larger_result_brings_its_alpha_along(mode, factor):
    picture = example(mode)
    if "A" in mode:
        picture.putalpha(Image.fromarray(np.where(np.arange(12) < 6, 0, 255).astype(np.uint8)[None].repeat(9, axis=0)))
    profile = rgb_profile(DISPLAY_P3)
    new = np.full((9 * factor, 12 * factor, 3), 120, np.uint8)
    larger = open_original(saved(picture, icc_profile=profile)).repaired(new)
    assert larger.size == (12 * factor, 9 * factor) and larger.profile == profile
    assert np.abs(larger.rgb().astype(int) - 120).max() <= 3
    if "A" in mode:
        alpha = larger.pixels[..., -1]
        assert (alpha[:, : 3 * factor] == 0).all() and (alpha[:, 9 * factor :] == 255).all()


# What the page tells


def animation(form):
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
    return saved(frames[0], form, save_all=True, append_images=frames[1:])


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_of_an_animation_the_first_frame_is_used_and_it_is_said(form):
    original = open_original(animation(form))
    assert "first_frame" in original.notes
    assert original.rgb()[8, 8, 0] > 200 and original.rgb()[8, 8, 2] < 60


def test_a_phones_second_picture_is_not_worth_a_word():
    assert open_original(animation("MPO")).notes == ()


@pytest.mark.parametrize(
    ("file", "notes"),
    [
        (saved(example("RGB")), ()),
        (saved(example("RGBA")), ()),
        (saved(example("L"), "JPEG"), ()),
        (saved(example("1")), ("one_bit",)),
        (saved(example("P")), ("palette",)),
        (saved(example("CMYK"), "JPEG"), ("cmyk",)),
        (saved(example("LAB"), "TIFF"), ("other_colours",)),
        (saved(example("I;16"), "TIFF"), ("sixteen_bit_grey",)),
        (saved(example("F"), "TIFF"), ("deep_grey",)),
        (png_of_16_bit_colours(), ("sixteen_bit_colour",)),
    ],
    ids=["RGB", "RGBA", "grey JPEG", "one bit", "palette", "CMYK", "LAB", "16-bit grey", "float", "16-bit colours"],
)
def test_what_changes_is_said(file, notes):
    assert open_original(file).notes == notes


# Sizes


@pytest.mark.parametrize("size", [(8, 7), (1, 1), (7, 3000)])
def test_a_picture_too_small_to_repair_is_refused_in_one_sentence(size):
    with pytest.raises(PictureError, match="at least 8×8") as raised:
        open_original(saved(Image.new("RGB", size)))
    assert str(raised.value).count(".") == 1


@pytest.mark.parametrize("size", [(8, 8), (8, 3000), (301, 299)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "I;16"])
def test_any_larger_picture_is_repaired(size, mode):
    original = to_original(example(mode, *size))
    mask = noise(size[1], size[0], seed=2) > 250
    repaired = original.repaired(repainted(original), mask)
    assert np.array_equal(repaired.pixels[~mask], original.pixels[~mask])
    changed = np.atleast_3d(repaired.pixels != original.pixels).any(axis=2)
    assert changed[mask & ~original.transparent()].mean() > 0.95


# Masks


@given(arrays.arrays(bool, st.tuples(st.integers(1, 20), st.integers(1, 20))))
def test_a_mask_is_read_as_it_was_written(mask):
    file = io.BytesIO()
    save_mask(mask, file)
    assert np.array_equal(read_mask(file, mask.shape[::-1]), mask)
    with Image.open(file) as picture:
        assert picture.format == "PNG" and set(np.unique(picture)) <= {0, 255}


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_any_kind_of_mask_is_white_where_to_repair(mode):
    wanted = noise(9, 12) > 127
    if mode == "I;16":
        picture = Image.fromarray(np.where(wanted, 40_000, 20_000).astype(np.uint16))
    else:
        picture = Image.fromarray(np.where(wanted, 140, 120).astype(np.uint8)).convert("RGB").convert("L")
        picture = Image.fromarray(wanted) if mode == "1" else picture.convert("RGB" if mode == "P" else mode)
        picture = picture.quantize() if mode == "P" else picture
    assert np.array_equal(read_mask(saved(picture), (12, 9)), wanted)


def test_the_transparent_part_of_a_mask_is_not_repaired():
    strokes = Image.new("RGBA", (12, 9), (255, 255, 255, 0))
    strokes.paste((255, 255, 255, 255), (2, 2, 5, 5))
    mask = read_mask(saved(strokes), (12, 9))
    assert mask[2:5, 2:5].all() and mask.sum() == 9


def test_a_mask_of_another_size_or_none_is_refused_in_one_sentence():
    for file in (saved(Image.new("L", (9, 12))), io.BytesIO(b"no picture")):
        with pytest.raises(PictureError) as raised:
            read_mask(file, (12, 9))
        assert str(raised.value).count(".") == 1
