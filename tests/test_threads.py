"""Threads give way to others that need the processors. What others do is read from a file as Linux writes it."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sd_core.threads import LOOK_SECONDS, FittingThreads

PROGRAM = Path(__file__).parent.parent


class Machine:
    """A machine of so many processors, as /proc/stat tells of it."""

    def __init__(self, path: Path, processors: int):
        self.path, self.processors, self.busy = path, processors, 0
        self.says()

    def says(self, running: int = 1, taken: float = 0.0) -> None:
        """`running` threads want a processor; since the last time others took so many hundredths of a second."""
        self.busy += round(taken)
        processors = "".join(f"cpu{i} 0 0 0 0 0 0 0 0 0 0\n" for i in range(self.processors))
        self.path.write_text(f"cpu  {self.busy} 0 0 77 5 0 0 0 0 0\n{processors}ctxt 12\nprocs_running {running}\n")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield Machine(tmp_path / "stat", 4)
    torch.set_num_threads(before)


@pytest.mark.parametrize(("running", "left"), [(1, 4), (2, 3), (4, 1), (9, 1)])
def test_work_that_begins_leaves_busy_processors_to_others(machine, running, left):
    machine.says(running)
    FittingThreads(machine.path).fit()
    assert torch.get_num_threads() == left


@pytest.mark.parametrize(("others", "left"), [(0.0, 4), (0.5, 4), (1.0, 3), (2.9, 1), (8.0, 1)])
def test_work_that_goes_on_follows_what_others_take(machine, others, left):
    threads = FittingThreads(machine.path)
    threads.fit()
    began, own = time.monotonic(), time.process_time()
    time.sleep(2 * LOOK_SECONDS)
    took = others * (time.monotonic() - began) + time.process_time() - own
    machine.says(running=4, taken=100 * took)
    threads.fit()
    assert torch.get_num_threads() == left


def test_threads_come_back_when_others_are_done(machine):
    threads = FittingThreads(machine.path)
    machine.says(running=4)
    threads.fit()
    assert torch.get_num_threads() == 1
    time.sleep(1.5 * LOOK_SECONDS)
    machine.says()
    threads.fit()
    assert torch.get_num_threads() == 4


def test_a_number_of_threads_that_the_user_chose_stays(machine, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    machine.says(running=9)
    FittingThreads(machine.path).fit()
    assert torch.get_num_threads() == 4


def test_where_the_system_tells_nothing_the_threads_stay(machine):
    FittingThreads(machine.path.with_name("nothing")).fit()
    assert torch.get_num_threads() == 4


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="read from /proc/stat")
def test_beside_a_busy_program_on_each_processor_one_thread_is_left():
    script = """
import os, subprocess, sys, time
os.environ.pop("OMP_NUM_THREADS", None)
from sd_core.threads import THREADS
import torch
busy = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(os.cpu_count())]
try:
    THREADS.fit()
    time.sleep(1)
    THREADS.fit()
    print(torch.get_num_threads())
finally:
    for process in busy:
        process.kill()
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=PROGRAM, capture_output=True, text=True, timeout=120)
    assert done.stdout == "1\n", done.stderr
