"""Pairs to learn restoration from: a clean crop, the same crop damaged, and what a restorer is told about the damage.

Clean crops come from large pictures; some get an overlay that imitates painting, which flat drawings lack. Damages are
combined at random, in random order and strength. All chance comes from one generator per pair.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sd_core.data.augmentation import painted_over
from sd_core.data.folder import evenly, picture_names, usable_pictures
from sd_core.degradation import operators
from sd_core.degradation.shapes import uniform
from sd_core.diffusion.noise import LEVELS, to_unit
from sd_core.errors import DataError
from sd_core.pictures.archive import Skipped, open_files
from sd_core.pictures.decoding import Unusable
from sd_core.pictures.pixels import to_float
from sd_core.progress import OnProgress, unwatched

LARGEST_SIDE = 1024  # pixels of a clean picture: larger ones are reduced, so that a thousand fit into memory
CROPS = 2  # of which the one with most contrast is taken: drawings are flat for the most part, and teach little there
MOST_PICTURES = 1500  # of a folder, spread evenly over it: up to 5 GB
MOST_DRAWN, DRAWN_SIDE = 500, 640  # built-in characters, each of so many pixels a side: 600 MB in all
NATIVE = 0.5  # share of crops at the picture's own scale; the others are reduced
MOST_REDUCED = 2.5
OVERLAID = 0.25  # share of crops with an overlay that imitates painting
UNDAMAGED, NOISY = 0.1, 0.5  # shares of pairs: clean, and noisy; of the rest, half has lost places, half is mixed
RECODED = 0.15  # share of noisy pairs that were saved as JPEG afterwards
LOST_AND_NOISY = 0.3  # share of pairs with lost places whose other places are noisy
SIGMA_TOLD = 0.5  # share of noisy pairs whose noise level the restorer is told
MASK_TOLD = 0.85  # share of pairs with lost places whose mask the restorer is told
SLOPPY = 4  # pixels by which a person's mask is larger than the damage, at most
MOST_NOISE = 60.0  # sigma on the scale 0-255


@dataclass(frozen=True)
class Pair:
    """A clean and a damaged crop [3, S, S] in [-1, 1], and the mask [1, S, S] of what is lost.

    `told_mask` is what the restorer is told is lost (a little more than is), None when it must find it itself;
    `told_sigma` the noise level in units of the range [-1, 1], None when it must find that.
    """

    clean: Tensor
    damaged: Tensor
    mask: Tensor
    told_mask: Tensor | None
    told_sigma: float | None


@dataclass(frozen=True)
class CleanPictures:
    """Large pictures, uint8 [H, W, 3] each, of any size, to cut crops from."""

    name: str
    pictures: tuple[np.ndarray, ...]
    skipped: tuple[Skipped, ...] = ()
    credits: str = ""

    def __len__(self) -> int:
        return len(self.pictures)

    def pair(self, side: int, generator: torch.Generator, noisy_share: float = NOISY, specialist: bool = False) -> Pair:
        """A pair of `side` pixels from any of the pictures; see `damaged_pair` and `specialist_pair`."""
        picture = self.pictures[int(torch.randint(len(self.pictures), (), generator=generator))]
        clean = max((crop(picture, side, generator) for _ in range(CROPS)), key=lambda c: float(c.std()))
        if uniform(generator, 0, 1) < OVERLAID:
            clean = painted_over(clean, generator)
        damage_it = specialist_pair if specialist else damaged_pair
        return damage_it(clean, generator, noisy_share)


def open_clean(
    source: str,
    *,
    count: int | None = None,
    styles: Sequence[str] | None = None,
    smallest: int = 64,
    progress: OnProgress = unwatched,
) -> CleanPictures:
    """Every picture in a folder or .zip at its own size.

    source: "characters" for built-in ones drawn large, or the path of a folder or .zip.
    count: at most so many pictures, and never more than `MOST_PICTURES`, or `MOST_DRAWN` characters. styles: of the
    characters, all but the one kept for evaluation when None. smallest: pixels; pictures with a shorter side are
    skipped. progress: called with (pictures done, pictures in all).
    Raises DataError, in one sentence for the user, when there is nothing to train on.
    """
    if source == "characters":
        from sd_core.data.characters.draw import RESTORER_STYLES, draw_set, training_seeds

        names = [style.name for style in RESTORER_STYLES] if styles is None else list(styles)
        wanted = min(count or MOST_DRAWN, MOST_DRAWN)
        drawn = draw_set(names, training_seeds(wanted, names), DRAWN_SIDE, count=wanted, progress=progress)
        return CleanPictures("large characters", tuple(drawn.pixels), credits=drawn.credits)
    path = Path(source).expanduser()

    def reduced(picture: Image.Image) -> np.ndarray:
        picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.LANCZOS)
        if min(picture.size) < smallest:
            raise Unusable(f"smaller than {smallest} pixels")
        return np.asarray(picture)

    with closing(open_files(path)) as files:
        names, skipped = evenly(picture_names(files), min(count or MOST_PICTURES, MOST_PICTURES)), list(files.skipped)
        usable = usable_pictures(files, names, LARGEST_SIDE, reduced, skipped, progress=progress)
        pictures = tuple(pixels for _, pixels in usable)
    if not pictures:
        said = "No picture of at least {side}×{side} pixels was found in {place}."
        raise DataError(said, side=smallest, place=path.name)
    return CleanPictures(path.stem, pictures, tuple(skipped))


def crop(picture: np.ndarray, side: int, generator: torch.Generator) -> Tensor:
    """A random crop [3, side, side] in [-1, 1], at the picture's own scale or reduced, turned or mirrored at random."""
    height, width = picture.shape[:2]
    reduction = 1.0 if uniform(generator, 0, 1) < NATIVE else uniform(generator, 1, MOST_REDUCED)
    span = min(height, width, round(side * reduction))
    top = int(torch.randint(height - span + 1, (), generator=generator))
    left = int(torch.randint(width - span + 1, (), generator=generator))
    pixels = picture[top : top + span, left : left + span]
    if span != side:
        pixels = np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS))
    turned = np.rot90(pixels, int(torch.randint(4, (), generator=generator)))
    if uniform(generator, 0, 1) < 0.5:
        turned = turned[:, ::-1]
    return to_float(torch.from_numpy(turned.copy()))


