"""The Train tab: the run that its settings make, and what it shows of one."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from chosen_values import VALUES
from PIL import Image

from sd_core.data import pack
from sd_core.data.preview import preview, preview_pairs
from sd_core.errors import CheckpointError, RunError
from sd_core.models.registry import ModelRegistry
from sd_core.runs import queue
from sd_core.runs.config import RunConfig
from sd_core.runs.run import Run, Status
from sd_core.training.config import SIGMAS, TrainingConfig
from tabs.train.base_model import FRESH_RESTORER, resolution_of, starts
from tabs.train.data import staged, summary
from tabs.train.limits import Limits
from tabs.train.run_list import run_list
from tabs.train.run_status import (
    POINTS,
    Standing,
    age,
    all_standings,
    duration,
    loss_curves,
    megabytes,
    smoothed,
    status_line,
    thinned,
)
from tabs.train.settings import PRESETS


def standing_of(run: Run) -> Standing:
    return all_standings([run])[run.name]


@pytest.fixture
def registry(checkpoints, tmp_path):
    return ModelRegistry(checkpoints, tmp_path / "runs", torch.device("cpu"))


@pytest.fixture
def values():
    return VALUES


@pytest.fixture
def run(tmp_path):
    config = RunConfig("characters", size="tiny", resolution=8, training=TrainingConfig(steps=10))
    return Run.create("mine", config, tmp_path / "runs")


# Settings


def test_settings_make_a_run(values, registry):
    run = values.create(registry)
    config = run.config()
    assert run.name == "characters-1"
    assert (config.data, config.styles, config.count) == ("characters", ("adventurer",), 50)
    assert (config.size, config.resolution, config.start) == ("tiny", 32, "")
    assert (config.training.steps, config.training.batch, config.training.seed) == (100, 16, 5)
    assert config.training.sample_every < 100 and config.training.cooldown == 20
    assert (config.training.ema_share, config.training.caption_dropout, config.minutes) == (0.1, 0.2, 0)
    assert run.status().state == "queued"


def test_prompts_of_the_sample_grid_are_lines(values, registry):
    run = dataclasses.replace(values, prompts=" a cat \n\na dog\n").create(registry)
    assert run.config().training.sample_prompts == ("a cat", "a dog")


def test_ones_own_zip_is_kept_by_the_run(values, registry, tmp_path, pictures):
    archive = tmp_path / "cats & dogs.zip"
    pack(pictures, archive)
    run = dataclasses.replace(values, data="own").create(registry, pictures=archive)
    archive.unlink()
    assert run.name == "cats-dogs-1"
    assert (run.folder / run.config().data).is_file()
    assert (run.config().styles, run.config().count) == (None, None)


def test_a_trained_model_keeps_its_shape(values, registry):
    config = dataclasses.replace(values, start="characters", size="base", resolution=None).create(registry).config()
    assert (config.size, config.resolution) == ("tiny", 16)


def test_a_fresh_restorer_learns_at_its_own_noise_levels(values, registry):
    config = dataclasses.replace(values, start=FRESH_RESTORER).create(registry).config()
    assert (config.kind, config.styles, config.start) == ("restorer", ("adventurer",), "")
    assert (config.training.sigma_mean, config.training.sigma_std) == SIGMAS["restorer"]


def test_a_restorer_can_be_tuned(values, registry):
    assert "restorer" in [value for _, value in starts(registry)]
    config = dataclasses.replace(values, start="restorer").create(registry).config()
    assert (config.kind, config.size, config.resolution) == ("restorer", "tiny", 16)


def test_a_trained_model_is_trained_at_its_own_resolution_even_one_that_is_not_offered(registry):
    assert [resolution_of(registry, start, 32) for start in ("", FRESH_RESTORER, "restorer")] == [32, 32, 16]
    assert resolution_of(registry, "", None) == 64


def test_a_run_has_the_name_one_gives_it(values, registry):
    assert dataclasses.replace(values, name=" my run ").create(registry).name == "my run"


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"steps": None}, {"styles": []}, {"name": "../up"}, {"learning_rate": None}, {"start": "nobody"},
     {"prompts": "a\n" * 17}, {"fit": "stretch"}, {"batch": 512}],
)  # fmt: skip
def test_senseless_settings_are_refused_and_leave_nothing(values, registry, wrong):
    with pytest.raises((ValueError, RunError, CheckpointError)):
        dataclasses.replace(values, **wrong).create(registry)
    assert Run.all(registry.runs) == []


def test_presets_grow():
    for presets in PRESETS.values():
        assert [preset.steps for preset in presets.values()] == sorted(preset.steps for preset in presets.values())


# Watching


def test_a_long_run_is_thinned_and_keeps_its_ends():
    raw, smooth = loss_curves([{"step": s, "loss": 0.1} for s in range(1, 5001)], None)
    assert len(raw.steps) == len(smooth.steps) == POINTS
    assert (raw.steps[0], raw.steps[-1]) == (1, 5000)
    assert (raw.faint, smooth.faint) == (True, False)


def test_lines_without_a_loss_are_left_out():
    raw, _ = loss_curves([{"step": 1, "loss": "?"}, {"step": 2, "loss": 1.0}, {"step": 3}], None)
    assert list(raw.steps) == [2]


def test_a_constant_stays_constant_when_smoothed():
    assert smoothed([0.7] * 300) == pytest.approx([0.7] * 300)


def test_few_points_are_all_kept():
    assert thinned([1, 2, 3]) == [1, 2, 3]


@pytest.mark.parametrize(("seconds", "said"), [(0.4, "0 s"), (59, "59 s"), (200, "3 min 20 s"), (18_120, "5 h 2 min")])
def test_times_are_short(seconds, said):
    assert duration(seconds) == said


def test_a_waiting_run_says_so(run):
    standing = standing_of(run)
    assert (standing.state, standing.working) == ("queued", False)
    assert "Waiting" in status_line(standing, None)


def test_a_run_at_work_tells_step_loss_speed_and_time_left(run):
    status = Status("running", step=5, steps=10, loss=0.25, pictures_per_second=80, seconds_left=65)
    run.write_status(status)
    with run.lock():
        standing = standing_of(run)
        line = status_line(standing, None)
    assert standing.working
    for part in ("step 5 of 10", "loss 0.250", "80 pictures/s", "1 min 5 s left", 'aria-valuenow="50"'):
        assert part in line
    assert standing.short_word(None) == "Training"


def test_pictures_being_prepared_are_counted(run):
    run.write_status(Status("running", prepared=120, pictures=2000, steps=10))
    with run.lock():
        assert "120 of 2,000" in status_line(standing_of(run), None)


def test_a_wish_is_shown_until_it_is_granted(run):
    run.write_status(Status("running", step=5, steps=10))
    with run.lock():
        run.wish("pause")
        assert standing_of(run).state == "pausing"


def test_a_failed_run_gives_its_reason_without_the_servers_paths(run):
    run.write_status(Status("failed", "There is no folder or .zip at /srv/app/pets.zip; check the path."))
    line = status_line(standing_of(run), None)
    assert "at pets.zip" in line and "/srv" not in line


def test_a_failed_run_gives_its_reason_which_is_text_and_not_html(run):
    run.write_status(Status("failed", "The loss <exploded>.", step=5, steps=10))
    line = status_line(standing_of(run), None)
    assert "Failed" in line
    assert "&lt;exploded&gt;" in line


def test_a_damaged_run_is_shown_as_failed(run):
    (run.folder / "status.json").write_text("{")
    standing = standing_of(run)
    assert (standing.state, standing.working) == ("failed", False)
    assert "damaged" in status_line(standing, None)


def test_a_queued_run_says_how_many_are_before_it(run, registry, monkeypatch):
    monkeypatch.setattr(queue, "ensure_keeper", lambda root: None)
    others = [Run.create(name, run.config(), registry.runs) for name in ("a", "b")]
    for each in (run, *others):
        queue.enqueue(each)
    standings = all_standings(Run.all(registry.runs))
    assert [standings[name].state for name in ("mine", "a", "b")] == ["starting", "waiting", "waiting"]
    assert [standings[name].before for name in ("mine", "a", "b")] == [0, 1, 2]
    assert standings["b"].word(None) == "In the queue, 2 before it"


@pytest.mark.parametrize(("seconds", "said"), [(-100, "0 min"), (200, "3 min"), (7300, "2 h"), (900_000, "10 d")])
def test_ages_are_coarse_and_never_negative(seconds, said):
    assert age(seconds) == said


def test_amounts_of_memory_are_short():
    assert (megabytes(350_000_000), megabytes(1_240_000_000)) == ("350 MB", "1.2 GB")


# The list of runs


def test_a_card_shows_state_data_size_and_thumbnail(run, registry):
    Image.new("RGB", (64, 64), "red").save(run.folder / "samples" / "000005.png")
    text = run_list([run], all_standings([run]), "mine", None)
    for part in (
        'data-run="mine"',
        'aria-selected="true"',
        "Waiting to start",
        "tiny, 8×8",
        "characters",
        "data:image",
    ):
        assert part in text


def test_a_damaged_run_has_a_card_all_the_same(run):
    (run.folder / "config.json").write_text("{")
    (run.folder / "samples" / "000005.png").write_bytes(b"no picture")
    assert "mine" in run_list([run], all_standings([run]), "", None)


def test_a_name_cannot_bring_html_into_the_list(tmp_path):
    config = RunConfig("characters", size="tiny", resolution=8)
    run = Run.create("plain", config, tmp_path / "runs")
    evil = Run(run.folder.rename(run.folder.with_name("<img src=x>")))
    assert "<img src=x>" not in run_list([evil], all_standings([evil]), "", None)


# One's own pictures


@pytest.fixture
def uploads(tmp_path):
    """Five pictures with captions, as Gradio hands them over: each in a folder of its own."""
    paths = []
    for i in range(5):
        folder = tmp_path / f"upload{i}"
        folder.mkdir()
        Image.new("RGB", (40, 20), (50 * i, 0, 0)).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"red number {i}")
        paths += [str(folder / f"{i}.png"), str(folder / f"{i}.txt")]
    return paths


def test_dropped_pictures_are_looked_at_with_their_captions(uploads, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    folder = staged([*uploads, str(tmp_path / "broken.png")], Limits(), None)
    found = preview(folder, 16)
    assert (found.total, found.usable, found.captioned) == (6, 5, 5)
    assert found.examples.shape == (5, 16, 16, 3) and found.captions[0] == "red number 0"
    text = summary(found, None)
    assert "5 pictures" in text and "1 left out" in text and "broken.png: not readable" in text


def test_two_files_of_one_name_are_both_kept(tmp_path, uploads):
    again = tmp_path / "other" / "0.png"
    again.parent.mkdir()
    Image.new("RGB", (40, 20), "blue").save(again)
    assert preview(staged([uploads[0], str(again)], Limits(), None), 16).usable == 2


def test_files_named_as_a_copy_would_be_are_kept_too(tmp_path):
    paths = []
    for i, name in enumerate(["x.png", "x.png", "x (2).png"]):
        folder = tmp_path / str(i)
        folder.mkdir()
        Image.new("RGB", (40, 20), (80 * i, 0, 0)).save(folder / name)
        paths.append(str(folder / name))
    assert len(list(staged(paths, Limits(), None).iterdir())) == 3


def uploaded(folder: Path, files: list[str]) -> list[str]:
    """Files as Gradio hands them over, each in a folder of its own. Colours and captions say where a file was before:
    x is red, y is blue."""
    paths = []
    for i, (before, name) in enumerate(file.split("/") for file in files):
        path = folder / str(i) / name
        path.parent.mkdir()
        if path.suffix == ".txt":
            path.write_text(f"of {before}")
        else:
            Image.new("RGB", (16, 16), {"x": "red", "y": "blue"}[before]).save(path)
        paths.append(str(path))
    return paths


@pytest.mark.parametrize(
    ("files", "red", "blue"),
    [
        (["x/a.png", "x/a.txt", "y/a.png", "y/a.txt"], "of x", "of y"),
        (["x/a.txt", "x/a.png", "y/a.txt", "y/a.png"], "of x", "of y"),
        (["x/a.png", "y/a.png", "x/a.txt", "y/a.txt"], "of x", "of y"),
        (["x/a.png", "y/a.png", "y/a.txt"], "", ""),  # nobody knows whose it is, and a wrong caption is worse than none
        (["x/a.png", "x/a.txt", "y/a (2).png", "y/a (2).txt"], "of x", "of y"),
        (["x/a.png", "y/a.webp", "x/a.txt"], "of x", "of x"),  # one name, as in one folder
    ],
)
def test_pictures_of_one_name_get_no_caption_of_one_another(tmp_path, files, red, blue):
    found = preview(staged(uploaded(tmp_path, files), Limits(), None), 16)
    assert dict(zip(["red" if e[0, 0, 0] > 200 else "blue" for e in found.examples], found.captions, strict=True)) == {
        "red": red,
        "blue": blue,
    }


def test_a_caption_goes_with_the_picture_in_its_folder(tmp_path):
    for name, colour in (("x", "red"), ("y", "blue")):
        (tmp_path / name).mkdir()
        Image.new("RGB", (16, 16), colour).save(tmp_path / name / "a.png")
    (tmp_path / "y/a.txt").write_text("of y")
    found = preview(staged([str(tmp_path / file) for file in ("x/a.png", "y/a.png", "y/a.txt")], Limits(), None), 16)
    assert [found.captions[int(np.argmax(found.examples[:, 0, 0, channel]))] for channel in (0, 2)] == ["", "of y"]


def test_looking_again_takes_no_more_of_the_disk(uploads):
    folders = [staged(uploads[:1], Limits(), None) for _ in range(2)]
    assert len({path.stat().st_ino for folder in folders for path in folder.iterdir()}) == 1


def test_a_large_set_is_looked_at_in_part(tmp_path, squares):
    pack(squares(230), tmp_path / "many.zip")
    found = preview(tmp_path / "many.zip", 8)
    assert (found.total, found.looked_at, len(found.examples)) == (230, 200, 12)
    assert "230 pictures; 200 of them" in summary(found, None)


def test_nothing_and_too_much_at_once_are_refused(uploads, tmp_path):
    with pytest.raises(RunError, match="first"):
        staged([], Limits(), None)
    (tmp_path / "a.zip").write_bytes(b"")
    with pytest.raises(RunError, match="not both"):
        staged([*uploads, str(tmp_path / "a.zip")], Limits(), None)


def test_a_restorers_pictures_are_shown_damaged_beside_what_they_should_become(tmp_path):
    stripes = np.zeros((120, 200, 3), np.uint8)
    stripes[:, ::8] = 255
    for i in range(3):
        Image.fromarray(np.roll(stripes, i, axis=1)).save(tmp_path / f"{i}.png")
    Image.new("RGB", (20, 200)).save(tmp_path / "small.png")
    found = preview_pairs(tmp_path, 32)
    assert found.examples.shape == (12, 32, 64, 3) and found.examples.dtype == np.uint8
    damaged, clean = found.examples[:, :, :32], found.examples[:, :, 32:]
    assert sum(not np.array_equal(*pair) for pair in zip(damaged, clean, strict=True)) > 6
    assert (found.total, found.usable, found.captioned) == (4, 3, None)
    text = summary(found, None)
    assert "3 pictures" in text and "small.png: smaller than 32" in text and "caption" not in text
