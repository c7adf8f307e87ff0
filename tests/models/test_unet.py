"""The UNet: its skip connections, any picture size, prompts, and the one dial."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sd_core.models.denoiser import Denoiser, ModelConfig
from sd_core.models.unet import BLOCKS, WIDTHS, Context, UNet, UNetConfig

CONTEXT = 32
SKIPS = range(len(BLOCKS) - 1)


def pictures(batch: int, height: int, width: int, channels: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(seed))


def prompts(batch: int = 1, length: int = 5, seed: int = 0) -> Context:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(batch, length, CONTEXT, generator=generator)
    pooled = torch.randn(batch, CONTEXT, generator=generator)
    return Context(tokens, torch.ones(batch, length, dtype=torch.bool), pooled)


@pytest.fixture(scope="module")
def unet(awaken) -> UNet:
    """A generator's UNet in which every part has an influence."""
    return awaken(UNet(UNetConfig("tiny", patch=2, context_channels=CONTEXT))).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def restorer(awaken) -> UNet:
    return awaken(UNet(UNetConfig("tiny", patch=1, conditioning_channels=5))).eval().requires_grad_(False)


NOISE = torch.tensor([0.1])


# Skip connections


@pytest.mark.parametrize("level", SKIPS)
def test_cutting_a_skip_connection_changes_the_output(unet, level):
    x = pictures(1, 16, 16)
    whole = unet(x, NOISE, prompts())

    def cut(merge: torch.nn.Module, inputs: tuple[Tensor]) -> Tensor:
        from_below = inputs[0][:, : merge.out_channels]
        return torch.cat([from_below, torch.zeros_like(from_below)], dim=1)

    handle = unet.merge[level].register_forward_pre_hook(cut)
    try:
        without = unet(x, NOISE, prompts())
    finally:
        handle.remove()
    assert (without - whole).abs().mean() > 0.05 * whole.abs().mean()
    assert torch.equal(unet(x, NOISE, prompts()), whole)


@pytest.mark.parametrize("level", SKIPS)
def test_a_skip_connection_carries_the_encoders_own_result(unet, level):
    seen = {}
    handles = [
        unet.encoder[level].register_forward_hook(lambda _, inputs, output: seen.update(encoded=output)),
        unet.merge[level].register_forward_pre_hook(lambda _, inputs: seen.update(merged=inputs[0])),
    ]
    unet(pictures(1, 16, 16), NOISE, prompts())
    for handle in handles:
        handle.remove()
    assert torch.equal(seen["merged"].chunk(2, dim=1)[1], seen["encoded"])


def test_detail_passes_over_the_skip_connections_when_the_bottom_is_silent(unet):
    handles = [up.register_forward_hook(lambda _, inputs, output: torch.zeros_like(output)) for up in unet.up]
    a = unet(pictures(1, 16, 16), NOISE, prompts())
    b = unet(pictures(1, 16, 16, seed=1), NOISE, prompts())
    for handle in handles:
        handle.remove()
    assert not torch.allclose(a, b)


# Any picture size


def continued(x: Tensor, multiple: int) -> Tensor:
    """`x` mirrored at its last row and column until the levels divide its size; repeated where it is too small."""
    more = [-side % multiple for side in x.shape[-2:]]
    mode = "reflect" if all(m < side for m, side in zip(more, x.shape[-2:], strict=True)) else "edge"
    return torch.from_numpy(np.pad(x.numpy(), ((0, 0), (0, 0), (0, more[0]), (0, more[1])), mode=mode))


@settings(max_examples=20)
@given(st.integers(1, 40), st.integers(1, 40))
def test_any_height_and_width_works_and_is_mirrored_at_its_edges(unet, height, width):
    x = pictures(1, height, width)
    out = unet(x, NOISE, prompts())
    assert out.shape == x.shape
    expected = unet(continued(x, unet.config.multiple), NOISE, prompts())[..., :height, :width]
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)


