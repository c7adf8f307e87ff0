"""The Train tab's page: what its handlers send to it, and that nothing stays of what is gone."""

import time
from types import SimpleNamespace

import gradio as gr
import pytest
import torch
from PIL import Image

from sd_core.models.registry import ModelRegistry
from sd_core.runs import queue
from sd_core.runs.config import RunConfig
from sd_core.runs.run import Run, Status
from sd_core.training.config import TrainingConfig
from tabs.train import run_status
from tabs.train import tab as train
from tabs.train.limits import Limits
from tabs.train.run_status import POINTS, Standing, grids_of, is_on_chart
from tabs.train.tab import Seen

VISITOR = SimpleNamespace(session_hash="tests of the train page", headers={}, client=None)
CHARTS = ["loss", "compare-chart"]


class Page:
    """The Train tab without a browser: what its components show after each handler that was called."""

    def __init__(self, registry: ModelRegistry):
        with gr.Blocks() as self.blocks:
            with gr.Tab("Train") as tab:
                train.build(registry, tab)
        self.functions = list(self.blocks.fns.values())
        self.sent: dict[str, object] = {}
        self.seen, self.chosen = Seen(), ""

    def handler(self, name: str):
        return next(each for each in self.functions if getattr(each.fn, "__name__", "") == name)

    def take(self, news: dict) -> dict[str, object]:
        """Notes what a handler sends, by the components' names."""
        self.sent = {component.elem_id or type(component).__name__: value for component, value in news.items()}
        for component, value in news.items():
            if isinstance(value, Seen):
                self.seen = value
            elif isinstance(component, gr.State):
                self.chosen = value
        return self.sent

    def look(self, picked: list[str] = (), scale: str = "linear") -> dict[str, object]:
        fn = self.handler("on_look").fn
        return self.take(fn(VISITOR, self.chosen, self.seen, 1, scale, list(picked), "me"))


@pytest.fixture
def registry(checkpoints, tmp_path, monkeypatch):
    monkeypatch.setattr(queue, "ensure_keeper", lambda root: None)
    return ModelRegistry(checkpoints, tmp_path / "runs", torch.device("cpu"))


@pytest.fixture
def page(registry):
    return Page(registry)


@pytest.fixture
def make(registry):
    def create(name: str) -> Run:
        config = RunConfig("characters", size="tiny", resolution=8, training=TrainingConfig(steps=10))
        run = Run.create(name, config, registry.runs)
        (run.folder / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0}\n{"step": 2, "loss": 0.5}\n')
        for step in (1, 2):
            Image.new("RGB", (16, 16), (100 * step, 0, 0)).save(run.folder / "samples" / f"{step:06d}.png")
        run.write_status(Status("finished", step=2, steps=2))
        return run

    return create


def test_a_first_look_shows_everything_and_the_next_one_sends_nothing(page, make):
    make("one")
    first = page.look()
    assert {"runs", "train-status", "train-delete", "loss", "samples", "samples-position", "compare-pick"} <= set(first)
    assert set(page.look()) == {"State"}


def test_only_what_changed_is_sent(page, make):
    run = make("one")
    page.look()
    run.write_status(Status("finished", step=2, steps=2, reason="It is enough."))
    assert set(page.look()) == {"train-status", "State"}
    Image.new("RGB", (16, 16)).save(run.folder / "samples" / "000003.png")
    assert {"samples-position", "runs"} <= set(page.look())


def test_nothing_stays_of_the_last_run_when_it_is_deleted(page, make):
    run = make("one")
    page.look()
    run.delete()
    sent = page.look(picked=["one"])
    assert sent["runs"] == sent["loss"] == sent["train-log"] == ""
    assert "No run yet" in sent["train-status"]
    assert not sent["samples"].visible and sent["samples"].value is None
    assert not sent["samples-position"].visible
    assert not sent["samples-film"].visible and sent["samples-film"].value is None
    assert not sent["samples-animate"].visible and not sent["zip-download"].visible
    assert sent["hub-pushed"] == ""
    assert (sent["compare-pick"].choices, sent["compare-pick"].value) == ([], [])
    assert not any(sent[button].interactive for button in ("train-pause", "train-resume", "train-delete"))
    assert page.chosen == ""
    assert set(page.look()) == {"State"}


def test_a_page_that_was_open_over_a_restart_forgets_a_run_that_is_gone(page):
    assert "No run yet" in page.look()["train-status"]  # though it does not know what the page shows


def test_a_run_that_is_gone_leaves_the_comparison_and_the_others_stay(page, make):
    gone, _ = make("gone"), make("kept")
    page.look()
    gone.delete()
    picker = page.look(picked=["gone", "kept"])["compare-pick"]
    assert [name for name, _ in picker.choices] == ["kept"]
    assert picker.value == ["kept"]


def test_the_scale_can_be_switched_though_a_compared_run_is_gone(page, make):
    gone, kept = make("gone"), make("kept")
    page.look()
    switch = page.handler("on_pick")
    assert not any(isinstance(each, gr.Dropdown) for each in switch.inputs), "a picker refuses what it does not offer"
    gone.delete()
    chart, grids = switch.fn(["gone", "kept"], "logarithmic", VISITOR)
    assert chart.count("<polyline") == 1 and len(grids.value) == 1
    kept.delete()
    chart, grids = switch.fn(["gone", "kept"], "linear", VISITOR)
    assert chart == "" and not grids.visible


def test_what_is_compared_is_kept_as_it_is_picked(page, make):
    make("one")
    picked, chart, _ = page.handler("on_change").fn(["one"], "linear", VISITOR)
    assert picked == ["one"] and "<polyline" in chart


