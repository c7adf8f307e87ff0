"""The process that works on a run: trains, writes what happens into the run's folder, and does what is wished for."""

import json
import os
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path

import torch
from filelock import Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sd_core import checkpoint
from sd_core.data import DataError, PictureSet, open_data
from sd_core.data.pairs import CleanPictures, open_clean
from sd_core.denoiser import Denoiser
from sd_core.device import best_device, describe
from sd_core.images import grid, to_pixels
from sd_core.runs import UPLOAD, Run, RunConfig, RunError, Status, write_text
from sd_core.training import (
    Event,
    Peers,
    Progress,
    Samples,
    Saved,
    Trainer,
    TrainingFailed,
    new_generator,
    new_restorer,
)

SAVE_SECONDS = 120.0  # work lost to a kill is at most this, or `save_every` steps if that is shorter
TELL_SECONDS = 0.5  # between reports of how far the pictures are prepared
TAKE_SECONDS = 2.0  # whoever looks at a lock holds it for a moment, which is waited out
MOST_NAMED = 20  # pictures left out that the log names


class _Left(Exception):
    """Somebody wished for an end before training began."""


def work(run: Run) -> Iterator[Event]:
    """Works on the run until it is finished or somebody wishes otherwise, passing on the training's events.

    Raises:
        RunError: another process works on it.
        DataError, CheckpointError, TrainingFailed: as named; the run's status then says failed, and why.
    """
    config = run.config()
    device = best_device()
    peers = Peers.join(device)
    lock = run.lock() if peers.rank == 0 else None
    if lock:
        try:
            lock.acquire(timeout=TAKE_SECONDS)
        except Timeout:
            raise RunError(f"Another process is working on {run.name}.") from None
    worker = _Worker(run, config, device, peers)
    try:
        yield from worker.work()
    except _Left:
        worker.end()
    except BaseException as error:
        worker.fail(error)
        raise
    finally:
        if lock:
            lock.release()


