"""A run's folder tells the truth: what was asked for, what came of it, and what in it is damaged."""

import errno
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image
from small_runs import STEPS, finish, weights

from sd_core.data import pack
from sd_core.errors import CheckpointError, RunError
from sd_core.models import checkpoint
from sd_core.runs import queue
from sd_core.runs.run import Run, new_name
from sd_core.runs.worker import work
from sd_core.training.config import TrainingConfig
from sd_core.training.events import Saved
from sd_core.training.setup import new_restorer


def test_a_finished_run_leaves_metrics_samples_and_a_model(make):
    run = finish(make())
    assert run.status().state == "finished"
    assert run.status().step == STEPS
    assert [line["step"] for line in run.metrics()] == list(range(1, STEPS + 1))
    assert [path.name for path in run.samples()] == ["000003.png", "000006.png"]
    assert checkpoint.load(run.checkpoint).config.resolution == 8
    assert checkpoint.describe(run.checkpoint).origin.pictures_seen == STEPS * 4
    assert "Saved at step 6" in run.log()


def test_a_new_run_waits(make):
    run = make()
    assert run.status().state == "queued"
    assert not run.is_worked_on()
    assert run.metrics() == run.samples() == []
    assert run.log() == ""


def test_a_config_is_read_back_as_it_was_written(make, config):
    assert make().config() == config


def test_runs_are_listed_newest_first(make, tmp_path):
    first, second = make("first"), make("second")
    os.utime(first.folder / "config.json", (1, 1))
    assert [run.name for run in Run.all(tmp_path / "runs")] == ["second", "first"]
    assert second.folder.is_dir()


def test_an_uploaded_archive_stays_with_the_run(tmp_path, config, archive):
    run = Run.create("mine", config, tmp_path / "runs", upload=archive)
    archive.unlink()
    assert finish(run).status().state == "finished"


def test_a_run_can_start_from_the_model_of_another_and_keeps_its_shape(make):
    first = finish(make())
    second = make("two", start=str(first.checkpoint), size="base", resolution=64)
    assert (second.config().size, second.config().resolution) == ("tiny", 8)
    assert finish(second).status().state == "finished"


@pytest.mark.parametrize("specialist", [False, True])
def test_a_restorer_in_training_answers_for_itself(make, tmp_path, specialist):
    pair = new_restorer("tiny", 16, 0).joined(new_restorer("tiny", 16, 1))
    checkpoint.save(pair, tmp_path / "pair")
    (tmp_path / "clean").mkdir()
    Image.effect_mandelbrot((100, 80), (-2, -1.5, 1, 1.5), 50).convert("RGB").save(tmp_path / "clean" / "a.png")
    training = replace(make.config.training, specialist=specialist)
    start, data = str(tmp_path / "pair"), str(tmp_path / "clean")
    run = finish(make(kind="restorer", start=start, data=data, training=training))
    made = checkpoint.load(run.checkpoint)
    assert made.specialist is None
    began_with = [
        sum(
            float((a - b).detach().abs().sum())
            for a, b in zip(made.unet.parameters(), one.unet.parameters(), strict=True)
        )
        for one in (pair, pair.specialist)
    ]
    assert began_with.index(min(began_with)) == specialist


def test_tensorboard_hears_of_everything_where_it_is_installed(make, monkeypatch):
    told = []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            told.append(("purge", purge_step))

        def add_scalar(self, name, value, step):
            told.append((name, step))

        def add_image(self, name, picture, step, dataformats):
            told.append((name, step))

        def close(self):
            told.append(("close", 0))

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    finish(make())
    assert told[0] == ("purge", 1) and told[-1] == ("close", 0)
    assert ("loss", 1) in told and ("samples", 6) in told and ("learning_rate", 6) in told


def test_a_deleted_run_leaves_nothing_behind(make, tmp_path):
    run = finish(make())
    run.delete()
    assert [path.name for path in (tmp_path / "runs").iterdir() if path.name != queue.QUEUE] == []
    with pytest.raises(RunError, match="no run"):
        run.delete()


def test_a_run_that_cannot_be_written_leaves_its_name_free(make, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shutil.copyfile", full)
        with pytest.raises(RunError, match="No space left"):
            Run.create("one", make("other").config(), make.root, upload=Path(__file__))
    assert make("one").status().state == "queued"


def test_a_folder_of_pictures_stays_with_the_run(tmp_path, config):
    folder = tmp_path / "mine"
    folder.mkdir()
    for i in range(3):
        Image.new("RGB", (16, 16), (80 * i, 0, 0)).save(folder / f"{i}.png")
    run = Run.create("mine", config, tmp_path / "runs", upload=folder)
    shutil.rmtree(folder)
    assert finish(run).status().state == "finished"


def test_a_torn_or_foreign_line_of_metrics_is_left_out(make):
    run = make()
    (run.folder / "metrics.jsonl").write_bytes(
        b'{"step": 1, "loss": 1}\n17\n\xff\xfe\n{"step": 2, "loss": 0.9}\n{"step": 3, "lo'
    )
    assert [line["step"] for line in run.metrics()] == [1, 2]


def test_metrics_can_be_thinned_and_keep_the_last(make):
    run = make()
    lines = (json.dumps({"step": step, "loss": 1.0}) for step in range(1, 1001))
    (run.folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    steps = [line["step"] for line in run.metrics(most=50)]
    assert len(steps) == 50
    assert steps[-1] == 1000
    assert [line["step"] for line in run.metrics(most=1)] == [1000]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"state": "dancing"}', '{"state": "paused", "moon": 1}', "null"])
def test_a_damaged_status_is_told_in_one_sentence_and_does_not_hinder_the_work(make, text):
    run = make()
    (run.folder / "status.json").write_text(text)
    with pytest.raises(RunError, match=r"status\.json is damaged"):
        run.status()
    next(work(run))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"wish": "fly", "steps": 3}', '{"wish": "run"}'])
