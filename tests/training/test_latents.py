"""Training in latents: like any other, on pictures that were encoded once."""

import pytest
import torch
from small_trainings import CPU, Watcher, assert_same, finish, weights

from sd_core.errors import CheckpointError
from sd_core.training.config import TrainingConfig
from sd_core.training.events import Samples
from sd_core.training.setup import new_generator
from sd_core.training.state import model_of
from sd_core.training.trainer import Trainer


@pytest.fixture(autouse=True)
def released(small_autoencoder, tmp_path, monkeypatch):
    """The small autoencoder in the place of the released one, and a cache of the test's own."""
    small_autoencoder.save(tmp_path / "checkpoints" / "autoencoder")
    monkeypatch.setenv("SD_CORE_CHECKPOINTS", str(tmp_path / "checkpoints"))
    monkeypatch.setenv("SD_CORE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def large(squares):
    return squares(12, 32)


def new_trainer(pictures, **options) -> Trainer:
    settings = {"steps": 4, "batch": 4, "warmup": 0, "save_every": 100, "sample_every": 4, "sample_prompts": ("red",)}
    model = new_generator(pictures, "tiny", 0, "autoencoder")
    trainer = Trainer(model, pictures, TrainingConfig(**(settings | options)), CPU)
    trainer.objective.sample_steps, trainer.log_seconds = 2, float("inf")
    return trainer


@pytest.mark.parametrize(
    ("resolution", "codec"), [(32, "pixels"), (64, "pixels"), (96, "pixels"), (128, "autoencoder"), (130, "pixels")]
)
def test_from_128_pixels_on_a_new_generator_works_in_latents(squares, resolution, codec):
    model = new_generator(squares(2, resolution), "tiny", 0)
    assert model.config.codec == codec
    assert model.shape == ((4, resolution // 8, resolution // 8) if codec == "autoencoder" else (3, *[resolution] * 2))


def test_without_the_released_autoencoder_that_is_told(squares, tmp_path, monkeypatch):
    monkeypatch.setenv("SD_CORE_CHECKPOINTS", str(tmp_path / "none"))
    with pytest.raises(CheckpointError, match="holds no autoencoder"):
        new_generator(squares(2, 128), "tiny", 0)


def test_it_learns_and_shows_pictures(large):
    trainer = new_trainer(large, steps=60, batch=8, learning_rate=3e-3, sample_every=60)
    trainer.log_steps = 15
    events = finish(trainer)
    losses = [event.loss for event in events if hasattr(event, "loss")]
    assert losses[-1] < 0.9 * losses[0]
    samples = [event for event in events if isinstance(event, Samples)][-1]
    assert samples.pictures.shape == (1, 3, 32, 32)


def test_it_is_shown_latents_of_the_pictures_and_their_mirror_images(large):
    trainer = new_trainer(large, steps=12, caption_dropout=0.0)
    watcher = Watcher(trainer)
    finish(trainer)
    x = torch.from_numpy(large.pixels).permute(0, 3, 1, 2) / 127.5 - 1
    codec = trainer.model.codec
    known = torch.cat([codec.encode(x), codec.encode(x.flip(3))])
    distances = torch.cdist(torch.stack(watcher.x0).flatten(1), known.flatten(1))
    assert distances.min(1).values.max() < 0.02
    assert {int(nearest) >= len(x) for nearest in distances.argmin(1)} == {True, False}


def test_a_training_goes_on_from_its_state_alone(large, small_autoencoder, tmp_path):
    whole = new_trainer(large, steps=4)
    finish(whole)
    half = new_trainer(large, steps=2)
    finish(half)
    saved = half.state()
    (tmp_path / "checkpoints" / "autoencoder" / "model.safetensors").unlink()  # it is in the state, too
    resumed = Trainer(model_of(*saved, tmp_path), large, whole.config, CPU)
    assert resumed.model.codec is whole.model.codec
    resumed.load_state(*saved)
    finish(resumed)
    assert_same(weights(resumed), weights(whole))
