"""What the tests of training share: quick samples, and progress without a clock."""

import pytest

from sd_core import lessons, training


@pytest.fixture(autouse=True)
def quick_samples(monkeypatch) -> None:
    monkeypatch.setattr(lessons, "SAMPLE_STEPS", 2)


@pytest.fixture
def no_clock(monkeypatch) -> None:
    """Progress is logged by steps alone."""
    monkeypatch.setattr(training, "LOG_SECONDS", float("inf"))
