"""Shows what is drawn: the preview, the steps to it, the pictures, and what one may do with them."""

from dataclasses import dataclass

import gradio as gr

from sd_core.pictures.output import make_zip
from tabs.common.sessions import Batch
from tabs.common.words import T, say
from tabs.generate.job import Shown


@dataclass(frozen=True)
class Result:
    """The components that show what was drawn. `chosen_path` holds the file of the picture chosen last, or None."""

    preview: gr.Image
    status: gr.HTML
    steps_row: gr.Column
    step: gr.Slider
    view: gr.Radio
    level: gr.HTML
    gallery: gr.Gallery
    actions: gr.Column
    one: gr.DownloadButton
    all: gr.DownloadButton
    chosen: gr.HTML
    animation: gr.Image
    chosen_path: gr.State


@dataclass(frozen=True)
class Actions:
    """The buttons for a drawn picture."""

    variations: gr.Button
    use_as_start: gr.Button
    send_to_restore: gr.Button
    animate: gr.Button


def build_result() -> tuple[Result, Actions]:
    """Preview, steps, pictures and what to do with them."""
    preview = gr.Image(
        label=T("preview"), show_label=False, format="jpeg", interactive=False, height=520, buttons=["fullscreen"],
        elem_id="preview",
    )  # fmt: skip
    status = gr.HTML(f'<div class="sd-status">{T("ready")}</div>', elem_id="status")
    with gr.Column(visible=False, elem_id="steps-row") as steps_row:
        step = gr.Slider(1, 2, 1, step=1, label=T("step_slider"), buttons=[], elem_id="step-slider")
        with gr.Row(elem_id="steps-tools"):
            views = [(T("view_guess"), "guess"), (T("view_noisy"), "noisy")]
            view = gr.Radio(views, value="guess", label=T("view"), container=False, min_width=200, elem_id="view")
            level = gr.HTML(elem_id="noise-level", min_width=100)
    with gr.Column(visible=False, elem_id="actions") as box:
        gallery = gr.Gallery(
            label=T("pictures"), show_label=False, columns=8, height="auto", object_fit="contain", interactive=False,
            type="filepath", buttons=[], allow_preview=False, elem_id="gallery",
        )  # fmt: skip
        chosen = gr.HTML(elem_id="chosen")
        small = dict(size="sm", min_width=150)
        with gr.Row():
            one = gr.DownloadButton(T("download_one"), elem_id="download-one", **small)
            every = gr.DownloadButton(T("download_all"), elem_id="download-all", **small)
            animate = gr.Button(T("animate"), elem_id="animate", **small)
            variations = gr.Button(T("variations"), elem_id="variations", **small)
            use_as_start = gr.Button(T("use_as_start"), elem_id="use-as-start", **small)
            send = gr.Button(T("send_to_restore"), elem_id="send-to-restore", **small)
        animation = gr.Image(
            label=T("animation"), interactive=False, visible=False, height=400, buttons=["download"], elem_id="film"
        )
    result = Result(
        preview, status, steps_row, step, view, level, gallery, box, one, every, chosen, animation, gr.State()
    )
    return result, Actions(variations, use_as_start, send, animate)


def update(result: Result, request: gr.Request, shown: Shown) -> dict:
    """What changes on the page."""
    changes: dict = {result.status: shown.status}
    if shown.preview is not None:
        changes[result.preview] = shown.preview
    if shown.trajectory:
        end = shown.trajectory.frames[-1]
        changes[result.steps_row] = gr.Column(visible=True)
        changes[result.step] = gr.Slider(maximum=max(2, end.index), value=end.index)
        changes[result.view] = "guess"
        changes[result.level] = line(request, "noise_level", sigma=f"{end.sigma:.3g}")
    if shown.batch:
        paths = shown.batch.paths
        changes[result.actions] = gr.Column(visible=True)
        changes[result.gallery] = gr.Gallery([str(path) for path in paths], selected_index=0)
        changes[result.chosen_path] = str(paths[0])
        changes[result.chosen] = line(request, "seed_is", seed=shown.batch.noises[0])
        changes[result.animation] = gr.Image(None, visible=False)
    return changes


def downloads(result: Result, batch: Batch | None) -> dict:
    """The files behind the download buttons. They come after the buttons are shown: a button that is still hidden
    when it gets its file never hears of it."""
    if batch is None:
        return {}
    return {result.one: batch.paths[0], result.all: make_zip(batch.paths, batch.paths[0].with_name("pictures.zip"))}


def line(request: gr.Request, key: str, **values: object) -> str:
    """Words in HTML, on a line of their own."""
    return f'<div class="sd-line">{say(request, key, **values)}</div>'
