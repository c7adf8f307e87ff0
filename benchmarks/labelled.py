"""Pictures whose attributes are known, for the classifier that judges generated pictures and for the judging itself."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sd_core.data import PictureSet
from sd_core.data.characters import draw as c
from sd_core.data.characters.captions import caption_of
from sd_core.data.sources import open_data

CAPTIONED_STYLES = tuple(style.name for style in c.STYLES)  # whose captions say more than their names
HIDDEN = -1  # the label of an attribute that the picture's style lacks, or that cannot be seen in it
PROMPTED = ("style", "hair colour", "skin tone", "background", "glasses")  # what a prompt's accuracy counts
BESIDE = ("hair",)  # read and reported as well


@dataclass(frozen=True)
class Labelled:
    """Pictures with the attributes they show.

    Attributes:
        pixels: uint8 [N, R, R, 3].
        prompts: for each picture, the caption that names all of its attributes.
        values: attribute -> its possible values.
        labels: int64 [N, attributes], the index of each attribute's value, or HIDDEN.
        mirrorable: mirrored pictures show the same.
    """

    pixels: np.ndarray
    prompts: tuple[str, ...]
    values: dict[str, tuple[str, ...]]
    labels: Tensor
    mirrorable: bool

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, index: Tensor) -> "Labelled":
        """The pictures at `index` [M], in that order."""
        prompts = tuple(self.prompts[i] for i in index.tolist())
        return Labelled(self.pixels[index.numpy()], prompts, self.values, self.labels[index], self.mirrorable)


def named(values: dict[str, tuple[str, ...]], labels: Tensor) -> Tensor:
    """Which of `labels` [N, attributes] a full caption names; what is absent ("no glasses") it leaves unsaid."""
    absent = torch.tensor([next((i for i, v in enumerate(vs) if v.startswith("no ")), -2) for vs in values.values()])
    return (labels != HIDDEN) & (labels != absent)


def characters(styles: Sequence[str], first_seed: int, count: int, resolution: int) -> Labelled:
    """`count` characters from `first_seed` on, the styles taking turns."""
    seeds = range(first_seed, first_seed + -(-count // len(styles)))
    drawn = c.draw_set(styles, seeds, resolution, count=count)
    attributes = [c.attributes_of(styles[i % len(styles)], seeds[i // len(styles)]) for i in range(count)]
    values = {key: tuple(styles) if key == "style" else _seen(key, attributes) for key in (*PROMPTED, *BESIDE)}
    rows = [[_label(key, options, found) for key, options in values.items()] for found in attributes]
    prompts = tuple(caption_of(found) for found in attributes)
    return Labelled(drawn.pixels, prompts, values, torch.tensor(rows), drawn.mirrorable)


def _seen(key: str, attributes: Sequence[c.Attributes]) -> tuple[str, ...]:
    if key == "glasses":
        return ("glasses", "no glasses")  # of any kind, or none
    present = {found[key] for found in attributes if key in found}
    styles = (*c.STYLES, c.MICAH)
    values = dict.fromkeys(value for style in styles for value in c.attributes_of_style(style.name).get(key, ()))
    return tuple(value for value in values if value in present)


def _label(key: str, options: tuple[str, ...], found: c.Attributes) -> int:
    value = found.get(key)
    if key == "glasses" and value == "sunglasses":
        value = "glasses"
    return options.index(value) if value in options else HIDDEN


def classes(source: str, resolution: int) -> Labelled:
    """Pictures with one folder per class; the class, as "a photo of a(n) X", is their one attribute and prompt."""
    found: PictureSet = open_data(source, resolution, caption_template="a photo of {a}")
    values = {"class": tuple(sorted(set(found.captions)))}
    labels = torch.tensor([[values["class"].index(caption)] for caption in found.captions])
    return Labelled(found.pixels, found.captions, values, labels, found.mirrorable)
