"""The Generate tab: a prompt becomes pictures, watched step by step, and what one does with them afterwards."""

import gradio as gr

from sd_core.models.registry import ModelRegistry
from tabs.common.forms import QUIET
from tabs.common.words import T
from tabs.generate.api import build_api
from tabs.generate.events import GenerateTab, on_animate, on_choose, on_last_seed, on_step, on_stop
from tabs.generate.infotext_drop import InfotextDrop
from tabs.generate.result import Result
from tabs.generate.settings import Controls, build_examples, build_word_browser, example_rows, prompt_box
from tabs.generate.walk import WalkBox


def build(registry: ModelRegistry) -> GenerateTab:
    """Draws the tab inside the current `gr.Tab`, and wires it."""
    with gr.Row(equal_height=True):
        prompt = prompt_box()
        with gr.Column(scale=1, min_width=140):
            go = gr.Button(T("generate"), variant="primary", size="lg", elem_id="generate")
            stop = gr.Button(T("stop"), variant="stop", size="lg", visible=False, elem_id="stop")
    note = gr.HTML(elem_id="left-out")
    names = registry.names()
    examples = gr.Dataset(
        label=T("examples"), components=["textbox"], **example_rows(registry, names[0] if names else None),
        samples_per_page=6, elem_id="examples",
    )  # fmt: skip
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            result = Result()
        with gr.Column(scale=1, min_width=300):
            controls = Controls(registry, prompt)
            build_word_browser(registry, controls)
            walk = WalkBox()
            InfotextDrop(registry, controls)
    parts = GenerateTab(registry, controls, result, walk, go, stop)
    _wire_drawing(parts)
    said = [controls.model, prompt, controls.negative]
    gr.on(
        [c.change for c in said], parts.on_words, said, note, trigger_mode="always_last", concurrency_limit=None,
        **QUIET,
    )  # fmt: skip
    build_examples(registry, controls, examples)
    last = [controls.seed, controls.new_seed, controls.variation_of, controls.variation_strength]
    controls.reuse.click(on_last_seed, None, last, **QUIET)
    result.use_as_start.click(
        lambda path: (path or gr.skip(), gr.Accordion(open=True)), result.chosen_path,
        [controls.start, controls.start_box], **QUIET,
    )  # fmt: skip
    _wire_looking(parts)
    build_api(registry)
    return parts


def _wire_drawing(parts: GenerateTab) -> None:
    """Lets the buttons that draw do so."""
    inputs, outputs, walk = parts.controls.inputs(), parts.outputs(), parts.walk
    drawing = dict(show_progress="hidden", concurrency_limit=None, api_visibility="private")
    gr.on([parts.go.click, parts.controls.prompt.submit], parts.on_generate, inputs, outputs, **drawing)
    parts.result.variations.click(parts.on_variations, inputs, outputs, **drawing)
    walked = inputs | {walk.from_seed, walk.to_seed, walk.frames}
    walk.go.click(parts.on_walk, walked, [*outputs, walk.strip, walk.animation], **drawing)
    parts.stop.click(on_stop, None, None, queue=False, **QUIET)


def _wire_looking(parts: GenerateTab) -> None:
    """Lets one look at the steps and the pictures."""
    result = parts.result
    gr.on(
        [result.step.input, result.view.input], on_step, [result.step, result.view], [result.preview, result.level],
        trigger_mode="always_last", concurrency_limit=None, **QUIET,
    )  # fmt: skip
    result.gallery.select(on_choose, None, [result.preview, result.one, result.chosen_path, result.chosen], **QUIET)
    result.animate.click(on_animate, result.view, result.animation, show_progress="minimal", api_visibility="private")
