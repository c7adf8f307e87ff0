"""A picture file of whatever kind becomes upright sRGB pixels, for whoever reads it, or is refused in one sentence."""

import io

import numpy as np
import pytest
import torch
from colour_profiles import ADOBE_RGB, DISPLAY_P3, grey_profile, rgb_profile
from PIL import Image, ImageCms
from png_files import png

from sd_core.data import open_data
from sd_core.errors import PictureError
from sd_core.generation.infotext import read_parameters
from sd_core.pictures.decoding import MAX_PIXELS, fit_picture, open_picture
from sd_core.pictures.original import open_original

BUILT_IN_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def saved(picture: Image.Image, form: str = "PNG", **options) -> io.BytesIO:
    file = io.BytesIO()
    picture.save(file, form, **options)
    file.seek(0)
    return file


def colours(mode: str) -> Image.Image:
    """16×16 patches, each of one colour, so that it matters little how a format rounds."""
    small = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    picture = Image.fromarray(small).resize((64, 64), Image.Resampling.NEAREST)
    if mode == "I;16":
        return Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    if mode == "LAB":
        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        return ImageCms.profileToProfile(picture, srgb, lab, outputMode="LAB")
    return picture.convert("L").convert(mode) if mode == "LA" else picture.convert(mode)


def as_training_data(file: io.BytesIO, folder) -> np.ndarray:
    (folder / "set").mkdir()
    with Image.open(file) as picture:
        suffix = picture.format.lower()
    (folder / "set" / f"a.{suffix}").write_bytes(file.getvalue())
    return open_data(str(folder / "set"), 64, cache=folder / "cache").pixels[0]


# Colours

TAGGED = [
    ("RGB", "PNG", rgb_profile(DISPLAY_P3)),
    ("RGB", "JPEG", rgb_profile(ADOBE_RGB)),
    ("RGBA", "PNG", rgb_profile(DISPLAY_P3)),
    ("P", "PNG", rgb_profile(DISPLAY_P3)),
    ("L", "PNG", grey_profile(1.8)),
    ("L", "JPEG", rgb_profile(ADOBE_RGB, 1.8)),
    ("LA", "PNG", grey_profile(1.8)),
    ("I;16", "PNG", grey_profile(1.8)),
]


@pytest.mark.parametrize(("mode", "form", "profile"), TAGGED)
def test_a_colour_profile_means_the_same_to_all_who_read_the_picture(tmp_path, mode, form, profile):
    file = saved(colours(mode), form, icc_profile=profile)
    seen = open_original(file).rgb()
    plain = open_original(saved(colours(mode), form)).rgb()
    assert np.abs(seen.astype(int) - plain).max() > 8
    assert np.array_equal(np.asarray(open_picture(file)), seen)
    assert np.array_equal(as_training_data(file, tmp_path), seen)


UNTAGGED = [(mode, "PNG", {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")]
UNTAGGED += [(mode, "TIFF", {}) for mode in ("CMYK", "LAB", "RGB", "I;16")] + [("CMYK", "JPEG", {})]
UNTAGGED += [("RGB", "PNG", {"icc_profile": BUILT_IN_SRGB}), ("RGBA", "PNG", {"icc_profile": BUILT_IN_SRGB})]
UNTAGGED += [("RGB", "PNG", {"icc_profile": b"broken"}), ("CMYK", "TIFF", {"icc_profile": b"broken"})]
UNTAGGED += [("RGB", "PNG", {"icc_profile": grey_profile(1.8)})]  # for another kind of picture


@pytest.mark.parametrize(("mode", "form", "options"), UNTAGGED)
def test_any_kind_of_picture_is_the_same_to_all_who_read_it(tmp_path, mode, form, options):
    file = saved(colours(mode), form, **options)
    read = open_picture(file)
    assert read.mode == "RGB"
    assert np.array_equal(np.asarray(read), open_original(file).rgb())
    assert np.array_equal(as_training_data(file, tmp_path), np.asarray(read))


@pytest.mark.parametrize("options", [{}, {"icc_profile": BUILT_IN_SRGB}])
def test_srgb_passes_as_it_is(options):
    assert np.array_equal(np.asarray(open_picture(saved(colours("RGB"), **options))), np.asarray(colours("RGB")))


@pytest.mark.parametrize("profile", [None, rgb_profile(DISPLAY_P3)])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_places_become_white(tmp_path, mode, profile):
    picture = colours(mode)
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    file = saved(picture, icc_profile=profile if mode == "RGBA" else None)
    read = np.asarray(open_picture(file))
    assert (read[0] >= 253).all() and not (read[-1] >= 253).all()
    assert np.array_equal(as_training_data(file, tmp_path), read)


# Uploads


def test_broken_files_are_refused_in_one_sentence(tmp_path):
    whole = tmp_path / "whole.png"
    colours("RGB").save(whole)
    data = whole.read_bytes()
    bad = {"empty": b"", "text": b"no picture at all", "truncated": data[: len(data) // 2], "header": data[:20]}
    bad["bomb"] = png(20_000, 20_000)
    bad["large"] = png(MAX_PIXELS // 4000, 4001)
    bad["nothing"] = png(0, 0)
    bad["postscript"] = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n"
    for name, content in bad.items():
        file = tmp_path / f"{name}.png"
        file.write_bytes(content)
        for read in (open_picture, read_parameters):
            with pytest.raises(PictureError) as raised:
                read(file)
            assert str(raised.value).count(".") == 1 and str(tmp_path) not in str(raised.value), name


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(PictureError):
        open_picture(tmp_path / "none.png")


@pytest.mark.parametrize("read", [open_picture, lambda file: Image.fromarray(open_original(file).rgb())])
def test_a_turned_photograph_is_turned_upright(read):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read(saved(Image.new("RGB", (16, 8)), "JPEG", exif=exif)).size == (8, 16)


def test_a_broken_exif_block_does_not_spoil_a_picture(tmp_path):
    file = saved(colours("RGB"), exif=b"Exif\0\0no such thing")
    assert np.array_equal(np.asarray(open_picture(file)), np.asarray(colours("RGB")))
    assert np.array_equal(as_training_data(file, tmp_path), np.asarray(colours("RGB")))


@pytest.mark.parametrize("size", [(64, 64), (300, 100), (1, 90), (7, 5)])
def test_any_picture_is_fitted_to_the_model(size):
    fitted = fit_picture(Image.new("RGB", size, (10, 20, 30)), 32)
    assert fitted.shape == (32, 32, 3) and fitted.dtype == torch.uint8
    assert fitted[16, 16].tolist() == [10, 20, 30]
