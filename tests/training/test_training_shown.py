"""What a training is shown, its learning rate and its averaged weights are as configured."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_trainings import Watcher, finish, new_trainer, with_plain_gradients

from sd_core.data import PictureSet
from sd_core.training.events import Progress

# What is shown


@settings(max_examples=10)
@given(st.integers(1, 60), st.integers(0, 5))
def test_every_picture_is_shown_once_per_epoch(pictures, batch, seed):
    trainer, count = new_trainer(pictures, batch=batch, seed=seed), len(pictures)
    shown = torch.cat([trainer.objective.batch_indices(step) for step in range(3 * count // batch + 1)]).tolist()
    epochs = [shown[i * count : (i + 1) * count] for i in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(count))
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.3, 0.2, 0.4), (1.0, 1, 1)])
def test_captions_are_left_out_as_often_as_configured(pictures, share, low, high):
    trainer = new_trainer(pictures, steps=8, batch=32, caption_dropout=share)
    seen = Watcher(trainer)
    finish(trainer)
    assert len(seen.captions) == 256
    assert low <= seen.captions.count("") / 256 <= high


def test_every_picture_is_shown_with_its_own_caption(pictures):
    trainer = new_trainer(pictures, steps=4, batch=12, caption_dropout=0.2)
    seen = Watcher(trainer)
    finish(trainer)
    expected = {}
    for pixels, caption in zip(pictures.pixels, pictures.captions, strict=True):
        expected.setdefault(caption, []).append(torch.from_numpy(pixels).float().mean((0, 1)) / 127.5 - 1)
    for x0, caption in zip(seen.x0, seen.captions, strict=True):
        if caption:
            nearest = min((x0.mean((1, 2)) - colour).abs().max() for colour in expected[caption])
            assert nearest < 1e-4


@pytest.mark.parametrize(
    ("flips", "mirrorable", "low", "high"), [(True, True, 0.3, 0.7), (False, True, 0, 0), (True, False, 0, 0)]
)
def test_pictures_are_mirrored_half_of_the_time_if_configured_and_true(squares, flips, mirrorable, low, high):
    trainer = new_trainer(squares(mirrorable=mirrorable), steps=8, batch=12, flips=flips)
    seen = Watcher(trainer)
    finish(trainer)
    mirrored = [bool(x0[:, :, 0].mean() > x0[:, :, -1].mean()) for x0 in seen.x0]  # they are darker on the left
    assert low <= sum(mirrored) / len(mirrored) <= high


def test_pictures_are_shown_at_the_configured_noise_levels(pictures):
    trainer = new_trainer(pictures, steps=4, batch=32, sigma_mean=-2.0, sigma_std=0.5)
    seen = Watcher(trainer)
    finish(trainer)
    logs = torch.tensor(seen.sigma).log()
    assert float(logs.mean()) == pytest.approx(-2, abs=0.05)
    assert float(logs.std()) == pytest.approx(0.5, abs=0.05)


# Learning rate and averaged weights


def test_the_learning_rate_warms_up_stays_and_cools_down(pictures):
    trainer = new_trainer(pictures, steps=10, batch=1, learning_rate=0.01, warmup=4, cooldown=3, save_every=1)
    rates = [event.learning_rate for event in finish(trainer) if isinstance(event, Progress)]
    assert rates == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01, 0.01, 0.01, 0.01, 0.02 / 3, 0.01 / 3])
    used = {group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups}
    assert used == {rates[-1]}


def test_without_a_cooldown_the_learning_rate_stays_to_the_end(pictures):
    trainer = new_trainer(pictures, steps=10, learning_rate=0.01)
    assert [trainer.learning_rate(step) for step in (0, 5, 9)] == [0.01] * 3


def test_a_long_gradient_is_clipped(pictures):
    def moved(clip: float) -> float:
        trainer = with_plain_gradients(new_trainer(pictures, steps=1, learning_rate=1.0, gradient_clip=clip))
        before = [p.detach().clone() for p in trainer.model.parameters()]
        event = next(trainer.run())
        assert event.gradient_norm > 0.01
        squares = [(p.detach() - b).square().sum() for p, b in zip(trainer.model.parameters(), before, strict=True)]
        return float(torch.stack(squares).sum().sqrt())

    assert moved(0.01) == pytest.approx(0.01, rel=1e-3)
    assert moved(1e9) > 0.02


def ema_share_of_new_weights(pictures: PictureSet, **options) -> float:
    """How much of a change of the weights at step 40 the average has taken up by step 50."""
    trainer = new_trainer(pictures, steps=50, batch=2, **options)
    Watcher(trainer)  # so that nothing else changes the weights
    with torch.no_grad():
        for old, new in zip(trainer.ema.parameters(), trainer.model.parameters(), strict=True):
            old.zero_()
            new.fill_(1e-3)
    trainer.step = 40
    finish(trainer)
    shares = torch.cat([p.flatten() for p in trainer.ema.parameters()]) / 1e-3
    assert float(shares.std()) < 1e-4
    return float(shares.mean())


def test_averaged_weights_look_back_over_a_share_of_the_training(pictures):
    # A half-life of a quarter of the steps so far, which grows from 10 to 12.5 steps meanwhile: a little under a half.
    assert ema_share_of_new_weights(pictures, ema_share=0.25) == pytest.approx(0.46, abs=0.01)


def test_averaged_weights_never_look_back_further_than_configured(pictures):
    # A half-life of 20 pictures is 10 steps.
    assert ema_share_of_new_weights(pictures, ema_share=0.9, ema_pictures=20) == pytest.approx(0.5, abs=1e-3)


def test_early_averaged_weights_are_not_held_back_by_the_untrained_ones(pictures):
    trainer = new_trainer(pictures)
    next(trainer.run())
    for average, weight in zip(trainer.ema.parameters(), trainer.model.parameters(), strict=True):
        torch.testing.assert_close(average, weight.detach(), rtol=1e-3, atol=1e-5)
