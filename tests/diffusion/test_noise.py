"""The forward process keeps its promises: its statistics, its schedules and its two coordinate systems."""

import math

import pytest
import torch
from diffusers import DDPMScheduler, EDMEulerScheduler, EulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sd_core.diffusion.noise import (
    SIGMA_DATA,
    SIGMA_MAX,
    SIGMA_MIN,
    Preconditioning,
    SigmaDistribution,
    add_noise,
    draw_noise,
    picture_generators,
)
from sd_core.diffusion.schedules import (
    SCHEDULES,
    DDPMSchedule,
    cosine_betas,
    exponential_sigmas,
    karras_sigmas,
    linear_betas,
    linear_sigmas,
)

BETAS = {"linear": linear_betas, "cosine": cosine_betas}
DIFFUSERS_BETAS = {"linear": "linear", "cosine": "squaredcos_cap_v2"}


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def two_tone_pictures(count: int = 64) -> torch.Tensor:
    """Pictures of standard deviation 0.5 whose values are anything but normal: each pixel is -0.5 or 0.5."""
    return normal(count, 3, 16, 16, seed=7).sign() / 2


# The forward process


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_noising_adds_the_variance_sigma_squared_at_every_step(schedule):
    x0, noise = two_tone_pictures(), normal(64, 3, 16, 16)
    for sigma in schedule(12)[:-1]:
        noisy = add_noise(x0, sigma, noise)
        assert float((noisy - x0).double().var()) == pytest.approx(float(sigma) ** 2, rel=0.02)
        assert float(noisy.double().var()) == pytest.approx(0.25 + float(sigma) ** 2, rel=0.02)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_the_signal_to_noise_ratio_is_sigma_data_over_sigma_squared_at_every_step(schedule):
    x0, noise = two_tone_pictures(), normal(64, 3, 16, 16)
    for sigma in schedule(12)[:-1]:
        residue = add_noise(x0, sigma, noise) - x0
        decibels = 10 * math.log10(x0.double().var() / residue.double().var())
        assert decibels == pytest.approx(20 * math.log10(SIGMA_DATA / float(sigma)), abs=0.1)


@pytest.mark.parametrize("betas", BETAS)
def test_ddpm_keeps_unit_variance_and_its_signal_to_noise_ratio_at_every_time(betas):
    schedule = DDPMSchedule(BETAS[betas]())
    x0, noise = normal(64, 3, 16, 16, seed=1).sign(), normal(64, 3, 16, 16)
    for t in range(0, 1000, 37):
        share = float(schedule.alphas_cumprod[t])
        noisy = schedule.add_noise(x0, torch.full((64,), t), noise).double()
        assert float(noisy.var()) == pytest.approx(1, rel=0.02)
        assert float((noisy * x0).mean()) == pytest.approx(share**0.5, abs=0.012)  # the signal's amplitude
        assert float((noisy - share**0.5 * x0).var()) == pytest.approx(1 - share, rel=0.02)


@pytest.mark.parametrize("betas", BETAS)
def test_each_ddpm_step_adds_its_beta_of_noise(betas):
    schedule = DDPMSchedule(BETAS[betas]())
    steps = schedule.alphas_cumprod[1:] / schedule.alphas_cumprod[:-1]
    torch.testing.assert_close(1 - steps, schedule.betas[1:], rtol=1e-9, atol=1e-12)


def test_at_the_highest_noise_level_a_picture_cannot_be_told_from_pure_noise():
    x0, noise = two_tone_pictures(16), normal(16, 3, 16, 16)
    noisy = add_noise(x0, torch.tensor(SIGMA_MAX), noise) / SIGMA_MAX
    assert stats.kstest(noisy.flatten().numpy(), "norm").pvalue > 0.05
    assert stats.pearsonr(noisy.flatten().numpy(), x0.flatten().numpy()).pvalue > 0.05


