"""Where a generator works: one square of the picture, placed by a click or by sliders."""

import gradio as gr

from sd_core.pictures.masks import proxy_size
from sd_core.pictures.previews import outlined
from sd_core.restoration.region import CropBox
from tabs.common.forms import QUIET
from tabs.common.sessions import SESSIONS
from tabs.common.words import T
from tabs.restore.picture import Opened


class Region:
    """Draws the components: the picture with the square, where that is and how large, and what it shows."""

    def __init__(self):
        with gr.Column(visible=False) as self.box:
            gr.HTML(f'<div class="sd-note">{T("square_about")}</div>')
            self.shown = gr.Image(
                show_label=False, type="filepath", interactive=False, height=260, buttons=[], elem_id="square-shown"
            )
            place = dict(step=1, min_width=120)
            self.share = gr.Slider(5, 100, 100, step=1, label=T("square_size"), elem_id="square-share")
            with gr.Row():
                self.across = gr.Slider(0, 100, 50, label=T("square_across"), elem_id="square-across", **place)
                self.down = gr.Slider(0, 100, 50, label=T("square_down"), elem_id="square-down", **place)
            self.prompt = gr.Textbox(label=T("prompt_optional"), elem_id="restore-prompt")

    def follow(self, opened: gr.State) -> None:
        """Shows the square, and lets a click move it. `opened` holds an `Opened`."""
        place = [self.across, self.down, self.share]
        gr.on(
            [opened.change, *(slider.change for slider in place)], on_square, [opened, *place], self.shown,
            trigger_mode="always_last", **QUIET,
        )  # fmt: skip
        self.shown.select(on_square_click, [opened, self.share], place[:2], **QUIET)


def on_square(current: Opened | None, across: float, down: float, share: float, request: gr.Request):
    if current is None:
        return None
    picture = current.copied()
    square = CropBox.within(picture.size, across / 100, down / 100, share / 100)
    return str(SESSIONS.of(request).preview(outlined(picture, square.left, square.top, square.side)))


def on_square_click(current: Opened | None, share: float, event: gr.SelectData):
    if current is None or isinstance(event.index, int | None):
        return gr.skip(), gr.skip()
    return moved(event.index, proxy_size(current.size), share)


def moved(clicked_at: tuple[int, int], size: tuple[int, int], share: float) -> tuple[int, ...]:
    """Where a square of `share` % lies, in % as the sliders say it, once its middle is moved to a click on a picture of
    (width, height)."""
    side = min(size) * share / 100
    places = []
    for clicked, length in zip(clicked_at, size, strict=True):
        room = length - side
        places.append(round(min(max((clicked - side / 2) / room, 0), 1) * 100) if room > 0 else 50)
    return tuple(places)
