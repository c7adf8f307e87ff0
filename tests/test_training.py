"""Training learns, goes on exactly where it stopped, is the same on one process or two, and fails in plain words."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from sd_core import device, lessons, training
from sd_core.data import PictureSet
from sd_core.denoiser import Denoiser, ModelConfig
from sd_core.training import (
    Finished,
    Peers,
    Progress,
    Samples,
    Sampling,
    Saved,
    Trainer,
    TrainingConfig,
    TrainingFailed,
    new_generator,
)

CPU = torch.device("cpu")
HERE = Path(__file__).parent


def new_trainer(pictures: PictureSet, model_seed: int = 0, **options) -> Trainer:
    defaults = {"steps": 4, "batch": 4, "warmup": 0, "save_every": 1000, "sample_every": 1000}
    config = TrainingConfig(**{**defaults, "sample_prompts": ("a red square",), **options})
    return Trainer(new_generator(pictures, "tiny", model_seed), pictures, config, CPU)


def finish(trainer: Trainer) -> list[training.Event]:
    return list(trainer.run())


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {k: v for k, v in trainer.state()[0].items() if not k.startswith("optimizer.")}


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    different = [name for name in a if not torch.equal(a[name], b[name])]
    assert different == []


@pytest.fixture(autouse=True)
def quick_samples(monkeypatch) -> None:
    monkeypatch.setattr(lessons, "SAMPLE_STEPS", 2)


@pytest.fixture
def no_clock(monkeypatch) -> None:
    """Progress is logged by steps alone."""
    monkeypatch.setattr(training, "LOG_SECONDS", float("inf"))


# Learning


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_the_loss_falls(pictures, no_clock, optimizer):
    trainer = new_trainer(pictures, steps=40, batch=8, optimizer=optimizer, save_every=20)
    losses = [event.loss for event in finish(trainer) if isinstance(event, Progress)]
    assert losses[-1] < 0.8 * losses[0]


def test_a_trained_generator_paints_what_the_prompt_says(pictures, monkeypatch):
    monkeypatch.setattr(lessons, "SAMPLE_STEPS", 8)
    prompts = ("a red square", "a green square", "a blue square")
    trainer = new_trainer(pictures, steps=80, batch=8, sample_prompts=prompts)
    *_, samples, _ = finish(trainer)
    red, green, blue = samples.pictures.mean((2, 3))
    assert red.argmax() == 0
    assert green.argmax() == 1
    assert blue.argmax() == 2


def test_an_untrained_network_has_a_loss_of_about_one(no_clock):
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


# One step, split up


def with_plain_gradients(trainer: Trainer) -> Trainer:
    """Weights move by the plain gradient, so that equal weights mean equal gradients."""
    trainer.optimizers = [torch.optim.SGD(trainer.model.parameters(), lr=0.01)]
    return trainer


def largest_difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    return max(float((a[name] - b[name]).abs().max()) for name in a)


@pytest.mark.parametrize("parts", [2, 8])
def test_accumulated_gradients_are_those_of_the_whole_batch(pictures, parts, monkeypatch):
    monkeypatch.setattr(device, "has_fast_bf16", lambda _: False)
    options = {"batch": 8, "steps": 3, "learning_rate": 0.01, "caption_dropout": 0.5, "gradient_clip": 1e6}
    start = weights(new_trainer(pictures, **options))
    whole, split = (with_plain_gradients(new_trainer(pictures, **options, accumulate=n)) for n in (1, parts))
    finish(whole)
    finish(split)
    assert largest_difference(weights(whole), start) > 1e-3
    assert largest_difference(weights(split), weights(whole)) < 1e-6


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory) -> Path:
    """A folder with what two processes under torchrun ended with."""
    folder = tmp_path_factory.mktemp("torchrun")
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = [str(HERE / "train_under_torchrun.py"), str(folder)]
    done = subprocess.run(command + script, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def ended(folder: Path, kind: str, rank: int) -> dict[str, Tensor]:
    return load_file(folder / f"{kind}-{rank}-of-2.safetensors")


@pytest.fixture
def alone(monkeypatch):
    """What one process with the whole batch ends with: a function from the kind of training."""
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.setattr(device, "has_fast_bf16", lambda _: False)
    import train_under_torchrun

    def train(kind: str) -> tuple[dict[str, Tensor], dict[str, Tensor], list[float]]:
        trainer, losses = train_under_torchrun.train(kind, Peers())
        pictures = train_under_torchrun.uneven_captions()
        return weights(new_trainer(pictures)), weights(trainer), losses

    return train


@pytest.mark.parametrize("kind", ["sgd", "accumulated"])
def test_two_processes_have_the_gradients_of_one_with_the_whole_batch(two_processes, alone, kind):
    start, single, losses = alone(kind)
    both = ended(two_processes, kind, 0)
    assert largest_difference(single, start) > 1e-3
    assert largest_difference(single, both) < 1e-6
    assert both["losses"].tolist() == pytest.approx(losses, rel=1e-4)


def test_two_processes_end_with_the_weights_of_one_with_the_whole_batch(two_processes, alone):
    """With an optimizer that magnifies the last bits of a gradient, equality is to a small share of the way moved."""
    start, single, losses = alone("muon")
    both = ended(two_processes, "muon", 0)
    moved = sum(float((single[name] - start[name]).square().sum()) for name in start)
    apart = sum(float((single[name] - both[name]).square().sum()) for name in start)
    assert moved > 1e-2
    assert apart < 1e-4 * moved
    assert both["losses"].tolist() == pytest.approx(losses, rel=1e-3)


@pytest.mark.parametrize("kind", ["sgd", "accumulated", "muon"])
def test_two_processes_stay_together_to_the_last_bit(two_processes, kind):
    first, second = ended(two_processes, kind, 0), ended(two_processes, kind, 1)
    assert_same(first, second)


def test_without_torchrun_a_process_works_alone(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert Peers.join(CPU) == Peers(rank=0, count=1)


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
    with pytest.raises(TrainingFailed, match="The loss is not a number any more at step") as failure:
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


# What is shown


@settings(max_examples=10)
@given(st.integers(1, 60), st.integers(0, 5))
def test_every_picture_is_shown_once_per_epoch(pictures, batch, seed):
    trainer, count = new_trainer(pictures, batch=batch, seed=seed), len(pictures)
    shown = torch.cat([trainer.lessons.batch_indices(step) for step in range(3 * count // batch + 1)]).tolist()
    epochs = [shown[i * count : (i + 1) * count] for i in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(count))
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


class Watcher(torch.nn.Module):
    """Stands in for a trainer's objective: collects what it is shown, and teaches nothing."""

    def __init__(self, trainer: Trainer):
        super().__init__()
        self.weight = next(trainer.model.parameters())
        self.tokenizer = trainer.model.vocabulary.tokenizer
        self.x0, self.sigma, self.captions = [], [], []
        trainer.objective, trainer.optimizers = self, []

    def forward(self, x0: Tensor, sigma: Tensor, noise: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        self.x0.extend(x0)
        self.sigma.extend(sigma.tolist())
        self.captions += [self.tokenizer.decode(t[m].tolist()).strip() for t, m in zip(tokens, mask, strict=True)]
        return 0 * self.weight.sum()


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


def test_the_learning_rate_warms_up_stays_and_cools_down(pictures, no_clock):
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


# Events


def test_events_come_in_order(pictures, no_clock):
    trainer = new_trainer(pictures, steps=5, save_every=2, sample_every=3)
    Watcher(trainer)
    events = [(type(event), event.step) for event in trainer.run() if not isinstance(event, Sampling)]
    assert events == [
        (Progress, 1),
        (Progress, 2),
        (Saved, 2),
        (Samples, 3),
        (Progress, 4),
        (Saved, 4),
        (Progress, 5),
        (Saved, 5),
        (Samples, 5),
        (Finished, 5),
    ]


def test_the_loss_curve_gets_a_point_often_enough_without_a_clock(pictures, no_clock, monkeypatch):
    monkeypatch.setattr(training, "LOG_STEPS", 3)
    trainer = new_trainer(pictures, steps=9, batch=2)
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
    assert trainer.lessons.sample_prompts() == tuple(sorted(set(pictures.captions)))
    many = replace(squares(40), captions=tuple(f"square number {i}" for i in range(40)))
    prompts = new_trainer(many, sample_prompts=()).lessons.sample_prompts()
    assert len(set(prompts)) == 16
    assert set(prompts) <= set(many.captions)


# Bad input


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"steps": 0}, "steps must be above 0, not 0"),
        ({"learning_rate": -1.0}, "learning_rate must be above 0, not -1.0"),
        ({"batch": 10, "accumulate": 3}, "A batch of 10 cannot be split into 3 equal parts"),
        ({"optimizer": "lion"}, "The optimizer is muon or adamw, not 'lion'"),
        ({"caption_dropout": 1.5}, "caption_dropout is a share between 0 and 1, not 1.5"),
        ({"sigma_std": 0.0}, "must be above 0, not 0.0"),
    ],
)
def test_an_impossible_configuration_is_refused_in_a_sentence(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        TrainingConfig(**wrong)


def test_a_training_that_cannot_work_is_refused_in_a_sentence(pictures, generator):
    nothing = PictureSet("nothing", np.zeros((0, 8, 8, 3), np.uint8), (), True)
    with pytest.raises(ValueError, match="There are no pictures to train on"):
        Trainer(generator, nothing, TrainingConfig(), CPU)
    with pytest.raises(ValueError, match="Only a generator learns from captions"):
        Trainer(Denoiser(ModelConfig("restorer", "tiny", 8, 1)), pictures, TrainingConfig(), CPU)
    with pytest.raises(ValueError, match="A batch of 64 cannot be shared by 3 processes"):
        Trainer(generator, pictures, TrainingConfig(batch=64), CPU, Peers(0, 3))
