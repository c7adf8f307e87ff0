"""Fast versions of a model: a few steps without guidance land where many guided ones do."""

import copy
from dataclasses import replace

import pytest
import torch
from small_trainings import CPU, finish, new_trainer

from sd_core.diffusion.schedules import FEW_STEPS_GRID, few_step_sigmas
from sd_core.errors import RunError
from sd_core.generation.pipeline import generate
from sd_core.generation.request import GenerationRequest
from sd_core.models import checkpoint
from sd_core.models.denoiser import Denoiser, ModelConfig
from sd_core.runs.config import RunConfig
from sd_core.runs.run import Run
from sd_core.runs.worker import work
from sd_core.training.config import TrainingConfig
from sd_core.training.trainer import Trainer


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 8, 16, 40])
def test_a_few_steps_walk_down_the_levels_that_were_learnt(steps):
    sigmas = few_step_sigmas(steps)
    assert len(sigmas) == min(steps, 16) + 1
    assert set(sigmas.tolist()) <= set(FEW_STEPS_GRID.tolist())
    assert sigmas[0] == FEW_STEPS_GRID[0] and sigmas[-1] == 0 and (sigmas.diff() < 0).all()


@pytest.mark.parametrize("steps", [4, 16, 32, 100])
def test_half_the_strength_walks_half_the_levels_however_many_steps_are_asked_for(steps):
    request = GenerationRequest(steps=steps, start=torch.zeros(3, 8, 8), strength=0.5)
    whole = few_step_sigmas(steps)
    assert torch.equal(request.sigmas(ModelConfig(few_steps=True)), whole[len(whole) // 2 :])


def small_training(teacher: Denoiser, pictures, **options) -> Trainer:
    student = copy.deepcopy(teacher)
    student.config = replace(teacher.config, few_steps=True)
    settings = {"steps": 150, "batch": 16, "cooldown": 50, "learning_rate": 1e-3}
    settings |= {"save_every": 1000, "sample_every": 1000} | options
    made = Trainer(student, pictures, TrainingConfig(**settings), CPU, teacher=teacher)
    made.log_seconds = float("inf")
    return made


@pytest.fixture(scope="module")
def teacher(pictures) -> Denoiser:
    """A generator that has learnt a little."""
    trained = new_trainer(pictures, steps=300, batch=16)
    finish(trained)
    return trained.ema


@torch.inference_mode()
def landing(model: Denoiser, steps: int) -> torch.Tensor:
    """Where a walk from one noise ends, with the guidance of the teacher, or without for a model of few steps."""
    *_, last = generate(model, GenerationRequest(prompt="a red square", count=8, sampler="euler", steps=steps))
    return last.x


def test_few_unguided_steps_come_to_land_nearer_to_many_guided_ones(teacher, pictures):
    training = small_training(teacher, pictures)
    before = copy.deepcopy(training.model).eval().requires_grad_(False)
    finish(training)
    aim = landing(teacher, 40)
    error_before, error_after = ((landing(each, 2) - aim).square().mean() for each in (before, training.ema))
    assert error_after < 0.75 * error_before


def test_the_teacher_stays_as_it_is_and_is_no_part_of_what_is_trained(teacher, pictures):
    weights_before = copy.deepcopy(teacher.state_dict())
    training = small_training(teacher, pictures, steps=2)
    finish(training)
    assert all(torch.equal(weights_before[name], value) for name, value in teacher.state_dict().items())
    assert len(list(training.objective.loss.parameters())) == len(list(teacher.parameters()))


def test_a_run_makes_a_fast_version_from_its_own_copy_of_the_teacher(teacher, tmp_path, monkeypatch):
    monkeypatch.setenv("SD_CORE_CACHE", str(tmp_path / "cache"))
    checkpoint.save(teacher, tmp_path / "teacher")
    training = TrainingConfig(steps=2, batch=4, sample_every=2, save_every=2)
    config = RunConfig("characters", styles=("dylan",), count=8, start=str(tmp_path / "teacher"), fast=True)
    run = Run.create("quick", replace(config, training=training), tmp_path / "runs")
    (tmp_path / "teacher").rename(tmp_path / "gone")
    list(work(run))
    fast = checkpoint.load(run.checkpoint)
    assert fast.config.few_steps
    assert fast.vocabulary.words == teacher.vocabulary.words  # not those of captions that the teacher never learnt
    assert len(list(generate(fast, GenerationRequest(steps=fast.config.usual_steps)))) == 4
    run.wish("run", steps=4)
    list(work(run))
    assert run.status().state == "finished" and run.status().step == 4


def test_what_cannot_be_made_fast_is_told(teacher, restorer, tmp_path):
    fast = copy.deepcopy(teacher)
    fast.config = replace(teacher.config, few_steps=True)
    checkpoint.save(fast, tmp_path / "fast")
    checkpoint.save(restorer, tmp_path / "restorer")
    with pytest.raises(RunError, match="Choose the model"):
        RunConfig("characters", fast=True)
    with pytest.raises(RunError, match="takes one step as it is"):
        Run.create("x", RunConfig("characters", start=str(tmp_path / "restorer"), fast=True), tmp_path / "runs")
    for again in (True, False):
        with pytest.raises(RunError, match="learns no further"):
            Run.create("x", RunConfig("characters", start=str(tmp_path / "fast"), fast=again), tmp_path / "runs")
