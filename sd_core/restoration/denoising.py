"""Noise removed by a generator, for pictures of its kind at its size.

No restorer is needed for that: a noisy picture *is* the x of the diffusion process at its own noise
level, so the walk to a clean one starts there instead of at pure noise. (Denoisers as
priors: Kadkhodaie & Simoncelli 2020, arXiv:2007.13640.) In latents its noise is as strong as the encoder makes of it.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from sd_core.device import inference_autocast
from sd_core.diffusion.noise import SIGMA_MAX, SIGMA_MIN, add_noise, to_unit
from sd_core.diffusion.noise_estimation import estimate_sigma
from sd_core.diffusion.sampling import D, Step, euler_ancestral
from sd_core.diffusion.schedules import karras_sigmas
from sd_core.models.codec import Codec
from sd_core.models.denoiser import Denoiser
from sd_core.pictures.pixels import to_float, to_pixels
from sd_core.restoration.request import RestoreRequest, Restoring


def clean_square(model: Denoiser, picture: Tensor, request: RestoreRequest) -> Iterator[Restoring]:
    """Removes noise from a square of a picture with a generator.

    Args:
        model: see `remove_noise`.
        picture: uint8 [H, W, 3], sRGB.
        request: its square says where.

    Yields:
        a `Restoring` after each step; the last one has all candidates. Previews are of the square, at the model's size.

    Raises:
        UserError: the square is not inside the picture.
    """
    square = request.square_in((picture.shape[1], picture.shape[0]))
    part = square.taken(picture, model.config.resolution)
    noisy = to_float(part)
    if request.sigma is None:
        level = estimate_sigma(noisy)
    else:  # reducing a picture averages its noise away
        level = to_unit(request.sigma) * min(1.0, model.config.resolution / square.side)
    candidates = request.answers
    finished: list[Tensor] = []
    for number, seed in enumerate(request.seeds()):
        for step in remove_noise(model, noisy, level, request.prompt, request.steps, seed):
            done, count = number * step.count + step.index, candidates * step.count
            # Coding costs detail, which a picture without noise need not lose.
            cleaned = to_pixels(model.codec.decode(step.denoised))[0] if level > SIGMA_MIN else part
            yield Restoring(done, count, cleaned, tuple(finished))
        finished.append(square.put_back(picture, cleaned))
    yield Restoring(count, count, cleaned, tuple(finished))


def remove_noise(
    model: Denoiser, picture: Tensor, sigma: float, prompt: str = "", steps: int = 1, seed: int = 0
) -> Iterator[Step]:
    """Removes noise of level `sigma` with a generator, for pictures of the kind and size it was trained on.

    Args:
        model: a generator, frozen as `checkpoint.load` gives it.
        picture: the noisy picture [3, R, R] in [-1, 1], at the model's resolution R.
        sigma: its noise level in units of the range [-1, 1]; see `estimate_sigma`.
        prompt: what the picture shows, if one wants to say so.
        steps, seed: see `walk_down`.

    Yields:
        A `Step` of one picture, in the space of the model's codec, after each step.
    """
    with inference_autocast(model.device):
        prompted = model.given([prompt])

    def denoiser(x: Tensor, level: Tensor) -> Tensor:
        with inference_autocast(model.device):
            return prompted(x, level).to(x.dtype)

    generator = torch.Generator().manual_seed(seed)
    with inference_autocast(model.device):
        x, level = _encoded(model.codec, picture[None].to(model.device), sigma)
    yield from walk_down(denoiser, x, level, steps, lambda: torch.randn(x.shape, generator=generator).to(x))


def _encoded(codec: Codec, picture: Tensor, sigma: float) -> tuple[Tensor, float]:
    """A noisy picture [1, 3, R, R] in a codec's space, and how strong noise of level `sigma` is there: by how much the
    same noise once more moves it."""
    x = codec.encode(picture).float()
    if codec.downsampling == 1 or not 0 < sigma <= SIGMA_MAX:
        return x, sigma
    noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(0)).to(picture)
    moved = codec.encode(add_noise(picture, torch.tensor(sigma), noise)).float() - x
    return x, float(moved.square().mean().sqrt().clamp(max=SIGMA_MAX))


def walk_down(denoiser: D, x: Tensor, sigma: float, steps: int, draw: Callable[[], Tensor]) -> Iterator[Step]:
    """Walks pictures `x` [B, 3, H, W] from noise level `sigma` to 0.

    One step lands on D(x, sigma), the mean of all clean pictures that `x` could come from: the most faithful answer,
    and a soft one. More steps are DDPM's random walk, whose end is *one* of those pictures, as probable as it is
    plausible, and another one for other noise: more detail, part of it invented. At level 0 `x` is the answer.

    Args:
        denoiser: any `D`.
        x, sigma: the noisy pictures and their one noise level, from 0 to `SIGMA_MAX`.
        steps: how many.
        draw: gives standard normal noise shaped like `x`.
    """
    if sigma <= SIGMA_MIN:  # less than 8 bits can show
        yield Step(1, 1, 0.0, x, x)
        return
    yield from euler_ancestral(denoiser, x, karras_sigmas(steps, SIGMA_MIN, sigma), draw)
