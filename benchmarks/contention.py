"""What is left of the speed of drawing, restoring and training while other processes want the same processors.

    python -m benchmarks.contention

Each kind of work is done by two processes that wait for their turn, warm: one has as many threads as processors, which
wait for one another as their libraries have it by default ("before"), the other as the program sets it, and as many as
there is room for ("after"). They take turns, on an idle machine, beside one and beside two processes that do nothing
but keep a processor busy, each in a session of its own, as another user's are. A third training, in float32, says what
bfloat16 is worth where the processor has it.

A figure is the median of several short windows. What else the machine did in a window is read from the system (Linux
only): windows wait for quiet, and one in which others took more than a tenth of a processor is measured again.
"""

import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from argparse import SUPPRESS
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks import common
from sd_core.data import PictureSet
from sd_core.device import autocast, has_fast_bf16
from sd_core.environment import CHECKPOINTS, SPINS
from sd_core.generation.pipeline import generate
from sd_core.generation.request import GenerationRequest
from sd_core.models import checkpoint
from sd_core.models.denoiser import Denoiser, ModelConfig
from sd_core.models.text import Vocabulary
from sd_core.restoration.pipeline import restore
from sd_core.restoration.request import RestoreRequest
from sd_core.training.config import TrainingConfig
from sd_core.training.trainer import Trainer

# What the libraries do where nothing is set, and a number of threads that stays.
DEFAULTS = {"GOMP_SPINCOUNT": "300000", "KMP_BLOCKTIME": "200", "OMP_NUM_THREADS": str(torch.get_num_threads())}
BEFORE, AFTER = "before", "after"
SETTINGS = {BEFORE: DEFAULTS, AFTER: SPINS}
DRAWING, RESTORING, TRAINING, IN_FLOAT32 = "drawing", "restoring", "training", "training in float32"
REPEATS = 5
UNITS = {DRAWING: "pictures and steps/s", RESTORING: "megapixels/s", TRAINING: "pictures/s"}
NEIGHBOURS = {0: "none", 1: "one", 2: "two"}
SHARE = 0.55  # of idle speed: the target beside one busy process
FORMATS = 1.4  # the target of bfloat16 against float32, in training
QUIET, TRIES = 0.1, 3  # of a processor, taken by others in a window; how often a louder window is measured again
LOOK = 0.4  # seconds, to see whether it is quiet


def main(arguments: Sequence[str] | None = None) -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=2.5, help="of a window")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="windows for each figure")
    parser.add_argument("--patience", type=float, default=3.0, help="seconds that a window waits for quiet, at most")
    parser.add_argument("--work", choices=[*UNITS, IN_FLOAT32], help=SUPPRESS)  # be the process that does this
    options = parser.parse_args(arguments)
    if options.work:
        serve(WORKS[options.work]())
        return
    with ExitStack() as stack:
        workers = {(work, name): stack.enter_context(worker(work, SETTINGS[name])) for work, name in CELLS}
        figures = measured(workers, options)
    command = "python -m benchmarks.contention"
    command += f" --repeats {options.repeats}" if options.repeats != REPEATS else ""
    common.report("contention", "Beside other processes", command, told(figures, options), "cpu", options.results)


CELLS = [*itertools.product(UNITS, SETTINGS), (IN_FLOAT32, AFTER)]


# The work


def draw() -> Callable[[], float]:
    """Draws four pictures of the newcomer's model, two steps of each; returns pictures times steps."""
    model = checkpoint.load(CHECKPOINTS / "characters", torch.device("cpu"))
    request = GenerationRequest(prompt="adventurer with long red hair", count=4, steps=2, seed=1)

    def once() -> float:
        for _ in generate(model, request):
            pass
        return request.count * request.steps

    return once


def repair() -> Callable[[], float]:
    """Cleans 512×512 pixels; returns megapixels."""
    model = checkpoint.load(CHECKPOINTS / "restorer", torch.device("cpu"))
    picture = torch.randint(0, 256, (512, 512, 3), dtype=torch.uint8)

    def once() -> float:
        for _ in restore(model, picture, RestoreRequest(whole=True)):
            pass
        return picture[..., 0].numel() / 1e6

    return once


def train(bf16: bool = True) -> Callable[[], float]:
    """One step of a `small` generator at 64×64 on noise; returns pictures."""
    config = TrainingConfig(batch=32, steps=10**6, bf16=bf16)
    pixels = np.random.default_rng(0).integers(0, 256, (256, 64, 64, 3), dtype=np.uint8)
    captions = ("a picture of a few words",) * len(pixels)
    model = Denoiser(ModelConfig.generator("small", 64), Vocabulary.learn(captions))
    pictures = PictureSet("noise", pixels, captions, mirrorable=True)
    trainer = Trainer(model, pictures, config, torch.device("cpu"))

    def once() -> float:
        trainer.advance()
        return config.batch

    return once


WORKS = {DRAWING: draw, RESTORING: repair, TRAINING: train, IN_FLOAT32: lambda: train(bf16=False)}


