"""A training run as a folder: what was asked for, how it stands, and what anybody may want of it.

The folder is the truth: whoever looks reads its files, whoever wants something writes `control.json`, and one process
at a time, the holder of `lock`, does the work (see worker.py), when its turn comes (see queue.py). Nothing that
happens to a page or to the app harms a run.

torch is not imported here: the process that keeps the queue is small and starts at once.
"""

import json
import os
import re
import shutil
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from filelock import FileLock, Timeout
from pydantic import Field

from sd_core.atomic import replacing
from sd_core.environment import runs_folder
from sd_core.errors import RunError
from sd_core.runs import metrics_log
from sd_core.validation import checked, from_json

if TYPE_CHECKING:
    from sd_core.runs.config import RunConfig

T = TypeVar("T")
LOOK_SECONDS = 0.02  # how long a lock is tried for before it counts as held: another's look holds it for a moment
SURE_SECONDS = 0.5  # the same where something is decided by it
TEACHER = "teacher"  # the folder, inside a run's, with the model that a fast version is made of
UPLOAD = "upload"  # the folder, inside a run's, that keeps the pictures it was given
_NAME = re.compile(r"\w([\w .-]{0,62}\w)?")


@checked(error=RunError)
class Status:
    """How a run stands.

    Attributes:
        reason: why, where that is not plain.
        prepared, pictures: while the pictures are being drawn or read, how many are, of how many; 0 of 0 afterwards.
        drawn, draws: while a sample grid is being drawn, its denoising steps done, of how many; 0 of 0 otherwise.
        memory: most bytes taken so far, of the accelerator's memory or else of the machine's.
        the others: as in `training.Progress`.
    """

    state: Literal["queued", "running", "paused", "stopped", "finished", "failed"]
    reason: str = ""
    prepared: int = 0
    pictures: int = 0
    drawn: int = 0
    draws: int = 0
    step: int = 0
    steps: int = 0
    pictures_seen: int = 0
    loss: float = 0.0
    learning_rate: float = 0.0
    pictures_per_second: float = 0.0
    seconds_left: float = 0.0
    seconds_worked: float = 0.0
    memory: int = 0
    device: str = ""


