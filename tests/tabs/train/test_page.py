"""The Train tab's page: what its handlers send to it, and that nothing stays of what is gone."""

import os
import re
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import pytest
import torch
from chosen_values import VALUES
from PIL import Image

from sd_core.errors import UserError
from sd_core.models import checkpoint
from sd_core.models.denoiser import Denoiser
from sd_core.models.registry import ModelRegistry
from sd_core.runs import queue
from sd_core.runs.config import RunConfig
from sd_core.runs.run import Run, Status
from sd_core.training.config import TrainingConfig
from tabs.train.base_model import FRESH_RESTORER, starts
from tabs.train.data import ALL_STYLES, UNSEEN_STYLES, DataControls, on_styles
from tabs.train.estimate import Estimate
from tabs.train.limits import Limits, own
from tabs.train.run_status import POINTS, Standing, grids_of, is_on_chart
from tabs.train.tab import TrainTab
from tabs.train.watch import Look, Seen

VISITOR = SimpleNamespace(session_hash="tests of the train page", headers={}, client=None)


class Page:
    """The Train tab without a browser: what its components show after each event."""

    def __init__(self, registry: ModelRegistry):
        with gr.Blocks() as self.blocks, gr.Tab("Train") as around:
            self.tab = TrainTab(registry, around)
        self.seen, self.chosen = Seen(), ""

    def values(self, picked: list[str] = (), scale: str = "linear") -> dict:
        """What the page tells with each event."""
        told = Look(self.chosen, self.seen, 1, scale, list(picked), "me")
        return {component: getattr(told, name) for name, component in self.tab.components().items()}

    def take(self, changes: dict) -> dict[str, object]:
        """Notes what an event changes, by the components' names."""
        self.seen = changes.get(self.tab.watch.seen, self.seen)
        self.chosen = changes.get(self.tab.watch.chosen, self.chosen)
        return {component.elem_id or type(component).__name__: value for component, value in changes.items()}

    def look(self, picked: list[str] = (), scale: str = "linear") -> dict[str, object]:
        return self.take(self.tab.on_look(self.values(picked, scale), VISITOR))


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
    events = page.tab.watch.comparison
    gone.delete()
    chart, grids = events.on_pick(["gone", "kept"], "logarithmic", VISITOR)
    assert chart.count("<polyline") == 1 and len(grids.value) == 1
    kept.delete()
    chart, grids = events.on_pick(["gone", "kept"], "linear", VISITOR)
    assert chart == "" and not grids.visible


def test_only_a_pick_asks_the_picker_which_refuses_what_it_does_not_offer(page):
    config = page.blocks.get_config_file()
    names = {part["id"]: part["props"].get("elem_id") for part in config["components"]}
    asking = [each for each in config["dependencies"] if "compare-pick" in [names[part] for part in each["inputs"]]]
    assert {names[part] for each in asking for part, _ in each["targets"]} == {"compare-pick"}


def test_what_is_compared_is_kept_as_it_is_picked(page, make):
    make("one")
    picked, chart, _ = page.tab.watch.comparison.on_change(["one"], "linear", VISITOR)
    assert picked == ["one"] and "<polyline" in chart


def test_choosing_what_is_no_run_shows_one_that_is(page, make):
    make("one")
    page.take(page.tab.on_choose(page.values(), SimpleNamespace(run="../../checkpoints/characters"), VISITOR))
    assert page.chosen == page.seen.run == "one"


def test_pictures_are_neither_looked_at_nor_steps_measured_where_training_is_off(registry, tmp_path):
    off = Limits.of_environment({"SD_CORE_TRAIN": "off"})
    Image.new("RGB", (64, 64)).save(tmp_path / "one.png")
    with gr.Blocks():
        data, estimate = DataControls(registry, off, 10, []), Estimate(registry, off, [gr.Number()])
    with pytest.raises(UserError, match="switched off"):
        data.on_files([str(tmp_path / "one.png")], "crop", "{}", "", 32, VISITOR)
    with pytest.raises(UserError, match="switched off"):
        estimate.on_measure("", False, "tiny", 32, 10, 8, VISITOR)


def test_a_restorer_is_asked_nothing_about_captions_and_squares(page):
    settings = page.tab.settings
    of_captions = settings.fit, settings.template, settings.dropout, settings.prompts, settings.flips
    brought = settings.on_start("half_hour", FRESH_RESTORER, "characters", ALL_STYLES)
    assert not any(brought[part].visible for part in (*of_captions, settings.fast))
    assert (brought[settings.count].maximum, brought[settings.count].value) == (500, 500)
    brought = settings.on_start("half_hour", "", "characters", ALL_STYLES)
    assert not brought[settings.fast].visible and all(brought[part].visible for part in of_captions)
    assert (brought[settings.count].maximum, brought[settings.count].value) == (Limits().count, 6000)


