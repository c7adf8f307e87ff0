"""What a run's folder keeps of the work on it: metrics, samples, saves, its status, and why it ended."""

import errno
import json
import logging
import time
from contextlib import suppress
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sd_core import errors
from sd_core.atomic import remove_unfinished, replacing
from sd_core.data import PictureSet
from sd_core.data.pairs import CleanPictures
from sd_core.device import describe, memory_taken
from sd_core.errors import CheckpointError, RunError, UserError
from sd_core.models import checkpoint
from sd_core.pictures.output import grid
from sd_core.pictures.pixels import to_pixels
from sd_core.runs import metrics_log, queue
from sd_core.runs.config import RunConfig
from sd_core.runs.run import Run, Status
from sd_core.training.events import Event, Progress, Samples, Sampling, Split
from sd_core.training.trainer import Trainer

SAVE_SECONDS = 120.0  # work lost to a kill is at most this, or `save_every` steps if that is shorter
TELL_SECONDS = 0.5  # between reports of how far the pictures are prepared, or a sample grid
MOST_NAMED = 20  # pictures left out that the log names
RESERVE, RESERVED = ".reserve", 1 << 16  # a file, and its bytes, kept free for the last words on a full disk
STATE = "state.safetensors"

SavedState = tuple[dict[str, torch.Tensor], dict[str, str]]  # as `Trainer.state` gives it


class Recorder:
    """Writes down what comes of a run. Of several processes that train together, one has it.

    Args:
        run: the run, which this process holds.
        config: what was asked for.
        device: where the training is.
    """

    def __init__(self, run: Run, config: RunConfig, device: torch.device):
        self.run, self.config, self.device, self.device_name = run, config, device, describe(device)
        self.worked_before = run.known_status().seconds_worked
        self.started = self.saved_at = time.monotonic()
        self.told_at = -TELL_SECONDS
        self.saved_step = -1
        self.board = None

    @property
    def worked(self) -> float:
        """Seconds of work on the run, all of it."""
        return self.worked_before + time.monotonic() - self.started

    # From the beginning to the end

    def start(self) -> None:
        """The run's turn has come."""
        self.started = time.monotonic()
        self._tell(state="running", reason="", pictures_per_second=0.0)

    def prepared(self, done: int, total: int) -> None:
        """So many of the pictures are ready; 0 of 0 when all are."""
        self._tell(prepared=done, pictures=total)

    def resumed(self, step: int) -> None:
        """Forgets what was written after the last save, which was at `step`."""
        folder, run = self.run.folder, self.run
        with suppress(CheckpointError):  # it may have been killed before it saved the model, too
            if step and checkpoint.describe(run.checkpoint).origin.steps == step:
                self.saved_step = step
        remove_unfinished(folder, STATE)
        for unfinished in (folder / "state.new", *(folder / "samples").glob("*.new")):
            unfinished.unlink(missing_ok=True)
        metrics_log.cut(folder / "metrics.jsonl", step)
        for sample in run.samples():
            if not sample.stem.isdigit() or int(sample.stem) > step:
                sample.unlink()

    def begin(self, pictures: PictureSet | CleanPictures, step: int) -> None:
        """Training begins, or goes on after `step`."""
        (self.run.folder / RESERVE).write_bytes(bytes(RESERVED))
        self.board = _board(self.run.folder / "tensorboard", step)
        self.run.note(f"Training on {len(pictures):,} pictures, from step {step}; {self.device_name}.")
        for skipped in pictures.skipped[:MOST_NAMED]:
            self.run.note(f"Left out {skipped.file}: {skipped.reason}.")
        if len(pictures.skipped) > MOST_NAMED:
            self.run.note(f"Left out {len(pictures.skipped) - MOST_NAMED:,} more.")
        self.saved_at = time.monotonic()

    def end(self, state: str, reason: str = "") -> None:
        """The work has ended as it should."""
        now = self.run.known_status()
        idle = dict(prepared=0, pictures=0, drawn=0, draws=0, seconds_left=0.0)
        queue.leave(self.run, replace(now, state=state, reason=reason, **idle))
        self._tidy()
        self.run.note(f"{state.capitalize()} after {now.step} steps.")

    def fail(self, error: BaseException) -> None:
        """The work has ended with an error."""
        self._tidy()  # also makes room for the last words
        self._tell(state="failed", reason=_reason(error, self.run), prepared=0, pictures=0, drawn=0, draws=0)

    def _tidy(self) -> None:
        if self.board:
            self.board.close()
        with suppress(OSError):
            (self.run.folder / RESERVE).unlink()

    def _tell(self, **changed) -> None:
        self.run.write_status(replace(self.run.known_status(), **changed))

    # While training

    def sample_file(self, step: int) -> Path:
        """Where the grid of `step` is, if it was drawn."""
        return self.run.folder / "samples" / f"{step:06d}.png"

    def keep(self, event: Event, trainer: Trainer) -> None:
        """Writes down what an event brings."""
        if isinstance(event, Progress):
            self._log_progress(event)
        elif isinstance(event, Sampling):
            self._tell_sampling(event)
        elif isinstance(event, Samples):
            self._save_samples(event)
        elif isinstance(event, Split):
            part = trainer.config.batch // event.parts
            self.run.note(
                f"There was not enough memory for a batch of {trainer.config.batch} at step {event.step}; it is worked "
                f"on in {event.parts} parts of {part} from now on, which learns the same."
            )

    def _log_progress(self, event: Progress) -> None:
        with open(self.run.folder / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(event) | {"seconds": round(self.worked, 3)}) + "\n")
        if self.board:
            for name in ("loss", "learning_rate", "gradient_norm", "pictures_per_second"):
                self.board.add_scalar(name, getattr(event, name), event.step)
        known = {field.name: getattr(event, field.name) for field in fields(Status) if hasattr(event, field.name)}
        if self.config.minutes:
            known["seconds_left"] = min(event.seconds_left, max(0.0, 60 * self.config.minutes - self.worked))
        here = dict(seconds_worked=self.worked, device=self.device_name, memory=memory_taken(self.device))
        self.run.write_status(Status("running", **here, **known))

    def is_time_to_tell(self) -> bool:
        """Whether the last report is long enough ago; if so, this moment is that of the next."""
        if time.monotonic() - self.told_at < TELL_SECONDS:
            return False
        self.told_at = time.monotonic()
        return True

    def _tell_sampling(self, event: Sampling) -> None:
        if event.index == event.count:
            self._tell(drawn=0, draws=0)
        elif self.is_time_to_tell():
            self._tell(drawn=event.index, draws=event.count)

    def _save_samples(self, event: Samples) -> None:
        sheet = grid(to_pixels(event.pictures))
        with replacing(self.sample_file(event.step)) as new:
            sheet.save(new, format="PNG")
        if self.board:
            self.board.add_image("samples", np.asarray(sheet), event.step, dataformats="HWC")
        self.run.note(f"Drew samples at step {event.step}.")

    # Saves

    def is_save_late(self) -> bool:
        """Whether a kill now would cost more than `SAVE_SECONDS` of work."""
        return time.monotonic() - self.saved_at > SAVE_SECONDS

    def save(self, trainer: Trainer, pictures: PictureSet | CleanPictures) -> None:
        """Saves the training and its model as they are now, unless they are."""
        if trainer.step == self.saved_step:
            return
        tensors, texts = trainer.state()
        with replacing(self.run.folder / STATE, durable=True) as new:
            save_file(tensors, new, metadata=texts)
        origin = checkpoint.Origin(
            data=f"{pictures.name}, {len(pictures):,} pictures. {pictures.credits}".strip(),
            pictures_seen=trainer.step * trainer.config.batch,
            steps=trainer.step,
            hardware=self.device_name,
            hours=self.worked / 3600,
            examples=trainer.objective.sample_prompts()[:16],
        )
        checkpoint.save(trainer.ema, self.run.checkpoint, origin)
        self.run.note(f"Saved at step {trainer.step}.")
        self.saved_at, self.saved_step = time.monotonic(), trainer.step


