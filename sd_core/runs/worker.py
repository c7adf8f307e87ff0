"""The process that works on a run: trains, writes what happens into the run's folder, and does what is wished for."""

import errno
import json
import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from filelock import Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sd_core.data import PictureSet
from sd_core.data.pairs import CleanPictures, open_clean
from sd_core.data.sources import open_data
from sd_core.device import best_device, describe, memory_taken
from sd_core.errors import CheckpointError, DataError, RunError, TrainingFailed
from sd_core.models import checkpoint
from sd_core.models.denoiser import Denoiser
from sd_core.pictures.output import grid
from sd_core.pictures.pixels import to_pixels
from sd_core.runs import metrics_log, queue
from sd_core.runs.config import RunConfig
from sd_core.runs.run import UPLOAD, Control, Run, Status
from sd_core.training.distributed import Peers
from sd_core.training.events import Event, Progress, Samples, Sampling, Saved, Split
from sd_core.training.setup import model_of_state, new_generator, new_restorer
from sd_core.training.trainer import Trainer

SAVE_SECONDS = 120.0  # work lost to a kill is at most this, or `save_every` steps if that is shorter
TELL_SECONDS = 0.5  # between reports of how far the pictures are prepared
TAKE_SECONDS = 2.0  # whoever looks at a lock holds it for a moment, which is waited out
MOST_NAMED = 20  # pictures left out that the log names
RESERVE = 1 << 16  # bytes kept free for the last words on a full disk

PREPARED = "prepared"  # the folder, inside a run's, that keeps its uploaded pictures as training wants them
SavedState = tuple[dict[str, torch.Tensor], dict[str, str]]  # as `Trainer.state` gives it
ENDS = {"pause": "paused", "stop": "stopped"}  # how a wish leaves a run


class _Left(Exception):
    """Somebody wished for an end before training began."""


def work(run: Run, queued: bool = False, preparing: Callable[[int, int], None] | None = None) -> Iterator[Event]:
    """Works on the run, when its turn comes, until it is finished or somebody wishes otherwise, passing on the
    training's events.

    Args:
        run: what to work on.
        queued: work on it only if it is still in the queue. Else it is given a place there.
        preparing: called now and then, before training, with (pictures ready, pictures in all).

    Raises:
        RunError: another process works on it.
        DataError, CheckpointError, TrainingFailed: as named; the run's status then says failed, and why.
    """
    config = run.config()
    device = best_device()
    peers = Peers.join(device)
    if peers.rank:
        yield from _Worker(run, config, device, peers, preparing).work()
        return
    lock, slot = run.lock(), None
    try:
        lock.acquire(timeout=TAKE_SECONDS)
    except Timeout:
        raise RunError(f"Another process is working on {run.name}.") from None
    try:
        if queued and (run.known_status().state != "queued" or run.wished() != "run"):
            return  # withdrawn while this process started
        worker = _Worker(run, config, device, peers, preparing)
        try:
            if peers.count == 1:  # whoever uses torchrun has decided what the machine does
                queue.join(run)
                slot = queue.wait_for_turn(run, lambda: run.wished() != "run")
                if slot is None:
                    raise _Left
            yield from worker.work()
        except _Left:
            worker.end(ENDS.get(run.wished(), "stopped"))
        except BaseException as error:
            worker.fail(error)
            raise
    finally:
        if slot:
            slot.release()
        lock.release()
        with suppress(RunError, OSError):
            queue.ensure_keeper(run.folder.parent)


