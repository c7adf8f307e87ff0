"""A set of pictures that a small network learns in seconds."""

import numpy as np

from sd_core.data import PictureSet

COLOURS = {"red": (200, 30, 40), "green": (30, 180, 60), "blue": (40, 60, 210), "white": (240, 240, 240)}


def make_pictures(count: int = 24, resolution: int = 8, mirrorable: bool = True) -> PictureSet:
    """Plain squares, nearly of one colour each and darker on the left, captioned with their colour."""
    random = np.random.default_rng(0)
    names = [list(COLOURS)[i % len(COLOURS)] for i in range(count)]
    plain = np.array([COLOURS[name] for name in names])[:, None, None, :]
    shade = np.linspace(0.5, 1, resolution)[None, None, :, None]
    pixels = plain * shade + random.normal(0, 4, (count, resolution, resolution, 3))
    captions = tuple(f"a {name} square" for name in names)
    return PictureSet("squares", pixels.clip(0, 255).astype(np.uint8), captions, mirrorable)
