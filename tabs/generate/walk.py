"""A walk between two seeds: its settings and what it shows."""

from dataclasses import dataclass

import gradio as gr

from tabs.common.forms import seed_box
from tabs.common.words import T

FRAMES = 24  # at first


@dataclass(frozen=True)
class WalkBox:
    """The components."""

    from_seed: gr.Number
    to_seed: gr.Number
    frames: gr.Slider
    go: gr.Button
    strip: gr.Image
    animation: gr.Image


def build_walk() -> WalkBox:
    with gr.Accordion(T("walk"), open=False, elem_id="walk"):
        with gr.Row():
            from_seed = seed_box(0, label=T("walk_from"), min_width=100)
            to_seed = seed_box(1, label=T("walk_to"), min_width=100)
        frames = gr.Slider(4, 64, FRAMES, step=1, label=T("frames"), elem_id="frames")
        go = gr.Button(T("walk_start"), elem_id="walk-go")
        strip = gr.Image(
            label=T("strip"), format="png", interactive=False, visible=False, buttons=["download", "fullscreen"]
        )
        animation = gr.Image(
            label=T("animation"), interactive=False, visible=False, buttons=["download"], elem_id="animation"
        )
    return WalkBox(from_seed, to_seed, frames, go, strip, animation)
