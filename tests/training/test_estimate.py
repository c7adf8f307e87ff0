"""What a training will take: measured by a few steps of it, and said for the kind of model that is asked about."""

from dataclasses import replace

import pytest

from sd_core.errors import ProbeFailed
from sd_core.models import checkpoint
from sd_core.training import estimate
from sd_core.training.estimate import Estimate, Work, grid_answers, measure
from sd_core.training.objectives.denoising import TextToImageObjective
from sd_core.training.objectives.restoration import RestorationObjective

ESTIMATE = Estimate(parameters=1, memory=1, step=0.5, grid=10.0, device="CPU")


def test_time_is_that_of_the_steps_and_of_the_grids():
    assert ESTIMATE.seconds(100) == 50
    assert ESTIMATE.seconds(100, grids=3) == 80
    assert replace(ESTIMATE, grid=0.0).seconds(100, grids=3) == 50


def test_a_restorers_grid_is_answered_at_once_and_a_generators_step_by_step():
    guided = estimate.GRID * TextToImageObjective.sample_steps * 2
    generator, restorer = Work("generator", "tiny", 64, 8), Work("restorer", "tiny", 64, 8)
    assert grid_answers(generator) == grid_answers(replace(generator, resolution=32)) == guided
    assert grid_answers(replace(generator, fast=True)) < guided / 5
    pairs, side = RestorationObjective.sample_pairs, RestorationObjective.sample_side
    assert grid_answers(replace(restorer, resolution=side)) == pairs
    assert grid_answers(replace(restorer, resolution=side // 2)) == 4 * pairs, "counted in smaller pictures"


@pytest.fixture
def briefly(monkeypatch, tmp_path):
    """Measuring of a moment, with an empty cache folder: that."""
    monkeypatch.setenv("SD_CORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(estimate, "ENOUGH_SECONDS", 0.0)
    monkeypatch.setattr(estimate, "FEW", 1)
    monkeypatch.setattr(estimate, "MORE", 2)
    return tmp_path / "cache"


@pytest.mark.parametrize(("kind", "resolution"), [("generator", 16), ("generator", 128), ("restorer", 16)])
def test_a_few_steps_are_measured(kind, resolution, briefly):
    found = measure(Work(kind, "tiny", resolution, 4))
    assert found.parameters > 10_000 and found.memory > 0 and found.device
    assert 0 < found.step < found.seconds(10, grids=1)
    assert not briefly.exists(), "what is made up for measuring is not kept"


@pytest.mark.parametrize("fast", [False, True])
def test_a_training_from_a_model_is_measured_with_that_model(fast, briefly, latent_generator, tmp_path):
    checkpoint.save(latent_generator, tmp_path / "start")
    resolution = latent_generator.config.resolution
    found = measure(Work("generator", "large", resolution, 4, str(tmp_path / "start"), fast))
    assert found.parameters == sum(p.numel() for p in latent_generator.parameters()) and found.step > 0
    assert not briefly.exists()


def test_what_cannot_be_measured_is_told_in_one_sentence():
    with pytest.raises(ProbeFailed, match="Nothing could be measured") as error:
        estimate.probe(Work("generator", "huge", 16, 4))
    assert "\n" not in str(error.value)
