"""What a training starts from: a fresh generator or restorer, or a model there is already."""

import gradio as gr

from sd_core.errors import CheckpointError
from sd_core.models.registry import FIRST, ModelRegistry
from tabs.common.forms import offering
from tabs.common.words import T

RESOLUTION = 64  # pixels a side, where nobody chooses
FRESH_RESTORER = "fresh restorer"
FRESH = ("", FRESH_RESTORER)  # what the picker calls models that are not there yet


def starts(registry: ModelRegistry) -> list[tuple[str, str]]:
    """The choices of the picker."""
    names = [*registry.names(few_steps=False), *registry.names("restorer")]
    return [(T("train_fresh"), ""), (T("train_fresh_restorer"), FRESH_RESTORER), *((name, name) for name in names)]


def first_start(registry: ModelRegistry) -> str:
    """What the picker stands at first: a released model learns in a minute what a fresh one needs an evening for."""
    return FIRST if FIRST in registry.names(few_steps=False) else ""


def starts_of_today(registry: ModelRegistry, chosen: str) -> gr.Dropdown:
    """The picker with what there is now."""
    return offering(starts(registry), chosen, otherwise="")


def kind_of(registry: ModelRegistry, start: str) -> str:
    """The kind of model that a training from `start` makes. Raises CheckpointError if there is no such model."""
    if start in FRESH:
        return "restorer" if start == FRESH_RESTORER else "generator"
    return registry.describe(start).model.kind


def kind_shown(registry: ModelRegistry, start: str) -> str:
    """The same for a page that shows what belongs to it: starting from a model that has just gone is refused later."""
    try:
        return kind_of(registry, start)
    except CheckpointError:
        return "generator"


def resolution_of(registry: ModelRegistry, start: str, chosen: int | None) -> int:
    """The pixels a side that a training from `start` works at: those `chosen` for a fresh model. Raises CheckpointError
    like `kind_of`."""
    return chosen or RESOLUTION if start in FRESH else registry.describe(start).model.resolution