@settings(max_examples=10)
@given(st.integers(1, 20), st.integers(1, 20))
def test_a_restorer_takes_any_height_and_width_too(restorer, height, width):
    x, conditioning = pictures(1, height, width), pictures(1, height, width, 5)
    out = restorer(x, NOISE, conditioning=conditioning)
    assert out.shape == x.shape
    padded, padded_conditioning = (continued(t, restorer.config.multiple) for t in (x, conditioning))
    expected = restorer(padded, NOISE, conditioning=padded_conditioning)[..., :height, :width]
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)


def test_what_a_restorer_does_at_a_place_does_not_depend_on_the_pictures_size(restorer):
    blocks_of_levels = restorer.config.blocks
    bottom = len(blocks_of_levels) - 1
    convolutions = [2 * blocks * (1 if level == bottom else 2) for level, blocks in enumerate(blocks_of_levels)]
    reach = 2 + sum(count * 2**level for level, count in enumerate(convolutions))
    step = restorer.config.multiple
    margin = step * math.ceil((reach + step) / step)
    size = 2 * margin + step
    x, conditioning = pictures(1, step + size, 2 * step + size), pictures(1, step + size, 2 * step + size, 5)
    x[..., :step] *= 50  # what happens far away must not matter
    whole = restorer(x, NOISE, conditioning=conditioning)[..., step:, step : step + size]
    window = restorer(
        x[..., step:, step : step + size], NOISE, conditioning=conditioning[..., step:, step : step + size]
    )
    inner = slice(margin, margin + step)
    torch.testing.assert_close(window[..., inner, inner], whole[..., inner, inner], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(window[..., :step, :step], whole[..., :step, :step], atol=1e-2)


def test_a_restorer_uses_every_hint(restorer):
    x, conditioning = pictures(1, 8, 8), pictures(1, 8, 8, 5)
    out = restorer(x, NOISE, conditioning=conditioning)
    for channel in range(5):
        changed = conditioning.clone()
        changed[:, channel] += 1
        assert not torch.allclose(restorer(x, NOISE, conditioning=changed), out, atol=1e-3)


# Prompt and noise level


def test_attention_reads_the_words_of_the_prompt(unet):
    """The pooled prompt stays the same; only single words differ."""
    x, first = pictures(1, 16, 16), prompts()
    changed = Context(first.tokens.clone(), first.mask, first.pooled)
    changed.tokens[0, 2] += 1
    assert not torch.allclose(unet(x, NOISE, changed), unet(x, NOISE, first), atol=1e-4)


def test_the_pooled_prompt_steers_the_network(unet):
    x, first = pictures(1, 16, 16), prompts()
    changed = Context(first.tokens, first.mask, first.pooled + 1)
    assert not torch.allclose(unet(x, NOISE, changed), unet(x, NOISE, first), atol=1e-4)


@given(st.integers(1, 20))
@settings(max_examples=8)
def test_padding_after_a_prompt_does_not_matter(unet, count):
    x, short = pictures(1, 8, 8), prompts()
    rubbish = torch.full((1, count, CONTEXT), 100.0)
    tokens = torch.cat([short.tokens, rubbish], 1)
    mask = torch.cat([short.mask, torch.zeros(1, count, dtype=torch.bool)], 1)
    padded = Context(tokens, mask, short.pooled)
    torch.testing.assert_close(unet(x, NOISE, padded), unet(x, NOISE, short), rtol=1e-4, atol=1e-4)


def test_prompts_can_be_picked_and_repeated_by_index():
    both = prompts(2)
    picked = both[torch.tensor([1, 0, 1])]
    assert torch.equal(picked.tokens, both.tokens[[1, 0, 1]])
    assert torch.equal(picked.mask, both.mask[[1, 0, 1]])
    assert torch.equal(picked.pooled, both.pooled[[1, 0, 1]])


def test_the_network_knows_the_noise_level(unet):
    x = pictures(1, 16, 16)
    assert not torch.allclose(unet(x, NOISE, prompts()), unet(x, NOISE + 0.5, prompts()), atol=1e-3)


def test_each_picture_of_a_batch_is_treated_as_if_alone(unet):
    x, context, noise = pictures(3, 16, 16), prompts(3), torch.tensor([-1.0, 0.1, 1.0])
    together = unet(x, noise, context)
    for i in range(3):
        alone = unet(x[i : i + 1], noise[i : i + 1], context[torch.tensor([i])])
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-4, atol=1e-4)


