"""A run on a few pictures of 8×8 pixels, with a model small enough for one slow core."""

from dataclasses import replace

import pytest
from small_runs import STEPS

from sd_core.data import pack
from sd_core.runs.config import RunConfig
from sd_core.runs.run import Run
from sd_core.training.config import TrainingConfig
from sd_core.training.trainer import Trainer


@pytest.fixture
def archive(tmp_path, pictures):
    path = tmp_path / "squares.zip"
    pack(pictures, path)
    return path


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    """A cache and an accelerator of the test's own, here and in the processes that it starts."""
    for name, value in (
        ("SD_CORE_CACHE", str(tmp_path / "cache")),
        ("SD_CORE_DEVICE", "cpu"),
        ("OMP_NUM_THREADS", "1"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(Trainer, "log_seconds", 0.0)  # every step is logged


@pytest.fixture
def config(archive):
    training = TrainingConfig(
        steps=STEPS, batch=4, warmup=2, sample_every=3, save_every=3, sample_prompts=("a red square", "a blue square")
    )
    return RunConfig(str(archive), size="tiny", resolution=8, training=training)


@pytest.fixture
def make(tmp_path, config):
    """Makes a run in the test's own folder."""

    def create(name="one", **changed) -> Run:
        return Run.create(name, replace(config, **changed), tmp_path / "runs")

    create.root, create.config = tmp_path / "runs", config
    return create
