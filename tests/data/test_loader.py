"""Batches made ahead are those of their step, whoever makes them, and nothing is left of who made them."""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import PROGRAM, until

from sd_core.data.loader import ResumableLoader, usual_workers
from sd_core.training.objectives.base import BatchSlice

needs_fork = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="workers are forked")
HALVES = BatchSlice(0, 4, parts=2)


def made(number: int) -> np.ndarray:
    return np.array([number, number**2])


def new_loader(workers: int) -> ResumableLoader:
    return ResumableLoader(made, np.stack, batch=4, workers=workers)


def shown(loader: ResumableLoader, step: int, share=HALVES) -> list[list[int]]:
    batches = list(loader.step(step, share))
    assert all((batch[:, 1] == batch[:, 0] ** 2).all() for batch in batches)
    return [batch[:, 0].tolist() for batch in batches]


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=needs_fork), pytest.param(2, marks=needs_fork)])
def test_a_step_shows_its_own_examples_from_wherever_the_training_goes_on(workers):
    loader = new_loader(workers)
    assert [shown(loader, step) for step in (0, 1, 2)] == [[[0, 1], [2, 3]], [[4, 5], [6, 7]], [[8, 9], [10, 11]]]
    assert shown(loader, 7) == [[28, 29], [30, 31]]
    assert shown(loader, 1) == shown(new_loader(workers), 1) == [[4, 5], [6, 7]]


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=needs_fork)])
def test_another_share_of_the_batch_may_be_asked_for_at_any_step(workers):
    loader = new_loader(workers)
    assert shown(loader, 0) == [[0, 1], [2, 3]]
    assert shown(loader, 1, share=BatchSlice(2, 4, parts=1)) == [[6, 7]]


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=needs_fork)])
def test_a_step_that_was_left_half_way_begins_anew(workers):
    loader = new_loader(workers)
    left = loader.step(0, HALVES)
    next(left)
    left.close()
    assert shown(loader, 0) == [[0, 1], [2, 3]]


@needs_fork
def test_making_examples_elsewhere_draws_nothing_from_the_common_random_numbers():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    shown(new_loader(1), 0)
    assert torch.equal(torch.get_rng_state(), before)


TRAINING = """
import multiprocessing, signal, sys
import numpy as np, torch
from sd_core.data.loader import ResumableLoader

signal.signal(signal.SIGINT, lambda *_: print("heard", flush=True))
loader = ResumableLoader(lambda number: np.full(300_000, number), np.stack, batch=2, workers=2)
share = (torch.arange(2),)
next(iter(loader.step(0, share)))
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
for step in range(int(sys.stdin.readline())):
    assert [int(batch[0, 0]) for batch in loader.step(step, share)] == [2 * step]
print("done", flush=True)
"""


@pytest.fixture
def training():
    """A process that has begun to work through batches larger than a pipe holds, and the ids of its workers."""
    environment = {**os.environ, "PYTHONPATH": str(PROGRAM), "OMP_NUM_THREADS": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", TRAINING], env=environment, start_new_session=True, **pipes)
    yield process, [int(pid) for pid in process.stdout.readline().split()]
    process.kill()
    process.wait()


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


@needs_fork
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="processes are looked up in /proc")
def test_a_killed_training_leaves_no_worker_behind(training):
    process, workers = training
    assert len(workers) == 2 and all(map(is_alive, workers))
    process.kill()
    process.wait()
    until(lambda: not any(map(is_alive, workers)))


@needs_fork
def test_ctrl_c_in_a_shell_reaches_the_training_and_not_its_workers(training):
    process, workers = training
    until(lambda: all(os.getpgid(worker) == worker for worker in workers))  # each has begun its work
    os.killpg(process.pid, signal.SIGINT)
    assert process.stdout.readline() == "heard\n"
    said, _ = process.communicate("20\n", timeout=120)
    assert said == "done\n" and process.returncode == 0


def test_a_process_that_may_have_no_children_makes_the_examples_itself():
    script = """
import multiprocessing
from sd_core.data.loader import usual_workers
import torch

def say():
    print(usual_workers(torch.device("cpu")), usual_workers(torch.device("cuda")))

if __name__ == "__main__":
    multiprocessing.get_context("fork").Process(target=say, daemon=True).start()
"""
    done = subprocess.run([sys.executable, "-"], input=script, cwd=PROGRAM, capture_output=True, text=True)
    assert done.stdout.split() == ["0", "0"], done.stderr


def test_workers_are_as_many_as_there_are_cores_for(monkeypatch):
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    found = []
    for cores in (1, 2, 4, 64):
        monkeypatch.setattr("loky.cpu_count", lambda cores=cores: cores)
        found.append((usual_workers(cpu), usual_workers(gpu)))
    assert found == [(0, 0), (1, 1), (1, 3), (1, 8)]
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "16")
    assert usual_workers(gpu) == 3
