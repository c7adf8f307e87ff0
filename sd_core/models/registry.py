"""The models at hand: released checkpoints, and what training runs have made so far. Loads each once, keeps a few."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import torch

from sd_core.device import best_device
from sd_core.environment import checkpoints_folder, runs_folder
from sd_core.errors import CheckpointError
from sd_core.models import checkpoint
from sd_core.models.checkpoint import Description
from sd_core.models.denoiser import Denoiser, ModelConfig

KEPT = 3  # models in memory at a time
FIRST = "characters"  # the model a newcomer meets


@dataclass(frozen=True)
class _Loaded:
    model: Denoiser
    stamp: tuple


class ModelRegistry:
    """Models by name: "characters" is a released one, "runs/mine" one's own. Safe to use from several threads.

    Args:
        checkpoints, runs: the folders to look in, by default those of the environment.
        device: where models go, by default the best one.
    """

    def __init__(self, checkpoints: Path | None = None, runs: Path | None = None, device: torch.device | None = None):
        self.checkpoints = checkpoints or checkpoints_folder()
        self.runs = runs or runs_folder()
        self.device = device or best_device()
        self._loaded: OrderedDict[str, _Loaded] = OrderedDict()
        self._lock = threading.Lock()

    def names(self, kind: str = "generator", few_steps: bool = True) -> list[str]:
        """The usable models of a kind, the newcomer's first, one's own last and newest first; perhaps without those of
        few steps, which draw and do nothing else."""
        released = sorted(p.name for p in _folders(self.checkpoints))
        released.sort(key=lambda name: name != FIRST)
        own = [p for p in _folders(self.runs) if (p / "checkpoint").is_dir()]
        own.sort(key=lambda p: -p.stat().st_mtime)
        every = [(name, self._model(name)) for name in [*released, *(f"runs/{p.name}" for p in own)]]
        return [name for name, model in every if model and model.kind == kind and (few_steps or not model.few_steps)]

    def _model(self, name: str) -> ModelConfig | None:
        try:
            return self.describe(name).model
        except CheckpointError:
            return None

    def folder(self, name: str) -> Path:
        """The folder of the model of that name.

        Raises:
            CheckpointError: there is none of that name.
        """
        where, part = (self.runs, name.removeprefix("runs/")) if name.startswith("runs/") else (self.checkpoints, name)
        if not part or part in (".", "..") or "/" in part or "\\" in part or not (where / part).is_dir():
            raise CheckpointError("There is no model {name!r}; choose one from the list.", name=name)
        return where / part / "checkpoint" if where is self.runs else where / part

    def name_of(self, folder: Path) -> str | None:
        """The name under which this registry knows the model in `folder`, or None."""
        return next((name for name in self.names() if self.folder(name).resolve() == folder.resolve()), None)

    def describe(self, name: str) -> Description:
        """What a model's `config.json` says. Raises CheckpointError like `checkpoint.describe`."""
        return checkpoint.describe(self.folder(name))

    def card(self, name: str, most: int) -> str:
        """What the model's card says, in Markdown, up to so many characters; nothing where it has none. Raises
        CheckpointError like `folder`."""
        try:
            with open(self.folder(name) / checkpoint.CARD, encoding="utf-8", errors="replace") as file:
                return file.read(most)
        except OSError:
            return ""

    def load(self, name: str) -> Denoiser:
        """A model, frozen. One that changed on disk since (a run goes on) is loaded again.

        Raises:
            CheckpointError: it is missing or unusable.
        """
        folder = self.folder(name)
        with self._lock:
            stamp = _stamp(folder)
            if name not in self._loaded or self._loaded[name].stamp != stamp:
                self._loaded[name] = _Loaded(checkpoint.load(folder, self.device), stamp)
            self._loaded.move_to_end(name)
            while len(self._loaded) > KEPT:
                self._loaded.popitem(last=False)
            return self._loaded[name].model


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]


def _stamp(folder: Path) -> tuple:
    """Changes whenever the model's weights do: an atomic replace gives a new file."""
    try:
        found = (folder / checkpoint.WEIGHTS).stat()
    except OSError:
        return ()
    return (found.st_mtime_ns, found.st_ino, found.st_size)
