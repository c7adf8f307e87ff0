"""A training run as a folder, and the process that works on it.

The folder is the truth: whoever looks reads its files, whoever wants something writes `control.json`, and one process
at a time, the holder of `lock`, does the work. Nothing that happens to a page or to the app harms a run.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sd_core import checkpoint
from sd_core.data import DataError, PictureSet, open_data
from sd_core.denoiser import Denoiser, ModelConfig
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
TELL_SECONDS = 0.5  # between reports of how far the pictures are prepared
NICENESS = 10  # of a process that the page starts: whoever uses the page comes first
LOOK_SECONDS, TAKE_SECONDS = 0.02, 2.0  # looking at a lock holds it for a moment, which whoever wants it waits out
MOST_NAMED = 20  # pictures left out that the log names
BUILT_IN = ("characters", "cifar10")
UPLOAD = "upload"  # the folder, inside a run's, that keeps the pictures it was given
STATES = ("queued", "running", "paused", "stopped", "finished", "failed")
WISHES = ("run", "pause", "stop")
_NAME = re.compile(r"\w([\w .-]{0,62}\w)?")


class RunError(ValueError):
    """A run cannot do what was asked; the message says why."""


@dataclass(frozen=True)
class RunConfig:
    """What was asked for: everything a process needs to do the work.

    Attributes:
        data: "characters", "cifar10", or the path of a folder or .zip (perhaps one inside the run's folder); see
            `sd_core.data.open_data`.
        styles, count: which characters and how many pictures; None for all there are.
        caption_template: for class folders, see `sd_core.data.open_data`.
        size, resolution: of a fresh model.
        start: a checkpoint folder to fine-tune, which keeps its own size and resolution; "" for a fresh model.

    Raises:
        RunError: one of them makes no sense; the message is one sentence.
    """

    data: str
    styles: tuple[str, ...] | None = None
    count: int | None = None
    caption_template: str = "{}"
    size: str = "small"
    resolution: int = 64
    start: str = ""
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self):
        if not self.data.strip():
            raise RunError("Choose what to train on: characters, cifar10, or a folder or .zip of pictures.")
        if self.styles is not None and (self.data != "characters" or not self.styles):
            raise RunError("Choose at least one style, for the built-in characters only.")
        if self.count is not None and self.count < 1:
            raise RunError(f"A run needs at least 1 picture, not {self.count}.")
        try:
            ModelConfig.generator(self.size, self.resolution)
        except ValueError as error:
            raise RunError(str(error)) from error

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
    """How a run stands.

    Attributes:
        state: one of `STATES`.
        reason: why, where that is not plain.
        prepared, pictures: while the pictures are being drawn or read, how many are, of how many; 0 of 0 afterwards.
        the others: as in `training.Progress`.
    """

    state: str
    reason: str = ""
    prepared: int = 0
    pictures: int = 0
    step: int = 0
    steps: int = 0
    pictures_seen: int = 0
    loss: float = 0.0
    pictures_per_second: float = 0.0
    seconds_left: float = 0.0
    seconds_worked: float = 0.0
    device: str = ""


_processes: dict[Path, subprocess.Popen] = {}  # by run's folder: the newest that this program started


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
    def create(cls, name: str, config: RunConfig, root: Path | None = None, upload: Path | None = None) -> "Run":
        """A new run, queued.

        Args:
            name: of its folder.
            config: what to do.
            root: where runs are.
            upload: a file of pictures to train on instead of `config.data`; the run keeps a copy.

        Raises:
            RunError: the name is taken or not fit for a folder.
            CheckpointError: the model to start from is missing or unusable.
        """
        if not _NAME.fullmatch(name):
            raise RunError(
                "A run's name has up to 64 letters, digits, spaces, dots and dashes, and begins and ends with a letter "
                "or digit."
            )
        config = _settled(config)
        run = cls((root or RUNS) / name)
        try:
            run.folder.mkdir(parents=True)
        except FileExistsError:
            raise RunError(f"There is a run named {name} already.") from None
        (run.folder / "samples").mkdir()
        if upload:
            (run.folder / UPLOAD).mkdir()
            shutil.copyfile(upload, run.folder / UPLOAD / Path(upload).name)
            config = replace(config, data=f"{UPLOAD}/{Path(upload).name}")
        run.wish("run", config.training.steps)
        run._write_status(Status("queued", steps=config.training.steps))
        _write_json(run.folder / "config.json", asdict(config))  # last: it makes the folder a run
        return run

    @classmethod
    def all(cls, root: Path | None = None) -> list["Run"]:
        """Every run below `root`, newest first."""
        found = []
        for file in (root or RUNS).glob("*/config.json"):
            with suppress(OSError):  # deleted in the meantime
                found.append((file.stat().st_mtime, file.parent))
        return [cls(folder) for _, folder in sorted(found, reverse=True)]

    @classmethod
    def busy(cls, root: Path | None = None) -> "Run | None":
        """A run below `root` that is worked on or about to be, if any."""
        return next((run for run in cls.all(root) if run.is_worked_on() or run.is_starting()), None)

    # What anybody may read

    def config(self) -> RunConfig:
        try:
            return RunConfig.from_json((self.folder / "config.json").read_text("utf-8"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{self.name} is not a run, or its config.json is damaged ({error}).") from error

    def status(self) -> Status:
        """The run's state as it is now: a run that says running while nobody holds its lock has failed.

        Raises:
            RunError: its file is missing or damaged.
        """
        status = self._written_status()
        if status.state == "running" and not self.is_worked_on():
            status = self._written_status()  # its process may have ended well between the two looks
        if status.state == "running" and not self.is_worked_on():
            return replace(status, state="failed", reason="Its process ended without a word; it can be resumed.")
        return status

    def is_worked_on(self) -> bool:
        if not (self.folder / "lock").exists():
            return False
        lock = self._lock()
        try:
            lock.acquire(timeout=LOOK_SECONDS, poll_interval=LOOK_SECONDS / 4)
        except Timeout:
            return True
        lock.release()
        return False

    def is_starting(self) -> bool:
        """Whether a process that this program started is on its way, but does not hold the lock yet."""
        process = _processes.get(self.folder.resolve())
        return process is not None and process.poll() is None and self._known_status().state == "queued"

    def wished(self) -> str:
        """What it was asked for last, which it may not have got to yet."""
        return self._control()["wish"]

    def metrics(self, most: int | None = None) -> list[dict]:
        """The logged steps, oldest first; evenly thinned to about `most`, the last always among them.

        A line torn by a crash is left out.
        """
        file = self.folder / "metrics.jsonl"
        if not file.exists():
            return []
        lines = file.read_bytes().splitlines()
        if most and len(lines) > most:
            lines = [lines[round((i + 1) * len(lines) / most) - 1] for i in range(most)]
        return list(_whole_lines(lines))

    def samples(self) -> list[Path]:
        """The sample grids, oldest first."""
        return sorted((self.folder / "samples").glob("*.png"))

    def log(self, lines: int = 50) -> str:
        file = self.folder / "log.txt"
        return "\n".join(file.read_text("utf-8", errors="replace").splitlines()[-lines:]) if file.exists() else ""

    # What anybody may want

    def wish(self, wish: str, steps: int | None = None) -> None:
        """Asks for "run", "pause" or "stop", and perhaps another total of steps. The process obeys within a second or
        so, after the step in hand."""
        if wish not in WISHES:
            raise RunError(f"A run can be asked to {', '.join(WISHES)}, not {wish!r}.")
        if steps is not None and steps < 1:
            raise RunError(f"A run has at least 1 step, not {steps}.")
        _write_json(self.folder / "control.json", {"wish": wish, "steps": steps or self._control()["steps"]})

    def start(self) -> None:
        """Starts a process of its own for this run, which outlives this one.

        Raises:
            RunError: this run, or another one beside it, is being worked on.
        """
        self.config()
        if (other := Run.busy(self.folder.parent)) is not None:
            if other.name == self.name:
                raise RunError(f"{self.name} is being worked on already.")
            raise RunError(f"{other.name} is running, and one run at a time is enough; pause or stop it first.")
        self.wish("run")
        self._write_status(replace(self._written_status(), state="queued", reason=""))
        with open(self.folder / "log.txt", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "sd_core", "train", "--run", str(self.folder.resolve()), "--quiet"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=Path(__file__).parent.parent,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        with suppress(OSError, AttributeError):  # it has ended already, or the system knows no priorities
            os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
        _processes[self.folder.resolve()] = process
        threading.Thread(target=self._wait_for, args=(process,), name="run", daemon=True).start()

    def _wait_for(self, process: subprocess.Popen) -> None:
        """Tells why a process ended that could not tell itself: it was killed, or never came as far as the run."""
        code = process.wait()
        with suppress(RunError, OSError):
            if _processes.get(self.folder.resolve()) is process and not self.is_worked_on():
                status = self._written_status()
                if status.state in ("queued", "running"):
                    self._write_status(replace(status, state="failed", reason=self._last_words(code)))

    def _last_words(self, code: int) -> str:
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
            return f"Its process was ended from outside ({name}); it can be resumed."
        return f"Its process ended early: {self.log(1) or f'exit code {code}'}"

    def delete(self) -> None:
        if self.is_worked_on() or self.is_starting():
            raise RunError(f"{self.name} is being worked on. Stop it first.")
        shutil.rmtree(self.folder)

    # What only the working process does

    def work(self) -> Iterator[Progress | Samples | Saved | Finished]:
        """Works on the run until it is finished or somebody wishes otherwise, passing on the training's events.

        Raises:
            RunError: another process works on it.
            DataError, CheckpointError, TrainingFailed: as named; the run's status then says failed, and why.
        """
        config = self.config()
        device = best_device()
        peers = Peers.join(device)
        lock = self._lock() if peers.rank == 0 else None
        if lock:
            try:
                lock.acquire(timeout=TAKE_SECONDS)
            except Timeout:
                raise RunError(f"Another process is working on {self.name}.") from None
        try:
            yield from self._work(config, device, peers)
        except _Left:
            self._end(peers.rank == 0)
        except BaseException as error:
            if peers.rank == 0:
                self._write_status(replace(self._known_status(), state="failed", reason=_reason(error)))
            raise
        finally:
            if lock:
                lock.release()

    def _work(
        self, config: RunConfig, device: torch.device, peers: Peers
    ) -> Iterator[Progress | Samples | Saved | Finished]:
        keeper = peers.rank == 0
        before = self._known_status()
        if keeper:
            self._write_status(replace(before, state="running", reason="", device=describe(device)))
        pictures = self._pictures(config, peers)
        trainer = Trainer(self._model(config, pictures), pictures, config.training, device, peers)
        self._resume(trainer)
        trainer.extended(_from_first(self._control(), peers)["steps"])
        if keeper:
            self._note(f"Training on {len(pictures):,} pictures, from step {trainer.step}; {describe(device)}.")
            for skipped in pictures.skipped[:MOST_NAMED]:
                self._note(f"Left out {skipped.file}: {skipped.reason}.")
        if keeper and self._lacks_sample(trainer):
            self._save_samples(trainer.samples())
        started, saved_at = time.monotonic(), time.monotonic()
        for event in trainer.run():
            worked = before.seconds_worked + time.monotonic() - started
            leaving = isinstance(event, Progress) and _from_first(self._control(), peers)["wish"] != "run"
            if keeper and isinstance(event, Progress):
                self._log_progress(event, worked, describe(device))
            if keeper and isinstance(event, Samples):
                self._save_samples(event)
            late = isinstance(event, Progress) and time.monotonic() - saved_at > SAVE_SECONDS
            if keeper and (isinstance(event, Saved) or leaving or late):
                self._save(trainer, pictures, worked, describe(device))
                saved_at = time.monotonic()
            yield event
            if leaving:
                self._end(keeper)
                return
        self._end(keeper, "finished")

    def _pictures(self, config: RunConfig, peers: Peers) -> PictureSet:
        """Opens the data, telling in the status how far that is. Raises _Left when somebody wishes for an end."""
        told = -TELL_SECONDS

        def tell(done: int, total: int) -> None:
            nonlocal told
            if time.monotonic() - told < TELL_SECONDS:
                return
            told = time.monotonic()
            if self._control()["wish"] != "run":
                raise _Left
            self._write_status(replace(self._known_status(), prepared=done, pictures=total))

        inside = self.folder / config.data
        alone = peers.count == 1
        if alone:
            tell(0, 0)
        pictures = open_data(
            str(inside) if config.data.startswith(f"{UPLOAD}/") and inside.exists() else config.data,
            config.resolution,
            count=config.count,
            styles=config.styles,
            caption_template=config.caption_template,
            progress=tell if alone else None,
        )
        if peers.rank == 0:
            self._write_status(replace(self._known_status(), prepared=0, pictures=0))
        return pictures

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

    def _lacks_sample(self, trainer: Trainer) -> bool:
        """Whether the process before this one ended between a save and the sample due at the same step."""
        due = trainer.step and trainer.step % trainer.config.sample_every == 0
        return bool(due) and not (self.folder / "samples" / f"{trainer.step:06d}.png").exists()

    def _save_samples(self, event: Samples) -> None:
        file = self.folder / "samples" / f"{event.step:06d}.png"
        new = file.with_suffix(".new")
        grid(to_pixels(event.pictures)).save(new, format="PNG")
        os.replace(new, file)
        self._note(f"Drew samples at step {event.step}.")

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
        self._note(f"Saved at step {trainer.step}.")

    def _resume(self, trainer: Trainer) -> None:
        """Goes back to the last save, and forgets what was logged after it."""
        file = self.folder / "state.safetensors"
        if file.exists():
            try:
                with safe_open(file, "pt") as opened:
                    tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
                    texts = opened.metadata()
                trainer.load_state(tensors, texts)
            except (SafetensorError, RuntimeError, KeyError) as error:
                raise RunError(
                    f"The saved state of {self.name} is damaged; start a new run from its checkpoint instead."
                ) from error
        if trainer.peers.rank == 0:
            kept = [json.dumps(line) + "\n" for line in self.metrics() if line["step"] <= trainer.step]
            _write_text(self.folder / "metrics.jsonl", "".join(kept))
            for sample in self.samples():
                if int(sample.stem) > trainer.step:
                    sample.unlink()

    def _end(self, keeper: bool, state: str = "") -> None:
        """Writes the last status: `state`, or the one that was wished for."""
        if keeper:
            state = state or {"pause": "paused"}.get(self._control()["wish"], "stopped")
            now = replace(self._known_status(), prepared=0, pictures=0)
            self._write_status(replace(now, state=state, seconds_left=0.0))
            self._note(f"{state.capitalize()} after {now.step} steps.")

    def _control(self) -> dict:
        """What is wished for; a damaged wish is none."""
        try:
            control = _read_json(self.folder / "control.json")
            if control["wish"] in WISHES and isinstance(control["steps"], int):
                return control
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return {"wish": "run", "steps": self.config().training.steps}

    def _written_status(self) -> Status:
        try:
            status = Status(**_read_json(self.folder / "status.json"))
            if status.state not in STATES:
                raise ValueError(f"no state is called {status.state!r}")
            return status
        except (OSError, ValueError, TypeError) as error:
            raise RunError(f"The status of {self.name} is missing or damaged ({error}).") from error

    def _known_status(self) -> Status:
        """As written; a new one where that is damaged, since the run itself may be sound."""
        try:
            return self._written_status()
        except RunError:
            return Status("queued", steps=self._control()["steps"])

    def _note(self, text: str) -> None:
        """A line for the log, with the time of day."""
        with open(self.folder / "log.txt", "a", encoding="utf-8") as log:
            log.write(f"{time.strftime('%H:%M:%S')} {text}\n")

    def _write_status(self, status: Status) -> None:
        _write_json(self.folder / "status.json", asdict(status))

    def _lock(self) -> FileLock:
        return FileLock(self.folder / "lock", is_singleton=False)


class _Left(Exception):
    """Somebody wished for an end before training began."""


def new_name(data: str, root: Path | None = None) -> str:
    """A free name for a run on `data`: its name and the next number."""
    stem = re.sub(r"[^\w.-]+", "-", Path(data).stem).strip(".-_")[:40] or "run"
    number = 1
    while ((root or RUNS) / f"{stem}-{number}").exists():
        number += 1
    return f"{stem}-{number}"


def _settled(config: RunConfig) -> RunConfig:
    """`config` as a process elsewhere can follow it: with full paths, and the shape of the model it starts from."""
    if config.data not in BUILT_IN and Path(config.data).exists():
        config = replace(config, data=str(Path(config.data).resolve()))
    if not config.start:
        return config
    model = checkpoint.describe(Path(config.start)).model
    if model.kind != "generator":
        raise RunError("Only generators are trained so far; choose another model to start from.")
    return replace(config, start=str(Path(config.start).resolve()), size=model.size, resolution=model.resolution)


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


def _from_first(value: dict, peers: Peers) -> dict:
    """What the first process read: all must agree, or they would wait for one another for ever."""
    if peers.count == 1:
        return value
    box = [value]
    torch.distributed.broadcast_object_list(box)
    return box[0]


def _whole_lines(lines: list[bytes]) -> Iterator[dict]:
    for line in lines:
        try:
            values = json.loads(line)
        except ValueError:
            continue
        if isinstance(values, dict) and isinstance(values.get("step"), int):
            yield values


def _write_text(file: Path, text: str) -> None:
    new = file.with_suffix(file.suffix + ".new")
    new.write_text(text, "utf-8")
    os.replace(new, file)


def _write_json(file: Path, values: dict) -> None:
    _write_text(file, json.dumps(values, indent=1, ensure_ascii=False))


def _read_json(file: Path) -> dict:
    return json.loads(file.read_text("utf-8"))
