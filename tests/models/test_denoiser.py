"""D(x, sigma): what every sampler relies on, and guidance around it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sd_core.diffusion.guidance import Guided
from sd_core.diffusion.noise import SIGMA_MAX
from sd_core.diffusion.sampling import dpmpp_2m, euler
from sd_core.diffusion.schedules import karras_sigmas
from sd_core.models.conditioning import Conditioning
from sd_core.models.denoiser import PLACES_ACROSS, VIEWS, Denoiser, ModelConfig

PROMPTS = ["a red square", "a blue square"]


def noisy(batch: int = 2, sigma: float = 1.0, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * (0.25 + sigma**2) ** 0.5


class CallCounter:
    """Counts the calls of a model's UNet and remembers the size of each batch."""

    def __init__(self, model: Denoiser):
        self.batches = []
        model.unet.register_forward_pre_hook(lambda module, inputs: self.batches.append(len(inputs[0])))


# The denoiser


def test_the_cleaner_a_picture_the_less_it_is_changed(generator):
    d, x = generator.given(PROMPTS), noisy(sigma=0.0)
    changes = [float((d(x, torch.tensor(sigma)) - x).abs().mean()) for sigma in (1.0, 0.1, 0.01, 0.001)]
    assert changes == sorted(changes, reverse=True)
    assert changes[-1] < 0.005


def test_before_training_the_guess_is_the_best_one_that_knows_nothing_but_the_noise_level(fresh_generator):
    """The best linear guess is a share of the noisy picture: all of it where there is no noise, none in pure noise."""
    d = fresh_generator.given(PROMPTS)
    for sigma, share in ((0.001, 1.0), (0.5, 0.5), (1000.0, 0.0)):
        x = noisy(sigma=sigma)
        torch.testing.assert_close(d(x, torch.tensor(sigma)), share * x, rtol=1e-4, atol=1e-3)


def test_pictures_of_a_batch_may_have_noise_levels_of_their_own(generator):
    x, sigmas = noisy(), torch.tensor([0.3, 3.0])
    together = generator.given(PROMPTS)(x, sigmas)
    for i in range(2):
        alone = generator.given(PROMPTS[i : i + 1])(x[i : i + 1], sigmas[i])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-4, atol=1e-4)


