"""Settings read from a dropped picture, as the page takes them over."""

from types import SimpleNamespace

import gradio as gr
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sd_core.generation.infotext import Parameters
from sd_core.models import checkpoint
from sd_core.models.registry import ModelRegistry
from tabs.generate.infotext_drop import InfotextDrop
from tabs.generate.settings import Controls


@pytest.fixture
def restore(checkpoints, tmp_path, recwarn):
    """Drops a picture with these settings: gives what becomes of the controls, by name, and the warnings."""
    with gr.Blocks():
        controls = Controls(ModelRegistry(checkpoints, tmp_path / "runs"), gr.Textbox())
        drop = InfotextDrop(ModelRegistry(checkpoints, tmp_path / "runs"), controls)

    def restored(settings: Parameters | str, language: str = "en"):
        text = PngInfo()
        text.add_text("parameters", settings if isinstance(settings, str) else settings.text())
        Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=text)
        request = gr.Request(SimpleNamespace(headers={"accept-language": language}))
        recwarn.clear()
        update = drop.on_settings(str(tmp_path / "a.png"), "characters", request)
        told = [str(warning.message) for warning in recwarn]  # where there is no page, Gradio warns so
        return {name: update[part] for name, part in controls.components().items() if part in update}, told

    return restored


def test_the_model_of_a_run_that_appeared_meanwhile_can_be_chosen(restore, checkpoints, tmp_path):
    folder = tmp_path / "runs/mine/checkpoint"
    checkpoint.save(checkpoint.load(checkpoints / "characters", torch.device("cpu")), folder)
    values, warnings = restore(Parameters("hair", model="runs/mine", steps=3, seed=1))
    assert values["model"].value == "runs/mine" and not warnings
    assert "runs/mine" in [name for _, name in values["model"].choices]


def test_a_model_that_is_not_here_leaves_the_chosen_one(restore):
    values, (warning,) = restore(Parameters("hair", model="dreams", steps=3, seed=1))
    assert values["model"].value == "characters" and "dreams" in warning


def test_what_is_out_of_range_is_named_and_the_rest_restored(restore):
    far = Parameters("hair", steps=150, guidance=20.0, seed=2**63, sampler="DDIM", model="characters")
    values, (warning,) = restore(far)
    assert all(name in warning for name in ("Steps", "Guidance scale", "Seed")) and "Prompt" not in warning
    assert (values["prompt"], values["sampler"], values["new_seed"]) == ("hair", "euler", False)
    assert "步数" in restore(far, "zh-CN")[1][-1]


def test_what_is_no_number_is_named(restore):
    values, (warning,) = restore("hair\nSteps: many, Sampler: Heun, Seed: 4, CFG scale: 3, Variation seed: x")
    assert "Steps" in warning and "Variation of" in warning
    assert (values["seed"], values["guidance"], values["variation_of"]) == (4, 3.0, "")


def test_a_strength_that_no_picture_can_have_is_named(restore):
    values, warnings = restore(Parameters("hair", steps=3, seed=1, strength=0.0))
    assert "Strength" in warnings[0] and "Image to image" in warnings[1]
    assert values["strength"] > 0