class _Worker:
    """One process at work. Among several, the first is the `keeper`: it alone writes."""

    def __init__(
        self,
        run: Run,
        config: RunConfig,
        device: torch.device,
        peers: Peers,
        preparing: Callable[[int, int], None] | None = None,
    ):
        self.run, self.config, self.device, self.peers, self.preparing = run, config, device, peers, preparing
        self.keeper = peers.rank == 0
        self.device_name = describe(device)
        self.worked_before = run.known_status().seconds_worked
        self.started = self.saved_at = time.monotonic()
        self.told_at, self.saved_step = 0.0, -1
        self.board = None

    def work(self) -> Iterator[Event]:
        self.started = time.monotonic()
        if self.keeper:
            now = replace(self.run.known_status(), state="running", reason="", pictures_per_second=0.0)
            self.run.write_status(now)
        pictures = self._pictures()
        saved = self._saved_state()
        model = self._model(pictures, saved[1] if saved else None)
        trainer = Trainer(model, pictures, self.config.training, self.device, self.peers)
        self._resume(trainer, saved)
        del saved
        trainer.extended(self._wishes().steps)
        if self.keeper:
            self._begin(trainer, pictures)
        self.saved_at = time.monotonic()
        for event in trainer.run():
            control = self._wishes() if isinstance(event, (Progress, Sampling)) else None
            leaving = control is not None and control.wish != "run"
            over = isinstance(event, Progress) and self._is_over()
            if control is not None and control.steps != trainer.config.steps:
                trainer.extended(control.steps)
            if self.keeper:
                self._keep(event, trainer)
                late = isinstance(event, Progress) and time.monotonic() - self.saved_at > SAVE_SECONDS
                if (isinstance(event, Saved) or late or leaving or over) and self.saved_step != trainer.step:
                    self._save(trainer, pictures)
            yield event
            if over and not leaving:
                self.end("finished", f"The {self.config.minutes:g} minutes that it was given are over.")
                return
            if leaving:
                self.end(ENDS[control.wish])
                return
        if self.keeper and trainer.step not in (0, self.saved_step):  # the total was lowered, or the last save killed
            self._save(trainer, pictures)
        self.end("finished")

    def _is_over(self) -> bool:
        """Whether its time is; the first process decides, as with wishes."""
        over = bool(self.config.minutes) and self._worked > 60 * self.config.minutes
        return over if self.peers.count == 1 else self._of_first(over)

    def end(self, state: str, reason: str = "") -> None:
        """Writes the last status."""
        if self.keeper:
            now = self.run.known_status()
            idle = dict(prepared=0, pictures=0, drawn=0, draws=0, seconds_left=0.0)
            queue.leave(self.run, replace(now, state=state, reason=reason, **idle))
            self._tidy()
            self.run.note(f"{state.capitalize()} after {now.step} steps.")

    def fail(self, error: BaseException) -> None:
        """Writes why the work ended."""
        if self.keeper:
            reason = _reason(error)
            self._tidy()  # also makes room for the last words
            idle = dict(prepared=0, pictures=0, drawn=0, draws=0)
            self.run.write_status(replace(self.run.known_status(), state="failed", reason=reason, **idle))

    def _tidy(self) -> None:
        if self.board:
            self.board.close()
        with suppress(OSError):
            self._reserve.unlink()

    @property
    def _reserve(self) -> Path:
        return self.run.folder / ".reserve"

    @property
    def _worked(self) -> float:
        return self.worked_before + time.monotonic() - self.started

    def _wishes(self) -> Control:
        """What the first process read: all must agree, or they would wait for one another for ever."""
        return self.run.control() if self.peers.count == 1 else self._of_first(self.run.control())

    def _of_first(self, value):
        box = [value]
        torch.distributed.broadcast_object_list(box)
        return box[0]

    # Before training

    def _pictures(self) -> PictureSet | CleanPictures:
        """Opens the data, telling in the status how far that is. Raises _Left when somebody wishes for an end."""
        config, alone = self.config, self.peers.count == 1
        told = -TELL_SECONDS

        def tell(done: int, total: int) -> None:
            nonlocal told
            if time.monotonic() - told < TELL_SECONDS:
                return
            told = time.monotonic()
            if self.run.wished() != "run":
                raise _Left
            if done and self._is_over():
                raise DataError(f"The {config.minutes:g} minutes of this run were over before its pictures were ready.")
            self.run.write_status(replace(self.run.known_status(), prepared=done, pictures=total))
            if self.preparing and total:
                self.preparing(done, total)

        if alone:
            tell(0, 0)
        inside = self.run.folder / config.data
        uploaded = config.data.startswith(f"{UPLOAD}/") and inside.exists()
        source = str(inside) if uploaded else config.data
        if config.kind == "restorer":
            pictures = open_clean(
                source,
                count=config.count,
                styles=config.styles,
                smallest=config.resolution,
                progress=tell if alone else None,
            )
        else:
            pictures = open_data(
                source,
                config.resolution,
                count=config.count,
                styles=config.styles,
                caption_template=config.caption_template,
                fit=config.fit,
                cache=self.run.folder / PREPARED if uploaded else None,  # to be deleted with the run
                progress=tell if alone else None,
            )
        if self.keeper:
            self.run.write_status(replace(self.run.known_status(), prepared=0, pictures=0))
        return pictures

    def _saved_state(self) -> SavedState | None:
        """The tensors and texts of the last save; None where there is none yet."""
        file = self.run.folder / "state.safetensors"
        if not file.exists():
            return None
        try:
            with safe_open(file, "pt") as opened:
                return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata()  # noqa: SIM118
        except SafetensorError as error:
            raise self._unusable() from error

    def _unusable(self) -> RunError:
        return RunError(
            f"The saved state of {self.run.name} is damaged or of another version of the program; start a new run."
        )

    def _model(self, pictures: PictureSet | CleanPictures, texts: dict[str, str] | None) -> Denoiser:
        """The model to train. One that was saved comes from the run alone, whatever has become of what it started from;
        `texts` describe it."""
        config = self.config
        if texts is not None:
            try:
                model = model_of_state(texts)
            except Exception as error:  # the tokenizers library raises bare Exception
                raise self._unusable() from error
        elif config.start:
            model = checkpoint.load(config.start)
            if model.specialist and config.training.specialist:
                model = model.specialist
            elif model.specialist and self.keeper:
                self.run.note("It goes on without the specialist that it began with, and answers for itself.")
        elif config.kind == "restorer":
            model = new_restorer(config.size, config.resolution, config.training.seed)
        else:
            model = new_generator(pictures, config.size, config.training.seed)
        if isinstance(pictures, PictureSet):
            model.vocabulary = model.vocabulary.with_words_of(pictures.captions)
        return model

    def _resume(self, trainer: Trainer, saved: SavedState | None) -> None:
        """Goes back to the last save, and forgets what was logged after it."""
        run = self.run
        if saved:
            try:
                trainer.load_state(*saved)
            except (RuntimeError, KeyError, ValueError) as error:
                raise self._unusable() from error
            with suppress(CheckpointError):  # it may have been killed before it saved the model, too
                if checkpoint.describe(run.checkpoint).origin.steps == trainer.step:
                    self.saved_step = trainer.step
        if self.keeper:
            for unfinished in (*run.folder.glob("*.new"), *(run.folder / "samples").glob("*.new")):
                unfinished.unlink()
            metrics_log.cut(run.folder / "metrics.jsonl", trainer.step)
            for sample in run.samples():
                if not sample.stem.isdigit() or int(sample.stem) > trainer.step:
                    sample.unlink()

    def _begin(self, trainer: Trainer, pictures: PictureSet | CleanPictures) -> None:
        """Tells the log what is about to happen, and draws the sample that a kill after the last save prevented."""
        self._reserve.write_bytes(bytes(RESERVE))
        self.board = _board(self.run.folder / "tensorboard", trainer.step)
        self.run.note(f"Training on {len(pictures):,} pictures, from step {trainer.step}; {self.device_name}.")
        for skipped in pictures.skipped[:MOST_NAMED]:
            self.run.note(f"Left out {skipped.file}: {skipped.reason}.")
        if len(pictures.skipped) > MOST_NAMED:
            self.run.note(f"Left out {len(pictures.skipped) - MOST_NAMED:,} more.")
        due = trainer.step > 0 and trainer.is_sample_due()
        if due and not self._sample_file(trainer.step).exists():
            for event in trainer.sampling():
                self._keep(event, trainer)
                if self.run.wished() != "run":
                    raise _Left  # what was saved is all there is

    # While training

    def _keep(self, event: Event, trainer: Trainer) -> None:
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
            file.write(json.dumps(asdict(event) | {"seconds": round(self._worked, 3)}) + "\n")
        if self.board:
            for name in ("loss", "learning_rate", "gradient_norm", "pictures_per_second"):
                self.board.add_scalar(name, getattr(event, name), event.step)
        known = {f.name for f in fields(Status)}
        values = {k: v for k, v in asdict(event).items() if k in known}
        if self.config.minutes:
            values["seconds_left"] = min(event.seconds_left, max(0.0, 60 * self.config.minutes - self._worked))
        here = dict(seconds_worked=self._worked, device=self.device_name, memory=memory_taken(self.device))
        self.run.write_status(Status("running", **here, **values))

    def _tell_sampling(self, event: Sampling) -> None:
        if event.index == event.count or time.monotonic() - self.told_at > TELL_SECONDS:
            self.told_at = time.monotonic()
            drawn, draws = (0, 0) if event.index == event.count else (event.index, event.count)
            self.run.write_status(replace(self.run.known_status(), drawn=drawn, draws=draws))

    def _sample_file(self, step: int) -> Path:
        return self.run.folder / "samples" / f"{step:06d}.png"

    def _save_samples(self, event: Samples) -> None:
        file = self._sample_file(event.step)
        sheet = grid(to_pixels(event.pictures))
        with _replacing(file) as new:
            sheet.save(new, format="PNG")
        if self.board:
            self.board.add_image("samples", np.asarray(sheet), event.step, dataformats="HWC")
        self.run.note(f"Drew samples at step {event.step}.")

    def _save(self, trainer: Trainer, pictures: PictureSet | CleanPictures) -> None:
        tensors, texts = trainer.state()
        with _replacing(self.run.folder / "state.safetensors") as new:
            save_file(tensors, new, metadata=texts)
            with open(new, "rb") as opened:
                os.fsync(opened.fileno())
        origin = checkpoint.Origin(
            data=f"{pictures.name}, {len(pictures):,} pictures. {pictures.credits}".strip(),
            pictures_seen=trainer.step * trainer.config.batch,
            steps=trainer.step,
            hardware=self.device_name,
            hours=self._worked / 3600,
            examples=trainer.objective.sample_prompts()[:16],
        )
        checkpoint.save(trainer.ema, self.run.checkpoint, origin)
        self.run.note(f"Saved at step {trainer.step}.")
        self.saved_at, self.saved_step = time.monotonic(), trainer.step


