"""Every sampler is the published one: it equals its counterpart in diffusers, and converges as its order says."""

import inspect
import math
import types
from collections.abc import Callable, Iterator

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    EDMDPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
)
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sd_core.diffusion import sampling
from sd_core.diffusion.sampling import Step, dpmpp_2m, euler, euler_ancestral, heun
from sd_core.diffusion.schedules import SCHEDULES, DDPMSchedule, exponential_sigmas, karras_sigmas, linear_betas

ODE_SAMPLERS = {"euler": euler, "heun": heun, "dpmpp_2m": dpmpp_2m}
SHAPE = (2, 3, 8, 8)


def smooth_denoiser(x: Tensor, sigma: Tensor) -> Tensor:
    """Nonlinear, different at every place and noise level, and bounded, as a trained denoiser is."""
    places = torch.linspace(-1, 1, x.shape[-1], dtype=x.dtype)
    neighbours = x.roll(1, -1) - 0.5 * x.roll(1, -2)
    coarse = torch.tanh((x + 0.3 * neighbours) / (1 + sigma**2).sqrt() + places)
    return 0.8 * coarse + 0.1 * torch.sin(3 * x / (1 + sigma))


def noise(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def last(steps: Iterator[Step]) -> Tensor:
    *_, step = steps
    return step.x


def close(ours: Tensor, theirs: Tensor) -> None:
    """Equal to float32 rounding, at noise levels of a hundred; diffusers' schedules are computed in it."""
    torch.testing.assert_close(ours.double(), theirs.double(), rtol=0, atol=5e-5)


def sampler_of(name: str) -> Callable[[Callable, Tensor, Tensor], Iterator[Step]]:
    if name == "euler_ancestral":
        return lambda d, x, sigmas: euler_ancestral(d, x, sigmas, lambda: torch.randn_like(x))
    return ODE_SAMPLERS[name]


EVERY_SAMPLER = [*ODE_SAMPLERS, "euler_ancestral"]


# Against diffusers


@pytest.mark.parametrize("steps", [1, 2, 7, 20])
def test_euler_equals_diffusers_euler(steps):
    theirs = EulerDiscreteScheduler(prediction_type="sample", use_karras_sigmas=True)
    theirs.set_timesteps(steps)
    start = noise() * theirs.sigmas[0]
    x = start
    for t, sigma in zip(theirs.timesteps, theirs.sigmas, strict=False):
        theirs.scale_model_input(x, t)
        x = theirs.step(smooth_denoiser(x, sigma), t, x).prev_sample
    close(last(euler(smooth_denoiser, start, theirs.sigmas)), x)


@pytest.mark.parametrize("steps", [1, 2, 10, 25])
def test_euler_equals_ddim(steps):
    """DDIM runs as published, in its own coordinates, on noise predictions and at its own time steps."""
    schedule = DDPMSchedule(linear_betas())
    ddim = DDIMScheduler(clip_sample=False, set_alpha_to_one=True)
    ddim.set_timesteps(steps)
    sigmas = torch.cat([schedule.sigma_of(ddim.timesteps), torch.zeros(1, dtype=torch.float64)])

    start = noise() * sigmas[0]
    x_t = schedule.from_edm(start, ddim.timesteps[:1])
    trail = []
    for t, sigma in zip(ddim.timesteps, sigmas, strict=False):
        x = schedule.to_edm(x_t, t)
        predicted_noise = (x - smooth_denoiser(x, sigma)) / sigma
        x_t = ddim.step(predicted_noise, t, x_t, eta=0.0).prev_sample
        trail.append(x_t)

    ours = list(euler(smooth_denoiser, start, sigmas))
    for step, x_t, t in zip(ours[:-1], trail[:-1], ddim.timesteps[1:], strict=True):
        relative = (schedule.from_edm(step.x, t) - x_t).abs().max()
        assert relative < 1e-4  # diffusers keeps alphas_cumprod in float32
    torch.testing.assert_close(ours[-1].x, trail[-1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 7, 20])
def test_euler_ancestral_equals_diffusers_on_the_same_noise(steps):
    theirs = EulerAncestralDiscreteScheduler(prediction_type="epsilon")
    theirs.set_timesteps(steps)
    start = (noise() * theirs.sigmas[0]).float()
    x, generator = start, torch.Generator().manual_seed(5)
    for t, sigma in zip(theirs.timesteps, theirs.sigmas, strict=False):
        theirs.scale_model_input(x, t)
        predicted_noise = (x - smooth_denoiser(x, sigma)) / sigma
        x = theirs.step(predicted_noise, t, x, generator=generator).prev_sample

    draws = torch.Generator().manual_seed(5)
    ours = last(euler_ancestral(smooth_denoiser, start, theirs.sigmas, lambda: torch.randn(SHAPE, generator=draws)))
    close(ours, x)


@pytest.mark.parametrize("steps", [1, 2, 10, 25])
def test_euler_ancestral_equals_ddpm_on_the_same_noise(steps):
    """DDPM as published (Ho et al. 2020, algorithm 2, posterior variance), in its own coordinates."""
    schedule = DDPMSchedule(linear_betas())
    ddpm = DDPMScheduler(clip_sample=False, variance_type="fixed_small")
    ddpm.set_timesteps(steps)
    sigmas = torch.cat([schedule.sigma_of(ddpm.timesteps), torch.zeros(1, dtype=torch.float64)])

    start = noise() * sigmas[0]
    x_t, generator = schedule.from_edm(start, ddpm.timesteps[:1]), torch.Generator().manual_seed(5)
    for t, sigma in zip(ddpm.timesteps, sigmas, strict=False):
        x = schedule.to_edm(x_t, t)
        predicted_noise = (x - smooth_denoiser(x, sigma)) / sigma
        x_t = ddpm.step(predicted_noise, t, x_t, generator=generator).prev_sample

    draws = torch.Generator().manual_seed(5)

    def draw() -> Tensor:
        return torch.randn(SHAPE, generator=draws, dtype=torch.float64)

    ours = last(euler_ancestral(smooth_denoiser, start, sigmas, draw))
    torch.testing.assert_close(ours, x_t, rtol=0, atol=1e-4)


@pytest.mark.parametrize("steps", [2, 7, 20])
def test_heun_equals_diffusers_heun(steps):
    theirs = HeunDiscreteScheduler(prediction_type="epsilon", use_karras_sigmas=True)
    theirs.set_timesteps(steps)
    sigmas = torch.cat([theirs.sigmas[:1], theirs.sigmas[1::2]])  # each but the first and last stands there twice
    assert len(sigmas) == steps + 1
    start = noise() * sigmas[0]
    x = start
    for i, t in enumerate(theirs.timesteps):
        sigma = theirs.sigmas[i]
        predicted_noise = (x - smooth_denoiser(x, sigma)) / sigma
        x = theirs.step(predicted_noise, t, x).prev_sample
    close(last(heun(smooth_denoiser, start, sigmas)), x)


@pytest.mark.parametrize("steps", [1, 2, 7, 20])
@pytest.mark.parametrize("schedule", ["karras", "exponential"])
def test_dpmpp_2m_equals_diffusers_dpm_solver(steps, schedule):
    theirs = EDMDPMSolverMultistepScheduler(
        sigma_schedule=schedule,
        algorithm_type="dpmsolver++",
        solver_type="midpoint",
        solver_order=2,
        euler_at_final=True,
    )
    theirs.set_timesteps(steps)
    start = noise() * theirs.sigmas[0]
    x = start
    for t, sigma in zip(theirs.timesteps, theirs.sigmas, strict=False):
        sigma = sigma.double()
        # It asks for a network's output and preconditions that itself, so that step is undone here.
        c_skip = theirs.precondition_outputs(torch.ones(1).double(), torch.zeros(1).double(), sigma)
        c_out = theirs.precondition_outputs(torch.zeros(1).double(), torch.ones(1).double(), sigma)
        network_output = (smooth_denoiser(x, sigma) - c_skip * x) / c_out
        x = theirs.step(network_output, t, x).prev_sample
    close(last(dpmpp_2m(smooth_denoiser, start, theirs.sigmas)), x)


@pytest.mark.parametrize("name", EVERY_SAMPLER)
def test_float32_and_float64_give_the_same_pictures_to_rounding(name):
    sigmas = karras_sigmas(12)
    start = noise() * sigmas[0]
    draws = {dtype: iter([noise(seed).to(dtype) for seed in range(12)]) for dtype in (torch.float32, torch.float64)}

    def run(dtype: torch.dtype) -> Tensor:
        arguments = (lambda: next(draws[dtype]),) if name == "euler_ancestral" else ()
        return last(getattr(sampling, name)(smooth_denoiser, start.to(dtype), sigmas, *arguments))

    torch.testing.assert_close(run(torch.float32).double(), run(torch.float64), rtol=0, atol=1e-4)


# Against a problem whose solution is known: data distributed as N(MEAN, SPREAD²)

MEAN, SPREAD = 0.3, 0.5
TOP, BOTTOM = 20.0, 0.05


def gaussian_denoiser(x: Tensor, sigma: Tensor) -> Tensor:
    """The best guess E[x0 | x] when the data is Gaussian."""
    return (SPREAD**2 * x + sigma**2 * MEAN) / (SPREAD**2 + sigma**2)


def exact_solution(x: Tensor, sigma_from: float, sigma_to: float) -> Tensor:
    """Where the probability flow takes `x`: distances from the mean shrink as the total standard deviation does."""
    return MEAN + (x - MEAN) * math.sqrt((SPREAD**2 + sigma_to**2) / (SPREAD**2 + sigma_from**2))


def error_after(sampler: Callable, steps: int) -> float:
    start = MEAN + TOP * noise()
    sigmas = torch.linspace(math.log(TOP), math.log(BOTTOM), steps + 1).double().exp()
    return float((last(sampler(gaussian_denoiser, start, sigmas)) - exact_solution(start, TOP, BOTTOM)).abs().max())


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("heun", 2), ("dpmpp_2m", 2)])
def test_the_error_falls_with_the_samplers_order_as_steps_double(name, order):
    errors = [error_after(ODE_SAMPLERS[name], steps) for steps in (40, 80, 160, 320)]
    orders = [math.log2(a / b) for a, b in zip(errors, errors[1:], strict=False)]
    assert orders[-1] == pytest.approx(order, abs=0.15)


