"""What a training run is asked for."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from sd_core.data.folder import FITS
from sd_core.errors import RunError
from sd_core.models import checkpoint
from sd_core.models.denoiser import ModelConfig
from sd_core.training.config import TrainingConfig

BUILT_IN = ("characters", "cifar10")


@dataclass(frozen=True)
class RunConfig:
    """What was asked for: everything a process needs to do the work.

    Attributes:
        kind: of model, "generator" or "restorer".
        data: "characters", "cifar10", or the path of a folder or .zip (perhaps one inside the run's folder); see
            `sd_core.data.open_data`.
        styles, count: which characters and how many pictures; None for all there are.
        caption_template, fit: of a generator's pictures, see `sd_core.data.open_data`.
        size, resolution: of a fresh model.
        start: a checkpoint folder to fine-tune, which keeps its own size and resolution; "" for a fresh model.
        minutes: of work, after which the run ends with what it has; 0 for as long as its steps take.

    Raises:
        RunError: one of them makes no sense; the message is one sentence.
    """

    data: str
    kind: str = "generator"
    styles: tuple[str, ...] | None = None
    count: int | None = None
    caption_template: str = "{}"
    fit: str = "crop"
    size: str = "small"
    resolution: int = 64
    start: str = ""
    minutes: float = 0.0
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self):
        if not self.data.strip():
            raise RunError("Choose what to train on: characters, cifar10, or a folder or .zip of pictures.")
        if self.styles is not None and (self.data != "characters" or not self.styles):
            raise RunError("Choose at least one style, for the built-in characters only.")
        if self.count is not None and self.count < 1:
            raise RunError(f"A run needs at least 1 picture, not {self.count}.")
        if self.fit not in FITS:
            raise RunError(f"Pictures are fitted by {', '.join(FITS)}, not {self.fit!r}.")
        if not self.minutes >= 0:
            raise RunError(f"A run cannot work for {self.minutes} minutes.")
        if self.kind == "restorer" and self.data == "cifar10":
            raise RunError("A restorer learns from large pictures, and CIFAR-10's are too small.")
        if self.training.specialist and self.kind != "restorer":
            raise RunError("Only a restorer can be taught to be a specialist.")
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

    def settled(self) -> "RunConfig":
        """The same as a process elsewhere can follow it: with full paths, and the shape of the model it starts from.

        Raises:
            CheckpointError: the model to start from is missing or unusable.
        """
        config = self
        if config.data not in BUILT_IN and Path(config.data).exists():
            config = replace(config, data=str(Path(config.data).resolve()))
        if not config.start:
            return config
        model = checkpoint.describe(Path(config.start)).model
        start = str(Path(config.start).resolve())
        return replace(config, kind=model.kind, start=start, size=model.size, resolution=model.resolution)
