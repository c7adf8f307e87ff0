"""Pictures to try the Restore tab on: characters that no model was trained on, and a photograph; drawn and damaged when
first needed."""

import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from sd_core.pictures.decoding import open_picture
from sd_core.pictures.original import Original
from sd_core.pictures.pixels import to_float, to_pixels
from sd_core.pictures.previews import thumbnail
from tabs.restore.degrade import make_damaged
from tabs.restore.picture import Made

SHOWN_SIDE = 256  # pixels, in the gallery
PHOTOGRAPH = Path(__file__).with_name("chelsea.jpg")  # by Stefan van der Walt, CC0, see CREDITS.md


@dataclass(frozen=True)
class Example:
    """A damaged picture, the kind of its damage, and a small copy to show."""

    made: Made
    kind: str
    shown: Path


def _drawn(style: str, seed: int, side: int, details: int = 0) -> np.ndarray:
    """A character, with so many overlays of fine detail: shading, hair, glow, texture, small text."""
    from sd_core.data.augmentation import painted_over
    from sd_core.data.characters.draw import character, render

    picture = to_float(torch.from_numpy(render(character(style, seed).svg, side).copy()))
    generator = torch.Generator().manual_seed(seed)
    for _ in range(details):
        picture = painted_over(picture, generator)
    return to_pixels(picture).numpy()


# Picture, damage, its strength. All seeds are held out for evaluation. The last is of the size at which the released
# characters are, for the models that draw those.
EXAMPLES: tuple[tuple[Callable[[], np.ndarray], str, float], ...] = (
    (partial(_drawn, "adventurer", 21, 512, 1), "scratches", 0.45),
    (partial(_drawn, "lorelei", 7, 384), "scribbles", 0.4),
    (partial(_drawn, "toon-head", 33, 384, 2), "photon_noise", 0.6),
    (partial(_drawn, "big-smile", 12, 384, 1), "jpeg", 0.7),
    (lambda: np.array(open_picture(PHOTOGRAPH)), "tears", 0.5),
    (partial(_drawn, "personas", 4, 384, 1), "holes", 0.3),
    (partial(_drawn, "micah", 9, 384, 1), "low_resolution", 0.6),
    (partial(_drawn, "adventurer", 5, 256), "gaussian_noise", 0.7),
)

_lock = threading.Lock()
_examples: list[Example] = []
_folder: tempfile.TemporaryDirectory | None = None  # removed when the program ends


def examples() -> list[Example]:
    """All examples, drawn at the first call, and again should their files be gone."""
    global _folder
    with _lock:
        if not all(e.shown.exists() and e.made.picture.exists() for e in _examples):
            _examples.clear()  # the system has tidied its temporary files away
        if not _examples:
            if _folder is None or not Path(_folder.name).exists():
                _folder = tempfile.TemporaryDirectory(prefix="sd-examples-")
            _examples.extend(_make(Path(_folder.name), number) for number in range(len(EXAMPLES)))
        return list(_examples)


def _make(folder: Path, number: int) -> Example:
    draw, kind, strength = EXAMPLES[number]
    work = folder / str(number)
    work.mkdir(exist_ok=True)
    made = make_damaged(Original(draw()), kind, strength, number, work)
    shown = work / "shown.png"
    thumbnail(made.picture, SHOWN_SIDE).save(shown)
    return Example(made, kind, shown)
