"""What the Restore tab's events do, called as Gradio calls them."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
import torch
from PIL import Image

from sd_core.errors import PictureError
from sd_core.models.registry import ModelRegistry
from sd_core.pictures.masks import read_mask, save_mask
from sd_core.pictures.original import open_original
from tabs.common.errors import plain_error
from tabs.common.sessions import SESSIONS
from tabs.restore import examples
from tabs.restore.events import on_damage, on_example, on_go_on, on_undo
from tabs.restore.job import Repaired
from tabs.restore.mask_editor import canvas, on_clear, on_mask_file
from tabs.restore.picture import Made, Opened, digest
from tabs.restore.region import on_square, on_square_click
from tabs.restore.tab import RestoreTab

COLOURS = "red", "blue"  # of candidates
VISITOR = gr.Request(SimpleNamespace(headers={}), session_hash="restore handlers")


@pytest.fixture
def tab(checkpoints, tmp_path):
    registry = ModelRegistry(checkpoints, tmp_path / "runs", torch.device("cpu"))
    with gr.Blocks(), gr.Tab() as around:
        built = RestoreTab(registry, around)
    yield built
    SESSIONS.close()


def a_picture(path, colour="red"):
    Image.new("RGB", (64, 48), colour).save(path)
    return str(path)


def by_name(changes):
    """What a handler changes, by the components' names in the page."""
    return {component.elem_id: value for component, value in changes.items() if component.elem_id}


def opened_by(tab, path, made):
    """The picture at `path` as the page has it then, and whether Undo is offered."""
    changes = tab.on_picture({"path": path}, made, "marked", "restorer", VISITOR)
    (opened,) = (value for value in changes.values() if isinstance(value, Opened))
    return opened, by_name(changes)["restore-undo"].visible


def gone_on(tab, tmp_path, marks=None, path=None, made=None):
    """The second candidate for the picture at `path`, with such marks, was gone on from: what is known then, and it."""
    current, _ = opened_by(tab, path or a_picture(tmp_path / "first.png"), made or {})
    candidates = tuple(a_picture(tmp_path / f"{Path(current.path).stem}-{colour}.png", colour) for colour in COLOURS)
    repaired = Repaired(current.path, candidates, candidates, None, None, (), (False,) * len(candidates))
    layers = canvas(current.copied(), tmp_path, marks)["layers"]
    editor = {"layers": [Image.open(layer) for layer in layers]}
    following, known = on_go_on(current, editor, None, "marked", repaired, 1, made or {}, VISITOR)
    return known, following


def gone_back(tab, path, made):
    """Undo, with the picture at `path` on the page: what the page shows then, and what is known."""
    back, known = on_undo(opened_by(tab, path, made)[0], made, VISITOR)
    return tab.on_picture({"path": back}, known, "whole", "restorer", VISITOR), known


def marks_in(changes):
    """The mask that comes with a picture, or None."""
    masks = {value for value in changes.values() if isinstance(value, str) and value.endswith("mask.png")}
    return read_mask(masks.pop(), (64, 48)) if masks else None


def some_marks():
    marks = np.zeros((48, 64), bool)
    marks[5:9, 7:30] = True
    return marks


def test_undo_goes_back_to_what_was_repaired(tab, tmp_path):
    made, path = gone_on(tab, tmp_path)
    second, offered = opened_by(tab, path, made)
    back, made = on_undo(second, made, VISITOR)
    assert offered and back == str(tmp_path / "first.png")
    assert not opened_by(tab, back, made)[1]


def test_undo_brings_back_marks_candidates_and_the_kind_of_repair(tab, tmp_path):
    made, path = gone_on(tab, tmp_path, some_marks())
    following = tab.on_picture({"path": path}, made, "marked", "restorer", VISITOR)
    assert not by_name(following)["compare"].visible and marks_in(following) is None, "it is not repaired yet"
    changes, _ = gone_back(tab, path, made)
    assert (marks_in(changes) == some_marks()).all()
    page = by_name(changes)
    assert page["compare"].visible and page["candidate-gallery"].selected_index == 1
    assert page["repair-what"].value == "marked"
    (repaired,) = (value for value in changes.values() if isinstance(value, Repaired))
    assert repaired.paths[1] == path


def test_undo_goes_back_step_by_step(tab, tmp_path):
    made, second = gone_on(tab, tmp_path, some_marks())
    made, third = gone_on(tab, tmp_path, None, second, made)
    changes, made = gone_back(tab, third, made)
    assert marks_in(changes) is None and by_name(changes)["restore-undo"].visible
    changes, made = gone_back(tab, second, made)
    assert (marks_in(changes) == some_marks()).all() and not by_name(changes)["restore-undo"].visible


def test_the_same_file_uploaded_again_begins_afresh(tab, tmp_path):
    made, _ = gone_on(tab, tmp_path, some_marks())
    changes = tab.on_picture({"path": str(tmp_path / "first.png")}, made, "marked", "restorer", VISITOR)
    assert marks_in(changes) is None and not by_name(changes)["compare"].visible


