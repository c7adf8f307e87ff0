import json

import pytest
import torch
import torch.nn.functional as F

from sd_core.models.codec import TILE, Autoencoder, Identity


def pictures(*shape: int) -> torch.Tensor:
    """Smooth random pictures [*shape] in [-1, 1]."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return F.avg_pool2d(noise, 9, stride=1, padding=4).mul(4).clamp(-1, 1)


@pytest.fixture
def autoencoder() -> Autoencoder:
    """One whose every layer does something, as after some training."""
    torch.manual_seed(0)
    model = Autoencoder().eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.02 * torch.randn_like(parameter))
    model.fit(pictures(8, 3, 64, 64))
    return model


def test_in_pixel_space_everything_is_the_picture_itself():
    x, codec = pictures(1, 3, 16, 16), Identity()
    assert codec.encode(x) is codec.decode(x) is codec.preview(x) is x


@pytest.mark.parametrize("size", [(64, 64), (60, 33), (3, 8)])
def test_a_picture_of_any_size_comes_back_at_that_size(autoencoder, size):
    x = pictures(2, 3, *size)
    latents = autoencoder.encode(x)
    assert latents.shape == (2, autoencoder.channels, -(-size[0] // 8), -(-size[1] // 8))
    decoded = autoencoder.decode(latents, size)
    assert decoded.shape == x.shape
    assert decoded.abs().max() <= 1


def test_latents_have_mean_0_and_variance_1(autoencoder):
    latents = autoencoder.encode(pictures(8, 3, 64, 64))
    torch.testing.assert_close(latents.mean((0, 2, 3)), torch.zeros(8), atol=1e-3, rtol=0)
    torch.testing.assert_close(latents.std((0, 2, 3)), torch.ones(8), atol=1e-3, rtol=0)


def test_a_large_picture_is_coded_in_tiles_as_if_it_were_whole(autoencoder):
    x = pictures(1, 3, 32, 8 * (TILE + 60))
    own = autoencoder.encoder(x)  # in one piece
    latents = (own - autoencoder.mean[:, None, None]) / autoencoder.std[:, None, None]
    torch.testing.assert_close(autoencoder.encode(x), latents, atol=1e-4, rtol=1e-4)
    decoded = autoencoder.decoder(F.pad(own, (0, 0, 0, 0, 0, 1))).clamp(-1, 1)
    torch.testing.assert_close(autoencoder.decode(latents), decoded, atol=1e-4, rtol=1e-4)


def test_a_preview_is_small_and_in_colour(autoencoder):
    x = torch.cat([torch.full((1, 3, 64, 64), -0.5), torch.full((1, 3, 64, 64), 0.5)])
    autoencoder.fit(torch.cat([x, pictures(6, 3, 64, 64)]))
    preview = autoencoder.preview(autoencoder.encode(x))
    assert preview.shape == (2, 3, 8, 8)
    assert preview[0].mean() < 0 < preview[1].mean()


def test_a_saved_autoencoder_works_as_before(autoencoder, tmp_path):
    autoencoder.save(tmp_path)
    loaded, x = Autoencoder.load(tmp_path), pictures(1, 3, 40, 40)
    torch.testing.assert_close(loaded.encode(x), autoencoder.encode(x), atol=2e-2, rtol=2e-2)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_a_folder_that_holds_none_is_refused(autoencoder, tmp_path):
    with pytest.raises(ValueError, match="holds no autoencoder"):
        Autoencoder.load(tmp_path)
    autoencoder.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"format": 99}))
    with pytest.raises(ValueError, match="format is 99"):
        Autoencoder.load(tmp_path)
