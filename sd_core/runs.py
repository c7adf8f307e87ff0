"""A training run as a folder: what was asked for, how it stands, and what anybody may want of it.

The folder is the truth: whoever looks reads its files, whoever wants something writes `control.json`, and one process
at a time, the holder of `lock`, does the work (see run_worker.py). Nothing that happens to a page or to the app harms a
run.
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
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from filelock import FileLock, Timeout

from sd_core import checkpoint
from sd_core.denoiser import ModelConfig
from sd_core.training import TrainingConfig

RUNS = Path(os.environ.get("SD_CORE_RUNS", "runs"))
NICENESS = 10  # of a process that the page starts: whoever uses the page comes first
LOOK_SECONDS = 0.02  # how long a lock is tried for before it counts as held: another's look holds it for a moment
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
        kind: of model, "generator" or "restorer".
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
    kind: str = "generator"
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
        if self.kind == "restorer" and self.data == "cifar10":
            raise RunError("A restorer learns from large pictures; CIFAR-10's are too small.")
        try:
            ModelConfig(self.kind, self.size, self.resolution)
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
        run.write_status(Status("queued", steps=config.training.steps))
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
        lock = self.lock()
        try:
            lock.acquire(timeout=LOOK_SECONDS, poll_interval=LOOK_SECONDS / 4)
        except Timeout:
            return True
        lock.release()
        return False

    def is_starting(self) -> bool:
        """Whether a process that this program started is on its way, but does not hold the lock yet."""
        process = _processes.get(self.folder.resolve())
        return process is not None and process.poll() is None and self.known_status().state == "queued"

    def wished(self) -> str:
        """What it was asked for last, which it may not have got to yet."""
        return self.control()["wish"]

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
        _write_json(self.folder / "control.json", {"wish": wish, "steps": steps or self.control()["steps"]})

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
        self.write_status(replace(self._written_status(), state="queued", reason=""))
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
                    self.write_status(replace(status, state="failed", reason=self._last_words(code)))

    def _last_words(self, code: int) -> str:
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
            return f"Its process was ended from outside ({name}); it can be resumed."
        return f"Its process ended early: {self.log(1) or f'exit code {code}'}"

    def delete(self) -> None:
        if self.is_worked_on() or self.is_starting():
            raise RunError(f"{self.name} is being worked on. Stop it first.")
        shutil.rmtree(self.folder)

    # What its writers share

    def control(self) -> dict:
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

    def known_status(self) -> Status:
        """As written; a new one where that is damaged, since the run itself may be sound."""
        try:
            return self._written_status()
        except RunError:
            return Status("queued", steps=self.control()["steps"])

    def note(self, text: str) -> None:
        """A line for the log, with the time of day."""
        with open(self.folder / "log.txt", "a", encoding="utf-8") as log:
            log.write(f"{time.strftime('%H:%M:%S')} {text}\n")

    def write_status(self, status: Status) -> None:
        """Replaces the status as written."""
        _write_json(self.folder / "status.json", asdict(status))

    def lock(self) -> FileLock:
        """What a process holds while it works on the run."""
        return FileLock(self.folder / "lock", is_singleton=False)


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
    return replace(
        config, kind=model.kind, start=str(Path(config.start).resolve()), size=model.size, resolution=model.resolution
    )


def _whole_lines(lines: list[bytes]) -> Iterator[dict]:
    for line in lines:
        try:
            values = json.loads(line)
        except ValueError:
            continue
        if isinstance(values, dict) and isinstance(values.get("step"), int):
            yield values


def write_text(file: Path, text: str) -> None:
    """Replaces a file in one go, whoever else is doing the same."""
    new = file.with_name(f".{file.name}.{os.getpid()}-{threading.get_ident()}")
    new.write_text(text, "utf-8")
    os.replace(new, file)


def _write_json(file: Path, values: dict) -> None:
    write_text(file, json.dumps(values, indent=1, ensure_ascii=False))


def _read_json(file: Path) -> dict:
    return json.loads(file.read_text("utf-8"))