class _Worker:
    """One process at work. Among several, the first is the `keeper`: it alone writes."""

    def __init__(self, run: Run, config: RunConfig, device: torch.device, peers: Peers):
        self.run, self.config, self.device, self.peers = run, config, device, peers
        self.keeper = peers.rank == 0
        self.device_name = describe(device)
        self.worked_before = run.known_status().seconds_worked
        self.started = self.saved_at = time.monotonic()

    def work(self) -> Iterator[Event]:
        if self.keeper:
            now = replace(self.run.known_status(), state="running", reason="", pictures_per_second=0.0)
            self.run.write_status(now)
        pictures = self._pictures()
        trainer = Trainer(self._model(pictures), pictures, self.config.training, self.device, self.peers)
        self._resume(trainer)
        trainer.extended(self._wishes()["steps"])
        if self.keeper:
            self._begin(trainer, pictures)
        self.started = self.saved_at = time.monotonic()
        for event in trainer.run():
            progressed = isinstance(event, Progress)
            leaving = progressed and self._wishes()["wish"] != "run"
            late = progressed and time.monotonic() - self.saved_at > SAVE_SECONDS
            if self.keeper:
                if progressed:
                    self._log_progress(event)
                elif isinstance(event, Samples):
                    self._save_samples(event)
                if isinstance(event, Saved) or leaving or late:
                    self._save(trainer, pictures)
            yield event
            if leaving:
                self.end()
                return
        self.end("finished")

    def end(self, state: str = "") -> None:
        """Writes the last status: `state`, or the one that was wished for."""
        if self.keeper:
            state = state or {"pause": "paused"}.get(self.run.wished(), "stopped")
            now = self.run.known_status()
            self.run.write_status(replace(now, state=state, prepared=0, pictures=0, seconds_left=0.0))
            self.run.note(f"{state.capitalize()} after {now.step} steps.")

    def fail(self, error: BaseException) -> None:
        """Writes why the work ended."""
        if self.keeper:
            now = self.run.known_status()
            self.run.write_status(replace(now, state="failed", prepared=0, pictures=0, reason=_reason(error)))

    @property
    def _worked(self) -> float:
        return self.worked_before + time.monotonic() - self.started

    def _wishes(self) -> dict:
        """What the first process read: all must agree, or they would wait for one another for ever."""
        if self.peers.count == 1:
            return self.run.control()
        box = [self.run.control()]
        torch.distributed.broadcast_object_list(box)
        return box[0]

    # Before training

    def _pictures(self) -> PictureSet | CleanPictures:
        """Opens the data, telling in the status how far that is. Raises _Left when somebody wishes for an end."""
        told = -TELL_SECONDS

        def tell(done: int, total: int) -> None:
            nonlocal told
            if time.monotonic() - told < TELL_SECONDS:
                return
            told = time.monotonic()
            if self.run.wished() != "run":
                raise _Left
            self.run.write_status(replace(self.run.known_status(), prepared=done, pictures=total))

        config, alone = self.config, self.peers.count == 1
        if alone:
            tell(0, 0)
        inside = self.run.folder / config.data
        source = str(inside) if config.data.startswith(f"{UPLOAD}/") and inside.exists() else config.data
        if config.kind == "restorer":
            pictures = open_clean(source, count=config.count, smallest=config.resolution)
        else:
            pictures = open_data(
                source,
                config.resolution,
                count=config.count,
                styles=config.styles,
                caption_template=config.caption_template,
                progress=tell if alone else None,
            )
        if self.keeper:
            self.run.write_status(replace(self.run.known_status(), prepared=0, pictures=0))
        return pictures

    def _model(self, pictures: PictureSet | CleanPictures) -> Denoiser:
        config = self.config
        if not config.start and config.kind == "restorer":
            return new_restorer(config.size, config.resolution, config.training.seed)
        if not config.start:
            return new_generator(pictures, config.size, config.training.seed)
        model = checkpoint.load(config.start)
        if isinstance(pictures, PictureSet):
            model.vocabulary = model.vocabulary.with_words_of(pictures.captions)
        return model

    def _resume(self, trainer: Trainer) -> None:
        """Goes back to the last save, and forgets what was logged after it."""
        run, file = self.run, self.run.folder / "state.safetensors"
        if file.exists():
            try:
                with safe_open(file, "pt") as opened:
                    tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
                    texts = opened.metadata()
                trainer.load_state(tensors, texts)
            except (SafetensorError, RuntimeError, KeyError) as error:
                raise RunError(
                    f"The saved state of {run.name} is damaged; start a new run from its checkpoint instead."
                ) from error
        if self.keeper:
            kept = [json.dumps(line) + "\n" for line in run.metrics() if line["step"] <= trainer.step]
            write_text(run.folder / "metrics.jsonl", "".join(kept))
            for sample in run.samples():
                if int(sample.stem) > trainer.step:
                    sample.unlink()

    def _begin(self, trainer: Trainer, pictures: PictureSet | CleanPictures) -> None:
        """Tells the log what is about to happen, and draws the sample that a kill after the last save prevented."""
        self.run.note(f"Training on {len(pictures):,} pictures, from step {trainer.step}; {self.device_name}.")
        for skipped in pictures.skipped[:MOST_NAMED]:
            self.run.note(f"Left out {skipped.file}: {skipped.reason}.")
        due = trainer.step > 0 and trainer.step % self.config.training.sample_every == 0
        if due and not self._sample_file(trainer.step).exists():
            self._save_samples(trainer.samples())

    # While training

    def _log_progress(self, event: Progress) -> None:
        with open(self.run.folder / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(event) | {"seconds": round(self._worked, 3)}) + "\n")
        known = {f.name for f in fields(Status)}
        values = {k: v for k, v in asdict(event).items() if k in known}
        self.run.write_status(Status("running", seconds_worked=self._worked, device=self.device_name, **values))

    def _sample_file(self, step: int) -> Path:
        return self.run.folder / "samples" / f"{step:06d}.png"

    def _save_samples(self, event: Samples) -> None:
        file = self._sample_file(event.step)
        new = file.with_suffix(".new")
        grid(to_pixels(event.pictures)).save(new, format="PNG")
        os.replace(new, file)
        self.run.note(f"Drew samples at step {event.step}.")

    def _save(self, trainer: Trainer, pictures: PictureSet | CleanPictures) -> None:
        tensors, texts = trainer.state()
        file = self.run.folder / "state.safetensors"
        new = file.with_suffix(".new")
        save_file(tensors, new, metadata=texts)
        with open(new, "rb") as opened:
            os.fsync(opened.fileno())
        os.replace(new, file)
        origin = checkpoint.Origin(
            data=f"{pictures.name}, {len(pictures):,} pictures. {pictures.credits}".strip(),
            pictures_seen=trainer.step * trainer.config.batch,
            steps=trainer.step,
            hardware=self.device_name,
            hours=self._worked / 3600,
            examples=trainer.lessons.sample_prompts()[:16],
        )
        checkpoint.save(trainer.ema, self.run.checkpoint, origin)
        self.run.note(f"Saved at step {trainer.step}.")
        self.saved_at = time.monotonic()


def _reason(error: BaseException) -> str:
    """One sentence for the status; the traceback of what nobody expected goes to the log."""
    if isinstance(error, (DataError, checkpoint.CheckpointError, TrainingFailed, RunError)):
        return str(error)
    if isinstance(error, (KeyboardInterrupt, GeneratorExit)):
        return "It was interrupted; it can be resumed."
    if isinstance(error, MemoryError) or "out of memory" in str(error):
        return "There was not enough memory; choose a smaller batch, size or resolution."
    traceback.print_exc()
    return f"{type(error).__name__}: {error}"
