"""Drop a PNG that carries its settings, and the Generate tab is set as it was for that picture.

There is a place for it, and what is dropped elsewhere onto the tab comes here by drop.js.
"""

from collections.abc import Iterator, Sequence

import gradio as gr

from sd_core.errors import UserError
from sd_core.generation.infotext import Parameters, read_parameters, request_again, sampler_called
from sd_core.generation.request import DEFAULT_VARIATION
from sd_core.models.registry import ModelRegistry
from tabs.common.errors import plain_error
from tabs.common.forms import QUIET
from tabs.common.words import T, say
from tabs.generate.settings import Controls, model_choices

SHOWN = 80  # characters of a name that a file gives


class InfotextDrop:
    """Draws the places for a picture, one to see and one for what is dropped elsewhere, and restores its settings."""

    def __init__(self, registry: ModelRegistry, controls: Controls):
        self._registry, self._controls = registry, controls
        taken = dict(label=T("png_drop"), file_types=["image"], type="filepath")
        with gr.Accordion(T("png_settings"), open=False, elem_id="png-settings"):
            self._place = gr.File(height=120, elem_id="png-drop", **taken)
        # The other one is not there while its box is closed.
        self._page = gr.File(visible="hidden", elem_id="page-drop", **taken)
        changed = [self._place, self._page, *controls.components().values()]
        for file in (self._place, self._page):
            file.upload(self.on_settings, [file, controls.model], changed, **QUIET)

    def on_settings(self, path: str, model: str | None, request: gr.Request):
        """Sets the tab as the picture says, and makes room for the next one."""
        emptied = {self._place: None, self._page: None}
        if not path:
            return emptied
        try:
            settings = read_parameters(path)
        except UserError as error:
            gr.Warning(plain_error(error, request).message)
            return emptied
        again, wrong = request_again(settings)
        names = self._registry.names()  # a run may have made one since the page was drawn
        for remark in _remarks(settings, wrong, names, request):
            gr.Warning(remark)
        gr.Info(say(request, "settings_restored"))
        controls, varied = self._controls, again.variation_of
        chosen = next((name for name in (settings.model, model, *names) if name in names), None)
        return emptied | {
            controls.model: gr.Dropdown(choices=model_choices(self._registry, request), value=chosen),
            controls.prompt: again.prompt,
            controls.negative: again.negative_prompt,
            controls.count: again.count,
            controls.sampler: again.sampler,
            controls.steps: again.steps,
            controls.guidance: again.guidance,
            controls.seed: again.seed,
            controls.new_seed: False,
            controls.variation_of: str(varied) if varied else "",
            controls.variation_strength: again.variation_strength if varied else DEFAULT_VARIATION,
            controls.strength: max(again.strength, controls.strength.minimum),
        }


def _remarks(settings: Parameters, wrong: Sequence[str], models: Sequence[str], request: gr.Request) -> Iterator[str]:
    """What to tell of settings that cannot be restored as they are; `wrong` names those out of range."""
    if settings.model and settings.model not in models:
        yield say(request, "other_model", model=settings.model[:SHOWN])
    if settings.sampler and not sampler_called(settings.sampler):
        yield say(request, "other_sampler", sampler=settings.sampler[:SHOWN])
    if wrong:
        words = {"negative_prompt": "negative", "variation_seed": "variation_of"}
        yield say(request, "settings_left_out", names=", ".join(say(request, words.get(name, name)) for name in wrong))
    if settings.strength is not None:
        yield say(request, "needs_start")
