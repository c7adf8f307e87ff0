"""Small models that can be told from one another, and where one is said to come from."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from sd_core.models.checkpoint import Origin, load
from sd_core.models.denoiser import Denoiser, ModelConfig

ORIGIN = Origin("squares, CC0", 1_200, 300, "two cores", 0.5, ("a red square", "ein Mädchen 红"))


def strip(folder: Path) -> Path:
    """Makes a checkpoint what it was before its weights' file held the other files, too."""
    save_file(load_file(folder / "model.safetensors"), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def marked(value: float) -> Denoiser:
    """A small model that can be told from others by its weights."""
    model = Denoiser(ModelConfig("restorer", "tiny", 8, 1))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)
    return model


def mark_of(folder: Path) -> float:
    """The value all weights of the model in `folder` have."""
    [value] = {float(extreme) for p in load(folder).parameters() for extreme in (p.min(), p.max())}
    return value
