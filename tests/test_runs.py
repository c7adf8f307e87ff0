"""A run: its folder tells the truth, wishes are obeyed, and whatever was killed goes on."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from random import Random
from types import ModuleType

import pytest
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sd_core import checkpoint, run_queue
from sd_core.checkpoint import CheckpointError
from sd_core.data import DataError, pack
from sd_core.lessons import GeneratorObjective
from sd_core.run_config import RunConfig
from sd_core.run_worker import work
from sd_core.runs import Run, RunError, Status, new_name
from sd_core.training import Progress, Sampling, Saved, TrainingConfig

PROGRAM = Path(__file__).parent.parent
STEPS = 6


@pytest.fixture
def archive(tmp_path, pictures):
    path = tmp_path / "squares.zip"
    pack(pictures, path)
    return path


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    """A cache and an accelerator of the test's own, here and in the processes that it starts."""
    for name, value in (
        ("SD_CORE_CACHE", str(tmp_path / "cache")),
        ("SD_CORE_DEVICE", "cpu"),
        ("OMP_NUM_THREADS", "1"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sd_core.training.LOG_SECONDS", 0.0)  # every step is logged


@pytest.fixture
def config(archive):
    training = TrainingConfig(
        steps=STEPS, batch=4, warmup=2, sample_every=3, save_every=3, sample_prompts=("a red square", "a blue square")
    )
    return RunConfig(str(archive), size="tiny", resolution=8, training=training)


@pytest.fixture
def make(tmp_path, config):
    """Makes a run in the test's own folder."""

    def create(name="one", **changed) -> Run:
        return Run.create(name, replace(config, **changed), tmp_path / "runs")

    create.root, create.config = tmp_path / "runs", config
    return create


def finish(run: Run) -> Run:
    for _ in work(run):
        pass
    return run


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.folder / "state.safetensors")


def in_a_process(run: Run, **popen) -> subprocess.Popen:
    command = [sys.executable, "-m", "sd_core", "train", "--run", str(run.folder), "--quiet"]
    return subprocess.Popen(command, cwd=PROGRAM, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **popen)


def until(true, seconds: float = 120.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


# A whole run


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


# Wishes


@pytest.mark.parametrize(("wish", "state"), [("pause", "paused"), ("stop", "stopped")])
def test_a_wish_is_obeyed_after_the_step_in_hand_and_saved(make, wish, state):
    run = make()
    for event in work(run):
        if isinstance(event, Progress) and event.step == 1:
            run.wish(wish)
    assert run.status().state == state
    assert run.status().step == 2
    assert checkpoint.describe(run.checkpoint).origin.steps == 2


def test_a_run_can_be_stopped_before_its_pictures_are_ready(make):
    run = make()
    run.wish("stop")
    assert finish(run).status().state == "stopped"
    assert run.metrics() == []


def test_a_paused_run_goes_on_as_if_never_interrupted(make):
    whole, parted = finish(make("whole")), make("parted")
    for event in work(parted):
        if isinstance(event, Progress) and event.step == 2:
            parted.wish("pause")
    parted.wish("run")
    finish(parted)
    expected, found = weights(whole), weights(parted)
    assert expected.keys() == found.keys()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    losses = [[line["loss"] for line in run.metrics()] for run in (whole, parted)]
    assert losses[0] == losses[1]
    assert [path.name for path in whole.samples()] == [path.name for path in parted.samples()]


def test_what_was_logged_after_the_last_save_is_forgotten_on_resume(make):
    run = make()
    for event in work(run):
        if isinstance(event, Progress) and event.step == 5:
            break  # the process dies: saved was step 3
    assert run.status().state == "failed"
    assert run.metrics()[-1]["step"] == 5
    finish(run)
    assert [line["step"] for line in run.metrics()] == list(range(1, STEPS + 1))
    assert run.status().reason == ""


def test_a_sample_that_a_kill_prevented_is_drawn_on_resume(make):
    run = make()
    for event in work(run):
        if isinstance(event, Saved):
            break
    assert run.samples() == []
    finish(run)
    assert [path.name for path in run.samples()] == ["000003.png", "000006.png"]


def test_a_run_can_be_made_longer(make):
    run = finish(make())
    run.wish("run", steps=8)
    assert finish(run).status().step == 8


def test_foolish_wishes_are_refused(make):
    run = make()
    with pytest.raises(RunError, match="pause"):
        run.wish("fly")
    with pytest.raises(RunError, match="at least 1"):
        run.wish("run", steps=0)


# What a long life brings


def test_drawing_samples_can_be_interrupted_and_the_grid_is_drawn_on_resume(make):
    run = make()
    for event in work(run):
        if isinstance(event, Sampling) and event.index == 1:
            run.wish("stop")
    assert (run.status().state, run.status().step) == ("stopped", 3)
    assert run.samples() == []
    assert checkpoint.describe(run.checkpoint).origin.steps == 3
    run.wish("run")
    finish(run)
    assert [path.name for path in run.samples()] == ["000003.png", "000006.png"]


def test_a_run_at_work_can_be_made_longer(make):
    run = make()
    for event in work(run):
        if isinstance(event, Progress) and event.step == 2:
            run.wish("run", steps=8)
    assert (run.status().state, run.status().step) == ("finished", 8)


def test_a_total_below_what_was_done_ends_the_run_with_all_it_has(make):
    run = make()
    for event in work(run):
        if isinstance(event, Progress) and event.step == 4:
            run.wish("run", steps=2)
    assert run.status().state == "finished"
    assert checkpoint.describe(run.checkpoint).origin.steps == run.status().step == 5


def test_a_run_with_a_time_limit_ends_saved_and_says_so(make):
    run = finish(make(minutes=1e-9))
    status = run.status()
    assert status.state == "finished" and "minutes" in status.reason
    assert 0 < status.step < STEPS
    assert checkpoint.describe(run.checkpoint).origin.steps == status.step


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("No space left on device (os error 28)")],
)
def test_a_full_disk_fails_the_run_with_the_last_save_intact(make, error):
    run, saves = make(), []

    def save(tensors, path, metadata):
        saves.append(path)
        if len(saves) > 1:
            Path(path).write_bytes(b"half of it")
            raise error
        save_file(tensors, path, metadata=metadata)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(type(error)):
        patch.setattr("sd_core.run_worker.save_file", save)
        finish(run)
    assert run.status().state == "failed"
    assert "disk is full" in run.status().reason
    assert not list(run.folder.glob("*.new"))
    assert not (run.folder / ".reserve").exists()
    assert checkpoint.describe(run.checkpoint).origin.steps == 3
    assert finish(run).status().state == "finished"
    assert [line["step"] for line in run.metrics()] == list(range(1, STEPS + 1))


