"""Removes noise for a visitor and tells how it goes: what the Restore tab and its API have in common."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
import torch
from torch import Tensor

from sd_core.damage import GaussianNoise, to_levels, to_unit
from sd_core.images import fit_picture, grid, open_picture, save_png, to_float, to_pixels
from sd_core.metrics import psnr
from sd_core.noise_removal import estimate_sigma, remove_noise
from sd_core.shelf import Shelf
from tabs.drawing import follow
from tabs.sessions import SESSIONS
from tabs.status import Status
from tabs.streaming import Stream, line_for

COMPARED_WIDTH = 512  # pixels, of the enlarged copies that are laid over one another


@dataclass(frozen=True)
class Wanted:
    """What a person asks for.

    Attributes:
        picture: a file.
        sigma: its noise level on the scale 0-255, or None to have it measured.
        steps: 1 for the most faithful result, more for more detail.
        prompt, seed: as for generating.
        original: the file of the picture without damage, where the app did the damage.
    """

    picture: str
    sigma: float | None = None
    steps: int = 1
    prompt: str = ""
    seed: int = 0
    original: str | None = None


@dataclass(frozen=True)
class Repaired:
    """A finished repair: the file to take home, enlarged copies of before and after, and, where the original is known,
    how close both are to it (PSNR in dB)."""

    path: Path
    compared: tuple[Path, Path]
    ratios: tuple[float, float] | None


@dataclass(frozen=True)
class Shown:
    """What the page shows next: a status line, perhaps the file of a new preview, and at the end the repair."""

    status: str
    preview: Path | None = None
    repaired: Repaired | None = None
    ended: bool = False


def fitted(path: str, resolution: int) -> Tensor:
    """A file's picture [3, R, R] as a model of that resolution sees it."""
    return to_float(fit_picture(open_picture(path), resolution))


def measured(path: str, resolution: int) -> float:
    """The noise level of a file's picture as a model sees it, on the scale 0-255."""
    return round(to_levels(estimate_sigma(fitted(path, resolution))), 1)


def add_noise(path: str, resolution: int, sigma: float, seed: int, folder: Path) -> tuple[Path, Path]:
    """Writes the picture as a model sees it, with and without noise, to `folder`. Returns (noisy, original)."""
    clean = fitted(path, resolution)
    noisy = GaussianNoise(sigma)(clean, torch.Generator().manual_seed(seed)).picture
    paths = folder / "noisy.png", folder / "original.png"
    for picture, file in zip((noisy, clean), paths, strict=True):
        save_png(to_pixels(picture), file)
    return paths


def repair(visitor: gr.Request, shelf: Shelf, model: str, wanted: Wanted) -> Iterator[Shown]:
    """Repairs a picture in the visitor's session. Its last item has `ended`, and `repaired` unless it was stopped."""
    session, status = SESSIONS.of(visitor), Status(visitor)
    resolution = shelf.describe(model).model.resolution
    picture = fitted(wanted.picture, resolution)
    sigma = estimate_sigma(picture) if wanted.sigma is None else to_unit(wanted.sigma)

    def work():
        yield from remove_noise(shelf.load(model), picture, sigma, wanted.prompt, wanted.steps, wanted.seed)

    step = None
    for newest, line, preview in follow(session.start(Stream(work, line_for(shelf.device))), session, status):
        step = newest
        yield Shown(line, preview)
    if step is None or step.index < step.count:
        yield Shown(status.stopped(step.index if step else 0, step.count if step else wanted.steps), ended=True)
        return
    repaired = _keep(session.new_folder(), to_pixels(picture)[None], to_pixels(step.x), wanted.original, resolution)
    yield Shown(status.done(), repaired=repaired, ended=True)


def _keep(folder: Path, before: Tensor, after: Tensor, original: str | None, resolution: int) -> Repaired:
    """Writes what a repair gives; `before` and `after` are uint8 [1, R, R, 3]."""
    path = folder / "restored.png"
    save_png(after[0], path)
    compared = folder / "before.png", folder / "after.png"
    for pixels, file in zip((before, after), compared, strict=True):
        grid(pixels, width=COMPARED_WIDTH).save(file)
    ratios = None
    if original:
        truth = fitted(original, resolution)[None]
        ratios = tuple(float(psnr(to_float(pixels), truth)) for pixels in (before, after))
    return Repaired(path, compared, ratios)
