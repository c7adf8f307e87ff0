"""A training run as a folder, and the process that works on it.

The folder is the truth: whoever looks reads its files, whoever wants something writes `control.json`, and one process at a
time, the holder of `lock`, does the work. Nothing that happens to a page or to the app harms a run.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from safetensors import safe_open
from safetensors.torch import save_file

from sd_core import checkpoint
from sd_core.data import DataError, PictureSet, open_data
from sd_core.denoiser import Denoiser
from sd_core.device import best_device, describe
from sd_core.images import grid, to_pixels
from sd_core.training import (
    Finished,
    Peers,
    Progress,
    Samples,
    Saved,
    Trainer,
    TrainingConfig,
    TrainingFailed,
    new_generator,
)

RUNS = Path(os.environ.get("SD_CORE_RUNS", "runs"))
SAVE_SECONDS = 120.0  # work lost to a kill is at most this, or `save_every` steps if that is shorter
STATES = ("queued", "running", "paused", "stopped", "finished", "failed")
WISHES = ("run", "pause", "stop")
_NAME = re.compile(r"[\w][\w .-]{0,63}")


class RunError(ValueError):
    """A run cannot do what was asked; the message says why."""


@dataclass(frozen=True)
class RunConfig:
    """What was asked for: everything a process needs to do the work.

    Attributes:
        data: "characters", "cifar10", or the path of a folder or .zip; see `sd_core.data.open_data`.
        styles, count: which characters and how many pictures; None for all there are.
        caption_template: for class folders, see `sd_core.data.open_data`.
        size, resolution: of a fresh model.
        start: a checkpoint folder to fine-tune; "" for a fresh model.
    """

    data: str
    styles: tuple[str, ...] | None = None
    count: int | None = None
    caption_template: str = "{}"
    size: str = "small"
    resolution: int = 64
    start: str = ""
    training: TrainingConfig = field(default_factory=TrainingConfig)

    @classmethod
    def from_json(cls, text: str) -> "RunConfig":
        """Reads what `asdict` wrote; fields this program does not know are an error."""
        values = json.loads(text)
        training = values.pop("training")
        training["sample_prompts"] = tuple(training["sample_prompts"])
        values["styles"] = tuple(values["styles"]) if values["styles"] else None
        return cls(training=TrainingConfig(**training), **values)


@dataclass(frozen=True)
class Status:
    """How a run stands. `state` is one of `STATES`; `reason` says why where that is not plain."""

    state: str
    reason: str = ""
    step: int = 0
    steps: int = 0
    pictures_seen: int = 0
    pictures_per_second: float = 0.0
    seconds_left: float = 0.0
    seconds_worked: float = 0.0
    device: str = ""


class Run:
    """A run's folder."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint"

    @classmethod
    def create(cls, name: str, config: RunConfig, root: Path | None = None) -> "Run":
        """A new run, queued.

        Raises:
            RunError: the name is taken or not fit for a folder.
        """
        if not _NAME.fullmatch(name):
            raise RunError("A run's name has letters, digits, spaces, dots and dashes, at most 64, and begins with a letter.")
        run = cls((root or RUNS) / name)
        try:
            (run.folder / "samples").mkdir(parents=True)
        except FileExistsError:
            raise RunError(f"There is a run named {name} already.") from None
        _write_json(run.folder / "config.json", asdict(config))
        run.wish("run", config.training.steps)
        run._write_status(Status("queued", steps=config.training.steps))
        return run

    @classmethod
    def all(cls, root: Path | None = None) -> list["Run"]:
        """Every run below `root`, newest first."""
        folders = [f.parent for f in (root or RUNS).glob("*/config.json")]
        return [cls(f) for f in sorted(folders, key=lambda f: (f / "config.json").stat().st_mtime, reverse=True)]

    # What anybody may read

    def config(self) -> RunConfig:
        try:
            return RunConfig.from_json((self.folder / "config.json").read_text("utf-8"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{self.folder} is not a run, or its config.json is damaged: {error}.") from error

    def status(self) -> Status:
        """The run's state as it is now: a run that says running while nobody holds its lock has failed."""
        status = Status(**_read_json(self.folder / "status.json"))
        if status.state == "running" and not self.is_worked_on():
            return Status(**{**asdict(status), "state": "failed", "reason": "Its process ended without a word."})
        return status

    def is_worked_on(self) -> bool:
        lock = self._lock()
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return True
        lock.release()
        return False

    def metrics(self) -> list[dict]:
        """The logged steps, oldest first. A line torn by a crash is left out."""
        file = self.folder / "metrics.jsonl"
        return list(_whole_lines(file)) if file.exists() else []

    def samples(self) -> list[Path]:
        """The sample grids, oldest first."""
        return sorted((self.folder / "samples").glob("*.png"))

    def log(self, lines: int = 50) -> str:
        file = self.folder / "log.txt"
        return "\n".join(file.read_text("utf-8", errors="replace").splitlines()[-lines:]) if file.exists() else ""

    # What anybody may want

    def wish(self, wish: str, steps: int | None = None) -> None:
        """Asks for "run", "pause" or "stop", and perhaps another total of steps. The process obeys after the step in hand."""
        if wish not in WISHES:
            raise RunError(f"A run can be asked to {', '.join(WISHES)}, not {wish!r}.")
        _write_json(self.folder / "control.json", {"wish": wish, "steps": steps or self._control()["steps"]})

    def start(self) -> None:
        """Starts a process of its own for this run, which outlives this one."""
        if self.is_worked_on():
            raise RunError(f"{self.name} is being worked on already.")
        self.wish("run")
        self._write_status(Status(**{**asdict(self.status()), "state": "queued", "reason": ""}))
        with open(self.folder / "log.txt", "ab") as log:
            subprocess.Popen(
                [sys.executable, "-m", "sd_core", "train", "--run", str(self.folder.resolve()), "--quiet"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=Path(__file__).parent.parent,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    def delete(self) -> None:
        if self.is_worked_on():
            raise RunError(f"{self.name} is being worked on. Stop it first.")
        shutil.rmtree(self.folder)

    # What only the working process does

    def work(self) -> Iterator[Progress | Samples | Saved | Finished]:
        """Works on the run until it is finished or somebody wishes otherwise, passing on the training's events.

        Raises:
            RunError: another process works on it.
            DataError, CheckpointError, TrainingFailed: as named; the run's status then says failed, and why.
        """
        device = best_device()
        peers = Peers.join(device)
        lock = self._lock() if peers.rank == 0 else None
        if lock:
            try:
                lock.acquire(blocking=False)
            except Timeout:
                raise RunError(f"Another process is working on {self.name}.") from None
        try:
            yield from self._work(device, peers)
        except GeneratorExit:
            raise
        except BaseException as error:
            if peers.rank == 0:
                self._write_status(Status(**{**asdict(self.status()), "state": "failed", "reason": _reason(error)}))
            raise
        finally:
            if lock:
                lock.release()

    def _work(self, device: torch.device, peers: Peers) -> Iterator[Progress | Samples | Saved | Finished]:
        config = self.config()
        keeper = peers.rank == 0
        before = Status(**_read_json(self.folder / "status.json"))
        if keeper:
            self._write_status(Status(**{**asdict(before), "state": "running", "reason": "", "device": describe(device)}))
        pictures = open_data(
            config.data,
            config.resolution,
            count=config.count,
            styles=config.styles,
            caption_template=config.caption_template,
        )
        trainer = Trainer(self._model(config, pictures), pictures, config.training, device, peers)
        self._resume(trainer)
        trainer.extended(self._control()["steps"])
        started, saved_at = time.monotonic(), time.monotonic()
        for event in trainer.run():
            worked = before.seconds_worked + time.monotonic() - started
            wish = _from_first(self._control(), peers)["wish"]
            if keeper and isinstance(event, Progress):
                self._log_progress(event, worked, describe(device))
            if keeper and isinstance(event, Samples):
                self._save_samples(event)
            leaving = wish != "run" and isinstance(event, Progress)
            late = isinstance(event, Progress) and time.monotonic() - saved_at > SAVE_SECONDS
            if keeper and (isinstance(event, Saved) or leaving or late):
                self._save(trainer, pictures, worked, describe(device))
                saved_at = time.monotonic()
            yield event
            if leaving:
                self._end({"pause": "paused", "stop": "stopped"}[wish], keeper)
                return
        self._end("finished", keeper)

    def _model(self, config: RunConfig, pictures: PictureSet) -> Denoiser:
        if not config.start:
            return new_generator(pictures, config.size, config.training.seed)
        model = checkpoint.load(config.start)
        model.vocabulary = model.vocabulary.with_words_of(pictures.captions)
        return model

    def _log_progress(self, event: Progress, worked: float, device: str) -> None:
        with open(self.folder / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(event) | {"seconds": round(worked, 3)}) + "\n")
        known = {f.name for f in fields(Status)}
        values = {k: v for k, v in asdict(event).items() if k in known}
        self._write_status(Status("running", seconds_worked=worked, device=device, **values))

    def _save_samples(self, event: Samples) -> None:
        file = self.folder / "samples" / f"{event.step:06d}.png"
        new = file.with_suffix(".new")
        grid(to_pixels(event.pictures)).save(new, format="PNG")
        os.replace(new, file)

    def _save(self, trainer: Trainer, pictures: PictureSet, worked: float, device: str) -> None:
        tensors, texts = trainer.state()
        file = self.folder / "state.safetensors"
        new = file.with_suffix(".new")
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, new, metadata=texts)
        with open(new, "rb") as opened:
            os.fsync(opened.fileno())
        os.replace(new, file)
        origin = checkpoint.Origin(
            data=f"{pictures.name}, {len(pictures):,} pictures. {pictures.credits}".strip(),
            pictures_seen=trainer.step * trainer.config.batch,
            steps=trainer.step,
            hardware=device,
            hours=worked / 3600,
            examples=trainer.sample_prompts()[:16],
        )
        checkpoint.save(trainer.ema, self.checkpoint, origin)

    def _resume(self, trainer: Trainer) -> None:
        """Goes back to the last save, and forgets what was logged after it."""
        file = self.folder / "state.safetensors"
        if file.exists():
            with safe_open(file, "pt") as opened:
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
                trainer.load_state(tensors, opened.metadata())
        if trainer.peers.rank == 0:
            kept = [json.dumps(line) + "\n" for line in self.metrics() if line["step"] <= trainer.step]
            _write_text(self.folder / "metrics.jsonl", "".join(kept))
            for sample in self.samples():
                if int(sample.stem) > trainer.step:
                    sample.unlink()

    def _end(self, state: str, keeper: bool) -> None:
        if keeper:
            now = Status(**_read_json(self.folder / "status.json"))
            self._write_status(Status(**{**asdict(now), "state": state, "seconds_left": 0.0}))

    def _control(self) -> dict:
        file = self.folder / "control.json"
        return _read_json(file) if file.exists() else {"wish": "run", "steps": self.config().training.steps}

    def _write_status(self, status: Status) -> None:
        _write_json(self.folder / "status.json", asdict(status))

    def _lock(self) -> FileLock:
        return FileLock(self.folder / "lock", is_singleton=False)


def _reason(error: BaseException) -> str:
    """One sentence for the status; the traceback of what nobody expected goes to the log."""
    if isinstance(error, (DataError, checkpoint.CheckpointError, TrainingFailed, RunError)):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "It was interrupted."
    traceback.print_exc()
    return f"{type(error).__name__}: {error}"


def _from_first(value: dict, peers: Peers) -> dict:
    """What the first process read: all must agree, or they would wait for one another for ever."""
    if peers.count == 1:
        return value
    box = [value]
    torch.distributed.broadcast_object_list(box)
    return box[0]


def _whole_lines(file: Path) -> Iterator[dict]:
    with open(file, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:
                continue


def _write_text(file: Path, text: str) -> None:
    new = file.with_suffix(file.suffix + ".new")
    new.write_text(text, "utf-8")
    os.replace(new, file)


def _write_json(file: Path, values: dict) -> None:
    _write_text(file, json.dumps(values, indent=1, ensure_ascii=False))


def _read_json(file: Path) -> dict:
    return json.loads(file.read_text("utf-8"))
