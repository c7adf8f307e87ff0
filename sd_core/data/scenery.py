"""A landscape that never was, computed from noise: hills, haze, light and grain as in a photograph."""

import numpy as np
from PIL import Image

OCTAVES = 7


def _surface(random: np.random.Generator, height: int, width: int, cells: float, roughness: float) -> np.ndarray:
    """Fractal noise [H, W] with mean 0 and spread 1: each octave half as large, and `roughness` times as strong."""
    total = np.zeros((height, width), np.float32)
    for octave in range(OCTAVES):
        rows, columns = (max(2, round(cells * 2**octave * side / max(height, width)) + 1) for side in (height, width))
        rough = Image.fromarray(random.standard_normal((rows, columns)).astype(np.float32))
        total += roughness**octave * np.asarray(rough.resize((width, height), Image.Resampling.BICUBIC))
    return (total - total.mean()) / total.std()


def landscape(seed: int, width: int, height: int) -> np.ndarray:
    """Ridges one behind another under a cloudy evening sky: uint8 [H, W, 3]."""
    random = np.random.default_rng(seed)
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    sky = (1 - down) * np.array([62, 98, 158], np.float32) + down * np.array([255, 205, 160], np.float32)
    clouds = np.clip(_surface(random, height, width, 3, 0.55) * 0.35 + 0.1, 0, 1)[..., None]
    picture = sky * (1 - clouds) + np.array([250, 236, 226], np.float32) * clouds
    haze = np.array([196, 190, 200], np.float32)
    rows = np.arange(height)[:, None]
    for near in np.linspace(0, 1, 5):
        ridge = _surface(random, 1, width, 2 + 3 * near, 0.5)[0]
        line = (0.42 + 0.42 * near + ridge * 0.05) * height
        light = _surface(random, height, width, 5 + 6 * near, 0.62)
        slope = np.diff(light, axis=1, append=light[:, -1:])  # lit from the left
        shade = (0.75 + 0.1 * light + 3 * slope)[..., None]
        ground = np.array([66, 84, 58], np.float32) * shade.clip(0.1, 2)
        colour = haze * (1 - near) * 0.75 + ground * (0.25 + 0.75 * near)
        edge = np.clip(rows - line[None], 0, 1)[..., None]  # about a pixel wide
        picture = picture * (1 - edge) + colour * edge
    picture += random.normal(0, 2.0, picture.shape)  # a camera's grain
    return picture.clip(0, 255).astype(np.uint8)
