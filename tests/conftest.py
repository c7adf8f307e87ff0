"""What the tests share: a tiny set of pictures, its vocabulary, and models small enough for one slow core."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import settings
from tiny_pictures import make_pictures
from torch import nn

from sd_core.data import PictureSet
from sd_core.models.codec import Autoencoder, AutoencoderConfig, Latents
from sd_core.models.denoiser import Denoiser, ModelConfig
from sd_core.models.text import Vocabulary

torch.set_num_threads(1)
settings.register_profile("suite", deadline=None, max_examples=40, derandomize=True)
settings.load_profile("suite")


def with_random_weights(model: nn.Module, seed: int = 1) -> nn.Module:
    """`model` with every zeroed layer awake, so that each part has an influence that can be seen."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 25
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / fan_in**0.5)
            if parameter.ndim == 1:
                parameter.add_(1)
    return model


@pytest.fixture(scope="session")
def squares() -> Callable[..., PictureSet]:
    return make_pictures


@pytest.fixture(scope="session")
def pictures() -> PictureSet:
    return make_pictures()


@pytest.fixture(scope="session")
def vocabulary(pictures: PictureSet) -> Vocabulary:
    return Vocabulary.learn(pictures.captions)


@pytest.fixture(scope="session")
def awaken() -> Callable[..., nn.Module]:
    return with_random_weights


@pytest.fixture
def fresh_generator(vocabulary: Vocabulary) -> Denoiser:
    """A generator of 8×8 pictures as it is before training."""
    torch.manual_seed(0)
    return Denoiser(ModelConfig.generator("tiny", 8), vocabulary)


@pytest.fixture
def generator(fresh_generator: Denoiser) -> Denoiser:
    """A generator of 8×8 pictures in which every part has an influence."""
    return with_random_weights(fresh_generator).eval().requires_grad_(False)


@pytest.fixture(scope="session")
def small_autoencoder() -> Autoencoder:
    """An autoencoder in which every part has an influence."""
    torch.manual_seed(0)
    model = Autoencoder(AutoencoderConfig(4, (4, 4, 8), (1, 1, 1), (1, 1, 1))).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    model.fit(torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    return model


@pytest.fixture
def latent_generator(vocabulary: Vocabulary, small_autoencoder: Autoencoder) -> Denoiser:
    """A generator of 32×32 pictures that works in latents of 4×4, and in which every part has an influence."""
    config = ModelConfig.generator("tiny", 32, codec="autoencoder")
    model = Denoiser(config, vocabulary, Latents.of(small_autoencoder))
    return with_random_weights(model).eval().requires_grad_(False)


@pytest.fixture
def restorer() -> Denoiser:
    """A restorer in which every part has an influence."""
    return with_random_weights(Denoiser(ModelConfig("restorer", "tiny", 8, 1))).eval().requires_grad_(False)
