"""Pictures as latents: encoded once, and found again by whoever trains on the same pictures in the same space."""

import numpy as np
import pytest
import torch

from sd_core.data.latents import encoded
from sd_core.models.codec import Latents
from sd_core.pictures.pixels import to_float

CPU = torch.device("cpu")


@pytest.fixture
def codec(small_autoencoder) -> Latents:
    return Latents.of(small_autoencoder)


def test_each_picture_and_its_mirror_image_is_encoded(codec, squares, tmp_path):
    pictures, done = squares(20, 16), []
    latents = encoded(pictures, codec, True, CPU, tmp_path, lambda *progress: done.append(progress))
    assert latents.shape == (20, 2, codec.channels, 2, 2) and latents.dtype == np.float16
    x = to_float(torch.from_numpy(pictures.pixels))
    for number, view in enumerate((x, x.flip(3))):
        torch.testing.assert_close(
            torch.from_numpy(latents[:, number].astype(np.float32)), codec.encode(view), rtol=1e-3, atol=1e-3
        )
    assert done == [(16, 20), (20, 20)]


def test_it_is_done_once_for_the_same_pictures_and_anew_for_others(codec, squares, tmp_path):
    def times(pictures, mirrored=False):
        done = []
        latents = encoded(pictures, codec, mirrored, CPU, tmp_path, lambda *progress: done.append(progress))
        assert len(latents) == len(pictures) and latents.shape[1] == 1 + mirrored
        return len(done)

    assert [times(squares(4, 16)), times(squares(4, 16)), times(squares(5, 16))] == [1, 0, 1]
    assert times(squares(4, 16), mirrored=True) == 1
