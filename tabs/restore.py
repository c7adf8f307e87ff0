"""The Restore tab: a damaged picture comes back repaired, at its own size, and untouched where nothing was damaged.

What is uploaded stays the file that it was: the page shows copies of it, and only marks come back from them. What the
app damaged itself it can also judge: the files it made are known by their content, so that nothing depends on the order
of events.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import gradio as gr

from sd_core.images import PictureError, is_shown_by_browsers
from sd_core.originals import open_original, read_mask
from sd_core.proxies import proxy
from sd_core.shelf import Shelf
from tabs.choosing import Chosen, arranged, build_choices, is_generator, model_choices, wire_choices
from tabs.comparing import begun, build_comparing, chosen, finished, update
from tabs.controls import whole
from tabs.damaging import Made, build_damaging, digest, make_damaged
from tabs.errors import plain_error, told
from tabs.examples import examples
from tabs.marking import SETTLED_JS, build_marking, canvas, keep_mask, marked, wire_marking
from tabs.opened import Opened
from tabs.repairing import Repaired, Wanted, repair
from tabs.restore_api import build_api
from tabs.sessions import SESSIONS
from tabs.status import Status, note
from tabs.streaming import lasting
from tabs.words import T, add_words, say

QUIET = dict(show_progress="hidden", api_visibility="private")
FOLLOW_JS = """() => setTimeout(
    () => document.querySelector('#restore-status').scrollIntoView({behavior: 'smooth', block: 'nearest'}), 300)"""

add_words({
    "restore": ("Restore", "修复"),
    "restore_about": (
        "Upload a damaged picture, mark the damage, and get it back repaired. What you did not mark stays as it is.",
        "上传受损的图片，标出损坏处，即可修复。未标出的部分保持原样。",
    ),
    "restore_picture": ("Picture to restore", "待修复的图片"),
    "restore_examples": ("Or try these drawings and a photograph, damaged here", "或试试这些由本页损坏的绘画和照片"),
    "picture_size": ("{width}×{height} pixels.", "{width}×{height} 像素。"),
    "no_upload": ("Choose a picture first.", "请先选择一张图片。"),
    "no_marks": (
        "Mark the damage first, or choose “Clean the whole picture”.",
        "请先标出损坏处，或选择“清理整张图片”。",
    ),
})  # fmt: skip


@dataclass(frozen=True)
class RestoreTab:
    """What the rest of the page may use: the place where a picture to restore goes."""

    picture: gr.Image


def build(shelf: Shelf, tab: gr.Tab) -> RestoreTab:
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
            damaging = build_damaging()
        with gr.Column(scale=3, min_width=300):
            marking = build_marking()
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            choices, boxes = build_choices(shelf)
        with gr.Column(scale=3, min_width=300):
            go = gr.Button(T("restore"), variant="primary", size="lg", interactive=False, elem_id="restore-go")
            stop = gr.Button(T("stop"), variant="stop", size="lg", visible=False, elem_id="restore-stop")
            comparing, go_on, undo = build_comparing()
    opened, known = gr.State(), gr.State({})  # Opened; digest -> Made

    def on_open(model: str | None, request: gr.Request):
        """The models and the examples of today. Drawing the examples takes some seconds, at the first visit only."""
        offered = model_choices(shelf, request)
        names = [name for _, name in offered]
        chosen_model = model if model in names else (names[0] if names else None)
        shown = [(str(e.shown), say(request, f"damage_{e.kind}")) for e in examples()]
        return gr.Dropdown(choices=offered, value=chosen_model), shown

    @told
    def on_picture(upload: dict | None, made: dict, what: str, model: str | None, request: gr.Request):
        """Opens another picture and shows it on the canvas. What was under way for the one before it ends.

        For one that browsers do not show, a copy that they do show takes its place, and comes here in turn."""
        SESSIONS.of(request).abandon()
        idle = begun(comparing) | {comparing.status: Status(request).ready()}
        idle |= {go: gr.Button(interactive=False, visible=True), stop: gr.Button(visible=False)}
        nothing = idle | {opened: None, facts: "", undo: gr.Button(visible=False)}
        nothing |= {marking.box: gr.Column(visible=False), marking.hint: gr.HTML(visible=True)}
        if not upload:
            return nothing | arranged(choices, boxes, is_generator(shelf, model), what, False)
        path = upload["path"]
        try:
            mine = made.get(digest(path), Made(path, None))
            path = mine.copy_of or path
            original = open_original(path)
            copy = proxy(original)
            visible = mine.copy_of or is_shown_by_browsers(path)
        except Exception as error:  # told in one sentence
            gr.Warning(plain_error(error, request).message)
            return nothing | {picture: None}
        folder = SESSIONS.of(request).new_folder()
        copy.save(folder / "copy.png", compress_level=2)
        if not visible:
            known_copy = replace(mine, picture=folder / "copy.png", copy_of=path)
            return nothing | {picture: str(known_copy.picture), known: made | {digest(known_copy.picture): known_copy}}
        what = mine.what or what
        notes = [say(request, "picture_size", width=original.size[0], height=original.size[1])]
        notes += [say(request, f"note_{key}") for key in original.notes]
        shown = idle | arranged(choices, boxes, is_generator(shelf, model), what, original.has_alpha, False)
        if mine.repaired:
            with suppress(FileNotFoundError, PictureError):  # the system may have tidied it away
                shown |= finished(comparing, mine.repaired, mine.candidate, request)
        return shown | {
            opened: Opened(path, original.size, original.has_alpha, str(folder / "copy.png")),
            facts: note(" ".join(notes)),
            marking.hint: gr.HTML(visible=False),
            marking.box: gr.Column(visible=True),
            marking.editor: canvas(copy, folder),
            marking.exact: str(mine.mask) if mine.mask and mine.mask.exists() else None,
            marking.note: note(say(request, "mark_info")),
            undo: gr.Button(visible=mine.before is not None),
        }

    @told
    def on_settled(current: Opened | None, exact: str | None, request: gr.Request):
        """The canvas has its picture: now the marks that are known already can follow."""
        if current is None:
            return {go: gr.Button(interactive=False)}
        if exact is None:
            return {go: gr.Button(interactive=True)}
        marks = canvas(current.copied(), SESSIONS.of(request).new_folder(), read_mask(exact, current.size))
        words = note(say(request, "marked_known"))
        return {go: gr.Button(interactive=True), marking.editor: marks, marking.note: words}

    @told
    def on_damage(current: Opened | None, kind: str, strength: float, seed: float, made: dict, request: gr.Request):
        """Damages the picture, or once more the original of one that was damaged before."""
        if current is None:
            raise ValueError(say(request, "no_upload"))
        before = made.get(digest(current.path))
        source = before.original if before and before.original else current.path
        mine = make_damaged(open_original(source), kind, strength, whole(seed or 0), SESSIONS.of(request).new_folder())
        return str(mine.picture), made | {digest(mine.picture): mine}

    def on_example(event: gr.SelectData, made: dict):
        mine = examples()[event.index].made
        return str(mine.picture), made | {digest(mine.picture): mine}

    @lasting
    def on_restore(current, made: dict, editor, exact, request: gr.Request, *values) -> Iterator[dict]:
        try:
            wanted = asked(Chosen(*values), current, editor, exact, made, request)
            yield busy(True) | begun(comparing)
            for shown in repair(request, shelf, wanted):
                yield update(comparing, shown, request)
            yield busy(False)
        except Exception as error:  # told in one sentence
            yield busy(False) | {comparing.status: Status(request).ready()}
            raise plain_error(error, request) from error

    def asked(chose: Chosen, current: Opened | None, editor, exact, made: dict, request: gr.Request) -> Wanted:
        """What the settings mean. Raises ValueError with one sentence."""
        if current is None:
            raise ValueError(say(request, "no_upload"))
        if not chose.model:
            raise ValueError(say(request, "no_model"))
        mask = marked(editor, current.size, exact)
        if not mask.any() and chose.what == "marked":
            raise ValueError(say(request, "no_marks"))
        mine = made.get(digest(current.path))
        return chose.wanted(
            current, mask if mask.any() else None, is_generator(shelf, chose.model), mine and mine.original
        )

    def busy(yes: bool) -> dict:
        return {go: gr.Button(visible=not yes), stop: gr.Button(visible=yes)}

    @told
    def on_candidate(event: gr.SelectData, repaired: Repaired, request: gr.Request):
        return chosen(comparing, repaired, event.index, request) | {comparing.download: repaired.paths[event.index]}

    def on_compared(repaired: Repaired, number: int):
        return repaired.paths[number]

    @told
    def on_go_on(
        current: Opened, editor, exact, what: str, repaired: Repaired, number: int, made: dict, request: gr.Request
    ):
        """The candidate becomes the picture to restore; what is left is remembered as it is now."""
        path = repaired.paths[number]
        mask = marked(editor, current.size, exact)
        kept = Path(keep_mask(mask, SESSIONS.of(request).new_folder())) if mask.any() else None
        left = made.get(digest(current.path), Made(current.path, None))
        left = replace(left, picture=current.path, mask=kept, what=what, repaired=repaired, candidate=number)
        return path, made | {digest(path): Made(path, repaired.original, before=left)}

    @told
    def on_undo(current: Opened, made: dict, request: gr.Request):
        left = made[digest(current.path)].before
        return str(left.picture), made | {digest(left.picture): left}

    tab.select(on_open, choices.model, [choices.model, gallery], **QUIET)
    results = list(vars(comparing).values())
    shown = [opened, facts, marking.hint, marking.box, marking.editor, marking.exact, marking.note]
    shown += [go, stop, picture, undo]
    shown += [known, *results, choices.what, choices.fill, choices.sigma, boxes.whole, boxes.square]
    put = picture.change(
        on_picture, [picture, known, choices.what, choices.model], shown, trigger_mode="always_last", preprocess=False,
        show_progress_on=facts, **QUIET,  # see `wire_marking`
    )  # fmt: skip
    put.success(None, js=SETTLED_JS, **QUIET).then(
        on_settled, [opened, marking.exact], [go, marking.editor, marking.note], show_progress_on=marking.note, **QUIET
    )
    wire_marking(marking, shelf, opened, choices.model, choices.fill)
    wire_choices(choices, boxes, shelf, opened)
    damaging.go.click(
        on_damage, [opened, damaging.kind, damaging.strength, damaging.seed, known], [picture, known], **QUIET
    )
    gallery.select(on_example, known, [picture, known], **QUIET)
    inputs = [opened, known, marking.editor, marking.exact, *choices.inputs()]
    go.click(on_restore, inputs, [go, stop, *results], concurrency_limit=None, **QUIET)
    go.click(None, js=FOLLOW_JS, **QUIET)  # what happens then may lie below the window
    stop.click(_stop, None, None, queue=False, **QUIET)
    comparing.gallery.select(on_candidate, comparing.repaired, results, **QUIET)
    # A file that reaches the button in the moment in which that is shown is lost.
    shown_now = [comparing.repaired, comparing.number]
    comparing.compare.change(on_compared, shown_now, comparing.download, queue=False, **QUIET)
    current = [opened, marking.editor, marking.exact, choices.what, comparing.repaired, comparing.number, known]
    go_on.click(on_go_on, current, [picture, known], **QUIET)
    undo.click(on_undo, [opened, known], [picture, known], **QUIET)
    build_api(shelf)
    return RestoreTab(picture)


def _stop(request: gr.Request) -> None:
    SESSIONS.of(request).stop()
