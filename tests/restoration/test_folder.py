"""A folder is repaired whole, however often it is interrupted, and the folder itself never changes."""

import io
import os
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sd_core.errors import UserError
from sd_core.pictures.masks import save_mask
from sd_core.pictures.original import open_original
from sd_core.restoration.folder import _targets, repair_folder


def inverted(original, mask):
    """A repair that is easily recognised."""
    return original.repaired(255 - original.rgb(), mask)


def write(path: Path, value=100, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (10, 9), (value, value, value)).save(path, **options)
    return path


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def states(outcomes, folder):
    return {outcome.file.relative_to(folder).as_posix(): outcome.state for outcome in outcomes}


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "in"
    write(folder / "a.png")
    write(folder / "b.jpg", 50)
    write(folder / "deep" / "er" / "c.webp", 200, lossless=True)
    write(folder / "deep" / "d.TIFF", 10)
    return folder


def test_every_picture_below_a_folder_is_repaired_and_none_is_changed(source, tmp_path):
    (source / "notes.txt").write_text("no picture")
    (source / "._a.png").write_bytes(b"what a Mac leaves behind")
    before = contents(source)
    outcomes = list(repair_folder(source, tmp_path / "new" / "out", inverted))
    assert [outcome.state for outcome in outcomes] == ["done"] * 4
    assert [(outcome.index, outcome.count, outcome.reason) for outcome in outcomes] == [(i, 4, "") for i in range(4)]
    assert names(tmp_path / "new" / "out") == ["a.png", "b.png", "deep/d.png", "deep/er/c.png"]
    assert open_original(tmp_path / "new" / "out" / "a.png").pixels[0, 0].tolist() == [155] * 3
    assert all(open_original(outcome.target).size == (10, 9) for outcome in outcomes)
    assert contents(source) == before


def test_an_interrupted_folder_is_gone_on_with(source, tmp_path):
    walk = repair_folder(source, tmp_path / "out", inverted)
    next(walk), next(walk)
    walk.close()
    assert names(tmp_path / "out") == ["a.png", "b.png"]
    outcomes = list(repair_folder(source, tmp_path / "out", inverted))
    assert [outcome.state for outcome in outcomes] == ["skipped", "skipped", "done", "done"]
    assert outcomes[0].reason == "It is there already."


def test_what_is_there_is_repaired_again_only_on_demand(source, tmp_path):
    list(repair_folder(source, tmp_path / "out", inverted))
    before = contents(tmp_path / "out")
    assert {outcome.state for outcome in repair_folder(source, tmp_path / "out", lambda o, m: o)} == {"skipped"}
    assert contents(tmp_path / "out") == before
    assert {outcome.state for outcome in repair_folder(source, tmp_path / "out", lambda o, m: o, again=True)} == {
        "done"
    }
    assert open_original(tmp_path / "out" / "a.png").pixels[0, 0].tolist() == [100] * 3


def test_one_bad_picture_does_not_stop_the_rest(source, tmp_path):
    (source / "a1.png").write_bytes(b"no picture")
    (source / "a2.gif").write_bytes(b"")
    write(source / "a3.png", 66)

    def fussy(original, mask):
        if original.pixels[0, 0, 0] == 66:
            raise RuntimeError("out of memory\n  in two lines.")
        return inverted(original, mask)

    outcomes = {outcome.file.name: outcome for outcome in repair_folder(source, tmp_path / "out", fussy)}
    assert {name for name, outcome in outcomes.items() if outcome.state == "failed"} == {"a1.png", "a2.gif", "a3.png"}
    assert outcomes["a1.png"].reason.startswith("This file is damaged, is not a picture")
    assert outcomes["a3.png"].reason == "It could not be repaired (RuntimeError: out of memory in two lines)."
    assert sum(outcome.state == "done" for outcome in outcomes.values()) == 4
    assert "a1.png" not in names(tmp_path / "out")


def test_a_bug_is_told_with_a_reference_under_which_the_log_has_it(source, tmp_path, caplog):
    def buggy(original, mask):
        return original.pixels["no such place"]

    outcomes = list(repair_folder(source, tmp_path / "out", buggy))
    references = [re.search(r"\(reference ([0-9a-f]{6})\)", outcome.reason)[1] for outcome in outcomes]
    assert all(reference in caplog.text for reference in references) and "in buggy" in caplog.text


def test_nothing_half_written_is_left(source, tmp_path, monkeypatch):
    from sd_core.pictures import original

    def save(self, path):
        Path(path).write_bytes(b"half a pic")
        raise OSError("No space left on device")

    monkeypatch.setattr(original.Original, "save", save)
    outcomes = list(repair_folder(source, tmp_path / "out", inverted))
    assert {outcome.state for outcome in outcomes} == {"failed"} and "No space left" in outcomes[0].reason
    assert names(tmp_path / "out") == []


