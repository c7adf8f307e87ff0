"""What the tests of runs do with small ones: work on them here or in a process, and wait."""

import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from sd_core.runs.run import Run
from sd_core.runs.worker import work

PROGRAM = Path(__file__).parent.parent
STEPS = 6  # of a run, unless a test says otherwise; it is saved and draws samples at every third


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
