"""A model's card, to be opened below the picker that chose the model."""

import re

import gradio as gr

from sd_core.errors import CheckpointError
from sd_core.models.registry import ModelRegistry
from tabs.common.forms import QUIET
from tabs.common.words import T

_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n+", re.DOTALL)  # what the Hub reads of a card
MOST = 20_000  # characters of a card that are shown


def build_model_card(registry: ModelRegistry, picker: gr.Dropdown) -> None:
    """Draws what the card of the picked model says: data, licences, training, figures and limits."""

    def card(name: str | None) -> str:
        try:
            text = registry.card(name, MOST) if name else ""
        except CheckpointError:  # the page says so when the model is used
            return ""
        return _FRONT_MATTER.sub("", text)

    with gr.Accordion(T("model_card"), open=False, elem_classes="sd-card"):
        shown = gr.Markdown(card(picker.value))
    picker.change(card, picker, shown, **QUIET)