def test_a_start_brings_its_styles_and_shape_and_leaves_the_styles_that_were_chosen(page):
    settings = page.tab.settings
    fresh = settings.on_start("half_hour", "", "characters", UNSEEN_STYLES)
    assert fresh[settings.styles] == ALL_STYLES and fresh[settings.resolution].interactive
    trained = settings.on_start("half_hour", "characters", "characters", ALL_STYLES)
    assert trained[settings.styles] == UNSEEN_STYLES and not trained[settings.resolution].interactive
    assert trained[settings.learning_rate] < fresh[settings.learning_rate]
    assert settings.on_start("half_hour", "", "characters", ["lorelei"])[settings.styles] == gr.skip()


def test_the_page_begins_with_a_released_model_and_a_style_it_never_saw(registry, tmp_path):
    page = Page(registry)
    assert (page.tab.settings.start.value, page.tab.settings.styles.value) == ("characters", UNSEEN_STYLES)
    empty = Page(ModelRegistry(tmp_path / "none", tmp_path / "runs", torch.device("cpu")))
    assert (empty.tab.settings.start.value, empty.tab.settings.size.value) == ("", "tiny")


def test_each_style_is_shown_by_a_character(page):
    names = [*ALL_STYLES, *UNSEEN_STYLES]
    shown = on_styles(names)
    assert re.findall("<figcaption>([^<]*)", shown) == names
    assert len(set(re.findall('src="([^"]*)"', shown))) == len(names)


def test_a_fast_version_is_offered_of_a_trained_generator_alone(generator, tmp_path):
    registry = ModelRegistry(tmp_path / "models", tmp_path / "runs", torch.device("cpu"))
    checkpoint.save(generator, registry.checkpoints / "mine")
    fast = Denoiser(replace(generator.config, few_steps=True), generator.vocabulary)
    checkpoint.save(fast, registry.checkpoints / "fast")
    settings = Page(registry).tab.settings
    assert settings.on_start("taste", "mine", "characters", ALL_STYLES)[settings.fast].visible
    assert [name for _, name in starts(registry)] == ["", FRESH_RESTORER, "mine"]


def test_cifar_10_is_offered_to_generators_only_at_its_own_resolution(page):
    settings = page.tab.settings
    brought = settings.on_start("half_hour", FRESH_RESTORER, "cifar10", ALL_STYLES)
    assert brought[settings.resolution].value == 64
    assert [value for _, value in brought[settings.data].choices] == ["characters", "own"]
    assert brought[settings.data].value == "characters" and brought[settings.characters].visible
    brought = settings.on_start("half_hour", FRESH_RESTORER, "own", ALL_STYLES)
    assert brought[settings.data].value is None and not brought[settings.characters].visible
    brought = settings.on_start("half_hour", "", "cifar10", ALL_STYLES)
    assert [value for _, value in brought[settings.data].choices] == ["characters", "cifar10", "own"]
    assert (brought[settings.data].value, brought[settings.resolution].value) == (None, 32), "it stays as it is"
    assert settings.on_data("cifar10", "", "half_hour")[2:] == (gr.skip(), 32)
    assert settings.on_data("characters", "", "half_hour")[2:] == (gr.skip(), 64)
    assert settings.on_data("cifar10", "characters", "half_hour")[2] == "", "16 pixels: a fresh model takes its place"
    assert settings.on_data("own", "characters", "half_hour")[2] == gr.skip()


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


def test_grids_are_listed_again_only_when_the_folder_changed(make):
    samples = make("one").folder / "samples"
    os.utime(samples, (1000, 1000))  # long ago
    run = Run(samples.parent)
    assert [path.stem for path in grids_of(run)] == ["000001", "000002"]
    Image.new("RGB", (16, 16)).save(samples / "000003.png")
    os.utime(samples, (1000, 1000))  # as if nothing had changed
    assert len(grids_of(run)) == 2
    os.utime(samples)
    assert len(grids_of(run)) == 3


def test_a_look_at_a_long_run_at_work_reads_its_metrics_only_for_what_could_be_seen(page, make):
    run = make("long")
    line = '{{"step": {}, "steps": 1000000, "loss": 0.5, "learning_rate": 0.003, "gradient_norm": 0.1}}\n'
    (run.folder / "metrics.jsonl").write_text("".join(line.format(step) for step in range(1, 1001)))
    with run.lock():
        for step in (100_000, 100_001, 100_009):
            run.write_status(Status("running", step=step, steps=1_000_000))
            sent = page.look()
            assert ("loss" in sent) == (step == 100_000) and "train-status" in sent
    run.write_status(Status("stopped", step=100_010, steps=1_000_000))
    assert "loss" in page.look()


