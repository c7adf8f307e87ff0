"""Kills a training again and again, at random moments and in the middle of saving, and proves that nothing is lost.

    python -m benchmarks.kill_test

A tiny run is worked on by one process after another, each killed with SIGKILL. After every kill whatever lies in the
run's folder must be readable: status, metrics, samples, the saved state and the model. In the end the run is finished
in peace, and its weights, averages and optimizer must equal, bit for bit, those of a run that was never disturbed; so
must its sample grids. Exits with an error at the first thing that is not so. Needs a system with `fork`.
"""

import multiprocessing
import os
import random
import signal
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from benchmarks import common
from sd_core.data import PictureSet, pack
from sd_core.models import checkpoint
from sd_core.runs import worker
from sd_core.runs.config import RunConfig
from sd_core.runs.run import Run
from sd_core.training.config import TrainingConfig

STEPS = 1_000_000  # more than it gets to
SAVE_EVERY, SAMPLE_EVERY = 5, 25
LONGEST = 3.0  # seconds that a process lives at random
STARTED = 60.0  # seconds within which a process must have begun


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ |= {"SD_CORE_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
    torch.set_num_threads(1)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SD_CORE_CACHE"] = str(Path(folder) / "cache")
        disturbed = _new_run(Path(folder), "disturbed", STEPS)
        moments, processes = _torment(disturbed, options.kills, random.Random(options.seed))
        last = disturbed.metrics()[-1]["step"] + SAVE_EVERY
        disturbed.wish("run", steps=last)
        _finish(disturbed)
        peaceful = _new_run(Path(folder), "peaceful", last)
        _finish(peaceful)
        grids = _compare(disturbed, peaceful)
    rows = [[moment, count] for moment, count in sorted(moments.items())]
    body = (
        f"{sum(moments.values())} kills of {processes} processes over {last:,} steps, in "
        f"{time.monotonic() - began:.0f} s. After every one of them status, metrics, samples, saved state and model "
        f"could be read. Weights, averages and optimizer at the end equal those of an undisturbed run bit for bit, "
        f"and so do all {grids} sample grids.\n\n{common.table(['killed while', 'times'], rows)}"
    )
    command = f"python -m benchmarks.kill_test --kills {options.kills}"
    common.report("kills", "A training that is killed", command, body, "cpu", options.results)


def _new_run(folder: Path, name: str, steps: int) -> Run:
    archive = folder / "noise.zip"
    if not archive.exists():
        pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
        pack(PictureSet("noise", pixels, tuple(f"noise {i % 4}" for i in range(40)), True), archive)
    training = TrainingConfig(steps=steps, batch=4, save_every=SAVE_EVERY, sample_every=SAMPLE_EVERY)
    config = RunConfig(str(archive), size="tiny", resolution=8, training=training)
    return Run.create(name, config, folder / "runs")


def _torment(run: Run, kills: int, chance: random.Random) -> tuple[Counter, int]:
    """Kills so often. Returns at what moments, and how many processes that took (some finish their step too soon)."""
    moments: Counter = Counter()
    processes = 0
    fork = multiprocessing.get_context("fork")  # a process that has torch already: a start takes no time
    while sum(moments.values()) < kills:
        processes += 1
        left = _saves(run)  # by the one before
        process = fork.Process(target=_finish, args=(run,))
        process.start()
        deadline = time.monotonic() + STARTED
        while run.known_status().state != "running" or not run.is_worked_on():
            if not process.is_alive() or time.monotonic() > deadline:
                raise SystemExit(f"The run did not go on after {sum(moments.values())} kills:\n{run.log()}")
            time.sleep(0.001)
        awaited = chance.choice(("", "state", ".checkpoint"))
        if awaited:
            while process.is_alive() and not any(awaited in name for name, _ in _saves(run) - left):
                time.sleep(0.0002)
        else:
            time.sleep(chance.uniform(0, LONGEST))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        moments[_moment(_saves(run) - left)] += 1
        _check(run)
    return moments, processes


def _saves(run: Run) -> set[tuple[str, int]]:
    """The files of unfinished saves, each with its own identity."""
    found = set()
    for path in (*run.folder.glob("*state*.new"), *run.folder.glob(".checkpoint*"), *run.folder.glob("samples/*.new")):
        with suppress(OSError):
            found.add((path.name, path.stat().st_ino))
    return found


def _moment(saves: set[tuple[str, int]]) -> str:
    names = " ".join(name for name, _ in saves)
    for part, moment in (("state", "saving the state"), (".checkpoint", "saving the model"), (".new", "saving a grid")):
        if part in names:
            return moment
    return "training or drawing samples"


def _finish(run: Run) -> None:
    run.wish("run")
    for _ in worker.work(run):
        pass


def _check(run: Run) -> None:
    """Everything in the folder can be read."""
    state = run.status().state
    if state not in ("failed", "queued"):  # queued: it was killed before its turn came
        raise SystemExit(f"A killed run says {state}.")
    steps = [line["step"] for line in run.metrics()]
    if steps != sorted(set(steps)):
        raise SystemExit("The metrics are out of order.")
    for sample in run.samples():
        with Image.open(sample) as picture:
            picture.load()
    if (run.folder / "state.safetensors").exists():
        load_file(run.folder / "state.safetensors")
    if run.checkpoint.exists() or (run.folder / ".checkpoint.old").exists():
        checkpoint.load(run.checkpoint)


def _compare(one: Run, other: Run) -> int:
    a, b = (load_file(run.folder / "state.safetensors") for run in (one, other))
    names = sorted(a.keys() | b.keys())
    different = [name for name in names if name not in a or name not in b or not torch.equal(a[name], b[name])]
    if different:
        raise SystemExit(f"{len(different)} tensors differ, beginning with {different[0]}.")
    grids = [[(path.name, path.read_bytes()) for path in run.samples()] for run in (one, other)]
    if grids[0] != grids[1]:
        raise SystemExit("The sample grids differ.")
    return len(grids[0])


if __name__ == "__main__":
    main()
