"""Which network cleans a whole picture: a restorer, which does everything, or the specialist that it may bring along, a
second network that has learnt white noise and nothing else, and is better at that.

The specialist is asked where noise is all that is wrong: because somebody says how strong it is, or because what the
restorer would take away looks like white noise, each of whose values tells nothing of its neighbours and of the other
colours. Strokes, artefacts and recompressed noise do tell. (A blurred picture that became noisy looks noisy only; with
noise on it, little can be done about the blur.)
"""

import torch
from torch import Tensor

from sd_core.damage import to_unit
from sd_core.denoiser import Denoiser
from sd_core.device import inference_autocast
from sd_core.hints import Hints

CROPS = 3  # each way, that a picture is judged by
CROP_SIDE = 96  # pixels, at most
FAINT = to_unit(2.5)  # noise that nobody sees, and whose nature is hard to tell
# The highest correlations of what noise leaves, and fourth moment in terms of the squared second (3 for a normal
# variable); measured in benchmarks/LOG.md.
NEIGHBOURS, COLOURS, TAILS = 0.12, 0.4, 6.0


def expert(model: Denoiser, crops: Tensor, told: bool) -> Denoiser:
    """The network that cleans a picture with no lost places best.

    Args:
        model: a restorer.
        crops: of the picture [N, 3, h, w] in [-1, 1], see `spread_crops`.
        told: somebody says how strong the noise is.
    """
    return model.specialist if model.specialist and (told or only_noise(model, crops)) else model


def spread_crops(picture: Tensor) -> Tensor:
    """Up to `CROPS` × `CROPS` places of a picture [H, W, ...], evenly over it: [N, h, w, ...]."""
    rows, columns = map(_spans, picture.shape[:2])
    return torch.stack([picture[row, column] for row in rows for column in columns])


def _spans(length: int) -> list[slice]:
    side = min(length, CROP_SIDE)
    return [slice(start, start + side) for start in sorted({(length - side) * i // (CROPS - 1) for i in range(CROPS)})]


def only_noise(model: Denoiser, crops: Tensor) -> bool:
    """Whether white noise is all that a restorer would take away from crops [N, 3, h, w] in [-1, 1]."""
    with torch.inference_mode(), inference_autocast(model.device):
        restored, _ = model.at_once(Hints.of(crops.to(model.device)))
    taken = crops - restored.float().cpu()
    taken = taken - taken.mean(dim=(2, 3), keepdim=True)
    return is_white(taken)


def is_white(values: Tensor) -> bool:
    """Whether values [N, 3, h, w] of mean 0 are white noise that one can see."""
    power = values.square().mean()
    if power.sqrt() < FAINT:
        return False
    red, green, blue = values.unbind(1)
    neighbours = (values[..., 1:] * values[..., :-1]).mean(), (values[..., 1:, :] * values[..., :-1, :]).mean()
    colours = torch.stack([(a * b).mean() for a, b in ((red, green), (green, blue), (blue, red))]).mean()
    tails = values.pow(4).mean() / power.square()
    alike = all(product.abs() < NEIGHBOURS * power for product in neighbours)
    return bool(alike and colours.abs() < COLOURS * power and tails < TAILS)
