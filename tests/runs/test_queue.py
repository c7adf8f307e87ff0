"""The queue: one run works at a time, the others in their order, and whatever dies, the next one starts."""

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import PROGRAM, until

from sd_core.data import pack
from sd_core.environment import runs_at_once
from sd_core.errors import RunError
from sd_core.runs import queue
from sd_core.runs.config import RunConfig
from sd_core.runs.queue import ask, enqueue, free_places, wait_for_turn, waiting, working
from sd_core.runs.run import Run, Status
from sd_core.training.config import TrainingConfig

LONG = TrainingConfig(
    steps=100_000, batch=4, save_every=100_000, sample_every=100_000, sample_prompts=("a red square",)
)
SHORT = replace(LONG, steps=2)


@pytest.fixture(autouse=True)
def surroundings(surroundings, monkeypatch):
    monkeypatch.setenv("SD_CORE_NICENESS", "0")  # or a busy machine keeps the tests waiting
    monkeypatch.delenv("SD_CORE_RUNS_AT_ONCE", raising=False)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def make(root, tmp_path, pictures):
    pack(pictures, tmp_path / "squares.zip")
    config = RunConfig(str(tmp_path / "squares.zip"), size="tiny", resolution=8, training=SHORT)

    def create(name: str, training: TrainingConfig = SHORT) -> Run:
        return Run.create(name, replace(config, training=training), root)

    return create


@contextmanager
def standing_still(root: Path):
    """The queue, kept by somebody who starts nothing."""
    (root / queue.QUEUE).mkdir(parents=True)
    with FileLock(root / queue.QUEUE / "keeper", is_singleton=False):
        yield


@pytest.fixture
def no_keeper(root):
    with standing_still(root):
        yield


@pytest.fixture
def keepers(root):
    """Ends what the queue started, whatever the test's outcome."""
    yield queue.keepers
    for keeper in queue.keepers:
        with_children = subprocess.run(["ps", "-o", "pid=", "--sid", str(keeper.pid)], capture_output=True, text=True)
        for pid in with_children.stdout.split():
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                pass
        keeper.wait(30)
    queue.keepers.clear()


def names(runs: list[Run]) -> list[str]:
    return [run.name for run in runs]


# Places


def test_runs_wait_in_the_order_they_came(make, root, no_keeper):
    for name in ("b", "a", "c"):
        enqueue(make(name))
    assert names(waiting(root)) == ["b", "a", "c"]


def test_a_run_that_was_only_written_is_not_in_the_queue(make, root):
    make("a")
    assert waiting(root) == []


def test_a_place_in_the_queue_is_kept_when_asked_for_again(make, root, no_keeper):
    a, b = make("a"), make("b")
    for run in (a, b, a):
        enqueue(run)
    assert names(waiting(root)) == ["a", "b"]


def test_a_clock_that_jumps_does_not_change_the_order(make, root, no_keeper):
    first, second = make("first"), make("second")
    enqueue(first)
    enqueue(second)
    for file in first.folder.iterdir():
        os.utime(file, (4e9, 4e9))
    assert names(waiting(root)) == ["first", "second"]


@pytest.mark.parametrize(("wish", "state"), [("pause", "paused"), ("stop", "stopped")])
def test_a_waiting_run_leaves_the_queue_at_once_and_comes_back_at_its_end(make, root, no_keeper, wish, state):
    a, b = make("a"), make("b")
    enqueue(a)
    enqueue(b)
    ask(a, wish)
    assert a.status().state == state
    assert names(waiting(root)) == ["b"]
    enqueue(a)
    assert names(waiting(root)) == ["b", "a"]


def test_a_run_at_work_is_not_queued_again_but_may_be_made_longer(make, no_keeper):
    run = make("a")
    with run.lock():
        run.write_status(Status("running", step=1, steps=2))
        with pytest.raises(RunError, match="already"):
            enqueue(run)
        enqueue(run, steps=9)
        assert (run.status().state, run.control().steps) == ("running", 9)


def test_a_finished_run_can_be_made_longer(make, root, no_keeper):
    run = make("a")
    run.write_status(Status("finished", step=2, steps=2))
    enqueue(run, steps=10)
    assert names(waiting(root)) == ["a"]
    assert (run.status().state, run.status().steps, run.control().steps) == ("queued", 10, 10)


def test_a_damaged_run_does_not_hinder_the_others(make, root, no_keeper):
    for name in ("a", "b"):
        enqueue(make(name))
    (root / "a" / "status.json").write_text("{")
    (root / "a" / "config.json").write_text("{")
    (root / "a" / "control.json").write_text("{")
    assert names(waiting(root)) == ["b"]
    assert free_places(root) == 1


@pytest.mark.parametrize("said", ["0", "-1", "many", "1.5"])
def test_a_senseless_number_of_runs_at_once_is_told_in_one_sentence(monkeypatch, said):
    monkeypatch.setenv("SD_CORE_RUNS_AT_ONCE", said)
    with pytest.raises(RunError, match="whole number"):
        runs_at_once()


wishes = st.lists(
    st.tuples(st.sampled_from(("a", "b", "c")), st.sampled_from(("enqueue", "pause", "stop", "longer", "die"))),
    max_size=12,
)