def test_the_end_of_ddpm_cannot_be_told_from_pure_noise():
    x0, noise = normal(64, 3, 16, 16, seed=1).sign(), normal(64, 3, 16, 16)
    for betas in BETAS.values():
        noisy = DDPMSchedule(betas()).add_noise(x0, torch.full((64,), 999), noise)
        assert stats.kstest(noisy.flatten().numpy(), "norm").pvalue > 0.05
        assert stats.pearsonr(noisy.flatten().numpy(), x0.flatten().numpy()).pvalue > 0.05


def test_halfway_a_picture_can_still_be_told_from_pure_noise():
    """The statistics that find nothing at the end do find the picture before it."""
    x0, noise = two_tone_pictures(16), normal(16, 3, 16, 16)
    noisy = add_noise(x0, torch.tensor(0.5), noise) / 0.5**0.5
    assert stats.kstest(noisy.flatten().numpy(), "norm").pvalue < 1e-6
    assert stats.pearsonr(noisy.flatten().numpy(), x0.flatten().numpy()).pvalue < 1e-6


def test_the_lowest_noise_level_is_invisible_in_eight_bits():
    x0 = two_tone_pictures()
    noisy = add_noise(x0, torch.tensor(SIGMA_MIN), normal(64, 3, 16, 16))
    assert float((noisy - x0).abs().median()) < 1 / 255


def test_each_picture_of_a_batch_can_have_a_noise_level_of_its_own():
    x0, noise = two_tone_pictures(3), normal(3, 3, 16, 16)
    sigmas = torch.tensor([0.1, 1.0, 10.0])
    together = add_noise(x0, sigmas, noise)
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], add_noise(x0[i : i + 1], sigmas[i], noise[i : i + 1]))


def test_a_seed_gives_its_noise_in_any_batch():
    alone = draw_noise(picture_generators([7]), (3, 8, 8))
    together = draw_noise(picture_generators([3, 7, 11]), (3, 8, 8))
    assert torch.equal(alone[0], together[1])
    assert not torch.equal(together[0], together[1])


# The two coordinate systems


