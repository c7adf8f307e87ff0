"""Wishes for a run at work are obeyed after the step in hand, and whoever goes on goes on exactly."""

import signal
import time
from dataclasses import replace

import pytest
import torch
from small_runs import STEPS, finish, in_a_process, until, weights

from sd_core.errors import DataError, RunError
from sd_core.models import checkpoint
from sd_core.runs.queue import enqueue, waiting
from sd_core.runs.worker import work
from sd_core.training.config import TrainingConfig
from sd_core.training.events import Finished, Progress, Sampling, Saved


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


def test_a_wish_for_more_steps_that_comes_at_the_very_end_is_kept(make):
    run = make()
    for event in work(run):
        if isinstance(event, Finished):
            enqueue(run, STEPS + 2)
    assert [run.status().state, *(each.name for each in waiting(make.root))] == ["queued", run.name]
    assert finish(run).status().step == STEPS + 2


def test_foolish_wishes_are_refused(make):
    run = make()
    with pytest.raises(RunError, match="pause"):
        run.wish("fly")
    with pytest.raises(RunError, match="at least 1"):
        run.wish("run", steps=0)


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


def test_the_time_that_pictures_take_counts(make, monkeypatch):
    monkeypatch.setattr("sd_core.runs.recorder.TELL_SECONDS", -1.0)
    run = make(minutes=1e-9)
    with pytest.raises(DataError, match="before its pictures were ready"):
        finish(run)
    assert run.status().state == "failed"


def test_the_time_left_is_not_more_than_what_it_was_given(make):
    run = make(minutes=2.0, training=replace(make.config.training, steps=10**6))
    for event in work(run):
        if isinstance(event, Progress) and event.step == 3:
            assert 0 < run.status().seconds_left <= 120 < event.seconds_left
            run.wish("stop")


def test_a_step_is_saved_once_though_two_rules_ask_for_it(make, monkeypatch):
    monkeypatch.setattr("sd_core.runs.recorder.SAVE_SECONDS", 0.0)
    run = finish(make())
    saves = [line.split("Saved at ")[1] for line in run.log().splitlines() if "Saved at " in line]
    assert saves == [f"step {step}." for step in range(1, STEPS + 1)]


def test_a_clock_set_back_changes_nothing(make, monkeypatch):
    run = make()
    for event in work(run):
        if isinstance(event, Progress) and event.step == 2:
            run.wish("pause")
            monkeypatch.setattr(time, "time", lambda: 0.0)
    run.wish("run")
    finish(run)
    assert run.status().state == "finished" and run.status().seconds_worked > 0


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