@contextmanager
def _replacing(file: Path) -> Iterator[Path]:
    """Another file to write, which then takes the place of `file`; nothing is left of it where that fails."""
    new = file.with_suffix(".new")
    try:
        yield new
        os.replace(new, file)
    except BaseException:
        with suppress(OSError):
            new.unlink()
        raise


def _board(folder: Path, step: int):
    """A writer of TensorBoard's files that forgets what it was told after `step`; None where it is not installed."""
    if find_spec("tensorboard") is None:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # half an installation, or one that does not fit
        return None
    return SummaryWriter(folder, purge_step=step + 1)


def _reason(error: BaseException) -> str:
    """One sentence for the status; the traceback of what nobody expected goes to the log."""
    if isinstance(error, (DataError, CheckpointError, TrainingFailed, RunError)):
        return str(error)
    if isinstance(error, (KeyboardInterrupt, GeneratorExit)):
        return "It was interrupted; it can be resumed."
    if isinstance(error, MemoryError) or "out of memory" in str(error):
        return "There was not enough memory; choose a smaller batch, size or resolution."
    if _is_full_disk(error):
        return "The disk is full. What was saved last is intact: make room and resume."
    traceback.print_exc()
    return f"{type(error).__name__}: {error}"


def _is_full_disk(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, SafetensorError) and ("No space left" in str(error) or "quota" in str(error))