def damaged_pair(clean: Tensor, generator: torch.Generator, noisy_share: float = NOISY) -> Pair:
    """The crop [3, S, S] with a random damage: none for one in ten, noise for `noisy_share`, others for the rest."""
    kind = uniform(generator, 0, 1)
    nothing = torch.zeros_like(clean[:1])
    if kind < UNDAMAGED:
        return Pair(clean, clean, nothing, nothing if uniform(generator, 0, 1) < 0.3 else None, None)
    if kind < UNDAMAGED + noisy_share:
        return noisy_pair(clean, generator, RECODED)
    if kind < (UNDAMAGED + noisy_share + 1) / 2:
        seen, sigma = with_noise(clean, generator) if uniform(generator, 0, 1) < LOST_AND_NOISY else (clean, 0.0)
        result = operators.damaged(seen, lost_places(generator), generator)
        level = sigma if not sigma or uniform(generator, 0, 1) < SIGMA_TOLD else None
    else:
        result = operators.damaged(clean, mixed(generator), generator)
        level = None
    told = sloppy(result.mask, generator) if uniform(generator, 0, 1) < MASK_TOLD and result.mask.any() else None
    return Pair(clean, result.picture, result.mask, told, None if told is None else level)


def specialist_pair(clean: Tensor, generator: torch.Generator, noisy_share: float = NOISY) -> Pair:
    """The crop [3, S, S] with one of the two damages that a specialist is asked for, see `restoration/routing.py`:
    white noise for `noisy_share`, for the others places that are lost and told. Nothing else is wrong."""
    if uniform(generator, 0, 1) < noisy_share:
        return noisy_pair(clean, generator)
    result = operators.damaged(clean, lost_places(generator), generator)
    return Pair(clean, result.picture, result.mask, sloppy(result.mask, generator), 0.0)