# Before training


@pytest.mark.parametrize("config", [UNetConfig("tiny", 2, CONTEXT), UNetConfig("tiny", 2, conditioning_channels=5)])
def test_an_untrained_network_says_zero(config):
    context = prompts() if config.context_channels else None
    conditioning = pictures(1, 16, 16, 5) if config.conditioning_channels else None
    assert not UNet(config)(pictures(1, 16, 16), NOISE, context, conditioning).any()


def test_training_reaches_every_parameter(awaken):
    unet = awaken(UNet(UNetConfig("tiny", patch=2, context_channels=CONTEXT)))
    unet(pictures(2, 16, 16), torch.tensor([0.1, 0.5]), prompts(2)).square().mean().backward()
    silent = [name for name, p in unet.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


# The dial


def flops_and_parameters(size: str, kind: str, vocabulary) -> tuple[int, int]:
    config = ModelConfig.generator(size, 64) if kind == "generator" else ModelConfig("restorer", size, 64)
    with torch.device("meta"):
        model = Denoiser(config, vocabulary if kind == "generator" else None)
    return model.flops(), model.parameter_count()


@pytest.mark.parametrize("kind", ["generator", "restorer"])
def test_work_and_parameters_grow_along_the_dial(kind, vocabulary):
    assert list(WIDTHS) == ["tiny", "small", "base", "large"]
    measured = [flops_and_parameters(size, kind, vocabulary) for size in WIDTHS]
    for smaller, larger in zip(measured, measured[1:], strict=False):
        assert larger[0] > 1.5 * smaller[0] > 0
        assert larger[1] > 1.5 * smaller[1] > 0


def test_the_parameter_count_is_what_a_checkpoint_stores(generator, restorer):
    for model in (generator, Denoiser(ModelConfig("restorer", "tiny", 8, 1))):
        assert model.parameter_count() == sum(value.numel() for value in model.state_dict().values())


def test_a_larger_patch_makes_a_picture_cheaper(vocabulary):
    def cost(patch: int) -> int:
        return UNet(UNetConfig("tiny", patch, conditioning_channels=5)).multiply_adds(64, 64, 0)

    assert cost(1) > 2.5 * cost(2) > 2.5**2 * cost(4)


@pytest.mark.parametrize("prompt", ["", "a red square"])
def test_the_operations_of_a_generator_are_those_that_torch_sees(fresh_generator, prompt):
    """In training and with attention as plain products torch sees them all, on every processor."""
    x = pictures(1, 8, 8)
    tokens = fresh_generator.vocabulary.encode([prompt])[0].shape[1]
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as seen:
        fresh_generator.train()(x, torch.ones(()), fresh_generator.encode([prompt]))
    counted = fresh_generator.unet.multiply_adds(8, 8, tokens) + fresh_generator.text.multiply_adds(tokens)
    assert 2 * counted == seen.get_total_flops()
    if not prompt:
        assert fresh_generator.flops() == 2 * counted


@pytest.mark.parametrize(("height", "width"), [(8, 8), (20, 33)])
def test_the_operations_of_a_restorer_are_those_that_torch_sees(height, width):
    unet = UNet(UNetConfig("tiny", patch=2, conditioning_channels=5, extra_channels=1, normalised=False))
    with FlopCounterMode(display=False) as seen:
        unet(pictures(1, height, width), torch.ones(1), conditioning=pictures(1, height, width, channels=5))
    assert 2 * unet.multiply_adds(height, width, 0) == seen.get_total_flops()
