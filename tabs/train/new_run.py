"""The run that the settings of the Train tab make."""

from dataclasses import dataclass
from pathlib import Path

from sd_core.errors import RunError
from sd_core.models.registry import ModelRegistry
from sd_core.runs.config import RunConfig
from sd_core.runs.run import Run, new_name
from sd_core.training.config import SIGMAS, TrainingConfig
from tabs.common.forms import whole
from tabs.train.base_model import FRESH, RESOLUTION, kind_of
from tabs.train.estimate import SAMPLE_AT_MOST, sample_every
from tabs.train.limits import Limits

MAX_STEPS = 1_000_000
MOST_PROMPTS = 16
COOLDOWN_SHARE = 0.2  # of the steps: at the end, while the learning rate falls


@dataclass(frozen=True)
class Values:
    """What the settings hold."""

    data: str
    styles: list[str]
    count: float
    files: list[str] | None
    fit: str
    template: str
    start: str
    fast: bool
    size: str
    resolution: int | None
    steps: float | None
    batch: float
    learning_rate: float | None
    ema: float
    dropout: float
    bf16: bool
    prompts: str
    seed: float | None
    flips: bool
    name: str

    def create(self, registry: ModelRegistry, limits: Limits | None = None, pictures: Path | None = None) -> Run:
        """The run they make, waiting. `pictures` are one's own, a folder or .zip. Raises UserError."""
        limits = limits or Limits()
        steps = whole(self.steps or 0)
        if not isinstance(steps, int) or not 1 <= steps <= MAX_STEPS:
            raise RunError(f"The number of steps must be a whole number from 1 to {MAX_STEPS:,}.")
        prompts = tuple(line.strip() for line in (self.prompts or "").splitlines() if line.strip())
        if len(prompts) > MOST_PROMPTS:
            raise RunError(f"A sample grid shows up to {MOST_PROMPTS} prompts, not {len(prompts)}.")
        characters, own = self.data == "characters", self.data == "own"
        kind = kind_of(registry, self.start)
        sigma_mean, sigma_std = SIGMAS[kind]
        config = RunConfig(
            data=str(pictures) if own else self.data,
            kind=kind,
            styles=tuple(self.styles) if characters else None,
            count=whole(self.count) if characters else (limits.count if limits.minutes else None),
            caption_template=(self.template or "").strip() or "{}",
            fit=self.fit,
            size=self.size,
            resolution=self.resolution or RESOLUTION,  # none is chosen where a trained model decides
            start=str(registry.folder(self.start)) if self.start not in FRESH else "",
            fast=self.fast,
            minutes=limits.minutes,
            training=TrainingConfig(
                steps=steps,
                batch=whole(self.batch),
                learning_rate=self.learning_rate or 0,
                sigma_mean=sigma_mean,
                sigma_std=sigma_std,
                ema_share=self.ema,
                caption_dropout=self.dropout,
                bf16=self.bf16,
                cooldown=round(COOLDOWN_SHARE * steps),
                sample_prompts=prompts,
                flips=self.flips,
                seed=whole(self.seed or 0),
                sample_every=sample_every(steps),
                save_every=SAMPLE_AT_MOST,
            ),
        ).settled()
        _check(config, limits)
        name = (self.name or "").strip() or new_name(config.data if not own else pictures.name, registry.runs)
        return Run.create(name, config, registry.runs, pictures if own else None)


def _check(config: RunConfig, limits: Limits) -> None:
    """Raises RunError for what the page does not offer, which a program may ask for all the same."""
    if config.size not in limits.sizes:
        raise RunError(f"The size {config.size} is not allowed here; choose among {', '.join(limits.sizes)}.")
    if limits.minutes and config.resolution > max(limits.resolutions):
        raise RunError(f"Up to {max(limits.resolutions)}×{max(limits.resolutions)} pixels are allowed here.")
    if config.training.batch > limits.batch:
        raise RunError(f"Up to {limits.batch} pictures per step are allowed here, not {config.training.batch}.")
    if config.count and config.count > limits.count:
        raise RunError(f"Up to {limits.count:,} pictures are allowed here, not {config.count:,}.")
