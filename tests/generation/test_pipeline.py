import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sd_core.diffusion.noise import MAX_SEED
from sd_core.diffusion.sampling import Step
from sd_core.diffusion.schedules import karras_sigmas
from sd_core.errors import CheckpointError, UserError
from sd_core.generation.infotext import (
    Parameters,
    parameters,
    read_parameters,
    request_again,
    sampler_called,
    save_pictures,
)
from sd_core.generation.pipeline import CHUNK, generate, interpolate
from sd_core.generation.request import MAX_COUNT, SAMPLERS, GenerationRequest
from sd_core.generation.seeds import Noise, slerp
from sd_core.generation.trajectory import MAX_BYTES, Trajectory
from sd_core.models import checkpoint
from sd_core.models.denoiser import ModelConfig
from sd_core.models.registry import ModelRegistry


def last(steps):
    *_, step = steps
    return step


def drawn(model, **settings):
    return last(generate(model, GenerationRequest("a red square", steps=4, **settings))).x


def close(a, b):
    return torch.allclose(a, b, atol=1e-4)


# Seeds


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_seed_gives_the_same_picture_in_any_batch(generator, sampler):
    many = drawn(generator, seed=7, count=CHUNK + 3, sampler=sampler)
    for i in (0, 1, CHUNK + 2):
        assert close(many[i : i + 1], drawn(generator, seed=7 + i, sampler=sampler))


def test_after_the_highest_seed_comes_the_first(generator, tmp_path):
    request = GenerationRequest("a red square", count=2, steps=4, seed=MAX_SEED)
    pictures = last(generate(generator, request)).x
    assert close(pictures[1:], drawn(generator, seed=0))
    for path, picture in zip(save_pictures(pictures, request, request.noises(), "m", tmp_path), pictures, strict=True):
        again, wrong = request_again(read_parameters(path))
        assert not wrong and close(last(generate(generator, again)).x[0], picture)


def test_different_seeds_give_different_pictures(generator):
    assert not close(drawn(generator, seed=1), drawn(generator, seed=2))


def test_a_step_of_a_sampler_brings_the_whole_batch(generator):
    steps = list(generate(generator, GenerationRequest("a red square", count=3, steps=5)))
    assert [(s.index, s.count) for s in steps] == [(i, 5) for i in range(1, 6)]
    assert all(s.x.shape == s.denoised.shape == (3, 3, 8, 8) for s in steps)
    assert not steps[-1].x.requires_grad


def test_prompt_negative_prompt_and_guidance_matter(generator):
    plain = drawn(generator, guidance=1.0)
    assert close(plain, drawn(generator, guidance=1.0, negative_prompt="blue"))
    guided = drawn(generator, guidance=4.0)
    assert not close(plain, guided)
    assert not close(guided, drawn(generator, guidance=4.0, negative_prompt="blue"))


# Variations and walks


@given(st.floats(0, 1), st.integers(0, 100))
def test_spherical_interpolation_keeps_the_length_of_noise(share, seed):
    draw = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, 3, 16, 16, generator=draw)
    b = b * a.norm() / b.norm()
    assert slerp(a, b, share).norm() == pytest.approx(float(a.norm()), rel=1e-4)


def test_spherical_interpolation_begins_and_ends_at_its_ends():
    a, b = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(slerp(a, b, 0), a) and torch.allclose(slerp(a, b, 1), b)
    assert torch.allclose(slerp(a, a, 0.3), a)


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "euler_ancestral"])
def test_a_variation_goes_from_the_chosen_picture_to_a_new_one(generator, sampler):
    chosen, new = drawn(generator, seed=5, sampler=sampler), drawn(generator, seed=9, sampler=sampler)
    varied = [
        drawn(generator, seed=9, variation_of=Noise(5), variation_strength=s, sampler=sampler)
        for s in (0.0, 0.1, 0.5, 1.0)
    ]
    assert close(varied[0], chosen) and close(varied[3], new)
    far = [float((v - chosen).square().mean()) for v in varied]
    assert far[0] < far[1] < far[2]


def test_a_variation_of_a_variation_starts_from_it(generator):
    once = Noise(5).varied(9, 0.4)
    assert close(
        drawn(generator, seed=11, variation_of=once, variation_strength=0.0),
        drawn(generator, seed=9, variation_of=Noise(5), variation_strength=0.4),
    )


def test_a_walk_begins_and_ends_at_its_seeds(generator):
    request = GenerationRequest("a red square", seed=3, steps=4)
    frames = last(interpolate(generator, request, to_seed=8, frames=CHUNK + 4)).x
    assert len(frames) == CHUNK + 4
    assert close(frames[:1], drawn(generator, seed=3)) and close(frames[-1:], drawn(generator, seed=8))
    moves = (frames[1:] - frames[:-1]).flatten(1).norm(dim=1)
    assert moves.max() < 0.5 * (frames[0] - frames[-1]).norm()


@given(
    st.integers(0, MAX_SEED), st.lists(st.tuples(st.integers(0, MAX_SEED), st.floats(0, 1).map(lambda x: round(x, 4))))
)
def test_a_noise_is_written_and_read(seed, blended):
    noise = Noise(seed, tuple(blended))
    assert Noise.parse(str(noise)) == noise


