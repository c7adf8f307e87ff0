"""The Train tab: the run that its settings make, and what it shows of one."""

import dataclasses

import pytest
import torch

from sd_core.checkpoint import CheckpointError
from sd_core.data import pack
from sd_core.run_config import RunConfig
from sd_core.runs import Run, RunError, Status
from sd_core.shelf import Shelf
from sd_core.training import TrainingConfig
from tabs.train_settings import PRESETS, Values
from tabs.watching import POINTS, Standing, curve, duration, smoothed, status_line, thinned


@pytest.fixture
def shelf(checkpoints, tmp_path):
    return Shelf(checkpoints, tmp_path / "runs", torch.device("cpu"))


@pytest.fixture
def values():
    return Values("characters", ["adventurer"], 50, None, "", "tiny", 32, 100, 16, 1e-3, 5, True, "")


@pytest.fixture
def run(tmp_path):
    config = RunConfig("characters", size="tiny", resolution=8, training=TrainingConfig(steps=10))
    return Run.create("mine", config, tmp_path / "runs")


# Settings


def test_settings_make_a_run(values, shelf):
    run = values.create(shelf)
    config = run.config()
    assert run.name == "characters-1"
    assert (config.data, config.styles, config.count) == ("characters", ("adventurer",), 50)
    assert (config.size, config.resolution, config.start) == ("tiny", 32, "")
    assert (config.training.steps, config.training.batch, config.training.seed) == (100, 16, 5)
    assert config.training.sample_every < 100
    assert run.status().state == "queued"


def test_ones_own_zip_is_kept_by_the_run(values, shelf, tmp_path, pictures):
    archive = tmp_path / "cats & dogs.zip"
    pack(pictures, archive)
    run = dataclasses.replace(values, data="own", archive=str(archive)).create(shelf)
    archive.unlink()
    assert run.name == "cats-dogs-1"
    assert (run.folder / run.config().data).is_file()
    assert (run.config().styles, run.config().count) == (None, None)


def test_a_trained_model_keeps_its_shape(values, shelf):
    config = dataclasses.replace(values, start="characters", size="base", resolution=None).create(shelf).config()
    assert (config.size, config.resolution) == ("tiny", 16)


def test_a_run_has_the_name_one_gives_it(values, shelf):
    assert dataclasses.replace(values, name=" my run ").create(shelf).name == "my run"


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"steps": None}, {"styles": []}, {"name": "../up"}, {"learning_rate": None}, {"start": "nobody"}],
)
def test_senseless_settings_are_refused_and_leave_nothing(values, shelf, wrong):
    with pytest.raises((ValueError, RunError, CheckpointError)):
        dataclasses.replace(values, **wrong).create(shelf)
    assert Run.all(shelf.runs) == []


def test_presets_grow():
    steps = [preset.steps for preset in PRESETS.values()]
    assert steps == sorted(steps)


# Watching


def test_both_curves_are_there_from_the_first_frame():
    frame = curve([], "raw", "smooth")
    assert list(frame["series"]) == ["raw", "smooth"]
    assert frame["loss"].isna().all()


def test_a_long_run_is_thinned_and_keeps_its_ends():
    frame = curve([{"step": s, "loss": 0.1} for s in range(1, 5001)], "raw", "smooth")
    raw = frame[frame["series"] == "raw"]
    assert len(raw) == POINTS
    assert (raw["step"].iloc[0], raw["step"].iloc[-1]) == (1, 5000)
    assert raw["loss"].iloc[0] == pytest.approx(-1)


def test_a_loss_that_has_no_logarithm_is_left_out():
    frame = curve([{"step": 1, "loss": 0.0}, {"step": 2, "loss": 1.0}, {"step": 3}], "raw", "smooth")
    assert list(frame[frame["series"] == "raw"]["step"]) == [2]


def test_a_constant_stays_constant_when_smoothed():
    assert smoothed([0.7] * 300) == pytest.approx([0.7] * 300)


def test_few_points_are_all_kept():
    assert thinned([1, 2, 3]) == [1, 2, 3]


@pytest.mark.parametrize(("seconds", "said"), [(0.4, "0 s"), (59, "59 s"), (200, "3 min 20 s"), (18_120, "5 h 2 min")])
def test_times_are_short(seconds, said):
    assert duration(seconds) == said


def test_a_waiting_run_says_so(run):
    standing = Standing.of(run)
    assert (standing.state, standing.working) == ("queued", False)
    assert "Waiting" in status_line(standing, None)


def test_a_run_at_work_tells_step_loss_speed_and_time_left(run):
    status = Status("running", step=5, steps=10, loss=0.25, pictures_per_second=80, seconds_left=65)
    run.write_status(status)
    with run.lock():
        standing = Standing.of(run)
        line = status_line(standing, None)
    assert standing.working
    for part in ("step 5 of 10", "loss 0.250", "80 pictures/s", "1 min 5 s left", 'aria-valuenow="50"'):
        assert part in line
    assert standing.label(None) == "mine · Training"


def test_pictures_being_prepared_are_counted(run):
    run.write_status(Status("running", prepared=120, pictures=2000, steps=10))
    with run.lock():
        assert "120 of 2,000" in status_line(Standing.of(run), None)


def test_a_wish_is_shown_until_it_is_granted(run):
    run.write_status(Status("running", step=5, steps=10))
    with run.lock():
        run.wish("pause")
        assert Standing.of(run).state == "pausing"


def test_a_failed_run_gives_its_reason_which_is_text_and_not_html(run):
    run.write_status(Status("failed", "The loss <exploded>.", step=5, steps=10))
    line = status_line(Standing.of(run), None)
    assert "Failed" in line
    assert "&lt;exploded&gt;" in line


def test_a_damaged_run_is_shown_as_failed(run):
    (run.folder / "status.json").write_text("{")
    standing = Standing.of(run)
    assert (standing.state, standing.working) == ("failed", False)
    assert "damaged" in status_line(standing, None)
