"""The Restore tab: a damaged picture comes back repaired, at its own size, and untouched where nothing was damaged.

What is uploaded stays the file that it was: the page shows copies of it, and only marks come back from them. What the
app damaged itself it can also judge: the files it made are known by their content, so that nothing depends on the order
of events.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import gradio as gr

from sd_core.errors import PictureError, UserError
from sd_core.models.registry import ModelRegistry
from sd_core.pictures.decoding import is_shown_by_browsers
from sd_core.pictures.masks import read_mask
from sd_core.pictures.original import NOTES, Original, open_original
from sd_core.pictures.previews import proxy
from tabs.common.errors import plain_error
from tabs.common.forms import QUIET, kept, offering, picked
from tabs.common.jobs import lasting
from tabs.common.model_card import build_model_card
from tabs.common.progress import Status, note
from tabs.common.sessions import SESSIONS, stop_job
from tabs.common.words import T, in_their_language, say
from tabs.restore.api import build_api
from tabs.restore.degrade import Damaging
from tabs.restore.events import on_compared, on_damage, on_example, on_go_on, on_undo
from tabs.restore.examples import examples
from tabs.restore.job import Repaired, RestoreJobRequest, repair
from tabs.restore.mask_editor import SETTLED_JS, Marking, canvas, marked
from tabs.restore.picture import Made, Opened, digest
from tabs.restore.result import Comparing
from tabs.restore.settings import Choices, is_generator, model_choices

FOLLOW_JS = """() => setTimeout(
    () => document.querySelector('#restore-status').scrollIntoView({behavior: 'smooth', block: 'nearest'}), 300)"""


class RestoreTab:
    """Draws the tab inside the current `gr.Tab`, which is `tab`; its methods are what happens to it.

    Attributes:
        picture: the place where a picture to restore goes, from other tabs too.
        opened: holds the `Opened` that is worked on.
        known: holds each `Made` that this page has seen, by its digest.
    """

    def __init__(self, registry: ModelRegistry, tab: gr.Tab):
        self.registry = registry
        gr.HTML(f'<div class="sd-note">{T("restore_about")}</div>')
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                self.picture = gr.Image(
                    label=T("restore_picture"), type="filepath", image_mode=None, height=240, buttons=["fullscreen"],
                    sources=["upload", "clipboard", "webcam"], elem_id="restore-picture",
                )  # fmt: skip
                self.facts = gr.HTML(elem_id="picture-facts")
                gr.HTML(f'<div class="sd-note">{T("restore_examples")}</div>')  # a label would lie over the pictures
                self.gallery = gr.Gallery(
                    show_label=False, columns=4, height="auto", allow_preview=False, interactive=False, buttons=[],
                    object_fit="contain", elem_id="restore-examples",
                )  # fmt: skip
                self.damaging = Damaging()
            with gr.Column(scale=3, min_width=300):
                self.marking = Marking()
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                self.choices = Choices(registry)
                build_model_card(registry, self.choices.model)
            with gr.Column(scale=3, min_width=300):
                self.go = gr.Button(T("restore"), variant="primary", size="lg", interactive=False, elem_id="restore-go")
                self.stop = gr.Button(T("stop"), variant="stop", size="lg", visible=False, elem_id="restore-stop")
                self.comparing = Comparing()
        self.opened, self.known = gr.State(), gr.State({})
        self._wire_picture(tab)
        self.marking.follow(registry, self.opened, self.choices.model, self.choices.fill)
        self.choices.follow(self.opened)
        self._wire_repair()
        build_api(registry)

    def _wire_picture(self, tab: gr.Tab) -> None:
        """Lets another picture be opened, wherever it comes from."""
        marking, choices, comparing = self.marking, self.choices, self.comparing
        opened, known, picture = self.opened, self.known, self.picture
        tab.select(self.on_open, choices.model, [choices.model, self.gallery], **QUIET)
        shown = [opened, known, picture, self.facts, self.go, self.stop, comparing.undo, *comparing.outputs()]
        shown += [marking.hint, marking.box, marking.editor, marking.exact, marking.note, *choices.arrangeable()]
        put = picture.change(
            self.on_picture, [picture, known, choices.what, choices.model], shown, trigger_mode="always_last",
            preprocess=False, show_progress_on=self.facts, **QUIET,  # see `Marking`
        )  # fmt: skip
        put.success(None, js=SETTLED_JS, **QUIET).then(
            self.on_settled, [opened, known, marking.exact], [self.go, marking.editor, marking.note],
            show_progress_on=marking.note, **QUIET,
        )  # fmt: skip
        damaging, put_there = self.damaging, [picture, known]
        how = [damaging.kind, damaging.strength, damaging.seed]
        damaging.go.click(on_damage, [opened, *how, known], put_there, **QUIET)
        self.gallery.select(on_example, known, put_there, **QUIET)
        current = [opened, marking.editor, marking.exact, choices.what, comparing.repaired, comparing.number, known]
        comparing.go_on.click(on_go_on, current, put_there, **QUIET)
        comparing.undo.click(on_undo, [opened, known], put_there, **QUIET)

    def _wire_repair(self) -> None:
        """Lets the picture be repaired, and one of the candidates be chosen."""
        comparing, results = self.comparing, self.comparing.outputs()
        self.go.click(self.on_restore, self.inputs(), [self.go, self.stop, *results], concurrency_limit=None, **QUIET)
        self.go.click(None, js=FOLLOW_JS, **QUIET)  # what happens then may lie below the window
        self.stop.click(stop_job, None, None, queue=False, **QUIET)
        comparing.gallery.select(self.on_candidate, comparing.repaired, results, **QUIET)
        # A file that reaches the button in the moment in which that is shown is lost.
        shown_now = [comparing.repaired, comparing.number]
        comparing.compare.change(on_compared, shown_now, comparing.download, queue=False, **QUIET)

    def on_open(self, model: str | None, request: gr.Request):
        """The models and the examples of today. Drawing the examples takes some seconds, at the first visit only."""
        offered = model_choices(self.registry, request)
        shown = [(str(e.shown), say(request, f"damage_{e.kind}")) for e in examples()]
        return offering(offered, model, otherwise=offered[0][1] if offered else None), shown

    def on_picture(self, upload: dict | None, made: dict, what: str, model: str | None, request: gr.Request):
        """Opens another picture and shows it on the canvas. What was under way for the one before it ends.

        For one that browsers do not show, a copy that they do show takes its place, and comes here in turn."""
        SESSIONS.of(request).abandon()
        if not upload:
            return self._nothing(request) | self.choices.arranged(model, what, False)
        path = upload["path"]
        try:
            mine = made.get(digest(path), Made(path, None))
            path = mine.copy_of or path
            original = open_original(path)
            copy = proxy(original)
            visible = mine.copy_of or is_shown_by_browsers(path)
        except Exception as error:  # told in one sentence
            gr.Warning(plain_error(error, request).message)
            return self._nothing(request) | {self.picture: None}
        folder = SESSIONS.of(request).new_folder()
        copy.save(folder / "copy.png", compress_level=2)
        if not visible:
            known_copy = replace(mine, picture=folder / "copy.png", copy_of=path)
            made = made | {digest(known_copy.picture): known_copy}
            return self._nothing(request) | {self.picture: str(known_copy.picture), self.known: made}
        opened = Opened(path, original.size, original.has_alpha, str(folder / "copy.png"))
        changes = self._idle(request) | self._shown(opened, original, mine, request)
        changes[self.marking.editor] = canvas(copy, folder)
        changes |= self.choices.of_picture(model, what, mine.what or "marked", original.has_alpha)
        if mine.repaired:
            with suppress(FileNotFoundError, PictureError):  # the system may have tidied it away
                changes |= self.comparing.finished(mine.repaired, mine.candidate, request)
        return changes

    def _idle(self, request: gr.Request) -> dict:
        """Nothing is under way, and nothing can be repaired before marks that are known already have followed."""
        buttons = {self.go: gr.Button(interactive=False, visible=True), self.stop: gr.Button(visible=False)}
        return self.comparing.begun() | {self.comparing.status: Status(request).ready()} | buttons

    def _nothing(self, request: gr.Request) -> dict:
        """There is no picture."""
        canvas_away = {self.marking.box: gr.Column(visible=False), self.marking.hint: gr.HTML(visible=True)}
        gone = {self.opened: None, self.facts: "", self.comparing.undo: gr.Button(visible=False)}
        return self._idle(request) | gone | canvas_away

    def _shown(self, opened: Opened, original: Original, mine: Made, request: gr.Request) -> dict:
        """What is told of a picture, and what is known of it already."""
        notes = [say(request, "picture_size", width=original.size[0], height=original.size[1])]
        notes += [in_their_language(NOTES[key], request) for key in original.notes]
        return {
            self.opened: opened,
            self.facts: note(" ".join(notes)),
            self.marking.hint: gr.HTML(visible=False),
            self.marking.box: gr.Column(visible=True),
            self.marking.exact: str(mine.mask) if mine.mask and mine.mask.exists() else None,
            self.marking.note: note(say(request, "mark_info")),
            self.comparing.undo: gr.Button(visible=mine.before is not None),
        }

    def on_settled(self, current: Opened | None, made: dict, exact: str | None, request: gr.Request):
        """The canvas has its picture: now the marks that are known already can follow, unless others have meanwhile."""
        mine = current and made.get(digest(current.path))
        if mine is None or mine.mask is None or exact != str(mine.mask):
            return {self.go: gr.Button(interactive=current is not None)}
        marks = canvas(current.copied(), SESSIONS.of(request).new_folder(), read_mask(exact, current.size))
        words = note(say(request, "marked_known"))
        return {self.go: gr.Button(interactive=True), self.marking.editor: marks, self.marking.note: words}

    @lasting
    def on_restore(self, values: dict, request: gr.Request) -> Iterator[dict]:
        """Repairs the picture. `values` are those of the components by `inputs`."""
        wanted = self._asked(values, request)
        try:
            yield self._busy(True) | self.comparing.begun()
            for shown in repair(request, self.registry, wanted):
                yield self.comparing.update(shown, request)
            yield self._busy(False)
        except Exception:
            yield self._busy(False) | {self.comparing.status: Status(request).ready()}
            raise

    def inputs(self) -> set[gr.components.Component]:
        """What `on_restore` needs to know."""
        return {self.opened, self.known, self.marking.editor, self.marking.exact, *self.choices.inputs()}

    def _asked(self, values: dict, visitor: gr.Request) -> RestoreJobRequest:
        """What the settings mean. Raises UserError."""
        current: Opened = kept(values[self.opened], visitor)
        chose = self.choices.chosen(values)
        if not chose.model:
            raise UserError(say(visitor, "no_model"))
        mask = marked(values[self.marking.editor], current.size, values[self.marking.exact])
        if not mask.any() and chose.what == "marked":
            raise UserError(say(visitor, "no_marks"))
        mine: Made | None = values[self.known].get(digest(current.path))
        generator = is_generator(self.registry, chose.model)
        request = chose.request(current.size, mask if mask.any() else None, generator)
        return RestoreJobRequest(current.path, chose.model, request, mine and mine.original)

    def _busy(self, yes: bool) -> dict:
        return {self.go: gr.Button(visible=not yes), self.stop: gr.Button(visible=yes)}

    def on_candidate(self, event: gr.SelectData, repaired: Repaired, request: gr.Request):
        path = kept(picked(event, kept(repaired, request).paths), request)
        shown = self.comparing.chosen(repaired, event.index, request)
        return shown | {self.comparing.download: path}