def test_choosing_what_is_no_run_shows_one_that_is(page, make, registry):
    make("one")
    choose = page.handler("on_choose").fn
    page.take(choose(SimpleNamespace(run="../../checkpoints/characters"), VISITOR, "", Seen(), 1, "linear", [], "me"))
    assert page.chosen == page.seen.run == "one"


def test_pictures_are_neither_looked_at_nor_steps_measured_where_training_is_off(registry, monkeypatch, tmp_path):
    monkeypatch.setenv("SD_CORE_TRAIN", "off")
    page = Page(registry)
    Image.new("RGB", (64, 64)).save(tmp_path / "one.png")
    with pytest.raises(gr.Error, match="switched off"):
        page.handler("on_files").fn([str(tmp_path / "one.png")], "crop", "{}", "", 32, VISITOR)
    with pytest.raises(gr.Error, match="switched off"):
        page.handler("on_measure").fn("", "tiny", 32, 10, 8, VISITOR)


def test_a_restorer_is_asked_nothing_about_captions_and_squares(page):
    kind = page.handler("on_kind")
    *hidden, count, _, _, _ = kind.fn("fresh restorer", 6000, "characters")
    assert len(hidden) == 5 and not any(each.visible for each in hidden)
    assert (count.maximum, count.value) == (500, 500)
    *shown, count, _, _, _ = kind.fn("", 400, "characters")
    assert all(each.visible for each in shown)
    assert (count.maximum, count.value) == (Limits().count, 400)


def test_cifar_10_is_offered_to_generators_only(page):
    kind = page.handler("on_kind")
    *_, data, characters, resolution = kind.fn("fresh restorer", 400, "cifar10")
    assert resolution == 64
    assert [value for _, value in data.choices] == ["characters", "own"]
    assert data.value == "characters" and characters.visible
    *_, data, characters, _ = kind.fn("fresh restorer", 400, "own")
    assert data.value == "own" and not characters.visible
    *_, data, _, _ = kind.fn("", 400, "cifar10")
    assert [value for _, value in data.choices] == ["characters", "cifar10", "own"]
    assert data.value == "cifar10"


# What a look costs


def test_a_chart_is_drawn_again_only_for_what_could_be_seen_on_it():
    def standing(step: int, working: bool = True) -> Standing:
        return Standing("run", Status("running", step=step), working, "running")

    assert not is_on_chart(standing(1), -1)
    assert not is_on_chart(standing(11), 10)
    assert is_on_chart(standing(100_100), 100_000)
    assert not is_on_chart(standing(100_000 + 100_000 // POINTS + 10), 100_000)
    assert not is_on_chart(standing(100_100, working=False), 100_000), "a run that is over is shown whole"
    assert not is_on_chart(standing(50_000), 100_000), "a resume went back"


def test_grids_are_listed_again_only_when_the_folder_changed(make, monkeypatch):
    run = make("one")
    assert [path.stem for path in grids_of(run)] == ["000001", "000002"]
    monkeypatch.setattr(run_status, "SETTLED_NS", 0)
    time.sleep(0.01)
    assert grids_of(run) == run.samples()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "samples", lambda run: pytest.fail("nothing has changed"))
        assert len(grids_of(run)) == 2
    Image.new("RGB", (16, 16)).save(run.folder / "samples" / "000003.png")
    assert len(grids_of(run)) == 3


def test_a_look_at_a_long_run_costs_a_few_milliseconds(page, make):
    run = make("long")
    line = '{{"step": {}, "steps": 1000000, "loss": 0.5, "learning_rate": 0.003, "gradient_norm": 0.1}}\n'
    (run.folder / "metrics.jsonl").write_text("".join(line.format(step) for step in range(1, 100_001)))
    costs = []
    with run.lock():
        for step in range(100_000, 100_010):
            run.write_status(Status("running", step=step, steps=1_000_000))
            before = time.thread_time()
            page.look()
            costs.append(time.thread_time() - before)
    assert sorted(costs[1:])[4] < 0.015  # 0.002 where it was written


def test_a_strangers_log_is_not_shown_and_ones_own_names_no_folders(registry, make, monkeypatch):
    make("one").note("Left out /home/somebody/pictures/holiday.png: not readable.")
    assert "Left out holiday.png" in Page(registry).look()["train-log"]
    monkeypatch.setenv("SD_CORE_TRAIN", "limited")
    assert "train-log" not in Page(registry).look()


@pytest.mark.parametrize(("setting", "starts"), [("off", False), ("limited", True), ("free", True)])
def test_what_was_queued_is_not_started_where_training_is_off(registry, monkeypatch, setting, starts):
    started = []
    monkeypatch.setattr(train, "ensure_keeper", started.append)
    monkeypatch.setenv("SD_CORE_TRAIN", setting)
    Page(registry)
    assert bool(started) == starts


def test_a_wrong_number_of_runs_at_once_is_told_when_the_app_starts(registry, monkeypatch):
    monkeypatch.setenv("SD_CORE_RUNS_AT_ONCE", "many")
    with pytest.raises(ValueError, match="SD_CORE_RUNS_AT_ONCE"):
        Page(registry)


def test_the_sample_grids_become_an_animation(page, make):
    make("one")
    film = page.handler("on_animate").fn("one", VISITOR)
    with Image.open(film.value["path"]) as opened:
        assert opened.n_frames == 2
        assert opened.convert("RGB").getpixel((8, 8))[0] == pytest.approx(100, abs=3)