@pytest.mark.parametrize(
    "text", ["", "x", "1 2", "1 2:3", "-1", "1.5", "1 2:-0.1", "99999999999", "9" * 5000, f"1 2:{'9' * 10**6}x"]
)
def test_what_is_no_noise_is_refused_at_once(text):
    with pytest.raises(UserError) as error:
        Noise.parse(text)
    assert len(str(error.value)) < 200


# Image to image


def test_image_to_image_keeps_more_of_the_picture_the_lower_its_strength(generator):
    start = torch.linspace(-1, 1, 8).expand(3, 8, 8)
    far = [float((drawn(generator, start=start, strength=s) - start).square().mean()) for s in (0.25, 0.5, 1.0)]
    assert far[0] < far[1] < far[2]


def test_image_to_image_walks_the_last_part_of_the_schedule():
    request = GenerationRequest(steps=16, start=torch.zeros(3, 8, 8), strength=0.5)
    assert torch.equal(request.sigmas(ModelConfig()), karras_sigmas(16)[-9:])
    assert len(GenerationRequest(steps=1, start=torch.zeros(3, 8, 8), strength=0.01).sigmas(ModelConfig())) == 2


# In latents


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_generator_of_latents_walks_in_them_and_its_codec_makes_the_pictures(latent_generator, sampler):
    steps = list(generate(latent_generator, GenerationRequest("a red square", count=3, steps=4, sampler=sampler)))
    assert all(s.x.shape == s.denoised.shape == (3, 4, 4, 4) for s in steps)
    codec, end = latent_generator.codec, steps[-1]
    assert codec.decode(end.x).shape == (3, 3, 32, 32) and codec.preview(end.denoised).shape == (3, 3, 4, 4)


def test_seeds_variations_and_walks_are_the_same_in_latents(latent_generator):
    many = drawn(latent_generator, seed=7, count=3)
    assert close(many[2:], drawn(latent_generator, seed=9))
    assert close(drawn(latent_generator, seed=9, variation_of=Noise(7), variation_strength=0.0), many[:1])
    frames = last(interpolate(latent_generator, GenerationRequest("a red square", seed=7, steps=4), 9, 3)).x
    assert close(frames[:1], many[:1]) and close(frames[2:], many[2:])


def test_a_picture_to_start_from_is_encoded(latent_generator):
    start = torch.linspace(-1, 1, 32).expand(3, 32, 32)
    latents = latent_generator.codec.encode(start[None])
    far = [float((drawn(latent_generator, start=start, strength=s) - latents).square().mean()) for s in (0.25, 1.0)]
    assert far[0] < far[1]


def test_a_trajectory_of_latents_is_small_and_shows_pictures(latent_generator):
    trajectory = Trajectory(latent_generator.codec)
    for each in generate(latent_generator, GenerationRequest("a red square", count=2, steps=3)):
        trajectory.add(each)
    assert trajectory.bytes == 3 * 2 * 2 * each.x.numel()
    for view in ("noisy", "guess"):
        shown = trajectory.pictures(trajectory.at(2), view)
        assert shown.shape == (2, 32, 32, 3) and shown.dtype == torch.uint8


# Requests


@pytest.mark.parametrize(
    "bad",
    [
        {"count": 0},
        {"count": MAX_COUNT + 1},
        {"count": 1.5},
        {"count": "3"},
        {"prompt": None},
        {"sampler": "magic"},
        {"steps": 0},
        {"steps": 10**6},
        {"guidance": -1},
        {"guidance": float("nan")},
        {"seed": -1},
        {"seed": 2**40},
        {"strength": 0},
        {"strength": 1.1},
        {"variation_strength": 2},
        {"start": torch.zeros(1, 8, 8)},
        {"prompt": "x" * 100_000},
    ],
)
def test_a_bad_request_is_refused_in_one_sentence(bad):
    with pytest.raises(UserError) as raised:
        GenerationRequest(**bad)
    assert str(raised.value).endswith(".") and "\n" not in str(raised.value)


@pytest.mark.parametrize("prompt", ["", "word " * 1000, "红发 👩🏽‍🚀", "half \ud83d", "dragon castle"])
def test_any_prompt_draws_something(generator, prompt):
    request = GenerationRequest(prompt, negative_prompt=prompt, steps=2)
    assert last(generate(generator, request)).x.isfinite().all()


@pytest.mark.parametrize(
    ("name", "key"),
    [("DPM++ 2M Karras", "dpmpp_2m"), ("DPM++ 2M", "dpmpp_2m"), ("Euler", "euler"), ("Euler a", "euler_ancestral"),
     ("heun", "heun"), ("DDIM", "euler"), ("LMS", None), (None, None)],
)  # fmt: skip
def test_samplers_are_known_under_the_names_other_tools_use(name, key):
    assert sampler_called(name) == key


# Files


