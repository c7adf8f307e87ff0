import copy
import json

import pytest
import torch
import torch.nn.functional as F
from small_checkpoints import strip

from sd_core.diffusion.noise import SIGMA_DATA
from sd_core.errors import CheckpointError
from sd_core.models.codec import TILE, Autoencoder, Identity, Latents


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
        Autoencoder.load(strip(tmp_path))


@pytest.mark.parametrize(
    "shape", [{"widths": [32, 64, 10**9]}, {"widths": [32, 64]}, {"decoder_blocks": [2, 3, -1]}, {"latent_channels": 0}]
)
def test_a_shape_out_of_all_bounds_is_refused_in_a_sentence(autoencoder, tmp_path, shape):
    autoencoder.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"autoencoder": config["autoencoder"] | shape}))
    with pytest.raises(CheckpointError, match="must be|is missing") as error:
        Autoencoder.load(strip(tmp_path))
    assert "\n" not in str(error.value)


def test_a_save_is_one_exchange_of_one_file(autoencoder, tmp_path):
    autoencoder.save(tmp_path)
    (tmp_path / "config.json").unlink()
    assert Autoencoder.load(tmp_path).config == autoencoder.config


# The codec of a model


def test_models_see_latents_with_the_spread_of_pictures(autoencoder):
    codec, x = Latents.of(autoencoder), pictures(20, 3, 64, 64)
    latents = codec.encode(x)
    assert latents.shape == (20, codec.channels, 8, 8)
    assert float(latents.std()) == pytest.approx(SIGMA_DATA, rel=0.1)
    theirs = autoencoder.decode(autoencoder.encode(x), noise=0.1)
    assert (codec.decode(latents) - theirs).abs().mean() < 0.01  # in bfloat16, where that is faster
    torch.testing.assert_close(codec.preview(latents), autoencoder.preview(autoencoder.encode(x)))


def test_equal_autoencoders_are_one_codec_which_copies_of_a_model_share(autoencoder, tmp_path):
    autoencoder.save(tmp_path)
    codec = Latents.of(Autoencoder.load(tmp_path))
    assert Latents.of(Autoencoder.load(tmp_path)) is codec is copy.deepcopy(codec)
    assert Latents.of(autoencoder.requires_grad_(False)).digest == codec.digest
    with torch.no_grad():
        autoencoder.std.mul_(2)
    assert Latents.of(autoencoder).digest != codec.digest
