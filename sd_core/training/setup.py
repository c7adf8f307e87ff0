"""A model to train and its objective, from settings."""

from dataclasses import replace
from pathlib import Path

import torch

from sd_core.data import PictureSet
from sd_core.data.pairs import CleanPictures
from sd_core.diffusion.noise import SigmaDistribution
from sd_core.models import checkpoint
from sd_core.models.codec import Latents
from sd_core.models.denoiser import Denoiser, ModelConfig
from sd_core.models.text import Vocabulary
from sd_core.training.config import TrainingConfig
from sd_core.training.objectives.base import Objective
from sd_core.training.objectives.denoising import TextToImageObjective
from sd_core.training.objectives.distillation import DistillationObjective
from sd_core.training.objectives.restoration import RestorationObjective


def new_generator(pictures: PictureSet, size: str, seed: int, codec: str | None = None) -> Denoiser:
    """A generator with fresh weights for these pictures, whose captions make its vocabulary. It works in pixels, or in
    the released autoencoder's latents: as is usual for their resolution where no `codec` is named.

    Raises:
        CheckpointError: the released autoencoder is missing.
    """
    config = ModelConfig.generator(size, pictures.resolution, codec=codec)
    latents = Latents.released() if config.codec == "autoencoder" else None
    torch.manual_seed(seed)
    return Denoiser(config, Vocabulary.learn(pictures.captions), latents)


def new_restorer(size: str, resolution: int, seed: int) -> Denoiser:
    """A restorer with fresh weights, to be trained on crops of `resolution` pixels."""
    torch.manual_seed(seed)
    return Denoiser(ModelConfig.restorer(size, resolution))


def started(start: str | Path, fast: bool = False) -> Denoiser:
    """The model of the checkpoint folder `start`, to be trained on, or to become its own `fast` version.

    Raises:
        CheckpointError: it is missing or unusable.
    """
    model = checkpoint.load(start)
    if fast:
        model.config = replace(model.config, few_steps=True)
    return model


def new_objective(
    model: Denoiser, pictures: PictureSet | CleanPictures, config: TrainingConfig, teacher: Denoiser | None = None
) -> Objective:
    """What teaches `model` its kind of work from the pictures, which must be of the kind it learns from. One of few
    steps learns from a `teacher`, too."""
    if model.config.few_steps:
        shown = config.caption_dropout, config.flips, config.sample_prompts
        return DistillationObjective(model, teacher, pictures, config.seed, config.batch, *shown)
    common = model, pictures, config.seed, config.batch, SigmaDistribution(config.sigma_mean, config.sigma_std)
    if isinstance(pictures, CleanPictures):
        return RestorationObjective(*common, config.one_step_share, config.noisy_share, config.specialist)
    return TextToImageObjective(*common, config.caption_dropout, config.flips, config.sample_prompts)
