"""The process that works on a run: trains, and does what is wished for. What comes of it, `Recorder` writes down."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from filelock import Timeout

from sd_core.data import PictureSet
from sd_core.data.latents import encoded
from sd_core.data.pairs import CleanPictures, open_clean
from sd_core.data.sources import open_data
from sd_core.device import best_device
from sd_core.errors import DataError, RunError
from sd_core.models import checkpoint
from sd_core.models.codec import Identity
from sd_core.models.denoiser import Denoiser
from sd_core.progress import OnProgress, unwatched
from sd_core.runs import queue
from sd_core.runs.config import RunConfig
from sd_core.runs.recorder import Recorder, SavedState, saved_state, unusable_state
from sd_core.runs.run import TEACHER, UPLOAD, Run
from sd_core.training.distributed import Peers
from sd_core.training.events import Event, Progress, Sampling, Saved
from sd_core.training.setup import new_generator, new_restorer, started
from sd_core.training.state import model_of
from sd_core.training.trainer import Trainer

T = TypeVar("T")

TAKE_SECONDS = 2.0  # whoever looks at a lock holds it for a moment, which is waited out

PREPARED = "prepared"  # the folder, inside a run's, that keeps its uploaded pictures as training wants them
ENDS = {"pause": "paused", "stop": "stopped"}  # how a wish leaves a run


class _Left(Exception):
    """Somebody wished for an end before training began."""


def work(run: Run, queued: bool = False, preparing: OnProgress = unwatched) -> Iterator[Event]:
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
    config, device = run.config(), best_device()
    peers = Peers.join(device)
    if peers.rank:
        yield from _Worker(run, config, None, device, peers).work()
        return
    lock, slot = run.lock(), None
    try:
        lock.acquire(timeout=TAKE_SECONDS)
    except Timeout:
        raise RunError(f"Another process is working on {run.name}.") from None
    try:
        if queued and (run.known_status().state != "queued" or run.control().wish != "run"):
            return  # withdrawn while this process started
        recorder = Recorder(run, config, device)
        try:
            if peers.count == 1:  # whoever uses torchrun has decided what the machine does
                queue.join(run)
                slot = queue.wait_for_turn(run, lambda: run.control().wish != "run")
                if slot is None:
                    raise _Left
            yield from _Worker(run, config, recorder, device, peers, preparing).work()
        except _Left:
            recorder.end(ENDS.get(run.control().wish, "stopped"))
        except BaseException as error:
            recorder.fail(error)
            raise
    finally:
        if slot:
            slot.release()
        lock.release()
        with suppress(RunError, OSError):
            queue.ensure_keeper(run.folder.parent)


@dataclass(frozen=True)
class _Worker:
    """One process at work.

    Args:
        run, config, device: what to work on, and where.
        recorder: writes down what happens; None in all but the first of several processes.
        peers: this process among several.
        preparing: see `work`.
    """

    run: Run
    config: RunConfig
    recorder: Recorder | None
    device: torch.device
    peers: Peers
    preparing: OnProgress = unwatched

    def work(self) -> Iterator[Event]:
        if self.recorder:
            self.recorder.start()
        pictures = self._pictures()
        saved = saved_state(self.run)
        model = self._model(pictures, saved)
        pictures = self._as_latents(pictures, model)
        teacher = checkpoint.load(self.run.folder / TEACHER) if self.config.fast else None
        trainer = Trainer(model, pictures, self.config.training, self.device, self.peers, teacher)
        if saved:
            try:
                trainer.load_state(*saved)
            except (RuntimeError, KeyError, ValueError) as error:
                raise unusable_state(self.run) from error
        del saved
        trainer.extended(self.peers.of_first(self.run.control()).steps)
        if self.recorder:
            self.recorder.begin(pictures, trainer.step)
            self._draw_missing_sample(trainer)
        yield from self._train(trainer, pictures)

    def _train(self, trainer: Trainer, pictures: PictureSet | CleanPictures) -> Iterator[Event]:
        recorder, end = self.recorder, None
        for event in trainer.run():
            end = self._end_after(event, trainer)
            if recorder:
                recorder.keep(event, trainer)
                late = isinstance(event, Progress) and recorder.is_save_late()
                if end or late or isinstance(event, Saved):
                    recorder.save(trainer, pictures)
            yield event
            if end:
                break
        if not recorder:
            return
        if trainer.step:  # the total was lowered, or the last save killed
            recorder.save(trainer, pictures)
        recorder.end(*(end or ("finished",)))

    # What all processes agree on

    def _is_over(self) -> bool:
        """Whether the run's time is."""
        minutes = self.config.minutes
        return self.peers.of_first(bool(self.recorder and minutes and self.recorder.worked > 60 * minutes))

    def _end_after(self, event: Event, trainer: Trainer) -> tuple[str, str] | None:
        """How and why the work ends after this event, if it does. A wish for another total is passed on."""
        if not isinstance(event, (Progress, Sampling)):
            return None
        control = self.peers.of_first(self.run.control())
        if control.steps != trainer.config.steps:
            trainer.extended(control.steps)
        is_over = isinstance(event, Progress) and self._is_over()
        if control.wish != "run":
            return ENDS[control.wish], ""
        return ("finished", f"The {self.config.minutes:g} minutes that it was given are over.") if is_over else None

    # Before training

    def _pictures(self) -> PictureSet | CleanPictures:
        """Opens the data, telling in the status how far that is. Raises _Left when somebody wishes for an end."""
        return self._prepared(lambda progress: _open(self.run, self.config, progress))

    def _as_latents(self, pictures: PictureSet | CleanPictures, model: Denoiser) -> PictureSet | CleanPictures:
        """The same pictures, encoded for a model that works in latents. Raises _Left like `_pictures`."""
        if isinstance(model.codec, Identity):
            return pictures
        mirrored, cache = self.config.training.flips and pictures.mirrorable, _source(self.run, self.config)[1]
        latents = self._prepared(
            lambda progress: encoded(pictures, model.codec, mirrored, self.device, cache, progress)
        )
        return replace(pictures, latents=latents)

    def _prepared(self, prepare: Callable[[OnProgress], T]) -> T:
        progress = self._tell_prepared if self.recorder and self.peers.count == 1 else unwatched
        progress(0, 0)
        made = prepare(progress)
        if self.recorder:
            self.recorder.prepared(0, 0)
        return made

    def _tell_prepared(self, done: int, total: int) -> None:
        if not self.recorder.is_time_to_tell():
            return
        if self.run.control().wish != "run":
            raise _Left
        if done and self._is_over():
            minutes = f"{self.config.minutes:g}"
            raise DataError(f"The {minutes} minutes of this run were over before its pictures were ready.")
        self.recorder.prepared(done, total)
        if total:
            self.preparing(done, total)

    def _model(self, pictures: PictureSet | CleanPictures, saved: SavedState | None) -> Denoiser:
        """The model to train. One that was saved comes from the run alone, whatever has become of what it started
        from."""
        config = self.config
        if saved:
            try:
                model = model_of(*saved, self.run.folder)
            except Exception as error:  # the tokenizers library raises bare Exception
                raise unusable_state(self.run) from error
        elif config.fast:
            model = started(self.run.folder / TEACHER, fast=True)
        elif config.start:
            model = started(config.start)
            if model.specialist and config.training.specialist:
                model = model.specialist
            elif model.specialist and self.recorder:
                self.run.note("It goes on without the specialist that it began with, and answers for itself.")
        elif config.kind == "restorer":
            model = new_restorer(config.size, config.resolution, config.training.seed)
        else:
            model = new_generator(pictures, config.size, config.training.seed, config.codec)
        # A fast version can learn of its teacher only, which must have known a word.
        if isinstance(pictures, PictureSet) and not config.fast:
            model.vocabulary = model.vocabulary.with_words_of(pictures.captions)
        return model

    def _draw_missing_sample(self, trainer: Trainer) -> None:
        """Draws the sample that a kill after the last save prevented."""
        if not trainer.step or not trainer.is_sample_due() or self.recorder.sample_file(trainer.step).exists():
            return
        for event in trainer.sampling():
            self.recorder.keep(event, trainer)
            if self.run.control().wish != "run":
                raise _Left  # what was saved is all there is


def _source(run: Run, config: RunConfig) -> tuple[str, Path | None]:
    """Where a run's pictures are, and the folder that keeps what is made of them: None for the usual one; uploaded ones
    are to be deleted with the run."""
    inside = run.folder / config.data
    if config.data.startswith(f"{UPLOAD}/") and inside.exists():
        return str(inside), run.folder / PREPARED
    return config.data, None


def _open(run: Run, config: RunConfig, progress: OnProgress) -> PictureSet | CleanPictures:
    """The pictures that a run trains on."""
    source, cache = _source(run, config)
    chosen = {"count": config.count, "styles": config.styles, "progress": progress}
    if config.kind == "restorer":
        return open_clean(source, smallest=config.resolution, **chosen)
    return open_data(
        source,
        config.resolution,
        chinese=config.chinese,
        caption_template=config.caption_template,
        fit=config.fit,
        cache=cache,
        **chosen,
    )