@pytest.mark.parametrize("betas", BETAS)
def test_ddpm_noising_is_edm_noising_up_to_scale(betas):
    schedule = DDPMSchedule(BETAS[betas]())
    t = torch.tensor([0, 1, 250, 999 if betas == "linear" else 990])
    x0, noise = normal(4, 3, 4, 4, seed=1, dtype=torch.float64), normal(4, 3, 4, 4, dtype=torch.float64)
    edm = add_noise(x0, schedule.sigma_of(t), noise)
    ddpm = schedule.add_noise(x0, t, noise)
    torch.testing.assert_close(schedule.to_edm(ddpm, t), edm, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(schedule.from_edm(edm, t), ddpm, rtol=1e-9, atol=1e-9)


@given(st.sampled_from(sorted(BETAS)), st.floats(0, 999))
def test_time_to_sigma_and_back_is_exact(betas, t):
    schedule = DDPMSchedule(BETAS[betas]())
    t = torch.tensor(t, dtype=torch.float64)
    torch.testing.assert_close(schedule.t_of(schedule.sigma_of(t)), t, rtol=0, atol=1e-8)


@given(st.sampled_from(sorted(BETAS)), st.floats(0, 1))
def test_sigma_to_time_and_back_is_exact(betas, share):
    schedule = DDPMSchedule(BETAS[betas]())
    low, high = schedule.log_sigmas[0], schedule.log_sigmas[-1]
    sigma = torch.lerp(low, high, share).exp()
    torch.testing.assert_close(schedule.sigma_of(schedule.t_of(sigma)), sigma, rtol=1e-9, atol=0)


def test_noise_levels_beyond_the_ddpm_range_are_its_ends():
    schedule = DDPMSchedule(linear_betas())
    times = schedule.t_of(torch.tensor([1e-9, 1e9], dtype=torch.float64))
    assert times.tolist() == pytest.approx([0, 999])


@pytest.mark.parametrize("betas", BETAS)
def test_alphas_cumprod_equal_those_of_diffusers(betas):
    theirs = DDPMScheduler(beta_schedule=DIFFUSERS_BETAS[betas])
    ours = DDPMSchedule(BETAS[betas]())
    torch.testing.assert_close(ours.betas.float(), theirs.betas, rtol=1e-4, atol=1e-7)  # theirs are made in float32
    torch.testing.assert_close(ours.alphas_cumprod.float(), theirs.alphas_cumprod, rtol=2e-4, atol=1e-6)


def test_ddpm_noising_equals_that_of_diffusers():
    theirs, ours = DDPMScheduler(), DDPMSchedule(linear_betas())
    x0, noise, t = normal(5, 3, 8, 8, seed=1), normal(5, 3, 8, 8), torch.tensor([0, 10, 400, 700, 999])
    torch.testing.assert_close(ours.add_noise(x0, t, noise), theirs.add_noise(x0, noise, t), rtol=0, atol=2e-5)


# Schedules


def test_karras_schedule_equals_that_of_diffusers():
    theirs = EDMEulerScheduler(sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX, sigma_schedule="karras")
    theirs.set_timesteps(18)
    torch.testing.assert_close(karras_sigmas(18), theirs.sigmas, rtol=2e-5, atol=0)


def test_karras_schedule_between_other_ends_equals_that_of_diffusers():
    theirs = EulerDiscreteScheduler(use_karras_sigmas=True)
    theirs.set_timesteps(25)
    low, high = float(theirs.sigmas[-2]), float(theirs.sigmas[0])
    torch.testing.assert_close(karras_sigmas(25, low, high), theirs.sigmas, rtol=2e-5, atol=0)


def test_exponential_schedule_equals_that_of_diffusers():
    theirs = EDMEulerScheduler(sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX, sigma_schedule="exponential")
    theirs.set_timesteps(18)
    torch.testing.assert_close(exponential_sigmas(18), theirs.sigmas, rtol=2e-5, atol=0)


def test_linear_schedule_is_evenly_spaced():
    gaps = linear_sigmas(9, 2.0, 10.0)[:-1].diff()
    torch.testing.assert_close(gaps, torch.full((8,), -1.0))


@given(
    st.sampled_from(sorted(SCHEDULES)),
    st.integers(1, 200),
    st.floats(1e-3, 1.0),
    st.floats(1.5, 1e5),
)
def test_every_schedule_falls_strictly_from_sigma_max_to_sigma_min_and_then_zero(name, steps, low, ratio):
    sigmas = SCHEDULES[name](steps, low, low * ratio)
    assert len(sigmas) == steps + 1
    assert sigmas.dtype == torch.float32
    assert (sigmas.diff() < 0).all()
    assert float(sigmas[0]) == pytest.approx(low * ratio, rel=1e-6)
    assert sigmas[-1] == 0
    if steps > 1:
        assert float(sigmas[-2]) == pytest.approx(low, rel=1e-5)


def test_karras_rho_of_one_is_the_linear_schedule():
    torch.testing.assert_close(karras_sigmas(10, rho=1.0), linear_sigmas(10))


# Preconditioning


def pixels_and_noise(sigma: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x0 = normal(200_000, seed=3, dtype=torch.float64) * SIGMA_DATA
    return x0, add_noise(x0, torch.tensor(sigma), normal(200_000, seed=4, dtype=torch.float64)), torch.tensor(sigma)


@pytest.mark.parametrize("sigma", [0.002, 0.05, 0.5, 3.0, 80.0])
def test_preconditioning_gives_the_network_input_and_target_unit_variance(sigma):
    scale = Preconditioning()
    x0, noisy, sigma = pixels_and_noise(sigma)
    target = (x0 - scale.c_skip(sigma) * noisy) / scale.c_out(sigma)
    assert float((scale.c_in(sigma) * noisy).var()) == pytest.approx(1, rel=0.02)
    assert float(target.var()) == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize("sigma", [0.002, 0.05, 0.5, 3.0, 80.0])
def test_an_untrained_network_has_a_weighted_loss_of_one_at_every_noise_level(sigma):
    scale = Preconditioning()
    x0, noisy, sigma = pixels_and_noise(sigma)
    loss = scale.loss_weight(sigma) * (scale.c_skip(sigma) * noisy - x0).square().mean()
    assert float(loss) == pytest.approx(1, rel=0.02)


@given(st.floats(1e-3, 100), st.floats(0.1, 2))
def test_preconditioning_equals_that_of_diffusers(sigma, sigma_data):
    ours, theirs = Preconditioning(sigma_data), EDMEulerScheduler(sigma_data=sigma_data)
    s, one, zero = torch.tensor(sigma, dtype=torch.float64), torch.ones(1).double(), torch.zeros(1).double()
    torch.testing.assert_close(ours.c_in(s) * one, theirs.precondition_inputs(one, s))
    torch.testing.assert_close(ours.c_skip(s) * one, theirs.precondition_outputs(one, zero, s))
    torch.testing.assert_close(ours.c_out(s) * one, theirs.precondition_outputs(zero, one, s))
    torch.testing.assert_close(ours.c_noise(s), theirs.precondition_noise(s))


# The training distribution of sigma


def test_training_noise_levels_are_lognormal():
    sigma = SigmaDistribution(-1.2, 1.2).sample(20_000, torch.Generator().manual_seed(0)).log()
    assert float(sigma.mean()) == pytest.approx(-1.2, abs=0.01)
    assert float(sigma.std()) == pytest.approx(1.2, abs=0.01)
    assert stats.kstest(sigma.numpy(), "norm", args=(-1.2, 1.2)).pvalue > 0.05


def test_every_batch_of_noise_levels_covers_the_distribution_evenly():
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        sigma = SigmaDistribution(-1.0, 1.4).sample(8, generator)
        slices = (stats.norm.cdf(sigma.double().log().numpy(), -1.0, 1.4) * 8).astype(int)
        assert sorted(slices) == list(range(8))


def test_the_first_picture_of_a_batch_gets_any_noise_level():
    generator = torch.Generator().manual_seed(0)
    firsts = torch.stack([SigmaDistribution(-1.2, 1.2).sample(4, generator)[0] for _ in range(500)])
    assert stats.kstest(firsts.log().numpy(), "norm", args=(-1.2, 1.2)).pvalue > 0.05


def test_training_noise_levels_stay_where_samplers_go():
    sigma = SigmaDistribution(0.0, 30.0).sample(1000, torch.Generator().manual_seed(0))
    assert float(sigma.min()) == pytest.approx(SIGMA_MIN)
    assert float(sigma.max()) == pytest.approx(SIGMA_MAX)


# Bad input


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda: karras_sigmas(0), "at least 1 step, not 0"),
        (lambda: linear_sigmas(5, 0.0, 1.0), "0 < sigma_min <= sigma_max, not 0.0 and 1.0"),
        (lambda: exponential_sigmas(5, 2.0, 1.0), "0 < sigma_min <= sigma_max, not 2.0 and 1.0"),
        (lambda: karras_sigmas(5, float("nan"), 1.0), "0 < sigma_min <= sigma_max"),
        (lambda: karras_sigmas(5, 1.0, 1.0), "cannot fall"),
        (lambda: karras_sigmas(5, rho=0.0), "rho must be above 0, not 0.0"),
        (lambda: Preconditioning(0.0), "sigma_data must be above 0, not 0.0"),
        (lambda: SigmaDistribution(0.0, -1.0), "must be above 0, not -1.0"),
        (lambda: DDPMSchedule(torch.tensor([0.1])), "at least two numbers between 0 and 1"),
        (lambda: DDPMSchedule(torch.tensor([0.1, 1.0])), "at least two numbers between 0 and 1"),
    ],
)
def test_impossible_numbers_are_refused_in_a_sentence(wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        wrong()
