"""Whatever ends a run early, its folder says why, its last save is sound, and it can go on."""

import errno
import multiprocessing
import os
import re
import signal
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from small_runs import STEPS, finish, in_a_process, until, weights

from sd_core.data import pack
from sd_core.errors import DataError, RunError, TrainingFailed
from sd_core.models import checkpoint
from sd_core.runs.run import Run, Status
from sd_core.runs.worker import work
from sd_core.training.config import TrainingConfig
from sd_core.training.events import Progress, Saved
from sd_core.training.objectives.denoising import DenoisingLoss


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
        patch.setattr("sd_core.runs.recorder.save_file", save)
        finish(run)
    assert run.status().state == "failed"
    assert "disk is full" in run.status().reason
    assert not list(run.folder.glob("*.new"))
    assert not (run.folder / ".reserve").exists()
    assert checkpoint.describe(run.checkpoint).origin.steps == 3
    assert finish(run).status().state == "finished"
    assert [line["step"] for line in run.metrics()] == list(range(1, STEPS + 1))


def test_too_little_memory_splits_the_batch_and_says_so(make, monkeypatch):
    plain = finish(make("plain"))
    forward, seen = DenoisingLoss.forward, []

    def small(self, x0, *rest):
        seen.append(len(x0))
        if len(x0) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return forward(self, x0, *rest)

    monkeypatch.setattr(DenoisingLoss, "forward", small)
    run = finish(make("split"))
    assert run.status().state == "finished"
    assert "in 2 parts of 2" in run.log()
    assert seen[:3] == [4, 2, 2] and set(seen[3:]) == {2}
    losses = [[line["loss"] for line in run.metrics()] for run in (plain, run)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_too_little_memory_for_a_single_picture_fails_in_one_sentence(make, monkeypatch):
    def none(self, *batch):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(DenoisingLoss, "forward", none)
    run = make()
    with pytest.raises(torch.OutOfMemoryError):
        finish(run)
    assert "memory" in run.status().reason


def test_a_bug_is_logged_with_its_traceback_and_the_reason_names_where(make, monkeypatch):
    def buggy(self, *batch):
        return {}["no such key"]

    monkeypatch.setattr(DenoisingLoss, "forward", buggy)
    run = make()
    with pytest.raises(KeyError):
        finish(run)
    reason = run.status().reason
    assert run.status().state == "failed" and "went wrong inside the program" in reason and "no such key" not in reason
    [reference] = re.findall(r"reference (\w+)", reason)
    log = (run.folder / "log.txt").read_text()
    assert log.count(reference) == log.count("Traceback") == 1 and "KeyError: 'no such key'" in log


@pytest.mark.skipif(not hasattr(os, "fork"), reason="pairs are made by a forked process")
def test_a_killed_maker_of_pairs_fails_the_run_in_one_sentence(make, tmp_path, monkeypatch):
    monkeypatch.setattr("loky.cpu_count", lambda: 2)
    (tmp_path / "clean").mkdir()
    Image.effect_mandelbrot((100, 80), (-2, -1.5, 1, 1.5), 50).convert("RGB").save(tmp_path / "clean" / "a.png")
    run = make(kind="restorer", data=str(tmp_path / "clean"), resolution=16)
    with pytest.raises(RuntimeError):
        for event in work(run):
            if isinstance(event, Saved):
                for maker in multiprocessing.active_children():
                    os.kill(maker.pid, signal.SIGKILL)
    assert run.status().state == "failed" and "ended from outside" in run.status().reason
    assert finish(run).status().state == "finished"


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
        if (killed.checkpoint / "model.safetensors").exists():
            checkpoint.load(killed.checkpoint)
    finish(killed)
    expected, found = weights(whole), weights(killed)
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    steps = [line["step"] for line in killed.metrics()]
    assert steps == sorted(set(steps)) and steps[-1] == 30
    assert [path.read_bytes() for path in killed.samples()] == [path.read_bytes() for path in whole.samples()]


def test_a_run_goes_on_with_its_own_words_whatever_became_of_its_pictures(make, archive, pictures):
    run = finish(make())
    words = checkpoint.load(run.checkpoint).vocabulary
    pack(replace(pictures, captions=("an enormous purple zeppelin",) * len(pictures.captions)), archive)
    run.wish("run", steps=STEPS + 2)
    assert finish(run).status().step == STEPS + 2
    after = checkpoint.load(run.checkpoint).vocabulary
    assert after.tokenizer.to_str() == words.tokenizer.to_str()
    assert after.words == words.words | {"an", "enormous", "purple", "zeppelin"}


def test_a_run_goes_on_without_the_run_it_started_from(make):
    first = finish(make("first"))
    second = finish(make("second", start=str(first.checkpoint)))
    first.delete()
    second.wish("run", steps=STEPS + 2)
    assert finish(second).status().step == STEPS + 2


def test_two_workers_never_work_on_one_run(make, monkeypatch):
    monkeypatch.setattr("sd_core.runs.worker.TAKE_SECONDS", 0.1)
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


FULL = OSError(errno.ENOSPC, "No space left on device")


def full(*_, **__):
    raise FULL


@contextmanager
def full_for_metrics(run: Run):
    """Where every byte that is written finds a full disk, as the system tells it."""
    file = run.folder / "metrics.jsonl"
    kept = file.rename(file.with_suffix(".kept"))
    file.symlink_to("/dev/full")
    yield
    kept.replace(file)


@contextmanager
def full_for(target: str):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, full)
        yield