# Names


def test_pictures_of_the_same_name_get_names_of_their_own(tmp_path):
    source = tmp_path / "in"
    for name, value in {"a.png": 10, "a.jpg": 20, "a.webp": 30, "b.jpg": 40, "b.bmp": 50, "c.gif": 60}.items():
        write(source / name, value)
    outcomes = list(repair_folder(source, tmp_path / "out", lambda o, m: o))
    copies = {outcome.file.name: outcome.target.name for outcome in outcomes}
    assert copies == {
        "a.png": "a.png",
        "a.jpg": "a.jpg.png",
        "a.webp": "a.webp.png",
        "b.jpg": "b.jpg.png",
        "b.bmp": "b.bmp.png",
        "c.gif": "c.png",
    }
    assert {outcome.state for outcome in outcomes} == {"done"}
    assert open_original(tmp_path / "out" / "a.png").pixels[0, 0, 0] == 10


@given(st.lists(st.from_regex(r"[aA]\.?(png|jpg|PNG){0,2}\.(png|jpg|PNG)", fullmatch=True), unique=True, max_size=9))
def test_no_two_pictures_share_a_copy(names):
    targets = _targets(sorted(names))
    assert len({target.casefold() for target in targets.values()}) >= len({name.casefold() for name in names})
    assert all(targets[name] == name for name in names if name.endswith(".png"))


# Folders


def test_repaired_pictures_may_lie_inside_the_folder_and_are_not_repaired_again(source):
    for _ in range(2):
        outcomes = list(repair_folder(source, source / "repaired", inverted, again=True))
        assert len(outcomes) == 4
    assert len(names(source)) == 8


@pytest.mark.parametrize("out", [".", "..", "deep/..", "../in", "link"])
def test_a_folder_whose_pictures_could_be_overwritten_is_refused(source, out):
    if out == "link":
        os.symlink(source, source.parent / "link")
        out = "../link"
    before = contents(source)
    with pytest.raises(UserError, match="could replace"):
        repair_folder(source, source / out, inverted, again=True)
    assert contents(source) == before


def test_a_link_that_leads_back_into_the_folder_is_not_written_through(source, tmp_path):
    (tmp_path / "out").mkdir()
    os.symlink(source / "deep", tmp_path / "out" / "deep")
    before = contents(source)
    outcomes = states(repair_folder(source, tmp_path / "out", inverted, again=True), source)
    assert outcomes == {"a.png": "done", "b.jpg": "done", "deep/d.TIFF": "failed", "deep/er/c.webp": "failed"}
    assert contents(source) == before


def test_missing_folders_are_told_at_once(source, tmp_path):
    with pytest.raises(UserError, match="There is no folder"):
        repair_folder(tmp_path / "none", tmp_path / "out", inverted)
    with pytest.raises(UserError, match="There is no folder"):
        repair_folder(source, tmp_path / "out", inverted, masks=tmp_path / "none")
    with pytest.raises(UserError, match="is a file"):
        repair_folder(source, source / "a.png", inverted)
    with pytest.raises(UserError, match="a.png is a file and not a folder"):
        repair_folder(source, source / "a.png" / "deep" / "out", inverted)
    assert not (tmp_path / "out").exists()


# Masks