def test_a_strangers_log_is_not_shown_and_ones_own_names_no_folders(registry, make, monkeypatch):
    make("one").note("Left out /home/somebody/pictures/holiday.png: not readable.")
    assert "Left out holiday.png" in Page(registry).look()["train-log"]
    monkeypatch.setenv("SD_CORE_TRAIN", "limited")
    assert not Page(registry).look()["train-log"]


@pytest.mark.parametrize(("setting", "starts"), [("off", False), ("limited", True), ("free", True)])
def test_what_was_queued_is_not_started_where_training_is_off(registry, monkeypatch, setting, starts):
    started = []
    monkeypatch.setattr(queue, "ensure_keeper", started.append)
    monkeypatch.setenv("SD_CORE_TRAIN", setting)
    Page(registry)
    assert started == [registry.runs] * starts


def test_a_wrong_number_of_runs_at_once_is_told_when_the_app_starts(registry, monkeypatch):
    monkeypatch.setenv("SD_CORE_RUNS_AT_ONCE", "many")
    with pytest.raises(ValueError, match="SD_CORE_RUNS_AT_ONCE"):
        Page(registry)


def test_the_sample_grids_become_an_animation(page, make):
    make("one")
    film = page.tab.watch.samples.on_animate("one", VISITOR)
    with Image.open(film.value["path"]) as opened:
        assert opened.n_frames == 2
        assert opened.convert("RGB").getpixel((8, 8))[0] == pytest.approx(100, abs=3)


# Steering, without the process that works on runs


def test_a_run_is_paused_resumed_and_trained_longer(page, make):
    run = make("one")
    page.look()
    with run.lock():
        run.write_status(Status("running", step=2, steps=10))
        page.take(page.tab.on_pause(page.values(), VISITOR))
        assert run.control().wish == "pause"
        page.take(page.tab.on_stop(page.values(), VISITOR))
        assert run.control().wish == "stop"
    run.write_status(Status("paused", step=2, steps=10))
    sent = page.take(page.tab.on_resume(page.values(), VISITOR))
    assert "Starting" in sent["train-status"] and run.control().steps == 10
    page.tab.on_longer(page.values() | {page.tab.watch.steering.more: 7}, VISITOR)
    assert run.control().steps == 17
    with pytest.raises(UserError, match="whole number from 1"):
        page.tab.on_longer(page.values() | {page.tab.watch.steering.more: 0.5}, VISITOR)


def test_the_run_that_is_deleted_is_the_one_that_was_asked_about(page, make, registry):
    make("one"), make("two")
    page.look()
    _, question, asked = page.tab.on_delete("one", VISITOR)
    assert "one" in question
    page.chosen = "two"
    page.take(page.tab.on_delete_yes(page.values() | {page.tab.watch.steering.asked: asked}, VISITOR))
    assert [run.name for run in Run.all(registry.runs)] == ["two"] and page.chosen == "two"


@pytest.mark.parametrize("event", ["on_pause", "on_stop", "on_resume", "on_longer", "on_delete_yes"])
def test_only_the_browser_that_started_a_run_steers_it_on_a_space(registry, make, monkeypatch, event):
    monkeypatch.setenv("SD_CORE_TRAIN", "limited")
    run, page = make("one"), Page(registry)
    own(run, "another browser")
    page.look()
    steering = page.tab.watch.steering
    with pytest.raises(UserError, match="Only the browser"):
        getattr(page.tab, event)(page.values() | {steering.more: 7, steering.asked: "one"}, VISITOR)
    assert run.folder.exists() and run.control().wish == "run"


def test_settings_are_started_and_what_is_wrong_leaves_nothing(page, registry):
    page.look()
    filled = page.values() | {part: getattr(VALUES, name) for name, part in page.tab.settings.components().items()}
    with pytest.raises(UserError, match="number of steps"):
        page.tab.on_start(filled | {page.tab.settings.steps: 0}, VISITOR)
    assert Run.all(registry.runs) == []
    sent = page.take(page.tab.on_start(filled | {page.tab.settings.name: "mine"}, VISITOR))
    assert page.chosen == "mine" and sent["run-name"] == "" and 'data-run="mine"' in sent["runs"]
    assert [run.status().state for run in Run.all(registry.runs)] == ["queued"]