def saved_state(run: Run) -> SavedState | None:
    """The tensors and texts of a run's last save; None where there is none yet.

    Raises:
        RunError: they cannot be read.
    """
    file = run.folder / STATE
    if not file.exists():
        return None
    try:
        with safe_open(file, "pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata()  # noqa: SIM118
    except SafetensorError as error:
        raise unusable_state(run) from error


def unusable_state(run: Run) -> RunError:
    """What to raise for a saved state that nothing can be made of."""
    return RunError(f"The saved state of {run.name} is damaged or of another version of the program; start a new run.")


def _board(folder: Path, step: int):
    """A writer of TensorBoard's files that forgets what it was told after `step`; None where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(folder, purge_step=step + 1)


def _reason(error: BaseException, run: Run) -> str:
    """One sentence for the status; the traceback of what nobody expected goes to the run's log."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, (KeyboardInterrupt, GeneratorExit)):
        return "It was interrupted; it can be resumed."
    if errors.is_out_of_memory(error):
        return "There was not enough memory; choose a smaller batch, size or resolution."
    if _is_full_disk(error):
        return "The disk is full. What was saved last is intact: make room and resume."
    if "DataLoader worker" in str(error):
        return "A process that made the pairs was ended from outside, perhaps for want of memory; it can be resumed."
    log = logging.FileHandler(run.folder / "log.txt", encoding="utf-8")
    errors.log.addHandler(log)
    try:
        return f"Something went wrong inside the program (reference {errors.logged(error)}); the log says more."
    finally:
        errors.log.removeHandler(log)
        log.close()


def _is_full_disk(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, SafetensorError) and ("No space left" in str(error) or "quota" in str(error))