def test_each_picture_is_repaired_where_its_mask_is_white(source, tmp_path):
    mask = np.zeros((9, 10), bool)
    mask[2:4, 3:7] = True
    for name in ("a.png", "b.png", "deep/er/c.png"):
        (tmp_path / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
        save_mask(mask if name != "b.png" else mask.T, tmp_path / "masks" / name)
    outcomes = {o.file.name: o for o in repair_folder(source, tmp_path / "out", inverted, masks=tmp_path / "masks")}
    assert {name: outcome.state for name, outcome in outcomes.items()} == {
        "a.png": "done",
        "b.jpg": "failed",
        "c.webp": "done",
        "d.TIFF": "skipped",
    }
    assert "same size" in outcomes["b.jpg"].reason and "There is no mask" in outcomes["d.TIFF"].reason
    repaired = open_original(tmp_path / "out" / "a.png").pixels
    assert (repaired[mask] == 155).all() and (repaired[~mask] == 100).all()


def test_a_mask_may_be_named_as_the_picture_itself(source, tmp_path):
    mask = np.zeros((9, 10), bool)
    mask[2:4, 3:7] = True
    (tmp_path / "masks" / "deep" / "er").mkdir(parents=True)
    lossless = {"lossless": True}
    Image.fromarray(np.uint8(mask) * 255).save(tmp_path / "masks" / "deep" / "er" / "c.webp", **lossless)
    outcomes = {o.file.name: o for o in repair_folder(source, tmp_path / "out", inverted, masks=tmp_path / "masks")}
    assert outcomes["c.webp"].state == "done"
    repaired = open_original(tmp_path / "out" / "deep" / "er" / "c.png").pixels
    assert (repaired[mask] == 55).all() and (repaired[~mask] == 200).all()
    assert "no mask b.png or b.jpg in" in outcomes["b.jpg"].reason and "no mask a.png in" in outcomes["a.png"].reason


def test_a_picture_with_an_empty_mask_is_left_out_where_marks_alone_are_repaired(source, tmp_path):
    save_mask(np.zeros((9, 10), bool), write(tmp_path / "masks" / "a.png"))
    how = dict(masks=tmp_path / "masks", again=True)
    outcome = next(repair_folder(source, tmp_path / "out", inverted, **how))
    assert (outcome.state, outcome.reason) == ("skipped", "Its mask marks nothing.")
    assert next(repair_folder(source, tmp_path / "out", inverted, **how, marked_only=False)).state == "done"


def test_a_picture_without_damage_is_left_out_and_not_looked_at_again(source, tmp_path):
    looked = []

    def find(original):
        looked.append(int(original.pixels[0, 0, 0]))
        return np.full((9, 10), looked[-1] > 90)

    for reason in ("No damage was found in it.", "No damage was found in it before."):
        outcomes = {o.file.name: o for o in repair_folder(source, tmp_path / "out", inverted, find=find)}
        assert {name: o.reason for name, o in outcomes.items() if o.state == "skipped" and "damage" in o.reason} == {
            "b.jpg": reason, "d.TIFF": reason,
        }  # fmt: skip
    assert looked == [100, 50, 10, 200]
    assert {o.state for o in repair_folder(source, tmp_path / "out", inverted, again=True)} == {"done"}
    list(repair_folder(source, tmp_path / "out", inverted, find=find, again=True))
    assert len(looked) == 8


def test_notes_come_with_what_is_done(tmp_path):
    (tmp_path / "in").mkdir()
    Image.new("CMYK", (9, 8)).save(tmp_path / "in" / "a.jpg")
    Image.new("CMYK", (9, 8)).save(tmp_path / "in" / "b.tif", save_all=True, append_images=[Image.new("RGB", (9, 8))])
    notes = [outcome.notes for outcome in repair_folder(tmp_path / "in", tmp_path / "out", inverted)]
    assert notes == [("cmyk",), ("cmyk", "first_frame")]


def test_masks_inside_the_folder_are_not_taken_for_pictures(source, tmp_path):
    save_mask(np.ones((9, 10), bool), write(source / "masks" / "a.png"))
    outcomes = states(repair_folder(source, tmp_path / "out", inverted, masks=source / "masks"), source)
    assert outcomes == {"a.png": "done", "b.jpg": "skipped", "deep/d.TIFF": "skipped", "deep/er/c.webp": "skipped"}


def test_masks_are_never_overwritten(source, tmp_path):
    masks = tmp_path / "masks"
    save_mask(np.ones((9, 10), bool), write(masks / "a.png"))
    for out in (masks, masks / "out", tmp_path):
        with pytest.raises(UserError, match="could replace"):
            repair_folder(source, out, inverted, masks=masks, again=True)
    with pytest.raises(UserError, match="folders of their own"):
        repair_folder(source, tmp_path / "out", inverted, masks=source)


def test_a_file_that_vanishes_meanwhile_fails_alone(source, tmp_path):
    walk = repair_folder(source, tmp_path / "out", inverted)
    next(walk)
    (source / "b.jpg").unlink()
    assert [outcome.state for outcome in walk] == ["failed", "done", "done"]


def test_the_original_of_a_failed_write_is_kept(source, tmp_path, monkeypatch):
    target = write(tmp_path / "out" / "a.png", 7)

    def broken(original, mask):
        raise UserError("This picture cannot be repaired.")

    outcome = next(repair_folder(source, tmp_path / "out", broken, again=True))
    assert (outcome.state, outcome.reason) == ("failed", "This picture cannot be repaired.")
    with Image.open(io.BytesIO(target.read_bytes())) as kept:
        assert kept.getpixel((0, 0)) == (7, 7, 7)


def test_a_folder_without_pictures_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    with pytest.raises(UserError, match="There are no pictures in"):
        repair_folder(tmp_path / "in", tmp_path / "out", inverted)
