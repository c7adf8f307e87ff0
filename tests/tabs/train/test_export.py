"""Keeping a model: a .zip of one save, and the Hub, whose token goes nowhere else."""

import gradio as gr
import pytest

from sd_core.errors import CheckpointError
from sd_core.models import checkpoint
from sd_core.models.registry import ModelRegistry
from sd_core.runs.config import RunConfig
from sd_core.runs.run import Run
from sd_core.training.config import TrainingConfig
from tabs.train.export import Export

TOKEN = "hf_averysecrettoken"


@pytest.fixture
def run(tmp_path, generator):
    config = RunConfig("characters", size="tiny", resolution=8, training=TrainingConfig(steps=10))
    made = Run.create("mine", config, tmp_path / "runs")
    checkpoint.save(generator, made.checkpoint)
    return made


@pytest.fixture
def export(run, tmp_path):
    with gr.Blocks():
        return Export(ModelRegistry(tmp_path / "checkpoints", tmp_path / "runs", "cpu"), gr.State("mine"))


def test_a_checkpoint_is_copied_whole(run, tmp_path):
    copy = checkpoint.snapshot(run.checkpoint, tmp_path / "copy")
    assert checkpoint.load(copy).config == checkpoint.load(run.checkpoint).config
    with pytest.raises(CheckpointError):
        checkpoint.snapshot(tmp_path / "nothing", tmp_path / "other")


def test_the_model_is_packed(export):
    *_, last = export.on_make("mine", None)
    assert last.value is not None


def test_the_token_is_used_once_and_forgotten(export, monkeypatch):
    used = []
    monkeypatch.setattr(
        checkpoint, "push", lambda folder, name, token, private: used.append((name, token)) or "https://hf.co/me/m"
    )
    field, said = export.on_push("mine", " me/m ", TOKEN, True, None)
    assert used == [("me/m", TOKEN)]
    assert field == "" and "https://hf.co/me/m" in said and TOKEN not in said


def test_the_token_is_in_no_message_and_no_log(export, monkeypatch, caplog):
    def refuse(folder, name, token, private):
        raise CheckpointError(f"The Hub did not take {token}.")

    monkeypatch.setattr(checkpoint, "push", refuse)
    with pytest.raises(gr.Error) as caught:
        export.on_push("mine", "me/m", TOKEN, True, None)
    assert TOKEN not in str(caught.value) and TOKEN not in caplog.text
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("name", "repository", "token"), [("mine", "", TOKEN), ("mine", "me/m", ""), ("", "me/m", "t")]
)
def test_what_is_missing_is_named(export, name, repository, token):
    with pytest.raises(CheckpointError):
        export.on_push(name, repository, token, True, None)