@checked(error=RunError)
class Control:
    """What is wished for.

    Attributes:
        steps: the total of steps.
        ticket: who has the lower one comes first; 0 for a run that is not in the queue.
    """

    wish: Literal["run", "pause", "stop"]
    steps: int = Field(ge=1, title="The number of steps")
    ticket: int = 0


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
    def create(cls, name: str, config: "RunConfig", root: Path | None = None, upload: Path | None = None) -> "Run":
        """A new run, waiting for somebody to work on it or to put it into the queue.

        Args:
            name: of its folder.
            config: what to do.
            root: where runs are.
            upload: a folder or .zip of pictures to train on instead of `config.data`; the run keeps a copy.

        Raises:
            RunError: the name is taken or not fit for a folder, or the disk is full.
            CheckpointError: the model to start from is missing or unusable.
        """
        if not _NAME.fullmatch(name):
            raise RunError(
                "A run's name has up to 64 letters, digits, spaces, dots and dashes, and begins and ends with a letter "
                "or digit."
            )
        config = config.settled()
        run = cls((root or runs_folder()) / name)
        try:
            run.folder.mkdir(parents=True)
            try:
                run._fill(config, upload)
            except BaseException:
                shutil.rmtree(run.folder, ignore_errors=True)
                raise
        except FileExistsError:
            raise RunError("There is a run named {name} already.", name=name) from None
        except OSError as error:
            raise RunError(f"The run could not be written ({error.strerror or error}).") from error
        return run

    def _fill(self, config: "RunConfig", upload: Path | None) -> None:
        (self.folder / "samples").mkdir()
        if upload:
            kept = self.folder / UPLOAD / Path(upload).name
            kept.parent.mkdir()
            (shutil.copytree if Path(upload).is_dir() else shutil.copyfile)(upload, kept)
            config = replace(config, data=f"{UPLOAD}/{kept.name}")
        if config.fast:
            from sd_core.models import checkpoint  # here, since it brings torch

            checkpoint.save(checkpoint.load(config.start), self.folder / TEACHER)
        _write_json(self.folder / "control.json", Control("run", config.training.steps))
        self.write_status(Status("queued", steps=config.training.steps))
        _write_json(self.folder / "config.json", config)  # last: it makes the folder a run

    @classmethod
    def all(cls, root: Path | None = None) -> list["Run"]:
        """Every run below `root`, newest first."""
        found = []
        for file in (root or runs_folder()).glob("*/config.json"):
            if not file.parent.name.startswith("."):
                with suppress(OSError):  # deleted in the meantime
                    found.append((file.stat().st_mtime, file.parent))
        return [cls(folder) for _, folder in sorted(found, reverse=True)]

    # What anybody may read

    def config(self) -> "RunConfig":
        """What was asked for. Raises RunError where that cannot be read."""
        from sd_core.runs.config import RunConfig  # here, since it brings torch

        return self._read(RunConfig, "config.json")

    def status(self) -> Status:
        """The run's state as it is now: a run that says running while nobody holds its lock has failed.

        Raises:
            RunError: its file is missing or damaged.
        """
        for _ in range(2):  # its process may end well between the two looks at the file and at the lock
            status = self._read(Status, "status.json")
            if status.state != "running" or self.is_worked_on():
                return status
        return replace(status, state="failed", reason="Its process ended without a word; it can be resumed.")

    def is_worked_on(self, patience: float = LOOK_SECONDS) -> bool:
        """Whether a process holds its lock: works on it, or waits for its turn to."""
        if not (self.folder / "lock").exists():
            return False
        try:
            return is_held(self.lock(), patience)
        except OSError:  # deleted at this moment
            return False

    def control(self) -> Control:
        """What it was asked for last, which it may not have got to yet; a damaged wish is none."""
        try:
            return self._read(Control, "control.json")
        except RunError:
            return Control("run", self.config().training.steps)

    def known_status(self) -> Status:
        """As written; a new one where that is damaged, since the run itself may be sound."""
        try:
            return self._read(Status, "status.json")
        except RunError:
            return Status("queued", steps=self.control().steps)

    def metrics(self, most: int | None = None) -> list[dict]:
        """The logged steps, oldest first; evenly thinned to about `most`, the last always among them.

        A line torn by a crash is left out.
        """
        return metrics_log.read(self.folder / "metrics.jsonl", most)

    def samples(self) -> list[Path]:
        """The sample grids, oldest first."""
        return sorted((self.folder / "samples").glob("*.png"), key=lambda path: (len(path.name), path.name))

    def log(self, lines: int = 50) -> str:
        """The last lines of the log."""
        file = self.folder / "log.txt"
        try:
            with open(file, "rb") as opened:
                opened.seek(max(0, os.fstat(opened.fileno()).st_size - 400 * lines))
                return "\n".join(opened.read().decode("utf-8", errors="replace").splitlines()[-lines:])
        except OSError:  # none yet
            return ""

    # What anybody may want

    def wish(self, wish: str, steps: int | None = None, ticket: int | None = None) -> None:
        """Asks for "run", "pause" or "stop", and perhaps another total of steps. The process obeys within a second or
        so, after the step in hand."""
        asked = {"wish": wish, "steps": steps, "ticket": ticket}
        control = replace(self.control(), **{key: value for key, value in asked.items() if value is not None})
        _write_json(self.folder / "control.json", control)

    def delete(self) -> None:
        """Removes the run and everything in it.

        Raises:
            RunError: it is being worked on.
        """
        if not (self.folder / "config.json").exists():
            raise RunError("There is no run named {name} any more.", name=self.name)
        gone = self.folder.with_name(f".deleted-{uuid.uuid4().hex[:8]}")
        try:
            with self.lock().acquire(timeout=SURE_SECONDS):
                self.folder.rename(gone)  # at once: nobody finds half a run
        except Timeout:
            raise RunError("{name} is being worked on. Stop it first.", name=self.name) from None
        shutil.rmtree(gone, ignore_errors=True)

    # What its writers share

    def _read(self, kind: type[T], file: str) -> T:
        """What one of its files says. Raises RunError where it is missing or damaged."""
        try:
            return from_json(kind, (self.folder / file).read_bytes())
        except (OSError, RunError) as error:
            raise RunError(f"{self.name} is not a run, or its {file} is damaged ({str(error).rstrip('.')}).") from error

    def note(self, text: str) -> None:
        """A line for the log, with the time of day."""
        with open(self.folder / "log.txt", "a", encoding="utf-8") as log:
            log.write(f"{time.strftime('%H:%M:%S')} {text}\n")

    def write_status(self, status: Status) -> None:
        """Replaces the status as written."""
        _write_json(self.folder / "status.json", status)

    def lock(self) -> FileLock:
        """What a process holds while it works on the run."""
        return FileLock(self.folder / "lock", is_singleton=False)


def is_held(lock: FileLock, patience: float = 0.0) -> bool:
    """Whether somebody holds a lock, who is waited for so long."""
    try:
        with lock.acquire(timeout=patience, poll_interval=LOOK_SECONDS / 4):
            return False
    except Timeout:
        return True


def new_name(data: str, root: Path | None = None) -> str:
    """A free name for a run on `data`: its name and the next number."""
    stem = re.sub(r"[^\w.-]+", "-", Path(data).stem).strip(".-_")[:40] or "run"
    names = (f"{stem}-{number}" for number in count(1))
    return next(name for name in names if not ((root or runs_folder()) / name).exists())


def _write_json(file: Path, values: "Status | Control | RunConfig") -> None:
    """Replaces a file in one go, whoever else is doing the same."""
    with replacing(file) as new:
        new.write_text(json.dumps(asdict(values), indent=1, ensure_ascii=False), "utf-8")
