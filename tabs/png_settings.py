"""Drop a PNG that carries its settings, and the Generate tab is set as it was for that picture."""

import gradio as gr

from sd_core.generation import DEFAULT_VARIATION, request_again, sampler_called
from sd_core.images import read_parameters
from sd_core.shelf import Shelf
from tabs.controls import Controls
from tabs.errors import plain_error
from tabs.words import T, say


def build_png_settings(shelf: Shelf, controls: Controls) -> gr.File:
    """Draws the place to drop a picture on. Returns it."""
    with gr.Accordion(T("png_settings"), open=False, elem_id="png-settings"):
        file = gr.File(label=T("png_drop"), file_types=["image"], type="filepath", height=120, elem_id="png-drop")

    restored = [getattr(controls, name) for name in (
        "model", "prompt", "negative", "count", "sampler", "steps", "guidance", "seed", "new_seed",
        "variation_of", "variation_strength", "strength",
    )]  # fmt: skip

    def on_settings(path: str, model: str | None, request: gr.Request):
        try:
            settings = read_parameters(path)
            again = request_again(settings)
        except ValueError as error:
            gr.Warning(plain_error(error, request).message)
            return {file: None}
        known = settings.model in shelf.names()
        if settings.model and not known:
            gr.Warning(say(request, "other_model", model=settings.model))
        if settings.sampler and not sampler_called(settings.sampler):
            gr.Warning(say(request, "other_sampler", sampler=settings.sampler))
        if settings.strength is not None:
            gr.Warning(say(request, "needs_start"))
        gr.Info(say(request, "settings_restored"))
        varied = again.variation_of
        return {
            file: None,  # ready for the next one
            controls.model: settings.model if known else model,
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
            controls.strength: again.strength,
        }

    file.upload(
        on_settings, [file, controls.model], [file, *restored], show_progress="hidden", api_visibility="private"
    )
    return file