def test_undo_goes_back_to_the_picture_alone_where_the_rest_was_tidied_away(tab, tmp_path):
    made, path = gone_on(tab, tmp_path, some_marks())
    shutil.rmtree(SESSIONS.of(VISITOR).folder)
    shutil.move(path, tmp_path / "cached.png")
    changes, _ = gone_back(tab, str(tmp_path / "cached.png"), made)
    assert marks_in(changes) is None and not by_name(changes)["compare"].visible
    assert any(isinstance(value, Opened) for value in changes.values())


def test_undo_is_not_offered_for_another_picture_wherever_it_comes_from(tab, tmp_path):
    made, path = gone_on(tab, tmp_path)
    second, _ = opened_by(tab, path, made)
    assert not opened_by(tab, a_picture(tmp_path / "sent.png", "green"), made)[1], "sent from Generate"
    example, known = on_example(SimpleNamespace(index=0), made)
    assert not opened_by(tab, example, known)[1]
    damaged, known = on_damage(second, "blocks", 0.5, 0, made, VISITOR)
    assert not opened_by(tab, damaged, known)[1]


def test_a_picture_whose_copy_was_tidied_away_goes_on(tab, tmp_path):
    opened, _ = opened_by(tab, a_picture(tmp_path / "a.png"), {})
    mask = np.zeros((48, 64), bool)
    mask[5:9, 7:30] = True
    save_mask(mask, tmp_path / "mask.png")
    shutil.rmtree(SESSIONS.of(VISITOR).folder)
    editor, *_ = on_clear(opened, VISITOR)
    assert Path(editor["background"]).exists()
    shutil.rmtree(SESSIONS.of(VISITOR).folder)
    known = {digest(opened.path): Made(opened.path, None, tmp_path / "mask.png")}
    settled = by_name(tab.on_settled(opened, known, str(tmp_path / "mask.png"), VISITOR))
    assert Path(settled["mask-editor"]["layers"][0]).exists()
    shutil.rmtree(SESSIONS.of(VISITOR).folder)
    assert Path(on_square(opened, 50, 50, 100, VISITOR)).exists()
    assert on_square_click(opened, 100, SimpleNamespace(index=(0, 0))) == (0, 50)
    shutil.rmtree(SESSIONS.of(VISITOR).folder)
    assert Path(on_mask_file(opened, editor, str(tmp_path / "mask.png"), VISITOR)).exists()
    shutil.rmtree(SESSIONS.of(VISITOR).folder)
    assert Path(on_damage(opened, "blocks", 0.5, 0, {}, VISITOR)[0]).exists()


def test_marks_that_come_before_the_canvas_is_ready_are_not_called_known(tab, tmp_path):
    opened, _ = opened_by(tab, a_picture(tmp_path / "a.png"), {})
    known = {digest(opened.path): Made(opened.path, None, tmp_path / "mask.png")}
    for made in ({}, known):
        settled = by_name(tab.on_settled(opened, made, str(tmp_path / "another.png"), VISITOR))
        assert set(settled) == {"restore-go"} and settled["restore-go"].interactive


def test_a_picture_that_is_gone_itself_is_told_in_one_sentence(tab, tmp_path):
    opened, _ = opened_by(tab, a_picture(tmp_path / "a.png"), {})
    shutil.rmtree(SESSIONS.of(VISITOR).folder)
    (tmp_path / "a.png").unlink()
    gone = Repaired("a", (str(tmp_path / "x"),), (), None, None, (), (False,))
    for call in (
        lambda: on_clear(opened, VISITOR),
        lambda: on_square(opened, 50, 50, 100, VISITOR),
        lambda: on_damage(opened, "blocks", 0.5, 0, {}, VISITOR),
        lambda: on_go_on(opened, None, None, "marked", gone, 0, {}, VISITOR),
    ):
        with pytest.raises((PictureError, FileNotFoundError)) as caught:
            call()
        assert "open or make the picture again" in plain_error(caught.value).message


@pytest.mark.parametrize("name", ["scan.tif", "named wrongly.png"])
def test_a_picture_that_browsers_do_not_show_is_shown_as_a_copy_and_stays_itself(tab, tmp_path, name):
    path = tmp_path / name
    Image.new("RGB", (3000, 20), "red").save(path, "TIFF")
    changes = tab.on_picture({"path": str(path)}, {}, "marked", "restorer", VISITOR)
    assert not any(isinstance(value, Opened) for value in changes.values())
    copy = by_name(changes)["restore-picture"]
    with Image.open(copy) as shown:
        assert shown.format == "PNG"
    (known,) = (value for value in changes.values() if isinstance(value, dict) and digest(copy) in value)
    opened, undo = opened_by(tab, copy, known)
    assert (opened.path, opened.size, undo) == (str(path), (3000, 20), False)


def test_examples_that_were_tidied_away_are_drawn_again(tab):
    before = examples.examples()
    shutil.rmtree(before[0].shown.parent.parent)
    path, known = on_example(SimpleNamespace(index=0), {})
    assert open_original(path).size == (512, 512) and digest(path) in known
