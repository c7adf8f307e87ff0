"""Which network repairs a picture: a restorer, which does everything, or the specialist that it may bring along, a
second network that has learnt two things only, and is better at them: places that somebody marked, and white noise.

The specialist repairs what is marked where everything else is to stay as it is. It cleans a whole picture where noise
is all that is wrong, and judges that itself: what it would take away is white noise, each of whose values tells nothing
of its neighbours and of the other colours, and it is all the noise there is. Artefacts, grain that the colours share
and recompressed noise are none of that; strokes, which it leaves as they are, the restorer finds. (A picture that was
blurred, reduced or compressed before it became noisy passes for noisy only: the most of its damage is.)
"""

import torch
from torch import Tensor

from sd_core.device import inference_autocast
from sd_core.diffusion.noise import to_unit
from sd_core.diffusion.noise_estimation import estimate_sigma
from sd_core.models.conditioning import Conditioning
from sd_core.models.denoiser import Denoiser

CROPS = 3  # each way, that a picture is judged by
CROP_SIDE = 96  # pixels, at most
FAINT = to_unit(1.5)  # noise that nobody sees, and whose nature is hard to tell
# Of what noise leaves, measured in benchmarks/LOG.md: the highest correlations of neighbours and colours, the fourth
# moment in terms of the squared second (3 for a normal variable), and the least of the noise that is taken away.
NEIGHBOURS, COLOURS, TAILS, TAKEN = 0.15, 0.15, 7.0, 0.72
CLIPPED_WITHIN = 2.0  # standard deviations from black or white, where noise is clipped
LOST = 5e-4  # share of pixels found to be lost, from which on they are damage
FEWEST = 0.1  # share of values that are not clipped, below which they tell nothing


def expert(model: Denoiser, crops: Tensor, sigma: float | None) -> Denoiser:
    """The network that cleans a whole picture with no marked places best.

    Args:
        model: a restorer.
        crops: of the picture [N, 3, h, w] in [-1, 1], see `spread_crops`.
        sigma: its noise level in units of [-1, 1], if somebody says how strong it is.
    """
    if model.specialist is None or not only_noise(model.specialist, crops, sigma):
        return model
    return model if sigma is None and finds_damage(model, crops) else model.specialist


def finds_damage(model: Denoiser, crops: Tensor) -> bool:
    """Whether a restorer finds lost places in crops [N, 3, h, w]. The specialist leaves strokes as they are, and so
    cannot tell that they are no part of the picture."""
    with torch.inference_mode(), inference_autocast(model.device):
        _, logit = model.at_once(Conditioning.of(crops.to(model.device)))
    return bool((logit > 0).float().mean() > LOST)


def spread_crops(picture: Tensor) -> Tensor:
    """Up to `CROPS` × `CROPS` places of a picture [H, W, ...], evenly over it: [N, h, w, ...]."""
    rows, columns = map(_spans, picture.shape[:2])
    return torch.stack([picture[row, column] for row in rows for column in columns])


def _spans(length: int) -> list[slice]:
    side, count = min(length, CROP_SIDE), min(CROPS, -(-length // CROP_SIDE))
    return [slice(start, start + side) for start in ((length - side) * i // max(1, count - 1) for i in range(count))]


def only_noise(specialist: Denoiser, crops: Tensor, sigma: float | None) -> bool:
    """Whether what `specialist` would take away from crops [N, 3, h, w] in [-1, 1] is white noise, and all of the noise
    there is: of level `sigma`, or as strong as it is measured."""
    with torch.inference_mode(), inference_autocast(specialist.device):
        restored, _ = specialist.at_once(Conditioning.of(crops.to(specialist.device), sigma=sigma))
    restored = restored.float().cpu()
    taken = crops - restored
    if not is_white(taken):
        return False
    level = estimate_sigma(torch.cat(crops.unbind(), dim=2)) if sigma is None else sigma
    whole = restored.abs() < 1 - CLIPPED_WITHIN * level
    return bool(whole.float().mean() < FEWEST or taken[whole].square().mean().sqrt() > TAKEN * level)


def white_noise(model: Denoiser, crops: Tensor) -> float:
    """The level of the white noise in crops [N, 3, h, w] of a picture, in units of [-1, 1], if noise is all that is
    wrong; else 0, and where a restorer has no specialist to judge it."""
    if model.specialist is None or not only_noise(model.specialist, crops, None):
        return 0.0
    return estimate_sigma(torch.cat(crops.unbind(), dim=2))


def is_white(values: Tensor) -> bool:
    """Whether values [N, 3, h, w] are white noise that one can see, apart from their mean in each colour of each crop.
    Of values that have no neighbours nothing is known: they are not."""
    values = values - values.mean(dim=(2, 3), keepdim=True)
    power = values.square().mean()
    if power.sqrt() < FAINT:
        return False
    red, green, blue = values.unbind(1)
    neighbours = (values[..., 1:] * values[..., :-1]).mean(), (values[..., 1:, :] * values[..., :-1, :]).mean()
    colours = torch.stack([(a * b).mean() for a, b in ((red, green), (green, blue), (blue, red))]).mean()
    tails = values.pow(4).mean() / power.square()
    alike = all(product.abs() < NEIGHBOURS * power for product in neighbours)
    return bool(alike and colours < COLOURS * power and tails < TAILS)
