"""What the Restore tab's events do, called as Gradio calls them."""

import importlib
import shutil
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from sd_core.originals import open_original, read_mask, save_mask
from tabs import examples
from tabs.damaging import digest
from tabs.marking import canvas
from tabs.opened import Opened
from tabs.repairing import Repaired
from tabs.sessions import SESSIONS

VISITOR = gr.Request(SimpleNamespace(headers={}), session_hash="restore handlers")


@pytest.fixture
def on(checkpoints, tmp_path, monkeypatch):
    """The page's handlers by name."""
    monkeypatch.setenv("SD_CORE_CHECKPOINTS", str(checkpoints))
    monkeypatch.setenv("SD_CORE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("SD_CORE_DEVICE", "cpu")
    page = importlib.import_module("app").build()
    yield SimpleNamespace(**{function.fn.__name__: function.fn for function in page.fns.values() if function.fn})
    SESSIONS.close()


def a_picture(path, colour="red"):
    Image.new("RGB", (64, 48), colour).save(path)
    return str(path)


def by_name(changes):
    """What a handler changes, by the components' names in the page."""
    return {component.elem_id: value for component, value in changes.items() if component.elem_id}


def opened_by(on, path, made):
    """The picture at `path` as the page has it then, and whether Undo is offered."""
    changes = on.on_picture({"path": path}, made, "marked", "restorer", VISITOR)
    (opened,) = (value for value in changes.values() if isinstance(value, Opened))
    return opened, by_name(changes)["restore-undo"].visible


def gone_on(on, tmp_path, marks=None):
    """A repaired picture that was gone on from, with such marks: what is known then, and it."""
    first, _ = opened_by(on, a_picture(tmp_path / "first.png"), {})
    repaired = Repaired(first.path, (a_picture(tmp_path / "repaired.png", "blue"),), (), None, None, ())
    layers, exact = [], None
    if marks is not None:
        exact = str(tmp_path / "exact.png")
        save_mask(marks, exact)
        layers = [Image.open(layer) for layer in canvas(first.copied(), tmp_path, marks)["layers"]]
    path, made = on.on_go_on(first, {"layers": layers}, exact, repaired, 0, {}, VISITOR)
    return made, path


def test_undo_goes_back_to_what_was_repaired(on, tmp_path):
    made, path = gone_on(on, tmp_path)
    second, offered = opened_by(on, path, made)
    assert offered and on.on_undo(second, made, VISITOR) == str(tmp_path / "first.png")
    assert not opened_by(on, str(tmp_path / "first.png"), made)[1]


def test_undo_brings_back_marks_and_candidates(on, tmp_path):
    marks = np.zeros((48, 64), bool)
    marks[5:9, 7:30] = True
    made, path = gone_on(on, tmp_path, marks)
    following = by_name(on.on_picture({"path": path}, made, "marked", "restorer", VISITOR))
    assert not following["compare"].visible, "it is not repaired yet"
    changes = on.on_picture({"path": str(tmp_path / "first.png")}, made, "marked", "restorer", VISITOR)
    (mask,) = {value for value in changes.values() if isinstance(value, str) and value.endswith("mask.png")}
    assert (read_mask(mask, (64, 48)) == marks).all()
    assert by_name(changes)["compare"].visible
    (repaired,) = (value for value in changes.values() if isinstance(value, Repaired))
    assert on.on_compared(repaired, 0) == path


def test_without_marks_undo_brings_back_none(on, tmp_path):
    made, _ = gone_on(on, tmp_path)
    changes = on.on_picture({"path": str(tmp_path / "first.png")}, made, "marked", "restorer", VISITOR)
    assert not [value for value in changes.values() if isinstance(value, str) and value.endswith("mask.png")]


def test_undo_is_not_offered_for_another_picture_wherever_it_comes_from(on, tmp_path):
    made, path = gone_on(on, tmp_path)
    second, _ = opened_by(on, path, made)
    assert not opened_by(on, a_picture(tmp_path / "sent.png", "green"), made)[1], "sent from Generate"
    example, known = on.on_example(SimpleNamespace(index=0), made)
    assert not opened_by(on, example, known)[1]
    damaged, known = on.on_damage(second, "blocks", 0.5, 0, made, VISITOR)
    assert not opened_by(on, damaged, known)[1]


def test_a_picture_whose_copy_was_tidied_away_goes_on(on, tmp_path):
    opened, _ = opened_by(on, a_picture(tmp_path / "a.png"), {})
    mask = np.zeros((48, 64), bool)
    mask[5:9, 7:30] = True
    save_mask(mask, tmp_path / "mask.png")
    shutil.rmtree(SESSIONS.of(VISITOR).folder)
    editor, *_ = on.on_clear(opened, VISITOR)
    assert Path(editor["background"]).exists()
    shutil.rmtree(SESSIONS.of(VISITOR).folder)
    settled = by_name(on.on_settled(opened, str(tmp_path / "mask.png"), VISITOR))
    assert Path(settled["mask-editor"]["layers"][0]).exists()
    shutil.rmtree(SESSIONS.of(VISITOR).folder)
    assert Path(on.on_square(opened, 50, 50, 100, VISITOR)).exists()
    assert on.on_square_click(opened, 100, SimpleNamespace(index=(0, 0))) == (0, 50)
    shutil.rmtree(SESSIONS.of(VISITOR).folder)
    assert Path(on.on_mask_file(opened, editor, str(tmp_path / "mask.png"), VISITOR)).exists()
    shutil.rmtree(SESSIONS.of(VISITOR).folder)
    assert Path(on.on_damage(opened, "blocks", 0.5, 0, {}, VISITOR)[0]).exists()


def test_a_picture_that_is_gone_itself_is_told_in_one_sentence(on, tmp_path):
    opened, _ = opened_by(on, a_picture(tmp_path / "a.png"), {})
    shutil.rmtree(SESSIONS.of(VISITOR).folder)
    (tmp_path / "a.png").unlink()
    for call in (
        lambda: on.on_clear(opened, VISITOR),
        lambda: on.on_square(opened, 50, 50, 100, VISITOR),
        lambda: on.on_damage(opened, "blocks", 0.5, 0, {}, VISITOR),
        lambda: on.on_go_on(
            opened, None, None, Repaired("a", (str(tmp_path / "x"),), (), None, None, ()), 0, {}, VISITOR
        ),
    ):
        with pytest.raises(gr.Error, match="open or make the picture again"):
            call()


@pytest.mark.parametrize("name", ["scan.tif", "named wrongly.png"])
def test_a_picture_that_browsers_do_not_show_is_shown_as_a_copy_and_stays_itself(on, tmp_path, name):
    path = tmp_path / name
    Image.new("RGB", (3000, 20), "red").save(path, "TIFF")
    changes = on.on_picture({"path": str(path)}, {}, "marked", "restorer", VISITOR)
    assert not any(isinstance(value, Opened) for value in changes.values())
    copy = by_name(changes)["restore-picture"]
    with Image.open(copy) as shown:
        assert shown.format == "PNG"
    (known,) = (value for value in changes.values() if isinstance(value, dict) and digest(copy) in value)
    opened, undo = opened_by(on, copy, known)
    assert (opened.path, opened.size, undo) == (str(path), (3000, 20), False)


def test_examples_that_were_tidied_away_are_drawn_again(on):
    before = examples.examples()
    shutil.rmtree(before[0].shown.parent.parent)
    path, known = on.on_example(SimpleNamespace(index=0), {})
    assert open_original(path).size == (512, 512) and digest(path) in known