def test_second_order_samplers_are_more_accurate_than_euler_for_the_same_calls_of_the_model():
    assert error_after(heun, 20) < error_after(euler, 40) / 3
    assert error_after(dpmpp_2m, 40) < error_after(euler, 40) / 3


@pytest.mark.parametrize("name", ODE_SAMPLERS)
def test_deterministic_samplers_carry_noise_to_the_distribution_of_the_data(name):
    sigmas = exponential_sigmas(100, 0.01, 80.0)
    x = last(ODE_SAMPLERS[name](gaussian_denoiser, 80.0 * noise(shape=(20_000,)), sigmas))
    assert float(x.mean()) == pytest.approx(MEAN, abs=0.015)
    assert float(x.std()) == pytest.approx(SPREAD, rel=0.03)


def test_the_random_walk_ends_in_the_distribution_of_the_data_as_steps_grow():
    def moments(steps: int) -> tuple[float, float]:
        draws = torch.Generator().manual_seed(1)
        sigmas = exponential_sigmas(steps, 0.01, 80.0)
        start = 80.0 * noise(shape=(20_000,))
        x = last(euler_ancestral(gaussian_denoiser, start, sigmas, lambda: torch.randn(20_000, generator=draws)))
        return float(x.mean()), float(x.std())

    few, many = moments(100), moments(400)
    assert many[0] == pytest.approx(MEAN, abs=0.015)
    assert many[1] == pytest.approx(SPREAD, rel=0.03)
    assert abs(many[1] - SPREAD) < abs(few[1] - SPREAD) / 2