@settings(max_examples=25)
@given(wishes)
def test_every_order_of_wishes_leaves_a_sound_queue(wishes):
    with tempfile.TemporaryDirectory() as folder, standing_still(root := Path(folder) / "runs"):
        config = RunConfig("characters", size="tiny", resolution=8, training=SHORT)
        runs = {name: Run.create(name, config, root) for name in "abc"}
        expected: list[str] = []
        for name, wish in wishes:
            run = runs[name]
            if wish in ("enqueue", "longer"):
                enqueue(run, 50 if wish == "longer" else None)
                expected += [name] * (name not in expected)
            elif wish == "die":
                run.write_status(Status("running", step=1, steps=2))
                expected = [other for other in expected if other != name]
                assert run.status().state == "failed"
            else:
                ask(run, wish)
                expected = [other for other in expected if other != name]
            assert names(waiting(root)) == expected
            assert all(each.status().state in ("queued", "paused", "stopped", "failed") for each in runs.values())


# Turns


def test_only_the_first_gets_a_turn_and_the_next_one_after_it(make, root, no_keeper, monkeypatch):
    monkeypatch.setattr(queue, "TURN_SECONDS", 0.01)
    a, b = make("a"), make("b")
    enqueue(a)
    enqueue(b)
    looks = iter([False, False, True])
    assert wait_for_turn(b, lambda: next(looks)) is None, "a comes first"
    slot = wait_for_turn(a, lambda: False)
    with a.lock():
        a.write_status(Status("running"))
        looks = iter([False, False, True])
        assert wait_for_turn(b, lambda: next(looks)) is None, "a works"
        assert names(working(root)) == ["a"]
        a.write_status(Status("finished"))
    slot.release()
    assert wait_for_turn(b, lambda: False)


def test_a_setting_lets_several_work_at_once(make, root, no_keeper, monkeypatch):
    monkeypatch.setattr(queue, "TURN_SECONDS", 0.01)
    monkeypatch.setenv("SD_CORE_RUNS_AT_ONCE", "2")
    for name in ("a", "b", "c"):
        enqueue(make(name))
    slots = [wait_for_turn(Run(root / name), lambda: False) for name in ("a", "b")]
    assert all(slots)
    looks = iter([False, False, True])
    assert wait_for_turn(Run(root / "c"), lambda: next(looks)) is None


# The keeper


def test_queued_runs_are_worked_on_one_after_another(make, root, keepers):
    runs = [make(name) for name in ("a", "b")]
    for run in runs:
        enqueue(run)
    most = 0

    def both_finished() -> bool:
        nonlocal most
        most = max(most, len(working(root)))
        return all(run.status().state == "finished" for run in runs)

    until(both_finished)
    assert most == 1
    until(lambda: all(keeper.poll() is not None for keeper in keepers), 20)  # nothing is left behind


def test_a_killed_trainer_is_told_of_and_the_next_one_starts(make, keepers):
    a, b = make("a", LONG), make("b")
    enqueue(a)
    enqueue(b)
    until(lambda: a.metrics())
    trainer = subprocess.run(["pgrep", "-f", f"train --run {a.folder}"], capture_output=True, text=True).stdout.split()
    os.kill(int(trainer[0]), signal.SIGKILL)
    until(lambda: a.status().state == "failed")
    until(lambda: "SIGKILL" in a.status().reason)
    until(lambda: b.status().state == "finished")


def test_a_trainer_whose_keeper_was_killed_starts_the_next_when_it_ends(make, root, keepers):
    a, b = make("a", LONG), make("b")
    enqueue(a)
    until(lambda: a.metrics())
    keepers[0].kill()
    keepers[0].wait()
    assert a.status().state == "running", "it outlives its keeper"
    b.wish("run", ticket=99)  # queued while nobody keeps the queue
    a.wish("stop")
    until(lambda: a.status().state == "stopped")
    until(lambda: b.status().state == "finished")


def test_a_process_that_dies_at_once_says_why(make, root, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")  # of keepers, too; this process is one itself
    run = make("a")
    enqueue(run)
    queue.keep(root)
    assert run.status().state == "failed"
    assert "ended early" in run.status().reason


def test_many_starters_at_once_never_start_two(make, root):
    runs = [make("a", LONG), make("b", LONG)]
    with standing_still(root):
        for run in runs:
            enqueue(run)
    command = [sys.executable, "-m", "sd_core.runs.queue", str(root)]
    starters = [subprocess.Popen(command, cwd=PROGRAM, start_new_session=True) for _ in range(4)]
    try:
        until(lambda: runs[0].metrics())
        alive = [starter for starter in starters if starter.poll() is None]
        assert len(alive) == 1, "the others saw that the queue is kept"
        assert names(working(root)) == ["a"]
        assert runs[1].status().state == "queued"
    finally:
        for starter in starters:
            try:
                os.killpg(starter.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            starter.wait()


def test_the_keeper_is_small_and_its_trainers_are_polite(make, keepers, monkeypatch):
    monkeypatch.delenv("SD_CORE_NICENESS")
    enqueue(make("a", LONG))
    run = make("b")
    until(lambda: working(run.folder.parent))
    keeper = keepers[0].pid
    maps = Path(f"/proc/{keeper}/maps")
    assert "libtorch" not in maps.read_text()
    trainer = subprocess.run(["pgrep", "-P", str(keeper)], capture_output=True, text=True).stdout.split()
    assert os.getpriority(os.PRIO_PROCESS, int(trainer[0])) >= queue.NICENESS
