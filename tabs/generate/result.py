"""Shows what is drawn: the preview, the steps to it, the pictures, and what one may do with them."""

import gradio as gr

from sd_core.pictures.output import make_zip
from tabs.common.sessions import Batch
from tabs.common.words import T, say
from tabs.generate.job import Shown


class Result:
    """Draws the components that show what was drawn. `chosen_path` holds the file of the picture chosen last, or
    None."""

    def __init__(self):
        self.preview = gr.Image(
            label=T("preview"), show_label=False, format="jpeg", interactive=False, height=520,
            buttons=["fullscreen"], elem_id="preview",
        )  # fmt: skip
        self.status = gr.HTML(f'<div class="sd-status">{T("ready")}</div>', elem_id="status")
        with gr.Column(visible=False, elem_id="steps-row") as self.steps_row:
            self.step = gr.Slider(1, 2, 1, step=1, label=T("step_slider"), buttons=[], elem_id="step-slider")
            with gr.Row(elem_id="steps-tools"):
                views = [(T("view_guess"), "guess"), (T("view_noisy"), "noisy")]
                self.view = gr.Radio(
                    views, value="guess", label=T("view"), container=False, min_width=200, elem_id="view"
                )
                self.level = gr.HTML(elem_id="noise-level", min_width=100)
        with gr.Column(visible=False, elem_id="actions") as self.actions:
            self._draw_actions()
        self.chosen_path = gr.State()

    def _draw_actions(self) -> None:
        """The pictures, and what one may do with them."""
        self.gallery = gr.Gallery(
            label=T("pictures"), show_label=False, columns=8, height="auto", object_fit="contain", interactive=False,
            type="filepath", buttons=[], allow_preview=False, elem_id="gallery",
        )  # fmt: skip
        self.chosen = gr.HTML(elem_id="chosen")
        small = dict(size="sm", min_width=150)
        with gr.Row():
            self.one = gr.DownloadButton(T("download_one"), elem_id="download-one", **small)
            self.all = gr.DownloadButton(T("download_all"), elem_id="download-all", **small)
            self.animate = gr.Button(T("animate"), elem_id="animate", **small)
            self.variations = gr.Button(T("variations"), elem_id="variations", **small)
            self.use_as_start = gr.Button(T("use_as_start"), elem_id="use-as-start", **small)
            self.send_to_restore = gr.Button(T("send_to_restore"), elem_id="send-to-restore", **small)
        self.animation = gr.Image(
            label=T("animation"), interactive=False, visible=False, height=400, buttons=["download"], elem_id="film"
        )

    def outputs(self) -> list[gr.blocks.Block]:
        """All that `update` and `downloads` may change."""
        return [
            self.preview, self.status, self.steps_row, self.step, self.view, self.level, self.actions, self.gallery,
            self.chosen, self.one, self.all, self.animation, self.chosen_path,
        ]  # fmt: skip

    def update(self, request: gr.Request, shown: Shown) -> dict:
        """What changes on the page."""
        changes: dict = {self.status: shown.status}
        if shown.preview is not None:
            changes[self.preview] = gr.Image(shown.preview)  # a change, which lasts: a slow page must not miss the last
        if shown.trajectory:
            end = shown.trajectory.frames[-1]
            changes[self.steps_row] = gr.Column(visible=True)
            changes[self.step] = gr.Slider(maximum=max(2, end.index), value=end.index)
            changes[self.view] = "guess"
            changes[self.level] = line(request, "noise_level", sigma=f"{end.sigma:.3g}")
        if shown.batch:
            paths = shown.batch.paths
            changes[self.actions] = gr.Column(visible=True)
            changes[self.gallery] = gr.Gallery([str(path) for path in paths], selected_index=0)
            changes[self.chosen_path] = str(paths[0])
            changes[self.chosen] = line(request, "seed_is", seed=shown.batch.noises[0])
            changes[self.animation] = gr.Image(None, visible=False)
        return changes

    def downloads(self, batch: Batch | None) -> dict:
        """The files behind the download buttons. They come after the buttons are shown: a button that is still hidden
        when it gets its file never hears of it."""
        if batch is None:
            return {}
        return {self.one: batch.paths[0], self.all: make_zip(batch.paths, batch.paths[0].with_name("pictures.zip"))}


def line(request: gr.Request, key: str, **values: object) -> str:
    """Words in HTML, on a line of their own."""
    return f'<div class="sd-line">{say(request, key, **values)}</div>'