def test_every_step_of_the_random_walk_has_the_variance_of_its_noise_level():
    draws = torch.Generator().manual_seed(1)
    sigmas = exponential_sigmas(200, 0.01, 80.0)
    start = MEAN + math.sqrt(SPREAD**2 + 80.0**2) * noise(shape=(20_000,))
    for step in euler_ancestral(gaussian_denoiser, start, sigmas, lambda: torch.randn(20_000, generator=draws)):
        assert float(step.x.var()) == pytest.approx(SPREAD**2 + step.sigma**2, rel=0.06)


# What every sampler's consumer relies on


@given(st.sampled_from(EVERY_SAMPLER), st.integers(1, 12), st.sampled_from(sorted(SCHEDULES)))
def test_a_sampler_yields_one_counted_step_per_noise_level(name, count, schedule):
    sigmas = SCHEDULES[schedule](count)
    steps = list(sampler_of(name)(smooth_denoiser, noise() * sigmas[0], sigmas))
    assert [step.index for step in steps] == list(range(1, count + 1))
    assert {step.count for step in steps} == {count}
    assert [step.sigma for step in steps] == sigmas[1:].tolist()
    assert all(step.x.shape == step.denoised.shape == SHAPE for step in steps)
    assert all(step.x.isfinite().all() for step in steps)


