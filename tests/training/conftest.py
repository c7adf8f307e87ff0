"""What the tests of training share: quick samples, and progress without a clock."""

import pytest

from sd_core.training import trainer
from sd_core.training.objectives import denoising


@pytest.fixture(autouse=True)
def quick_samples(monkeypatch) -> None:
    monkeypatch.setattr(denoising, "SAMPLE_STEPS", 2)


@pytest.fixture
def no_clock(monkeypatch) -> None:
    """Progress is logged by steps alone."""
    monkeypatch.setattr(trainer, "LOG_SECONDS", float("inf"))