def test_a_damaged_wish_is_none(make, text):
    run = make()
    (run.folder / "control.json").write_text(text)
    assert run.control().wish == "run"


def test_a_damaged_config_is_told_in_one_sentence(make):
    run = make()
    (run.folder / "config.json").write_text('{"data": "characters", "future": 1}')
    with pytest.raises(RunError, match=r"config\.json is damaged"):
        run.config()
    with pytest.raises(RunError):
        queue.enqueue(run)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", " a", "a ", "-", "x" * 65, "../up"])
def test_names_unfit_for_a_folder_are_refused(make, name):
    with pytest.raises(RunError, match="name"):
        make(name)


def test_a_name_is_given_once(make, tmp_path):
    make("one")
    with pytest.raises(RunError, match="already"):
        make("one")
    assert new_name("/some/where/My pictures!.zip", tmp_path / "runs") == "My-pictures-1"
    assert new_name("one.zip", tmp_path / "runs") == "one-1"


OWN = TrainingConfig(specialist=True)  # which only a restorer can be


@pytest.mark.parametrize(
    "changed",
    [{"data": " "}, {"count": 0}, {"size": "huge"}, {"resolution": 4}, {"styles": ("adventurer",)}, {"training": OWN}],
)
def test_senseless_configurations_are_refused(config, changed):
    with pytest.raises(RunError):
        replace(config, **changed)


def test_a_model_to_start_from_must_be_there(make, tmp_path):
    with pytest.raises(CheckpointError):
        make(start=str(tmp_path / "nothing"))
    assert Run.all(tmp_path / "runs") == []


def test_a_restorer_learns_from_the_styles_that_were_chosen(make, monkeypatch):
    monkeypatch.setattr("sd_core.data.pairs.DRAWN_SIDE", 24)
    training = replace(make.config.training, steps=1, sample_prompts=())
    run = finish(make(data="characters", kind="restorer", styles=("lorelei",), count=2, training=training))
    assert run.status().state == "finished"
    data = checkpoint.describe(run.checkpoint).origin.data
    assert "Lorelei" in data and data.count("” by ") == 1


def test_a_run_in_latents_pauses_resumes_and_leaves_a_model_that_loads_by_itself(
    make, squares, small_autoencoder, tmp_path, monkeypatch
):
    small_autoencoder.save(tmp_path / "checkpoints" / "autoencoder")
    monkeypatch.setenv("SD_CORE_CHECKPOINTS", str(tmp_path / "checkpoints"))
    pack(squares(12, 32), tmp_path / "large.zip")
    large = dict(data=str(tmp_path / "large.zip"), resolution=32, codec="autoencoder")
    whole, run = finish(make("whole", **large)), make("one", **large)
    for event in work(run):
        if isinstance(event, Saved) and event.step == 3:
            run.wish("pause")
    assert (run.status().state, run.status().step) == ("paused", 3)
    run.wish("run")
    finish(run)
    assert weights(run).keys() == weights(whole).keys()
    assert all(torch.equal(a, b) for a, b in zip(weights(run).values(), weights(whole).values(), strict=True))
    assert Image.open(run.samples()[-1]).size == (768, 384)
    monkeypatch.setenv("SD_CORE_CHECKPOINTS", str(tmp_path / "none"))
    elsewhere = shutil.copytree(run.checkpoint, tmp_path / "elsewhere")
    assert checkpoint.load(elsewhere).shape == (4, 4, 4)
    tuned = finish(make("tuned", data=large["data"], start=str(elsewhere)))
    assert checkpoint.load(tuned.checkpoint).codec is checkpoint.load(elsewhere).codec


def test_latents_of_uploaded_pictures_are_deleted_with_the_run(make, squares, small_autoencoder, tmp_path, monkeypatch):
    small_autoencoder.save(tmp_path / "checkpoints" / "autoencoder")
    monkeypatch.setenv("SD_CORE_CHECKPOINTS", str(tmp_path / "checkpoints"))
    pack(squares(12, 32), tmp_path / "mine.zip")
    config = replace(make.config, data=str(tmp_path / "mine.zip"), resolution=32, codec="autoencoder")
    run = finish(Run.create("mine", config, make.root, upload=tmp_path / "mine.zip"))
    assert run.status().state == "finished"
    assert len(list((run.folder / "prepared").glob("latents-*"))) == 1
    assert not list((tmp_path / "cache").glob("latents-*"))