def test_each_picture_follows_its_own_prompt(generator):
    x = noisy(1).repeat(3, 1, 1, 1)
    out = generator.given(["a red square", "a blue square", "a red square"])(x, torch.tensor(1.0))
    torch.testing.assert_close(out[0], out[2], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(out[0], out[1], atol=1e-3)


def test_unknown_words_make_no_difference(generator):
    x = noisy(1)
    known = generator.given(["a red square"])(x, torch.tensor(1.0))
    assert torch.equal(generator.given(["a red zebra square 🦓"])(x, torch.tensor(1.0)), known)


def test_equal_prompts_are_encoded_once(generator):
    seen = []
    generator.text.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    context = generator.encode(["a red square"] * 5 + [""] * 5)
    assert seen == [2]
    assert len(context.tokens) == len(context.mask) == len(context.pooled) == 10


def test_a_restorer_works_from_its_hints(restorer):
    x = noisy()
    damaged = noisy(seed=1)
    out, logit = restorer.restored(x, torch.tensor(1.0), Conditioning.of(damaged))
    assert out.shape == x.shape
    assert logit.shape == (2, 1, 8, 8)
    for others in (
        Conditioning.of(-damaged),
        Conditioning.of(damaged, sigma=0.3),
        Conditioning.of(damaged, torch.zeros(2, 1, 8, 8)),
    ):
        assert not torch.allclose(restorer.restored(x, torch.tensor(1.0), others)[0], out, atol=1e-3)


def test_a_restorer_does_not_see_what_lies_under_the_mask(restorer):
    x, damaged, mask = noisy(), noisy(seed=1), torch.zeros(2, 1, 8, 8)
    mask[..., 2:5, 3:6] = 1
    scribbled = torch.where(mask > 0, 0.7, damaged)
    first, second = (restorer.restored(x, torch.tensor(1.0), Conditioning.of(d, mask))[0] for d in (damaged, scribbled))
    assert torch.equal(first, second)


def test_the_first_step_of_a_restorer_depends_on_no_noise(restorer):
    conditioning, sigma = Conditioning.of(noisy(seed=1)), torch.tensor(SIGMA_MAX)
    first, second = (restorer.restored(SIGMA_MAX * noisy(seed=s), sigma, conditioning)[0] for s in (2, 3))
    assert torch.equal(first, second)


def large_conditioning(height: int, width: int) -> Conditioning:
    draw = torch.Generator().manual_seed(0)
    damaged, mask = torch.randn(1, 3, height, width, generator=draw), torch.zeros(1, 1, height, width)
    mask[..., 3:9, 5:9] = 1
    return Conditioning(damaged, mask, 0.1 + 0.1 * torch.rand(1, 1, height, width, generator=draw))


@pytest.mark.parametrize("turned", VIEWS[1:])
def test_with_all_views_a_turned_picture_gets_the_turned_answer(restorer, turned):
    conditioning = large_conditioning(32, 48)
    others = Conditioning(*map(turned, (conditioning.damaged, conditioning.mask, conditioning.sigma)))
    for views, is_same in ((len(VIEWS), True), (1, False)):
        for answer, other in zip(restorer.at_once(conditioning, views), restorer.at_once(others, views), strict=True):
            assert torch.allclose(turned(answer), other, atol=1e-3) == is_same


def test_a_picture_is_padded_before_it_is_turned(restorer):
    """Or the network's levels would fall on other pixels in every view."""
    height, width = 27, 35
    conditioning = large_conditioning(height, width)
    channels = restorer.unet.padded(conditioning.channels(conditioning.base()))
    x, sigma = torch.zeros(1, 3, *channels.shape[2:]), torch.full((1,), SIGMA_MAX)
    answers = [view(restorer._denoised(view(x), sigma, conditioning=view(channels))[0]) for view in VIEWS]
    expected = conditioning.base() + torch.stack(answers).mean(0)[..., :height, :width]
    found, logit = restorer.at_once(conditioning, len(VIEWS))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert logit.shape == (1, 1, height, width)


def test_a_restorer_takes_no_prompt_and_says_so(restorer):
    with pytest.raises(ValueError, match="A restorer takes no prompt"):
        restorer.given(["a red square"])


# Guidance


def test_guidance_scale_one_is_the_prompt_alone(generator):
    x, sigma = noisy(), torch.tensor(1.0)
    guided = Guided(generator, PROMPTS, ["", ""], 1.0)
    assert torch.equal(guided(x, sigma), generator.given(PROMPTS)(x, sigma))


def test_guidance_scale_zero_is_the_negative_prompt_alone(generator):
    x, sigma = noisy(), torch.tensor(1.0)
    guided = Guided(generator, PROMPTS, ["a green square", ""], 0.0)
    expected = generator.given(["a green square", ""])(x, sigma)
    torch.testing.assert_close(guided(x, sigma), expected, rtol=1e-4, atol=1e-4)


@settings(max_examples=10)
@given(st.floats(0, 10), st.floats(0.01, 50))
def test_guidance_moves_along_the_line_from_the_negative_guess_to_the_positive_one(awake, scale, sigma):
    x, sigma = noisy(sigma=sigma), torch.tensor(sigma)
    positive, negative = awake.given(PROMPTS)(x, sigma), awake.given(["", ""])(x, sigma)
    guided = Guided(awake, PROMPTS, ["", ""], scale)(x, sigma)
    torch.testing.assert_close(guided, negative + scale * (positive - negative), rtol=1e-3, atol=1e-3)


@pytest.fixture(scope="module")
def awake(awaken, vocabulary) -> Denoiser:
    return awaken(Denoiser(ModelConfig.generator("tiny", 8), vocabulary)).eval().requires_grad_(False)


@pytest.mark.parametrize(("scale", "batch"), [(3.0, 4), (0.0, 4), (1.0, 2)])
def test_both_branches_are_asked_in_one_call_per_step(generator, scale, batch):
    guided = Guided(generator, PROMPTS, ["", "a green square"], scale)
    counter = CallCounter(generator)
    sigmas = karras_sigmas(5)
    steps = list(euler(guided, noisy() * sigmas[0], sigmas))
    assert len(steps) == 5
    assert counter.batches == [batch] * 5


def test_outside_its_interval_guidance_costs_and_changes_nothing(generator):
    guided = Guided(generator, PROMPTS, ["", ""], 4.0, interval=(0.3, 5.0))
    plain = generator.given(PROMPTS)
    counter = CallCounter(generator)
    for sigma, batch in ((0.1, 2), (0.3, 4), (1.0, 4), (5.0, 4), (6.0, 2)):
        x, sigma = noisy(sigma=sigma), torch.tensor(sigma, dtype=torch.float64)
        counter.batches.clear()
        out = guided(x, sigma)
        assert counter.batches == [batch]
        assert torch.equal(out, plain(x, sigma)) == (batch == 2)


def test_guidance_needs_a_negative_prompt_for_every_prompt(generator):
    with pytest.raises(ValueError, match="as many negative prompts as prompts"):
        Guided(generator, PROMPTS, [""], 2.0)


def test_the_same_noise_gives_the_same_picture_whatever_the_batch(generator):
    sigmas = karras_sigmas(4)
    noise = noisy() * sigmas[0]
    *_, together = dpmpp_2m(Guided(generator, PROMPTS, ["", ""], 2.0), noise, sigmas)
    *_, alone = dpmpp_2m(Guided(generator, PROMPTS[1:], [""], 2.0), noise[1:], sigmas)
    torch.testing.assert_close(together.x[1:], alone.x, rtol=1e-3, atol=1e-3)


# Configuration


@pytest.mark.parametrize("patch", [1, 2, 4, 8])
def test_patches_grow_with_the_resolution_so_that_the_cost_hardly_does(patch):
    assert ModelConfig.generator("tiny", PLACES_ACROSS * patch).patch == patch
    assert ModelConfig.generator("tiny", PLACES_ACROSS * patch + 5).patch == patch


def test_small_pictures_are_seen_pixel_by_pixel():
    assert ModelConfig.generator("tiny", 8).patch == 1


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"kind": "painter"}, "The kind of model must be generator or restorer, not 'painter'"),
        ({"size": "huge"}, "The model size must be tiny, small, base or large, not 'huge'"),
        ({"resolution": 4}, "The resolution in pixels must be a whole number from 8 to 1024, not 4"),
        ({"resolution": "64"}, "from 8 to 1024, not '64'"),
        ({"patch": 5}, "The patch size must be 1, 2, 4 or 8, not 5"),
        ({"sigma_data": 0.0}, "Sigma data must be above 0"),
    ],
)
def test_an_impossible_model_is_refused_in_a_sentence(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        ModelConfig(**wrong)


def test_a_generator_without_words_and_a_restorer_with_words_are_refused(vocabulary):
    with pytest.raises(ValueError, match="A generator needs a vocabulary"):
        Denoiser(ModelConfig("generator", "tiny", 8, 1))
    with pytest.raises(ValueError, match="a restorer has none"):
        Denoiser(ModelConfig("restorer", "tiny", 8, 1), vocabulary)