def noisy_pair(clean: Tensor, generator: torch.Generator, recoded: float = 0.0) -> Pair:
    """The crop [3, S, S] with normal noise, a share of `recoded` of them saved as JPEG afterwards."""
    noisy, sigma = with_noise(clean, generator)
    nothing = torch.zeros_like(clean[:1])
    if uniform(generator, 0, 1) < recoded:  # which leaves noise of no known strength
        noisy = operators.Jpeg(int(uniform(generator, 40, 95)))(noisy, generator).picture
    elif uniform(generator, 0, 1) < SIGMA_TOLD:
        return Pair(clean, noisy, nothing, nothing, sigma)
    return Pair(clean, noisy, nothing, nothing if uniform(generator, 0, 1) < 0.3 else None, None)


def with_noise(clean: Tensor, generator: torch.Generator) -> tuple[Tensor, float]:
    """The crop [3, S, S] with normal noise, and its level in units of [-1, 1]."""
    sigma = to_unit(uniform(generator, 0, MOST_NOISE))
    noisy = clean + sigma * torch.randn(clean.shape, generator=generator)
    if uniform(generator, 0, 1) < 0.5:  # a picture file clips what leaves the range, and rounds
        noisy = (noisy.clamp(-1, 1) * LEVELS).round() / LEVELS
    return noisy, sigma


def sloppy(mask: Tensor, generator: torch.Generator) -> Tensor:
    """The mask [1, S, S] as a program knows it, or as a person paints it, who covers some pixels around the damage."""
    reach = int(torch.randint(SLOPPY + 1, (), generator=generator)) if uniform(generator, 0, 1) < 0.5 else 0
    return torch.nn.functional.max_pool2d(mask[None], 2 * reach + 1, stride=1, padding=reach)[0] if reach else mask


def lost_places(generator: torch.Generator) -> list[operators.Damage]:
    """One or two damages that lose parts of the picture."""

    def one() -> operators.Damage:
        share = uniform(generator, 0.02, 0.25)
        return [
            lambda: operators.Scratches(share, uniform(generator, 1, 5)),
            lambda: operators.Scribbles(share, uniform(generator, 3, 14)),
            lambda: operators.Tears(share, uniform(generator, 2, 8)),
            lambda: operators.Holes(share, uniform(generator, 0.1, 0.4)),
            lambda: operators.Blocks(share, int(uniform(generator, 1, 5))),
            lambda: operators.Dust(share / 5, uniform(generator, 0.7, 3)),
        ][_weighted(generator, (3, 3, 1, 1, 1, 1))]()

    return [one() for _ in range(1 if uniform(generator, 0, 1) < 0.7 else 2)]


def mixed(generator: torch.Generator) -> list[operators.Damage]:
    """One to four damages of all kinds, in any order."""
    kernels = list(operators.KERNELS)
    choices = [
        lambda: operators.GaussianNoise(uniform(generator, 1, 40)),
        lambda: operators.PoissonNoise(10 ** uniform(generator, 1.2, 3)),
        lambda: operators.DefocusBlur(uniform(generator, 0.5, 3)),
        lambda: operators.MotionBlur(uniform(generator, 2, 9), uniform(generator, 0, 180)),
        lambda: operators.Downscale(uniform(generator, 1.5, 4), kernels[_weighted(generator, (1, 1, 1, 2, 1))]),
        lambda: operators.Jpeg(int(uniform(generator, 8, 80))),
        lambda: operators.WebP(int(uniform(generator, 3, 70))),
        lambda: operators.Fading(uniform(generator, 0.05, 0.5)),
        lambda: operators.ColourCast(uniform(generator, 3, 40)),
        lambda: operators.Stains(uniform(generator, 0.2, 0.8), uniform(generator, 0.05, 0.4)),
    ]
    chosen = torch.randperm(len(choices), generator=generator)[: 1 + _weighted(generator, (3, 3, 2))].tolist()
    damages = [choices[i]() for i in chosen]
    if uniform(generator, 0, 1) < 0.4:
        damages.insert(int(torch.randint(len(damages) + 1, (), generator=generator)), lost_places(generator)[0])
    return damages


def _weighted(generator: torch.Generator, weights: Sequence[float]) -> int:
    """An index, as often as its weight says."""
    return int(torch.multinomial(torch.tensor(weights, dtype=torch.float32), 1, generator=generator))
