"""Settings read from a dropped picture, as the page takes them over."""

from types import SimpleNamespace

import gradio as gr
import pytest
import torch

from sd_core.generation.infotext import Parameters
from sd_core.models import checkpoint
from sd_core.models.registry import ModelRegistry
from tabs.generate import infotext_drop
from tabs.generate.infotext_drop import build_png_settings
from tabs.generate.settings import build_controls, prompt_box


@pytest.fixture
def restore(checkpoints, tmp_path, monkeypatch):
    """Drops a picture with these settings: gives what becomes of the controls, by name, and the warnings."""
    registry, warnings = ModelRegistry(checkpoints, tmp_path / "runs"), []
    monkeypatch.setattr(infotext_drop.gr, "Warning", warnings.append)
    monkeypatch.setattr(infotext_drop.gr, "Info", lambda text: None)
    with gr.Blocks() as page:
        controls, *_ = build_controls(registry, prompt_box())
        build_png_settings(registry, controls)
    on_settings = next(fn.fn for fn in page.fns.values() if fn.name == "on_settings")

    def drop(settings: Parameters, language: str = "en"):
        monkeypatch.setattr(infotext_drop, "read_parameters", lambda path: settings)
        request = gr.Request(SimpleNamespace(headers={"accept-language": language}))
        update = on_settings("a.png", "characters", request)
        return {name: update[part] for name, part in vars(controls).items() if part in update}, warnings

    return drop


def test_the_model_of_a_run_that_appeared_meanwhile_can_be_chosen(restore, checkpoints, tmp_path):
    folder = tmp_path / "runs/mine/checkpoint"
    checkpoint.save(checkpoint.load(checkpoints / "characters", torch.device("cpu")), folder)
    values, warnings = restore(Parameters("hair", model="runs/mine", steps=3, seed=1))
    assert values["model"].value == "runs/mine" and not warnings
    assert ("runs/mine", "runs/mine") in values["model"].choices


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
    text = "hair\nSteps: many, Sampler: Heun, Seed: 4, CFG scale: 3, Variation seed: x"
    values, (warning,) = restore(Parameters.parse(text))
    assert "Steps" in warning and "Variation of" in warning
    assert (values["seed"], values["guidance"], values["variation_of"]) == (4, 3.0, "")


def test_a_strength_that_no_picture_can_have_is_named(restore):
    values, warnings = restore(Parameters("hair", steps=3, seed=1, strength=0.0))
    assert "Strength" in warnings[0] and "Image to image" in warnings[1]
    assert values["strength"] > 0
