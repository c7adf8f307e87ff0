"""The Restore tab: a damaged picture comes back repaired, at its own size, and untouched where nothing was damaged.

What is uploaded stays the file that it was: the page shows copies of it, and only marks come back from them. What the
app damaged itself it can also judge: the files it made are known by their content, so that nothing depends on the order
of events.
"""

import gradio as gr

from sd_core.models.registry import ModelRegistry
from tabs.common.forms import QUIET
from tabs.common.words import T
from tabs.restore.api import build_api
from tabs.restore.degrade import Damaging
from tabs.restore.events import RestoreTab, on_compared, on_damage, on_example, on_go_on, on_stop, on_undo
from tabs.restore.mask_editor import SETTLED_JS, Marking
from tabs.restore.result import Comparing
from tabs.restore.settings import Choices

FOLLOW_JS = """() => setTimeout(
    () => document.querySelector('#restore-status').scrollIntoView({behavior: 'smooth', block: 'nearest'}), 300)"""


def build(registry: ModelRegistry, tab: gr.Tab) -> RestoreTab:
    """Draws the tab inside the current `gr.Tab`, which is `tab`, and wires it."""
    gr.HTML(f'<div class="sd-note">{T("restore_about")}</div>')
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            picture = gr.Image(
                label=T("restore_picture"), type="filepath", image_mode=None, sources=["upload", "clipboard", "webcam"],
                height=240, buttons=["fullscreen"], elem_id="restore-picture",
            )  # fmt: skip
            facts = gr.HTML(elem_id="picture-facts")
            gr.HTML(f'<div class="sd-note">{T("restore_examples")}</div>')  # a label would lie over the pictures
            gallery = gr.Gallery(
                show_label=False, columns=4, height="auto", allow_preview=False, interactive=False, buttons=[],
                object_fit="contain", elem_id="restore-examples",
            )  # fmt: skip
            damaging = Damaging()
        with gr.Column(scale=3, min_width=300):
            marking = Marking()
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            choices = Choices(registry)
        with gr.Column(scale=3, min_width=300):
            go = gr.Button(T("restore"), variant="primary", size="lg", interactive=False, elem_id="restore-go")
            stop = gr.Button(T("stop"), variant="stop", size="lg", visible=False, elem_id="restore-stop")
            comparing = Comparing()
    parts = RestoreTab(
        registry, picture, facts, gallery, damaging, marking, choices, go, stop, comparing,
        opened=gr.State(), known=gr.State({}),
    )  # fmt: skip
    _wire_picture(parts, tab)
    marking.follow(registry, parts.opened, choices.model, choices.fill)
    choices.follow(parts.opened)
    _wire_repair(parts)
    build_api(registry)
    return parts


def _wire_picture(parts: RestoreTab, tab: gr.Tab) -> None:
    """Lets another picture be opened, wherever it comes from."""
    marking, choices, comparing = parts.marking, parts.choices, parts.comparing
    opened, known, picture = parts.opened, parts.known, parts.picture
    tab.select(parts.on_open, choices.model, [choices.model, parts.gallery], **QUIET)
    shown = [opened, known, picture, parts.facts, parts.go, parts.stop, comparing.undo, *comparing.outputs()]
    shown += [marking.hint, marking.box, marking.editor, marking.exact, marking.note]
    shown += choices.arrangeable()
    put = picture.change(
        parts.on_picture, [picture, known, choices.what, choices.model], shown, trigger_mode="always_last",
        preprocess=False, show_progress_on=parts.facts, **QUIET,  # see `Marking`
    )  # fmt: skip
    put.success(None, js=SETTLED_JS, **QUIET).then(
        parts.on_settled, [opened, marking.exact], [parts.go, marking.editor, marking.note],
        show_progress_on=marking.note, **QUIET,
    )  # fmt: skip
    damaging, put_there = parts.damaging, [picture, known]
    how = [damaging.kind, damaging.strength, damaging.seed]
    damaging.go.click(on_damage, [opened, *how, known], put_there, **QUIET)
    parts.gallery.select(on_example, known, put_there, **QUIET)
    current = [opened, marking.editor, marking.exact, choices.what, comparing.repaired, comparing.number, known]
    comparing.go_on.click(on_go_on, current, put_there, **QUIET)
    comparing.undo.click(on_undo, [opened, known], put_there, **QUIET)


def _wire_repair(parts: RestoreTab) -> None:
    """Lets the picture be repaired, and one of the candidates be chosen."""
    comparing = parts.comparing
    results = comparing.outputs()
    parts.go.click(parts.on_restore, parts.inputs(), [parts.go, parts.stop, *results], concurrency_limit=None, **QUIET)
    parts.go.click(None, js=FOLLOW_JS, **QUIET)  # what happens then may lie below the window
    parts.stop.click(on_stop, None, None, queue=False, **QUIET)
    comparing.gallery.select(parts.on_candidate, comparing.repaired, results, **QUIET)
    # A file that reaches the button in the moment in which that is shown is lost.
    shown_now = [comparing.repaired, comparing.number]
    comparing.compare.change(on_compared, shown_now, comparing.download, queue=False, **QUIET)