@pytest.mark.parametrize("place", ["metrics", "samples", "model"])
def test_a_disk_that_is_full_wherever_it_is_written_to_leaves_the_last_save_intact(make, place):
    run = make(training=replace(make.config.training, sample_every=4))
    filled = {
        "metrics": full_for_metrics(run),
        "samples": full_for("PIL.Image.Image.save"),
        "model": full_for("sd_core.models.weights.save_file"),
    }[place]
    with ExitStack() as stack, pytest.raises(OSError, match="No space left"):
        for event in work(run):
            if isinstance(event, Saved):
                stack.enter_context(filled)
    assert run.status().state == "failed" and "disk is full" in run.status().reason
    assert checkpoint.load(run.checkpoint) and checkpoint.describe(run.checkpoint).origin.steps == 3
    finish(run)
    assert run.status().state == "finished"
    assert [line["step"] for line in run.metrics()] == list(range(1, STEPS + 1))


def test_a_loss_that_is_not_a_number_fails_the_run_with_the_last_save_intact(make):
    forward, run = DenoisingLoss.forward, make()

    def spoilt(self, *batch):
        return forward(self, *batch) * float("nan")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(TrainingFailed):
        for event in work(run):
            if isinstance(event, Saved):
                patch.setattr(DenoisingLoss, "forward", spoilt)
    assert run.status().state == "failed" and "not a number" in run.status().reason
    assert all(value.isfinite().all() for value in weights(run).values())
    assert all(value.isfinite().all() for value in checkpoint.load(run.checkpoint).state_dict().values())
    assert finish(run).status().state == "finished"
    assert [line["step"] for line in run.metrics()] == list(range(1, STEPS + 1))


def test_a_machine_that_went_down_leaves_a_failed_run_that_goes_on_exactly(make):
    """In the middle of a save: what a process wrote last lies about half written, and nobody has tidied up."""
    whole, run = finish(make("whole")), make("cut")
    for event in work(run):
        if isinstance(event, Progress) and event.step == 5:
            break
    run.write_status(replace(run.known_status(), state="running", reason=""))
    (run.folder / "lock").touch()
    (run.folder / ".reserve").write_bytes(bytes(100))
    (run.folder / "state.new").write_bytes(b"half of it")
    (run.folder / "samples" / "000006.new").write_bytes(b"half of it")
    (run.checkpoint / ".model.safetensors-0123456789ab.new").write_bytes(b"half of it")
    with open(run.folder / "metrics.jsonl", "a") as metrics:
        metrics.write('{"step": 6, "lo')
    assert run.status().state == "failed" and "resumed" in run.status().reason
    finish(run)
    assert run.status().state == "finished"
    expected, found = weights(whole), weights(run)
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    assert checkpoint.describe(run.checkpoint).origin.steps == STEPS
    assert not [path.name for path in run.folder.rglob("*") if path.suffix == ".new"]


def test_a_model_that_is_newer_than_the_state_is_no_reason_not_to_save(make):
    """After a power cut the disk may have kept the one and lost the other."""
    run = make()
    for event in work(run):
        if isinstance(event, Saved):
            older = (run.folder / "state.safetensors").read_bytes()
            break
    finish(run)
    (run.folder / "state.safetensors").write_bytes(older)
    finish(run)
    with safe_open(run.folder / "state.safetensors", "pt") as state:
        assert state.metadata()["step"] == str(STEPS)
