"""Shows a repair: before and after under a slider, the candidates and where they disagree, how close they come to the
original where that is known, and the files to take home."""

import gradio as gr

from sd_core.pictures.original import NOTES
from tabs.common.progress import note
from tabs.common.words import T, in_their_language, say
from tabs.restore.job import Repaired, Shown, compared, measured


class Comparing:
    """Draws the components, and the buttons that go on from a candidate (`go_on`) and back (`undo`).

    Attributes:
        repaired: holds what is shown, a `Repaired`, and `number` which of its candidates.
    """

    def __init__(self):
        self.preview = gr.Image(
            label=T("preview"), show_label=False, type="filepath", interactive=False, visible=False, height=520,
            buttons=["fullscreen"], elem_id="restore-preview",
        )  # fmt: skip
        self.compare = gr.ImageSlider(
            label=T("before_after"), type="filepath", interactive=False, visible=False, height=520, max_height=520,
            buttons=["fullscreen"], elem_id="compare",
        )  # fmt: skip
        self.status = gr.HTML(f'<div class="sd-status">{T("ready")}</div>', elem_id="restore-status")
        with gr.Column(visible=False, elem_id="repair-result") as self.box:
            self.facts = gr.HTML(elem_id="closeness")
            with gr.Row():
                small = dict(size="sm", min_width=130)
                self.download = gr.DownloadButton(T("download_restored"), elem_id="download-restored", **small)
                self.go_on = gr.Button(T("keep_going"), elem_id="keep-going", **small)
            self.gallery_note = gr.HTML(note(T("candidates_label")), visible=False)
            self.gallery = gr.Gallery(
                show_label=False, columns=8, height="auto", object_fit="contain", interactive=False,
                visible=False, buttons=[], allow_preview=False, elem_id="candidate-gallery",
            )  # fmt: skip
            self.heat = gr.Image(
                label=T("disagreement"), type="filepath", interactive=False, visible=False, height=320,
                buttons=["download", "fullscreen"], elem_id="heat",
            )  # fmt: skip
            self.heat_note = gr.HTML(note(T("disagreement_info")), visible=False)
        self.undo = gr.Button(T("undo"), size="sm", visible=False, elem_id="restore-undo")
        self.repaired, self.number = gr.State(), gr.State(0)

    def outputs(self) -> list[gr.blocks.Block]:
        """All that the following may change."""
        return [
            self.preview, self.compare, self.status, self.box, self.facts, self.download, self.gallery_note,
            self.gallery, self.heat, self.heat_note, self.repaired, self.number,
        ]  # fmt: skip

    def begun(self) -> dict:
        """A job begins: what the one before it left goes away."""
        return {
            self.compare: gr.ImageSlider(visible=False),
            self.preview: gr.Image(None, visible=False),
            self.facts: "",
            self.box: gr.Column(visible=False),
        }

    def update(self, shown: Shown, request: gr.Request) -> dict:
        """What changes on the page: the preview while it works, and its place taken by the comparison at the end."""
        changes: dict = {self.status: shown.status}
        if shown.preview is not None:
            changes[self.preview] = gr.Image(str(shown.preview), visible=True)
        if shown.repaired:
            changes |= self.finished(shown.repaired, 0, request)
        return changes

    def finished(self, repaired: Repaired, number: int, request: gr.Request) -> dict:
        """Shows what came of a repair, and one of its candidates large."""
        several = len(repaired.paths) > 1
        return {
            self.preview: gr.Image(visible=False),
            self.box: gr.Column(visible=True),
            self.gallery_note: gr.HTML(visible=several),
            self.gallery: gr.Gallery(list(repaired.shown) if several else None, selected_index=number, visible=several),
            self.heat: gr.Image(repaired.heat, visible=several),
            self.heat_note: gr.HTML(visible=several),
            self.repaired: repaired,
        } | self.chosen(repaired, number, request)

    def chosen(self, repaired: Repaired, number: int, request: gr.Request) -> dict:
        """Shows one of the candidates."""
        notes = [in_their_language(NOTES[key], request) for key in repaired.notes]
        if ratios := measured(repaired, number):
            (before, before_ssim), (after, after_ssim) = ratios
            close = dict(before=before, after=after, before_ssim=before_ssim, after_ssim=after_ssim)
            notes.insert(0, say(request, "closeness", **close))
        if repaired.exemplars:
            notes.append(say(request, "exemplars_used"))
        if repaired.enlarged:
            before, after = ("{}×{}".format(*size) for size in repaired.enlarged)
            notes.insert(0, say(request, "enlarged", before=before, after=after))
        if repaired.unchanged[number]:
            notes.insert(0, say(request, "nothing_changed"))
        return {
            self.compare: gr.ImageSlider(compared(repaired, number), visible=True),
            self.facts: note(" ".join(notes)) if notes else "",
            self.number: number,
        }
