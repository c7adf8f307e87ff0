"""What a training run is asked for."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from sd_core.errors import RunError
from sd_core.models import checkpoint
from sd_core.models.denoiser import ModelConfig
from sd_core.models.text import reads_chinese
from sd_core.training.config import TrainingConfig
from sd_core.validation import checked

BUILT_IN = ("characters", "cifar10")


@checked(error=RunError)
class RunConfig:
    """What was asked for: everything a process needs to do the work.

    Attributes:
        kind: of model, "generator" or "restorer".
        data: "characters", "cifar10", or the path of a folder or .zip (perhaps one inside the run's folder); see
            `sd_core.data.open_data`.
        styles, count: which characters and how many pictures; None for all there are.
        chinese: caption some of the characters in Chinese; not for a model to start from that reads none.
        caption_template, fit: of a generator's pictures, see `sd_core.data.open_data`.
        size, resolution: of a fresh model.
        codec: what a fresh generator works in, "pixels" or the latents of the "autoencoder"; None for what is usual at
            its resolution.
        start: a checkpoint folder to fine-tune, which keeps its own size and resolution; "" for a fresh model.
        fast: make a fast version of `start`, which needs few steps and no guidance.
        minutes: of work, after which the run ends with what it has; 0 for as long as its steps take.

    Raises:
        RunError: one of them makes no sense; the message is one sentence.
    """

    data: str
    kind: Literal["generator", "restorer"] = "generator"
    styles: tuple[str, ...] | None = None
    count: PositiveInt | None = Field(None, title="The number of pictures")
    chinese: bool = True
    caption_template: str = "{}"
    fit: Literal["crop", "pad", "squash"] = "crop"
    size: str = "small"
    resolution: int = 64
    start: str = ""
    codec: Literal["pixels", "autoencoder"] | None = None
    fast: bool = False
    minutes: NonNegativeFloat = 0.0
    training: TrainingConfig = Field(default_factory=TrainingConfig)

    @model_validator(mode="after")
    def _makes_sense(self):
        if not self.data.strip():
            raise ValueError("Choose what to train on: characters, cifar10, or a folder or .zip of pictures.")
        if self.styles is not None and (self.data != "characters" or not self.styles):
            raise ValueError("Choose at least one style, for the built-in characters only.")
        if self.kind == "restorer" and self.data == "cifar10":
            raise ValueError("A restorer learns from large pictures, and CIFAR-10's are too small.")
        if self.training.specialist and self.kind != "restorer":
            raise ValueError("Only a restorer can be taught to be a specialist.")
        if self.fast and not self.start:
            raise ValueError("Choose the model that a fast version is to be made of.")
        ModelConfig(self.kind, self.size, self.resolution, codec=self.codec or "pixels")
        return self

    def settled(self) -> "RunConfig":
        """The same as a process elsewhere can follow it: with full paths, and the shape of the model it starts from.

        Raises:
            CheckpointError: the model to start from is missing or unusable.
            RunError: it cannot be trained so.
        """
        config = self
        if config.data not in BUILT_IN and Path(config.data).exists():
            config = replace(config, data=str(Path(config.data).resolve()))
        if not config.start:
            return config
        description = checkpoint.describe(Path(config.start))
        model = description.model
        if model.few_steps:
            raise RunError("A fast model learns no further; train the one that it was made of, and make it fast again.")
        if config.fast and model.kind != "generator":
            raise RunError("A fast version can be made of a model that draws; a restorer takes one step as it is.")
        start = str(Path(config.start).resolve())
        chinese = config.chinese and reads_chinese(description.words)
        shape = dict(kind=model.kind, size=model.size, resolution=model.resolution)
        return replace(config, start=start, chinese=chinese, **shape)
