"""The models that come with the repository are what their cards say."""

import pytest
import torch

from sd_core import checkpoint
from sd_core.generation import GenerationRequest, generate

MOST_BYTES = {"characters": 15_000_000, "cifar10": 10_000_000, "restorer": 10_000_000}
MOST_TOGETHER = 36_000_000
RELEASED = sorted(folder.name for folder in checkpoint.CHECKPOINTS.iterdir() if folder.is_dir())


def size(folder) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def test_there_is_a_character_model_and_a_cifar10_model():
    assert {"characters", "cifar10"} <= set(RELEASED)


@pytest.mark.parametrize("name", RELEASED)
def test_a_card_states_the_true_parameters_and_operations(name):
    folder = checkpoint.CHECKPOINTS / name
    card = (folder / "README.md").read_text("utf-8")
    assert checkpoint.size_line(checkpoint.load(folder)) in card


@pytest.mark.parametrize("name", RELEASED)
def test_a_card_says_what_it_was_trained_on_and_how(name):
    card = (checkpoint.CHECKPOINTS / name / "README.md").read_text("utf-8")
    assert all(word in card for word in ("Data", "pictures seen", "hours", "python -m sd_core train", "Quality"))


def test_models_are_small_enough_for_a_free_space():
    for name in RELEASED:
        assert size(checkpoint.CHECKPOINTS / name) <= MOST_BYTES[name]
    assert size(checkpoint.CHECKPOINTS) <= MOST_TOGETHER


def test_the_character_model_draws_the_background_it_is_asked_for():
    model = checkpoint.load(checkpoint.CHECKPOINTS / "characters")
    *_, last = generate(model, GenerationRequest("personas, blue background", count=4, steps=8, seed=1))
    corners = torch.cat([last.x[:, :, :6, :6], last.x[:, :, :6, -6:]], dim=3).mean(dim=(2, 3))
    red, green, blue = corners.T
    assert ((blue > red + 0.3) & (blue > green + 0.3)).sum() >= 3
