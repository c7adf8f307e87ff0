"""Shows a repair: before and after under a slider, the candidates and where they disagree, how close they come to the
original where that is known, and the files to take home."""

from dataclasses import dataclass

import gradio as gr

from sd_core.pictures.original import NOTES
from tabs.common.progress import note
from tabs.common.words import T, in_their_language, say
from tabs.restore.job import Repaired, Shown, compared, measured


@dataclass
class Comparing:
    """The components."""

    preview: gr.Image
    compare: gr.ImageSlider
    status: gr.HTML
    box: gr.Column
    gallery_note: gr.HTML
    gallery: gr.Gallery
    heat: gr.Image
    heat_note: gr.HTML
    facts: gr.HTML
    download: gr.DownloadButton
    repaired: gr.State
    number: gr.State


def build_comparing() -> tuple[Comparing, gr.Button, gr.Button]:
    """The components, and the buttons that go on from a candidate and back."""
    preview = gr.Image(
        label=T("preview"), show_label=False, type="filepath", interactive=False, height=520, buttons=["fullscreen"],
        elem_id="restore-preview",
    )  # fmt: skip
    compare = gr.ImageSlider(
        label=T("before_after"), type="filepath", interactive=False, visible=False, height=520, max_height=520,
        buttons=["fullscreen"], elem_id="compare",
    )  # fmt: skip
    status = gr.HTML(f'<div class="sd-status">{T("ready")}</div>', elem_id="restore-status")
    with gr.Column(visible=False, elem_id="repair-result") as box:
        facts = gr.HTML(elem_id="closeness")
        with gr.Row():
            small = dict(size="sm", min_width=130)
            download = gr.DownloadButton(T("download_restored"), elem_id="download-restored", **small)
            go_on = gr.Button(T("keep_going"), elem_id="keep-going", **small)
        gallery_note = gr.HTML(note(T("candidates_label")), visible=False)
        gallery = gr.Gallery(
            show_label=False, columns=8, height="auto", object_fit="contain", interactive=False,
            visible=False, buttons=[], allow_preview=False, elem_id="candidate-gallery",
        )  # fmt: skip
        heat = gr.Image(
            label=T("disagreement"), type="filepath", interactive=False, visible=False, height=320,
            buttons=["download", "fullscreen"], elem_id="heat",
        )  # fmt: skip
        heat_note = gr.HTML(note(T("disagreement_info")), visible=False)
    undo = gr.Button(T("undo"), size="sm", visible=False, elem_id="restore-undo")
    comparing = Comparing(
        preview, compare, status, box, gallery_note, gallery, heat, heat_note, facts, download, gr.State(), gr.State(0)
    )
    return comparing, go_on, undo


def begun(parts: Comparing) -> dict:
    """A job begins: what the one before it left goes away."""
    return {
        parts.compare: gr.ImageSlider(visible=False),
        parts.preview: gr.Image(None, visible=True),
        parts.facts: "",
    } | {parts.box: gr.Column(visible=False)}


def update(parts: Comparing, shown: Shown, request: gr.Request) -> dict:
    """What changes on the page: the preview while it works, and its place taken by the comparison at the end."""
    changes: dict = {parts.status: shown.status}
    if shown.preview is not None:
        changes[parts.preview] = gr.Image(str(shown.preview), visible=True)
    if shown.repaired:
        changes |= finished(parts, shown.repaired, 0, request)
    return changes


def finished(parts: Comparing, repaired: Repaired, number: int, request: gr.Request) -> dict:
    """Shows what came of a repair, and one of its candidates large."""
    several = len(repaired.paths) > 1
    return {
        parts.preview: gr.Image(visible=False),
        parts.box: gr.Column(visible=True),
        parts.gallery_note: gr.HTML(visible=several),
        parts.gallery: gr.Gallery(list(repaired.shown) if several else None, selected_index=number, visible=several),
        parts.heat: gr.Image(repaired.heat, visible=several),
        parts.heat_note: gr.HTML(visible=several),
        parts.repaired: repaired,
    } | chosen(parts, repaired, number, request)


def chosen(parts: Comparing, repaired: Repaired, number: int, request: gr.Request) -> dict:
    """Shows one of the candidates."""
    notes = [in_their_language(NOTES[key], request) for key in repaired.notes]
    if ratios := measured(repaired, number):
        (before, before_ssim), (after, after_ssim) = ratios
        notes.insert(0, say(
            request, "closeness", before=before, after=after, before_ssim=before_ssim, after_ssim=after_ssim
        ))  # fmt: skip
    return {
        parts.compare: gr.ImageSlider(compared(repaired, number), visible=True),
        parts.facts: note(" ".join(notes)) if notes else "",
        parts.number: number,
    }