@pytest.mark.parametrize("variation", [None, Noise(3), Noise(3).varied(4, 0.5)])
def test_a_saved_picture_can_be_made_again_from_its_file(generator, tmp_path, variation):
    request = GenerationRequest(
        "a red square, big: yes", "blue", 3, "euler_ancestral", 4, 2.5, seed=7, variation_of=variation
    )
    pictures = last(generate(generator, request)).x
    paths = save_pictures(pictures, request, request.noises(), "squares", tmp_path / "new")
    assert len({p.name for p in paths}) == 3
    for path, picture in zip(paths, pictures, strict=True):
        settings = read_parameters(path)
        assert settings.model == "squares" and settings.size == (8, 8)
        assert close(last(generate(generator, request_again(settings)[0])).x[0], picture)


def test_settings_of_another_tool_with_gaps_make_a_request():
    assert request_again(Parameters("a fox")) == (GenerationRequest("a fox"), ())
    assert request_again(Parameters("a fox", sampler="LMS", steps=30))[0].steps == 30
    assert request_again(Parameters("a fox", sampler="DDIM"))[0].sampler == "euler"


def test_settings_out_of_range_are_named_and_the_rest_is_used():
    far = Parameters("a fox", "blue", steps=150, guidance=20.0, seed=2**63, strength=0.0, sampler="Heun")
    request, wrong = request_again(far)
    assert request == GenerationRequest("a fox", "blue", sampler="heun")
    assert set(wrong) == {"steps", "guidance", "seed", "strength"}
    assert request_again(Parameters("x" * 100_000, steps=7)) == (GenerationRequest(steps=7), ("prompt",))
    varied = Parameters("a fox", seed=3, variation_seed=4, variation_strength=0.5, variation_of="1 2 3")
    assert request_again(varied) == (GenerationRequest("a fox", seed=3), ("variation_of",))


def test_image_to_image_says_so_in_the_file():
    request = GenerationRequest("x", start=torch.zeros(3, 8, 8), strength=0.4)
    assert parameters(request, Noise(0), "m", (8, 8)).strength == 0.4


# The trajectory of a batch


def step(index, count, pictures=2, side=8):
    return Step(
        index, count, float(count - index), torch.zeros(pictures, 3, side, side), torch.ones(pictures, 3, side, side)
    )


def test_a_film_keeps_every_step():
    trajectory = Trajectory()
    for i in range(1, 6):
        trajectory.add(step(i, 5))
    assert [frame.index for frame in trajectory.frames] == [1, 2, 3, 4, 5]
    assert trajectory.at(3).index == 3 and trajectory.at(99).index == 5
    assert trajectory.pictures(trajectory.frames[0], "guess").shape == (2, 8, 8, 3)


def test_a_long_film_stays_small_and_keeps_its_end():
    trajectory = Trajectory()
    for i in range(1, 101):
        trajectory.add(step(i, 100, 64, 128))
    assert 0 < trajectory.bytes <= MAX_BYTES
    assert trajectory.frames[-1].index == 100


# The registry


@pytest.fixture
def registry(generator, restorer, tmp_path):
    for path in ("checkpoints/characters", "checkpoints/birds", "runs/mine/checkpoint", "runs/.hidden/checkpoint"):
        checkpoint.save(generator, tmp_path / path)
    checkpoint.save(restorer, tmp_path / "checkpoints/repair")
    (tmp_path / "runs/empty").mkdir()
    (tmp_path / "checkpoints/broken").mkdir()
    return ModelRegistry(tmp_path / "checkpoints", tmp_path / "runs", torch.device("cpu"))


def test_the_registry_lists_usable_models(registry):
    assert registry.names() == ["characters", "birds", "runs/mine"]
    assert registry.names("restorer") == ["repair"]


def test_the_registry_knows_its_models_by_their_folders(registry, tmp_path):
    assert registry.name_of(tmp_path / "runs/mine/checkpoint") == "runs/mine"
    assert registry.name_of(tmp_path / "checkpoints/../checkpoints/birds") == "birds"
    assert registry.name_of(tmp_path / "runs/empty") is None


def test_the_registry_loads_a_model_once_and_again_when_it_changed(registry, generator, tmp_path):
    first = registry.load("runs/mine")
    assert registry.load("runs/mine") is first
    checkpoint.save(generator, tmp_path / "runs/mine/checkpoint")
    assert registry.load("runs/mine") is not first


def test_the_registry_keeps_only_a_few_models(registry, generator, tmp_path):
    for i in range(5):
        checkpoint.save(generator, tmp_path / f"checkpoints/m{i}")
    first = registry.load("m0")
    for i in range(5):
        registry.load(f"m{i}")
    assert registry.load("m0") is not first


@pytest.mark.parametrize("name", ["nothing", "../secret", "runs/../x", "", "runs/", "..", "/etc"])
def test_the_registry_knows_no_other_folders(registry, name):
    with pytest.raises(CheckpointError, match="no model"):
        registry.load(name)


def test_an_empty_registry_is_no_error(tmp_path):
    assert ModelRegistry(tmp_path / "a", tmp_path / "b").names() == []


def test_stopping_is_closing(generator):
    steps = generate(generator, GenerationRequest(steps=50))
    list(itertools.islice(steps, 2))
    steps.close()
    assert list(steps) == []
