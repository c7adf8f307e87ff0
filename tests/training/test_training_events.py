"""A training tells how it goes, and draws the same samples every time."""

from dataclasses import replace

import torch
from small_trainings import Watcher, finish, new_trainer

from sd_core.training.events import Finished, Progress, Samples, Sampling, Saved


def test_events_come_in_order(pictures):
    trainer = new_trainer(pictures, steps=5, save_every=2, sample_every=3)
    Watcher(trainer)
    events = [(type(event), event.step) for event in trainer.run() if not isinstance(event, Sampling)]
    assert events == [
        (Progress, 1),
        (Progress, 2),
        (Saved, 2),
        (Progress, 3),  # or the steps before would seem to have taken no time
        (Samples, 3),
        (Progress, 4),
        (Saved, 4),
        (Progress, 5),
        (Saved, 5),
        (Samples, 5),
        (Finished, 5),
    ]


def test_the_loss_curve_gets_a_point_often_enough_without_a_clock(pictures):
    trainer = new_trainer(pictures, steps=9, batch=2)
    trainer.log_steps = 3
    Watcher(trainer)
    assert [event.step for event in trainer.run() if isinstance(event, Progress)] == [1, 4, 7, 9]


def test_progress_says_how_far_and_how_fast(pictures):
    trainer = new_trainer(pictures, steps=3, batch=6, save_every=1)
    progress = [event for event in trainer.run() if isinstance(event, Progress)]
    assert [event.pictures_seen for event in progress] == [6, 12, 18]
    assert all(event.pictures_per_second > 0 and event.gradient_norm > 0 for event in progress)
    assert progress[0].seconds_left > 0 and progress[-1].seconds_left == 0


def test_a_finished_training_has_nothing_left_to_do(pictures):
    trainer = new_trainer(pictures, steps=1)
    finish(trainer)
    assert finish(trainer) == [Finished(1)]


def test_samples_come_from_the_same_noise_every_time(pictures):
    prompts = ("a red square", "a blue square")
    trainer = new_trainer(pictures, sample_prompts=prompts)
    first, again = trainer.samples(), trainer.samples()
    assert first.prompts == prompts
    assert first.pictures.shape == (2, 3, 8, 8) and first.pictures.dtype == torch.float32
    assert torch.equal(first.pictures, again.pictures)


def test_samples_come_at_growing_intervals(pictures):
    trainer, due = new_trainer(pictures, sample_every=200, steps=700), []
    for trainer.step in range(1, 701):
        due += [trainer.step] * trainer.is_sample_due()
    assert due == [25, 50, 100, 200, 400, 600, 700]


def test_samples_can_be_left_half_drawn(pictures):
    trainer = new_trainer(pictures)
    expected = trainer.samples().pictures
    drawing = trainer.sampling()
    assert next(drawing).index == 1
    drawing.close()
    assert torch.is_grad_enabled()
    assert torch.equal(trainer.samples().pictures, expected)


def test_samples_are_drawn_with_the_averaged_weights(pictures):
    trainer = new_trainer(pictures)
    before = trainer.samples().pictures
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.fill_(float("nan"))
    assert torch.equal(trainer.samples().pictures, before)


def test_without_configured_prompts_samples_show_captions_spread_over_the_data(pictures, squares):
    trainer = new_trainer(pictures, sample_prompts=())
    assert trainer.objective.sample_prompts() == tuple(sorted(set(pictures.captions)))
    many = replace(squares(40), captions=tuple(f"square number {i}" for i in range(40)))
    prompts = new_trainer(many, sample_prompts=()).objective.sample_prompts()
    assert len(set(prompts)) == 16
    assert set(prompts) <= set(many.captions)