@pytest.mark.parametrize("name", EVERY_SAMPLER)
def test_the_last_step_lands_on_the_denoised_picture(name):
    sigmas = karras_sigmas(6)
    *_, step = sampler_of(name)(smooth_denoiser, noise() * sigmas[0], sigmas)
    torch.testing.assert_close(step.x, step.denoised, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "calls"), [("euler", 6), ("euler_ancestral", 6), ("heun", 11), ("dpmpp_2m", 6)])
def test_a_sampler_asks_the_model_as_often_as_its_kind_needs(name, calls):
    asked = []

    def counting(x: Tensor, sigma: Tensor) -> Tensor:
        asked.append(float(sigma))
        return smooth_denoiser(x, sigma)

    sigmas = karras_sigmas(6)
    last(sampler_of(name)(counting, noise() * sigmas[0], sigmas))
    assert len(asked) == calls
    assert min(asked) > 0


@pytest.mark.parametrize("name", EVERY_SAMPLER)
def test_a_sampler_can_be_stopped_midway_and_works_no_further(name):
    asked = []

    def counting(x: Tensor, sigma: Tensor) -> Tensor:
        asked.append(float(sigma))
        return smooth_denoiser(x, sigma)

    sigmas = karras_sigmas(10)
    steps = sampler_of(name)(counting, noise() * sigmas[0], sigmas)
    assert isinstance(steps, types.GeneratorType)
    assert not asked
    next(steps)
    next(steps)
    before = len(asked)
    steps.close()
    assert len(asked) == before < 10
    assert inspect.getgeneratorstate(steps) == inspect.GEN_CLOSED


@pytest.mark.parametrize("name", EVERY_SAMPLER)
def test_earlier_steps_and_the_starting_noise_stay_as_they_were(name):
    sigmas = karras_sigmas(5)
    start = noise() * sigmas[0]
    before = start.clone()
    kept, copies = [], []
    for step in sampler_of(name)(smooth_denoiser, start, sigmas):
        kept.append(step)
        copies.append((step.x.clone(), step.denoised.clone()))
    assert torch.equal(start, before)
    for step, (x, denoised) in zip(kept, copies, strict=True):
        assert torch.equal(step.x, x) and torch.equal(step.denoised, denoised)


def test_a_picture_comes_out_the_same_whatever_the_batch():
    sigmas = karras_sigmas(8)
    start = noise() * sigmas[0]
    for sampler in ODE_SAMPLERS.values():
        together = last(sampler(smooth_denoiser, start, sigmas))
        torch.testing.assert_close(last(sampler(smooth_denoiser, start[1:], sigmas)), together[1:])


def test_karras_steps_beat_even_steps_on_the_gaussian_problem():
    """Why the Karras schedule is worth having."""
    start = MEAN + math.sqrt(SPREAD**2 + 80.0**2) * noise()
    errors = {}
    for name, schedule in SCHEDULES.items():
        x = last(euler(gaussian_denoiser, start, schedule(30)))
        errors[name] = float((x - exact_solution(start, 80.0, 0.0)).abs().max())
    assert errors["karras"] < errors["linear"]
