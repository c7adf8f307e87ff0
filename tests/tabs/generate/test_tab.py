"""What the Generate tab remembers between one batch and the next."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from sd_core.generation.request import GenerationRequest
from sd_core.generation.seeds import Noise
from sd_core.models.checkpoint import save
from sd_core.models.registry import ModelRegistry
from tabs.common.sessions import SESSIONS
from tabs.common.zero_gpu import line
from tabs.generate.job import Walk, draw
from tabs.generate.tab import on_animate, on_last_seed, on_step


@pytest.fixture
def registry(checkpoints, tmp_path):
    return ModelRegistry(checkpoints, tmp_path)


@pytest.fixture
def visitor(request):
    return SimpleNamespace(session_hash=request.node.name, headers={})


def wanted(**changed):
    return GenerationRequest("hair", **({"count": 2, "sampler": "euler", "steps": 3} | changed))


def test_a_stopped_batch_can_be_begun_again(registry, visitor):
    assert on_last_seed(visitor)[1] is False
    list(draw(visitor, registry, "characters", wanted(seed=5)))
    for _ in draw(visitor, registry, "characters", wanted(seed=9, steps=100)):
        SESSIONS.of(visitor).stop()
    assert SESSIONS.of(visitor).batch.request.seed == 5
    assert on_last_seed(visitor) == (9, False, "", wanted().variation_strength)


def test_variations_can_be_drawn_again(registry, visitor):
    varied = wanted(seed=9, variation_of=Noise(5).varied(6, 0.5), variation_strength=0.2)
    list(draw(visitor, registry, "characters", varied))
    seed, new, of, strength = on_last_seed(visitor)
    assert (seed, new, strength) == (9, False, 0.2)
    assert Noise.parse(of) == varied.variation_of


def test_the_steps_of_the_last_batch_stay_until_there_are_new_ones(registry, visitor):
    list(draw(visitor, registry, "characters", wanted()))
    device, other = line(registry), object()
    before = SESSIONS.of(visitor).trajectory
    device.join(other)  # whose job is under way
    drawing = draw(visitor, registry, "characters", wanted(steps=5))
    try:
        for _ in itertools.islice(drawing, 2):
            assert SESSIONS.of(visitor).trajectory is before
            on_step(2, "guess", visitor)
    finally:
        device.leave(other)
    list(drawing)
    assert [frame.index for frame in SESSIONS.of(visitor).trajectory.frames] == [1, 2, 3, 4, 5]


def test_a_batch_stopped_before_its_first_step_leaves_the_last_one_on_the_page(registry, visitor):
    list(draw(visitor, registry, "characters", wanted()))
    device, other, before = line(registry), object(), SESSIONS.of(visitor).trajectory
    device.join(other)
    try:
        seen = []
        for shown in draw(visitor, registry, "characters", wanted()):
            seen.append(shown)
            SESSIONS.of(visitor).stop()
    finally:
        device.leave(other)
    assert seen[-1].trajectory is None and SESSIONS.of(visitor).trajectory is before


def test_a_model_that_works_in_latents_is_watched_and_drawn_with_like_any_other(latent_generator, tmp_path, visitor):
    save(latent_generator, tmp_path / "models" / "drawings")
    registry = ModelRegistry(tmp_path / "models", tmp_path, torch.device("cpu"))
    *_, shown = draw(visitor, registry, "drawings", wanted(seed=3))
    assert [Image.open(path).size for path in shown.batch.paths] == [(32, 32)] * 2
    for view in ("guess", "noisy"):
        preview, _ = on_step(2, view, visitor)
        assert Image.open(preview).size == (768, 384)
    begun, made = on_animate("guess", visitor)
    assert begun.visible and begun.value is None and Path(made.value["path"]).stat().st_size
    start = torch.zeros(3, 32, 32)
    *_, shown = draw(visitor, registry, "drawings", wanted(seed=3, start=start, strength=0.4))
    assert len(shown.batch.paths) == 2
    *_, shown = draw(visitor, registry, "drawings", wanted(seed=3), Walk(4, 3))
    assert len(shown.batch.paths) == 3
