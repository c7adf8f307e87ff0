"""What a training will take on this machine: parameters, memory and time, measured by a few steps of it.

    python -m sd_core.training.estimate '{"kind": "generator", "size": "tiny", "resolution": 64, "batch": 32}'

measures the `Work` in this process and prints JSON; `probe` has that done by a process of its own, whose memory can be
told from the caller's and whose end gives it back.
"""

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from sd_core.data import PictureSet
from sd_core.data.pairs import CleanPictures
from sd_core.device import best_device, describe, memory_taken
from sd_core.errors import ProbeFailed
from sd_core.models import checkpoint
from sd_core.models.codec import Identity
from sd_core.models.denoiser import FEW_STEPS
from sd_core.training.config import TrainingConfig
from sd_core.training.distributed import Peers
from sd_core.training.events import Progress
from sd_core.training.objectives.denoising import TextToImageObjective
from sd_core.training.objectives.restoration import RestorationObjective
from sd_core.training.setup import new_generator, new_restorer, started
from sd_core.training.trainer import Trainer

FEW, MORE = 4, 12  # pictures a step that are measured on a CPU; from both follows what a whole batch takes
ENOUGH_SECONDS = 1.5  # of steps, for one measurement
MOST_SECONDS = 8.0  # after which one measurement must do
PATIENCE = 180.0  # seconds, with an accelerator's start
GRID = 16  # pictures of a generator's sample grid
FORWARD, FORWARD_FAST = 1 / 3, 1 / 6  # share of the network's answer in a training step: the rest is its gradient, and,
# for a fast version, two answers of the teacher and another of its own


@dataclass(frozen=True)
class Work:
    """A training that can be asked about. See `RunConfig`: with a `start`, `size` does not matter."""

    kind: str
    size: str
    resolution: int
    batch: int
    start: str = ""
    fast: bool = False


@dataclass(frozen=True)
class Estimate:
    """What training takes: `memory` in bytes, seconds for a `step` with a whole batch, and for a sample `grid`."""

    parameters: int
    memory: int
    step: float
    grid: float
    device: str

    def seconds(self, steps: int, grids: int = 0) -> float:
        """For so many steps and sample grids. Preparing the pictures comes on top."""
        return steps * self.step + grids * self.grid


def probe(work: Work) -> Estimate:
    """Measures in a process of its own, for some seconds.

    Raises:
        ProbeFailed: it cannot be done, or not in time.
    """
    command = [sys.executable, "-m", "sd_core.training.estimate", json.dumps(asdict(work))]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired as error:
        raise ProbeFailed("A few steps took more than three minutes; choose a smaller size or resolution.") from error
    if done.returncode:
        if "out of memory" in done.stderr or done.returncode < 0:
            raise ProbeFailed("There is not enough memory for this; choose a smaller batch, size or resolution.")
        raise ProbeFailed(f"Nothing could be measured: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")
    return Estimate(**json.loads(done.stdout))


def measure(work: Work) -> Estimate:
    """The same in this process."""
    device, batch = best_device(), work.batch
    parts = (batch,) if device.type != "cpu" or batch <= MORE else (FEW, MORE)
    points = []
    began = time.monotonic()
    for part in parts:
        trainer = _trainer(replace(work, batch=part), device)
        points.append((part, _step_seconds(trainer), memory_taken(device)))
        if time.monotonic() - began > MOST_SECONDS:
            break
    parameters = sum(p.numel() for p in trainer.model.parameters())
    (low, low_seconds, low_memory), (high, high_seconds, high_memory) = points[0], points[-1]
    if high > low:
        per_picture = max(high_seconds - low_seconds, 0.5 * high_seconds * (1 - low / high)) / (high - low)
        more_memory = max(0, high_memory - low_memory) / (high - low)
    else:
        per_picture, more_memory = high_seconds / high, 0
    left = batch - high
    return Estimate(
        parameters=parameters,
        memory=round(high_memory + left * more_memory),
        step=high_seconds + left * per_picture,
        grid=grid_answers(work) * (FORWARD_FAST if work.fast else FORWARD) * per_picture,
        device=describe(device),
    )


def grid_answers(work: Work) -> float:
    """The network's answers that a sample grid takes, in pictures of the training's resolution."""
    if work.kind == "restorer":  # answers at once, for crops of a size of their own
        return RestorationObjective.sample_pairs * (RestorationObjective.sample_side / work.resolution) ** 2
    return GRID * (FEW_STEPS if work.fast else TextToImageObjective.sample_steps * 2)  # guidance asks twice


def _trainer(work: Work, device: torch.device) -> Trainer:
    never, batch, resolution = 1_000_000, work.batch, work.resolution
    config = TrainingConfig(steps=never, batch=batch, save_every=never, sample_every=never)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (batch, resolution, resolution, 3), dtype=np.uint8)
    model = started(work.start, work.fast) if work.start else None
    if work.kind == "restorer":
        model = model or new_restorer(work.size, resolution, 0)
        return Trainer(model, CleanPictures("noise", tuple(pixels)), config, device, Peers())
    pictures = PictureSet("noise", pixels, ("a picture of a few words",) * batch, mirrorable=True)
    model = model or new_generator(pictures, work.size, 0)
    if not isinstance(model.codec, Identity):  # made up, for nothing of these is worth being encoded and kept
        side = resolution // model.codec.downsampling
        latents = rng.standard_normal((batch, 2, model.codec.channels, side, side)).astype(np.float16)
        pictures = replace(pictures, latents=latents)
    return Trainer(model, pictures, config, device, Peers(), checkpoint.load(work.start) if work.fast else None)


def _step_seconds(trainer: Trainer) -> float:
    """Of a step, once the first is over."""
    began = steps = 0
    # Compiled programs are faster, but compiling takes longer than anybody waits for an estimate.
    with torch.compiler.set_stance("force_eager"):
        for event in trainer.run():
            if not isinstance(event, Progress):
                continue
            if not began:
                began, steps = time.perf_counter(), event.step
            elif time.perf_counter() - began > ENOUGH_SECONDS or event.step > steps:
                return (time.perf_counter() - began) / (event.step - steps)
    raise ProbeFailed("The training ended before it was measured.")


if __name__ == "__main__":
    print(json.dumps(asdict(measure(Work(**json.loads(sys.argv[1]))))))
