"""Finding damage that nobody has marked."""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sd_core.device import inference_autocast
from sd_core.diffusion.tiling import windows
from sd_core.models.conditioning import Conditioning
from sd_core.models.denoiser import Denoiser
from sd_core.pictures.pixels import to_float, to_image

FIND_PIXELS = 2_000_000  # of the copy in which damage is looked for: scratches are seen at less than full size
FOUND = 0.5  # probability from which a pixel counts as damaged
FOUND_AROUND = 2  # pixels by which a proposed mask is larger than what was found


def find_damage(model: Denoiser, picture: Tensor) -> Tensor:
    """Where a picture seems to be scratched, scribbled over or missing, for a person to correct.

    Args:
        model: a restorer, whose UNet has a head for this.
        picture: uint8 [H, W, 3], sRGB.

    Returns:
        a mask, bool [H, W].
    """
    height, width = picture.shape[:2]
    reduction = max(1.0, (height * width / FIND_PIXELS) ** 0.5)
    small = max(1, round(height / reduction)), max(1, round(width / reduction))
    image = to_image(picture).resize(small[::-1], Image.Resampling.BILINEAR) if reduction > 1 else to_image(picture)
    pixels = torch.from_numpy(np.array(image))
    found = torch.zeros(small)
    for window in windows(*small):
        damaged = to_float(pixels[window.outer])[None].to(model.device)
        with torch.inference_mode(), inference_autocast(model.device):
            _, logit = model.at_once(Conditioning.of(damaged))
        found[window.inner] = logit[0, 0][window.inside].float().sigmoid().cpu()
    mask = (found > FOUND)[None, None].float()
    mask = F.max_pool2d(mask, 2 * FOUND_AROUND + 1, stride=1, padding=FOUND_AROUND)
    return F.interpolate(mask, (height, width))[0, 0] > 0
