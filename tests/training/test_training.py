"""Training learns, goes on exactly where it stopped, and fails in plain words."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from small_trainings import CPU, assert_same, finish, new_trainer, weights
from torch import Tensor

from sd_core.data import PictureSet
from sd_core.errors import TrainingFailed, UserError
from sd_core.models.denoiser import Denoiser, ModelConfig
from sd_core.training.config import TrainingConfig
from sd_core.training.distributed import Peers
from sd_core.training.events import Finished, Progress, Saved
from sd_core.training.trainer import Trainer

# Learning


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_the_loss_falls(pictures, optimizer):
    trainer = new_trainer(pictures, steps=40, batch=8, optimizer=optimizer, save_every=20)
    losses = [event.loss for event in finish(trainer) if isinstance(event, Progress)]
    assert losses[-1] < 0.8 * losses[0]


def test_a_trained_generator_paints_what_the_prompt_says(pictures):
    prompts = ("a red square", "a green square", "a blue square")
    trainer = new_trainer(pictures, steps=80, batch=8, sample_prompts=prompts)
    trainer.objective.sample_steps = 8
    *_, samples, _ = finish(trainer)
    red, green, blue = samples.pictures.mean((2, 3))
    assert red.argmax() == 0
    assert green.argmax() == 1
    assert blue.argmax() == 2


def test_an_untrained_network_has_a_loss_of_about_one():
    spread = np.random.default_rng(0).choice([64, 191], (64, 8, 8, 3)).astype(np.uint8)  # standard deviation 0.5
    pictures = PictureSet("noise", spread, ("",) * 64, True)
    first = next(new_trainer(pictures, batch=64).run())
    assert first.loss == pytest.approx(1, rel=0.1)


# Exact resume


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_resumed_training_ends_with_the_same_bits_as_one_never_stopped(pictures, tmp_path, optimizer):
    options = {"steps": 6, "batch": 6, "optimizer": optimizer, "warmup": 4, "cooldown": 2, "accumulate": 2}
    through = new_trainer(pictures, **options)
    finish(through)

    stopped = new_trainer(pictures, **options, save_every=3)
    for event in stopped.run():
        if isinstance(event, Saved):
            tensors, texts = stopped.state()
            save_file(tensors, tmp_path / "state.safetensors", metadata=texts)
            break

    torch.manual_seed(123)
    resumed = new_trainer(pictures, model_seed=99, **options)
    with safe_open(tmp_path / "state.safetensors", "pt") as file:
        resumed.load_state({name: file.get_tensor(name) for name in file.keys()}, file.metadata())  # noqa: SIM118
    assert resumed.step == 3
    finish(resumed)

    assert_same(resumed.state()[0], through.state()[0])


def test_showing_samples_and_saving_do_not_change_a_training(pictures):
    quiet, busy = new_trainer(pictures), new_trainer(pictures, save_every=1, sample_every=1)
    finish(quiet)
    for event in busy.run():
        if isinstance(event, Saved):
            busy.state()
    assert_same(weights(busy), weights(quiet))


def test_training_longer_is_the_same_as_having_asked_for_more_at_once(pictures):
    at_once, longer = new_trainer(pictures, steps=3), new_trainer(pictures, steps=1)
    finish(at_once)
    finish(longer)
    longer.extended(3)
    finish(longer)
    assert_same(weights(longer), weights(at_once))


def test_a_state_once_taken_is_not_changed_by_training_on(pictures):
    trainer = new_trainer(pictures)
    events = trainer.run()
    next(events)
    tensors, _ = trainer.state()
    before = {name: value.clone() for name, value in tensors.items()}
    list(events)
    assert all(torch.equal(tensors[name], before[name]) for name in before)
    after, _ = trainer.state()
    assert any(not torch.equal(after[name], before[name]) for name in before)


def test_the_seed_decides_the_training(pictures):
    trainers = [new_trainer(pictures, steps=2, seed=seed) for seed in (0, 0, 1)]
    for trainer in trainers:
        finish(trainer)
    first, same, other = map(weights, trainers)
    assert_same(first, same)
    assert any(not torch.equal(first[name], other[name]) for name in first)


# Failure


def test_an_exploding_loss_stops_training_with_a_sentence_and_keeps_the_last_save(pictures):
    trainer = new_trainer(pictures, steps=50, save_every=1)
    saved = {}
    with pytest.raises(TrainingFailed) as failure:
        for event in trainer.run():
            if isinstance(event, Saved):
                saved[event.step] = trainer.state()
                if event.step == 2:
                    trainer.config = replace(trainer.config, learning_rate=1e3)
    message = str(failure.value)
    assert "loss exploded" in message or "not a number" in message
    assert "Resume from the last save with a lower learning rate." in message
    assert "\n" not in message
    assert_can_go_on(pictures, *saved[2])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_a_number_stops_training_with_a_sentence_and_keeps_the_last_save(pictures, value):
    trainer = new_trainer(pictures, steps=10, save_every=2)
    saved = []
    with pytest.raises(TrainingFailed, match="The loss is not a number any more. Resume") as failure:
        for event in trainer.run():
            if isinstance(event, Saved):
                saved.append((event.step, trainer.state()))
                with torch.no_grad():
                    trainer.model.unet.stem.weight[0, 0, 0, 0] = value
    assert "\n" not in str(failure.value)
    [(step, state)] = saved
    assert step == 2
    assert_can_go_on(pictures, *state)


def test_weights_spoilt_by_an_infinite_gradient_are_never_saved(pictures):
    """The loss of that step is still a number; only the next one would show it."""
    trainer = new_trainer(pictures, steps=10, save_every=1)
    bias = trainer.model.unet.stem.bias
    bias.register_hook(lambda gradient: gradient * float("inf") if trainer.step == 3 else gradient)
    saved = []
    with pytest.raises(TrainingFailed, match="not a number"):
        for event in trainer.run():
            if isinstance(event, Saved):
                saved.append(trainer.state())
    assert len(saved) == 3
    assert_can_go_on(pictures, *saved[-1])


def assert_can_go_on(pictures: PictureSet, tensors: dict[str, Tensor], texts: dict[str, str]) -> None:
    assert all(value.isfinite().all() for value in tensors.values())
    again = new_trainer(pictures, steps=int(texts["step"]) + 2)
    again.load_state(tensors, texts)
    *_, last = finish(again)
    assert last == Finished(int(texts["step"]) + 2)


# Bad input


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"steps": 0}, "Steps must be a whole number above 0, not 0"),
        ({"steps": "many"}, "Steps must be a whole number above 0, not 'many'"),
        ({"learning_rate": -1.0}, "Learning rate must be above 0, not -1.0"),
        ({"learning_rate": float("nan")}, "Learning rate must be above 0, not nan"),
        ({"batch": 10, "accumulate": 3}, "A batch of 10 cannot be split into 3 equal parts"),
        ({"optimizer": "lion"}, "Optimizer must be muon or adamw, not 'lion'"),
        ({"caption_dropout": 1.5}, "Caption dropout must be between 0 and 1, not 1.5"),
        ({"sigma_std": 0.0}, "must be above 0, not 0.0"),
    ],
)
def test_an_impossible_configuration_is_refused_in_a_sentence(wrong, sentence):
    with pytest.raises(UserError, match=sentence):
        TrainingConfig(**wrong)


def test_a_training_that_cannot_work_is_refused_in_a_sentence(pictures, generator):
    nothing = PictureSet("nothing", np.zeros((0, 8, 8, 3), np.uint8), (), True)
    with pytest.raises(ValueError, match="There are no pictures to train on"):
        Trainer(generator, nothing, TrainingConfig(), CPU)
    with pytest.raises(ValueError, match="Only a generator learns from captions"):
        Trainer(Denoiser(ModelConfig("restorer", "tiny", 8, 1)), pictures, TrainingConfig(), CPU)
    with pytest.raises(TrainingFailed, match="A batch of 64 cannot be shared by 3 processes"):
        Trainer(generator, pictures, TrainingConfig(batch=64), CPU, Peers(0, 3))
