"""What the Restore tab asks of the library, and what it hands back, without a browser."""

import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from sd_core.models.registry import ModelRegistry
from sd_core.pictures.original import Original, open_original
from sd_core.pictures.previews import proxy
from sd_core.restoration.pipeline import work
from sd_core.restoration.region import CropBox
from sd_core.restoration.request import RestoreRequest
from tabs.common.sessions import SESSIONS
from tabs.common.zero_gpu import line
from tabs.restore import job
from tabs.restore.degrade import make_damaged
from tabs.restore.job import RestoreJobRequest, clean_small, compared, measured, propose, repair
from tabs.restore.mask_editor import canvas, marked
from tabs.restore.picture import digest
from tabs.restore.region import moved
from tabs.restore.settings import Chosen, model_choices

VISITOR = SimpleNamespace(session_hash="tests of repairing", headers={})


@pytest.fixture
def registry(checkpoints, tmp_path):
    yield ModelRegistry(checkpoints, tmp_path / "runs", torch.device("cpu"))
    SESSIONS.close()


@pytest.fixture
def picture(tmp_path):
    """The file of an RGBA picture, half of it translucent."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 4), dtype=np.uint8)
    pixels[:20, :, 3] = 77
    Original(pixels).save(tmp_path / "portrait.png")
    return str(tmp_path / "portrait.png")


def last(shown):
    *_, newest = shown
    return newest


def a_mask(height=40, width=56):
    mask = np.zeros((height, width), bool)
    mask[10:30, 20:25] = True
    return mask


def asked(picture, model, mask=None, original=None, **settings):
    request = RestoreRequest(None if mask is None else torch.from_numpy(mask), **settings)
    return RestoreJobRequest(picture, model, request, original)


def test_only_marked_pixels_change_and_the_file_is_named_after_the_picture(registry, picture):
    repaired = last(repair(VISITOR, registry, asked(picture, "restorer", a_mask()))).repaired
    before, after = open_original(picture).pixels, open_original(repaired.paths[0]).pixels
    assert (before[~a_mask()] == after[~a_mask()]).all() and (before != after)[a_mask()].any()
    assert repaired.paths[0].endswith("portrait-restored.png") and repaired.heat is None


def test_it_is_told_when_wide_holes_were_filled_with_pieces_from_elsewhere(registry, picture):
    wide = np.zeros((40, 56), bool)
    wide[:36, 10:50] = True
    assert last(repair(VISITOR, registry, asked(picture, "restorer", wide))).repaired.exemplars
    assert not last(repair(VISITOR, registry, asked(picture, "restorer", wide, exemplars=False))).repaired.exemplars
    assert not last(repair(VISITOR, registry, asked(picture, "restorer", a_mask()))).repaired.exemplars


def test_a_preview_is_white_where_the_picture_is_transparent(registry, tmp_path):
    pixels = np.zeros((40, 56, 4), np.uint8)
    pixels[:, 28:, 3] = 255
    Original(pixels).save(tmp_path / "half.png")
    shown = list(repair(VISITOR, registry, asked(str(tmp_path / "half.png"), "restorer", a_mask())))
    seen = np.asarray(Image.open([s.preview for s in shown if s.preview][-1]).convert("L").resize((56, 40)))
    assert seen[:, :26].min() > 240 and seen[:, 30:].max() < 15
    assert ["Saving" in s.status for s in shown[-2:]] == [True, False]


def test_a_repair_that_found_nothing_to_clean_says_so(registry, picture, tmp_path):
    Image.new("RGB", (40, 40), "grey").save(tmp_path / "clean.png")
    cleaned = last(repair(VISITOR, registry, asked(str(tmp_path / "clean.png"), "characters", whole=True))).repaired
    assert cleaned.unchanged == (True,)
    for wanted in (
        asked(picture, "restorer", whole=True),
        asked(picture, "restorer", whole=True, strength=0.0),
        asked(picture, "restorer", a_mask()),
    ):
        assert last(repair(VISITOR, registry, wanted)).repaired.unchanged == (False,)


@pytest.mark.parametrize("fill", [False, True])
def test_a_preview_shows_what_becomes_opaque(registry, tmp_path, fill):
    pixels = np.zeros((40, 56, 4), np.uint8)
    pixels[..., 3] = np.where(a_mask(), 0, 255)
    Original(pixels).save(tmp_path / "hole.png")
    shown = list(repair(VISITOR, registry, asked(str(tmp_path / "hole.png"), "restorer", a_mask(), fill=fill)))
    seen = np.asarray(Image.open([s.preview for s in shown if s.preview][-1]).convert("L").resize((56, 40)))
    assert (seen[12:28, 22].mean() < 200) == fill


def test_a_generators_preview_is_of_its_square(registry, tmp_path):
    pixels = np.zeros((40, 120, 4), np.uint8)
    pixels[:, 60:, 3] = 255
    Original(pixels).save(tmp_path / "half.png")
    square = CropBox(80, 0, 40)
    wanted = asked(str(tmp_path / "half.png"), "characters", whole=True, sigma=30, square=square)
    shown = list(repair(VISITOR, registry, wanted))
    seen = np.asarray(Image.open([s.preview for s in shown if s.preview][-1]).convert("L").resize((40, 40)))
    assert seen[:, :18].min() < 200


def test_candidates_differ_and_the_map_says_where(registry, picture):
    wanted = asked(picture, "restorer", a_mask(), steps=2, candidates=3)
    repaired = last(repair(VISITOR, registry, wanted)).repaired
    assert len({digest(path) for path in repaired.paths}) == 3 == len(repaired.shown)
    heat = np.asarray(Image.open(repaired.heat).convert("L")).astype(int)
    assert heat[a_mask()].mean() > heat[~a_mask()].mean()


def test_a_whole_picture_is_enlarged_with_its_alpha(registry, picture):
    repaired = last(repair(VISITOR, registry, asked(picture, "restorer", whole=True, upscale=2))).repaired
    after = open_original(repaired.paths[0])
    assert after.size == (112, 80) and after.pixels[5, 5, 3] == 77
    assert [Image.open(file).size for file in compared(repaired, 0)] == [(448, 320)] * 2


def test_a_generator_cleans_its_square_only(registry, picture):
    wanted = asked(picture, "characters", whole=True, sigma=30)
    repaired = last(repair(VISITOR, registry, wanted)).repaired
    before, after = open_original(picture).pixels, open_original(repaired.paths[0]).pixels
    assert (before[:, :8] == after[:, :8]).all() and (before[:, 8:48] != after[:, 8:48]).any()


def test_a_generator_draws_what_is_missing_in_its_square(registry, picture):
    wanted = asked(picture, "characters", a_mask(), steps=2, candidates=2)
    repaired = last(repair(VISITOR, registry, wanted)).repaired
    before = open_original(picture).pixels
    for path in repaired.paths:
        after = open_original(path).pixels
        assert (before[~a_mask()] == after[~a_mask()]).all() and (before != after)[a_mask()].any()
    with pytest.raises(ValueError, match="Mark what is missing"):
        last(repair(VISITOR, registry, asked(picture, "characters")))


def test_noise_is_removed_at_a_models_own_size(registry, picture):
    small = last(clean_small(VISITOR, registry, asked(picture, "characters", whole=True, steps=2)))
    assert Image.open(small).size == (16, 16)


def test_what_the_app_damaged_is_measured_against_the_original(registry, picture, tmp_path):
    made = make_damaged(open_original(picture), "blocks", 0.5, 0, tmp_path)
    mask = np.asarray(Image.open(made.mask)) > 0
    assert made.what == "marked" and mask.any()
    wanted = asked(str(made.picture), "restorer", mask, original=str(made.original))
    (before, _), (after, _) = measured(last(repair(VISITOR, registry, wanted)).repaired, 0)
    assert 5 < before < 60 and before != after
    enlarged = asked(str(made.picture), "restorer", whole=True, upscale=2, original=str(made.original))
    assert measured(last(repair(VISITOR, registry, enlarged)).repaired, 0) is None


def test_stopping_keeps_the_candidates_that_are_finished(registry, picture):
    wanted = asked(picture, "restorer", a_mask(), steps=50, candidates=8)
    shown = repair(VISITOR, registry, wanted)
    for _ in shown:
        if SESSIONS.of(VISITOR).stream:
            SESSIONS.of(VISITOR).stop()
            break
    end = last(shown)
    assert "Stopped" in end.status and (end.repaired is None or len(end.repaired.paths) < 8)


def test_an_abandoned_repair_ends_with_what_stands_on_a_page_where_nothing_is_under_way(registry, picture):
    shown = repair(VISITOR, registry, asked(picture, "restorer", a_mask(), steps=50, candidates=8))
    next(item for item in shown if item.preview)
    SESSIONS.of(VISITOR).abandon()
    (end,) = shown
    assert "Ready." in end.status and end.preview is None and end.repaired is None


def test_an_abandoned_search_says_nothing_more(checkpoints, tmp_path, picture):
    class Slow(ModelRegistry):
        def load(self, name):
            assert abandoned.wait(60)
            return super().load(name)

    abandoned = threading.Event()
    slow = Slow(checkpoints, tmp_path / "runs", torch.device("cpu"))
    found = propose(VISITOR, slow, "restorer", open_original(picture))
    assert next(found) is None
    SESSIONS.of(VISITOR).abandon()
    abandoned.set()
    assert not list(found)


@pytest.fixture
def begin(registry):
    """Has a repair begun, which waits for its turn, and ended again; or it is refused."""
    device, other = line(registry), object()
    device.join(other)

    def begin(wanted, visitor=VISITOR):
        shown = repair(visitor, registry, wanted)
        next(shown)
        shown.close()

    yield begin
    device.leave(other)


def test_a_public_space_limits_the_work_of_one_repair(begin, tmp_path, monkeypatch):
    Image.new("RGB", (2000, 1600), "grey").save(tmp_path / "large.png")
    wanted = asked(str(tmp_path / "large.png"), "restorer", whole=True, steps=50, candidates=8)

    def changed(**settings):
        return replace(wanted, request=replace(wanted.request, **settings))

    def times(**how):
        return work((1600, 2000), RestoreRequest(whole=True, **how)) / job.MOST_PIXELS

    begin(wanted)  # one's own machine has no limit
    monkeypatch.setenv("SPACE_ID", "me/space")
    share = times(steps=50, candidates=8)
    assert share > 1.1
    with pytest.raises(ValueError, match=f"{share:.1f} times the work that is allowed here: lower the steps, the cand"):
        begin(wanted)
    with pytest.raises(ValueError, match=f"{share:.1f} 倍"):
        begin(wanted, SimpleNamespace(session_hash="c", headers={"accept-language": "zh"}))
    begin(changed(candidates=3))
    begin(changed(steps=1))  # one step has one answer
    begin(changed(whole=False, mask=torch.from_numpy(a_mask(1600, 2000))))
    monkeypatch.setenv("SD_CORE_RESTORE", "free")
    begin(wanted)
    monkeypatch.delenv("SPACE_ID")
    monkeypatch.setenv("SD_CORE_RESTORE", "limited")
    with pytest.raises(ValueError, match="allowed here"):
        begin(wanted)
    monkeypatch.setenv("SD_CORE_RESTORE", "maybe")
    with pytest.raises(ValueError, match="must be limited or free"):
        begin(wanted)


def test_the_limit_lets_through_what_is_usual_and_refuses_hours_of_work():
    def share(height, width, **how):
        return work((height, width), RestoreRequest(whole=True, **how)) / job.MOST_PIXELS

    assert share(5000, 8000) < 0.1
    assert share(2000, 2000, steps=50) < 1
    assert share(1000, 1000, steps=50, candidates=8) < 1
    assert share(5000, 8000, steps=50, candidates=8) > 30


def test_holes_in_a_picture_are_proposed_besides_what_the_model_finds(registry, tmp_path):
    pixels = np.full((600, 640, 4), 255, np.uint8)
    pixels[200:220, 200:220, 3] = 0
    items = list(propose(VISITOR, registry, "restorer", Original(pixels)))
    assert items[-1][200:220, 200:220].all() and items[-1].shape == (600, 640)


def test_marks_put_on_the_canvas_are_read_from_it(tmp_path):
    value = canvas(proxy(Original(np.full((40, 56, 3), 9, np.uint8))), tmp_path, a_mask())
    layers = [Image.open(layer) for layer in value["layers"]]
    assert value["composite"] is None
    assert (marked(value | {"layers": layers}, (56, 40), None) == a_mask()).all()


def test_a_canvas_without_marks_marks_nothing():
    cleared = {"background": None, "layers": [Image.new("RGBA", (800, 800))], "composite": None}
    for value in (None, cleared, {"background": None, "layers": [], "composite": None}):
        assert not marked(value, (56, 40), None).any()


def choice(**changed):
    usual = dict(
        model="restorer", what="marked", fill=True, exemplars=True, strength=0.5, sigma=20.0, upscale=4, steps=3.0,
        candidates=2.0, seed=None, prompt="", across=50, down=50, share=50,
    )  # fmt: skip
    return Chosen(**(usual | changed))


def test_settings_that_are_not_shown_have_no_effect():
    marked_only = choice().request((56, 40), a_mask(), False)
    assert (marked_only.sigma, marked_only.upscale, marked_only.seed, marked_only.fill) == (None, 1, 0, True)
    cleaned = choice(what="whole").request((56, 40), None, False)
    assert (cleaned.sigma, cleaned.upscale, cleaned.whole, cleaned.square) == (20, 4, True, None)
    drawn = choice(model="characters").request((56, 40), a_mask(), True)
    assert drawn.sigma is None and (drawn.square.left, drawn.square.top, drawn.square.side) == (18, 10, 20)


def test_a_click_moves_the_square_there_and_not_over_the_border():
    assert moved((100, 50), (200, 100), 50) == (50, 50)
    assert moved((0, 99), (200, 100), 50) == (0, 100)
    assert moved((30, 30), (100, 100), 100) == (50, 50)


def test_restorers_are_offered_first(registry):
    assert [name for _, name in model_choices(registry)] == ["restorer", "characters"]