def test_a_step_is_saved_once_though_two_rules_ask_for_it(make, monkeypatch):
    monkeypatch.setattr("sd_core.run_worker.SAVE_SECONDS", 0.0)
    run = finish(make())
    saves = [line.split("Saved at ")[1] for line in run.log().splitlines() if "Saved at " in line]
    assert saves == [f"step {step}." for step in range(1, STEPS + 1)]


def test_too_little_memory_splits_the_batch_and_says_so(make, monkeypatch):
    plain = finish(make("plain"))
    forward, seen = GeneratorObjective.forward, []

    def small(self, x0, *rest):
        seen.append(len(x0))
        if len(x0) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return forward(self, x0, *rest)

    monkeypatch.setattr(GeneratorObjective, "forward", small)
    run = finish(make("split"))
    assert run.status().state == "finished"
    assert "in 2 parts of 2" in run.log()
    assert seen[:3] == [4, 2, 2] and set(seen[3:]) == {2}
    losses = [[line["loss"] for line in run.metrics()] for run in (plain, run)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_too_little_memory_for_a_single_picture_fails_in_one_sentence(make, monkeypatch):
    def none(self, *batch):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(GeneratorObjective, "forward", none)
    run = make()
    with pytest.raises(torch.OutOfMemoryError):
        finish(run)
    assert "memory" in run.status().reason


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
    monkeypatch.setattr("sd_core.run_worker.find_spec", lambda name: object())
    finish(make())
    assert told[0] == ("purge", 1) and told[-1] == ("close", 0)
    assert ("loss", 1) in told and ("samples", 6) in told and ("learning_rate", 6) in told


def test_a_kill_between_saving_the_state_and_the_model_leaves_no_old_model(make, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    run = make()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        for event in work(run):
            if isinstance(event, Progress) and event.step == STEPS - 1:
                patch.setattr(checkpoint, "save", killed)
    assert checkpoint.describe(run.checkpoint).origin.steps == 3
    assert finish(run).status().state == "finished"
    assert checkpoint.describe(run.checkpoint).origin.steps == STEPS


def test_a_deleted_run_leaves_nothing_behind(make, tmp_path):
    run = finish(make())
    run.delete()
    assert [path.name for path in (tmp_path / "runs").iterdir() if path.name != run_queue.QUEUE] == []
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


def test_a_clock_set_back_changes_nothing(make, monkeypatch):
    run = make()
    for event in work(run):
        if isinstance(event, Progress) and event.step == 2:
            run.wish("pause")
            monkeypatch.setattr(time, "time", lambda: 0.0)
    run.wish("run")
    finish(run)
    assert run.status().state == "finished" and run.status().seconds_worked > 0


def test_random_kills_lose_nothing_that_was_saved(make):
    """The short form of benchmarks/kill_test.py."""
    training = replace(make.config.training, steps=30, save_every=3, sample_every=10)
    whole, killed = finish(make("whole", training=training)), make("killed", training=training)
    random = Random(0)
    for _ in range(3):
        process = in_a_process(killed)
        began = len(killed.metrics())
        until(lambda began=began, process=process: len(killed.metrics()) != began or process.poll() is not None)
        time.sleep(random.uniform(0, 0.5))
        process.kill()
        process.wait()
        if (killed.folder / "checkpoint").exists():
            checkpoint.load(killed.checkpoint)
    finish(killed)
    expected, found = weights(whole), weights(killed)
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    steps = [line["step"] for line in killed.metrics()]
    assert steps == sorted(set(steps)) and steps[-1] == 30
    assert [path.read_bytes() for path in killed.samples()] == [path.read_bytes() for path in whole.samples()]


# Whatever can go wrong


def test_two_workers_never_work_on_one_run(make, monkeypatch):
    monkeypatch.setattr("sd_core.run_worker.TAKE_SECONDS", 0.1)
    run = make()
    working = work(run)
    next(working)
    assert run.is_worked_on()
    with pytest.raises(RunError, match="Another process"):
        next(work(Run(run.folder)))
    with pytest.raises(RunError, match="worked on"):
        run.delete()
    working.close()
    assert not run.is_worked_on()


def test_looking_at_a_run_does_not_keep_a_worker_out(make):
    run = make()
    finish(run)
    run.wish("run", steps=8)
    looks = iter(range(10**9))
    for _ in work(run):
        Run(run.folder).status()
        next(looks)
    assert run.status().state == "finished"


def test_a_run_says_running_only_while_somebody_works(make):
    run = make()
    run.write_status(Status("running", step=3))
    assert run.status().state == "failed"
    assert "resumed" in run.status().reason


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
    with pytest.raises(RunError, match="missing or damaged"):
        run.status()
    next(work(run))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"wish": "fly", "steps": 3}', '{"wish": "run"}'])
def test_a_damaged_wish_is_none(make, text):
    run = make()
    (run.folder / "control.json").write_text(text)
    assert run.wished() == "run"


def test_a_damaged_config_is_told_in_one_sentence(make):
    run = make()
    (run.folder / "config.json").write_text('{"data": "characters", "future": 1}')
    with pytest.raises(RunError, match=r"config\.json is damaged"):
        run.config()
    with pytest.raises(RunError):
        run_queue.enqueue(run)


def test_a_damaged_state_fails_the_run_in_one_sentence(make):
    run = make()
    (run.folder / "state.safetensors").write_bytes(b"nonsense")
    with pytest.raises(RunError, match="damaged"):
        finish(run)
    assert run.status().state == "failed"
    assert "damaged" in run.status().reason


def test_missing_pictures_fail_the_run_with_the_reason(make):
    run = make(data="/nowhere/at/all.zip")
    with pytest.raises(DataError):
        finish(run)
    assert run.status().state == "failed"
    assert "/nowhere" in run.status().reason


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


@pytest.mark.parametrize(
    "changed",
    [{"data": " "}, {"count": 0}, {"size": "huge"}, {"resolution": 4}, {"styles": ("adventurer",)}],
)
def test_senseless_configurations_are_refused(config, changed):
    with pytest.raises(RunError):
        replace(config, **changed)


def test_a_model_to_start_from_must_be_there(make, tmp_path):
    with pytest.raises(CheckpointError):
        make(start=str(tmp_path / "nothing"))
    assert Run.all(tmp_path / "runs") == []


# Processes


def test_a_killed_process_leaves_a_failed_run_that_can_be_resumed(make):
    run = make(training=TrainingConfig(steps=100_000, batch=4, save_every=2, sample_every=100_000))
    process = in_a_process(run)
    try:
        until(lambda: (run.folder / "state.safetensors").exists() or process.poll() is not None)
        assert run.status().state == "running"
    finally:
        process.kill()
        process.wait()
    assert run.status().state == "failed"
    events = work(run)
    assert next(events).step > 2
    events.close()


def test_ctrl_c_pauses(make):
    run = make(training=TrainingConfig(steps=100_000, batch=4, save_every=100_000, sample_every=100_000))
    process = in_a_process(run)
    try:
        until(lambda: run.metrics() or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 0
    finally:
        process.kill()
        process.wait()
    assert run.status().state == "paused"
    assert checkpoint.load(run.checkpoint)
