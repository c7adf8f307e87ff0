"""A packed set is one .zip that opens as what was packed."""

import json
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sd_core.data import PictureSet, pack
from sd_core.data.sources import open_data
from sd_core.errors import DataError


def a_set(captions=("a red hat", "", "naïve 猫"), resolution=12, **more) -> PictureSet:
    pixels = np.random.default_rng(0).integers(0, 256, (len(captions), resolution, resolution, 3), dtype=np.uint8)
    return PictureSet("hats", pixels, tuple(captions), **{"mirrorable": False, "credits": "by me", **more})


def test_a_packed_set_opens_as_it_was(tmp_path):
    pictures = a_set()
    pack(pictures, tmp_path / "hats.zip")
    again = open_data(str(tmp_path / "hats.zip"), 12, cache=tmp_path / "cache")
    assert np.array_equal(again.pixels, pictures.pixels)
    assert again.captions == pictures.captions
    assert (again.name, again.mirrorable, again.credits) == ("hats", False, "by me")
    assert again.skipped == ()


@settings(max_examples=15, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=30), min_size=1, max_size=4))
def test_any_caption_survives_packing(captions):
    with tempfile.TemporaryDirectory() as folder:
        pack(a_set(captions), Path(folder, "set.zip"))
        assert open_data(f"{folder}/set.zip", 12, cache=Path(folder, "cache")).captions == tuple(captions)


def test_repetitions_are_kept_in_a_packed_set(tmp_path):
    twice = PictureSet("dots", np.zeros((2, 8, 8, 3), np.uint8), ("a", "b"), mirrorable=True)
    pack(twice, tmp_path / "dots.zip")
    assert open_data(str(tmp_path / "dots.zip"), 8, cache=tmp_path / "cache").captions == ("a", "b")


def test_an_unpacked_set_opens_too(tmp_path):
    pack(a_set(), tmp_path / "hats.zip")
    with zipfile.ZipFile(tmp_path / "hats.zip") as archive:
        archive.extractall(tmp_path / "hats")
    assert np.array_equal(open_data(str(tmp_path / "hats"), 12, cache=tmp_path / "cache").pixels, a_set().pixels)


def test_the_same_set_gives_the_same_file(tmp_path):
    pack(a_set(), tmp_path / "one.zip")
    pack(a_set(), tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_the_file_is_what_other_tools_expect(tmp_path):
    pack(a_set(), tmp_path / "hats.zip")
    with zipfile.ZipFile(tmp_path / "hats.zip") as archive:
        lines = [json.loads(line) for line in archive.read("metadata.jsonl").decode().split("\n")]
        assert [line["text"] for line in lines] == ["a red hat", "", "naïve 猫"]
        for line in lines:
            with archive.open(line["file_name"]) as file:
                assert Image.open(file).format == "PNG"


def test_packing_that_fails_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "hats.zip"
    path.write_text("old")

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(a_set(), path, progress=stop)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["hats.zip"]


def test_a_place_that_cannot_be_written_is_one_clear_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        pack(a_set(), tmp_path / "file" / "hats.zip")


def test_progress_counts_to_the_end(tmp_path):
    calls = []
    pack(a_set(), tmp_path / "hats.zip", progress=lambda *done: calls.append(done))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_pictures_and_captions_must_fit_together():
    with pytest.raises(ValueError, match="as many captions"):
        PictureSet("x", np.zeros((2, 8, 8, 3), np.uint8), ("one",), mirrorable=True)
    with pytest.raises(ValueError, match="uint8"):
        PictureSet("x", np.zeros((1, 8, 9, 3), np.uint8), ("one",), mirrorable=True)
