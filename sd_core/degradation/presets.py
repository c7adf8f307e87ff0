"""Every damage with one dial, for people who want to try a repair: from hardly seen (0) to severe (1)."""

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image

from sd_core.degradation import operators as d
from sd_core.errors import UserError
from sd_core.pictures.original import Original
from sd_core.pictures.pixels import to_float, to_pixels
from sd_core.pictures.previews import reduced_size

MAX_SIDE = 2048  # pixels; a larger picture is reduced before it is damaged


def _between(low: float, high: float, strength: float) -> float:
    """From low to high, evenly in proportion."""
    return low * (high / low) ** strength


DIALS: dict[str, Callable[[float, float], d.Damage]] = {  # name -> damage of a strength on a picture's shorter side
    "scratches": lambda s, side: d.Scratches(_between(0.005, 0.1, s), max(1.0, side * _between(0.003, 0.012, s))),
    "tears": lambda s, side: d.Tears(_between(0.01, 0.15, s), max(1.5, side * _between(0.008, 0.03, s))),
    "scribbles": lambda s, side: d.Scribbles(_between(0.01, 0.3, s), max(2.0, side * _between(0.01, 0.03, s))),
    "blocks": lambda s, side: d.Blocks(_between(0.01, 0.25, s), 6),
    "holes": lambda s, side: d.Holes(_between(0.02, 0.3, s), 0.15),
    "dust": lambda s, side: d.Dust(_between(0.002, 0.05, s), max(1.0, side * 0.004)),
    "stains": lambda s, side: d.Stains(_between(0.15, 0.8, s), 0.3),
    "gaussian_noise": lambda s, side: d.GaussianNoise(_between(5, 100, s)),
    "photon_noise": lambda s, side: d.PoissonNoise(_between(1000, 5, s)),
    "defocus": lambda s, side: d.DefocusBlur(_between(0.7, 8, s)),
    "motion_blur": lambda s, side: d.MotionBlur(_between(2, 30, s), 30.0),
    "low_resolution": lambda s, side: d.Downscale(_between(1.5, 6, s)),
    "jpeg": lambda s, side: d.Jpeg(round(_between(80, 4, s))),
    "webp": lambda s, side: d.WebP(round(_between(80, 2, s))),
    "fading": lambda s, side: d.Fading(_between(0.15, 0.85, s)),
    "colour_cast": lambda s, side: d.ColourCast(_between(8, 100, s)),
}


def damage_picture(original: Original, kind: str, strength: float, seed: int) -> tuple[Original, Original, np.ndarray]:
    """Damages a picture of which `MAX_SIDE` pixels a side are kept.

    Args:
        kind: one of `DIALS`.
        strength: from 0 to 1.
        seed: another one, other scratches.

    Returns:
        the damaged picture; the same without damage; and where it is lost, bool [H, W].

    Raises:
        UserError: the kind or strength is none of these.
    """
    if kind not in DIALS or not 0 <= strength <= 1:
        raise UserError(f"A damage is one of {', '.join(DIALS)}, with a strength from 0 to 1.")
    size = reduced_size(original.size, MAX_SIDE)
    if size != original.size:
        reduced = Image.fromarray(original.rgb()).resize(size, Image.Resampling.LANCZOS)
        original = original.repaired(np.asarray(reduced))
    clean = to_float(torch.from_numpy(original.rgb()))
    damaged = DIALS[kind](strength, min(size))(clean, torch.Generator().manual_seed(seed))
    return original.repaired(to_pixels(damaged.picture).numpy()), original, damaged.mask[0].bool().numpy()
