"""A walk between two seeds: its settings and what it shows."""

import gradio as gr

from tabs.common.forms import seed_box
from tabs.common.words import T

FRAMES = 24  # at first


class WalkBox:
    """Draws the components."""

    def __init__(self):
        with gr.Accordion(T("walk"), open=False, elem_id="walk"):
            with gr.Row():
                self.from_seed = seed_box(0, label=T("walk_from"), min_width=100)
                self.to_seed = seed_box(1, label=T("walk_to"), min_width=100)
            self.frames = gr.Slider(4, 64, FRAMES, step=1, label=T("frames"), elem_id="frames")
            self.go = gr.Button(T("walk_start"), elem_id="walk-go")
            self.strip = gr.Image(
                label=T("strip"), format="png", interactive=False, visible=False, buttons=["download", "fullscreen"]
            )
            self.animation = gr.Image(
                label=T("animation"), interactive=False, visible=False, buttons=["download"], elem_id="animation"
            )
