"""Pictures to try the Restore tab on: characters that no model was trained on, drawn and damaged when first needed."""

import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

EXAMPLE_SIZE = 64  # pixels, as the released characters; another model sees them resized
ENLARGED = 3  # times, in the gallery, so that the grain is seen
DRAWN = (  # style, a seed held out for evaluation, noise level on the scale 0-255
    ("adventurer", 21, 25),
    ("lorelei", 7, 40),
    ("big-smile", 12, 50),
    ("toon-head", 33, 60),
    ("personas", 4, 75),
    ("pixel-art", 18, 60),
)


@dataclass(frozen=True)
class Example:
    """Files: the noisy picture, the original, and an enlarged copy to show; and the noise level."""

    noisy: Path
    original: Path
    shown: Path
    sigma: float


_lock = threading.Lock()
_examples: list[Example] = []
_folder: tempfile.TemporaryDirectory | None = None  # removed when the program ends


def examples() -> list[Example]:
    """All examples, drawn at the first call."""
    global _folder
    with _lock:
        if not _examples:
            _folder = _folder or tempfile.TemporaryDirectory(prefix="sd-examples-")
            _examples.extend(_draw(Path(_folder.name), i, *drawn) for i, drawn in enumerate(DRAWN))
        return list(_examples)


def _draw(folder: Path, number: int, style: str, seed: int, sigma: float) -> Example:
    from sd_core.data.characters import character, render
    from tabs.repairing import add_noise

    work = folder / f"{number}-{style}"
    work.mkdir(exist_ok=True)
    drawn = work / "drawn.png"
    Image.fromarray(render(character(style, seed).svg, EXAMPLE_SIZE)).save(drawn)
    noisy, original = add_noise(str(drawn), EXAMPLE_SIZE, sigma, seed, work)
    shown = work / "shown.png"
    with Image.open(noisy) as picture:
        picture.resize((EXAMPLE_SIZE * ENLARGED,) * 2, Image.Resampling.NEAREST).save(shown)
    return Example(noisy, original, shown, sigma)