def serve(work: Callable[[], float]) -> None:
    """For each line of input, a number of seconds: works that long, and tells how much was done per second."""
    work()
    for line in itertools.chain(["0"], sys.stdin):  # the first tells that it is warm
        done, began = 0.0, time.perf_counter()
        while not done or time.perf_counter() - began < float(line):
            done += work()
        print(json.dumps(done / (time.perf_counter() - began)), flush=True)


# The measurement


@dataclass(frozen=True)
class Window:
    """Work per second, and how much of a processor others took meanwhile."""

    rate: float
    others: float


@contextmanager
def worker(work: str, setting: dict[str, str]) -> Iterator[subprocess.Popen]:
    """A process that does `work` when it is told to, warm."""
    command = [sys.executable, "-m", "benchmarks.contention", "--work", work]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=os.environ | setting) as process:
        if not process.stdout.readline():
            raise SystemExit(f"The process for {work} ended early.")
        yield process
        process.stdin.close()


@contextmanager
def neighbours(count: int) -> Iterator[list[subprocess.Popen]]:
    """So many processes, each of which keeps a processor busy."""
    command = [sys.executable, "-S", "-c", "while True: pass"]
    processes = [subprocess.Popen(command, start_new_session=True) for _ in range(count)]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measured(workers: dict[tuple[str, str], subprocess.Popen], options) -> dict[tuple[str, str, int], list[Window]]:
    """The windows of each (work, setting, number of neighbours), all in turn."""
    figures = {(*cell, count): [] for cell in workers for count in NEIGHBOURS}
    for repeat, count in itertools.product(range(options.repeats), NEIGHBOURS):
        with neighbours(count) as busy:
            for cell, process in workers.items():
                tries = (window(process, busy, options) for _ in range(TRIES))
                found = [next(tries)]
                while found[-1].others > QUIET and (again := next(tries, None)):
                    found.append(again)
                figures[*cell, count].append(min(found, key=lambda each: each.others))
                print(repeat + 1, *cell, f"beside {NEIGHBOURS[count]}:", figures[*cell, count][-1], flush=True)
    return figures


def window(process: subprocess.Popen, busy: list[subprocess.Popen], options) -> Window:
    """One window of work, once the machine is quiet or patience is over."""
    until = time.monotonic() + options.patience
    while others(busy, lambda: time.sleep(LOOK))[1] > QUIET and time.monotonic() < until:
        pass

    def work() -> float:
        print(options.seconds, file=process.stdin, flush=True)
        return json.loads(process.stdout.readline())

    return Window(*others([process, *busy], work))


def others(ours: list[subprocess.Popen], work: Callable[[], float | None]) -> tuple[float | None, float]:
    """What `work()` returns, and how much of a processor all processes but `ours` took meanwhile."""

    def used() -> float:
        return processor_seconds() - sum(processor_seconds(process.pid) for process in ours)

    began, before = time.perf_counter(), used()
    result = work()
    return result, max(0.0, used() - before) / (time.perf_counter() - began)


def processor_seconds(pid: int | None = None) -> float:
    """What a process has had of the processors so far; without one, what all have had, other machines on the same
    hardware included."""
    if pid is None:
        user, nice, system, _, _, *rest = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        ticks = [user, nice, system, *rest]
    else:
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


# The tables


def told(figures: dict[tuple[str, str, int], list[Window]], options) -> str:
    """The two tables, and how quiet the machine was."""
    rates = {key: statistics.median(each.rate for each in found) for key, found in figures.items()}
    rows = []
    for work, count in itertools.product(UNITS, NEIGHBOURS):
        row = [f"{work}, {UNITS[work]}" if not count else "", NEIGHBOURS[count]]
        for setting in SETTINGS:
            rate = rates[work, setting, count]
            row += [f"{rate:.3g}", f"{rate / rates[work, setting, 0]:.2f}"]
        against = rates[work, AFTER, count] / rates[work, BEFORE, count]
        rows.append([*row, f"**{against:.2f}x**", {0: "at least 1x", 1: f"{SHARE} of idle"}.get(count, "")])
    header = ["work", "busy neighbours", "before", "of idle", "after", "of idle", "after / before", "target"]
    pairs = zip(figures[TRAINING, AFTER, 0], figures[IN_FLOAT32, AFTER, 0], strict=True)
    gain = statistics.median(a.rate / b.rate for a, b in pairs)
    cpu = torch.device("cpu")
    with autocast(cpu):
        number = str((torch.ones(1, 1) @ torch.ones(1, 1)).dtype).removeprefix("torch.")
    loud = [each.others for found in figures.values() for each in found]
    return "\n\n".join(
        [
            f"Medians of {options.repeats} windows of {options.seconds:g} s, in turn. Other processes took "
            f"{statistics.median(loud):.2f} of a processor meanwhile (median; {max(loud):.2f} at most).",
            common.table(header, rows),
            f"Training works in {number} on this processor:",
            common.table(
                ["", "pictures/s", "target"],
                [
                    ["float32", f"{rates[IN_FLOAT32, AFTER, 0]:.3g}", ""],
                    [number, f"{rates[TRAINING, AFTER, 0]:.3g}", ""],
                    ["ratio", f"**{gain:.2f}x**", f"at least {FORMATS}x" if has_fast_bf16(cpu) else ""],
                ],
            ),
        ]
    )


if __name__ == "__main__":
    main()
