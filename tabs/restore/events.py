"""What the Restore tab's events do: another picture comes, it is repaired, and one goes on from a repair or back."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import gradio as gr

from sd_core.errors import PictureError, UserError
from sd_core.models.registry import ModelRegistry
from sd_core.pictures.decoding import is_shown_by_browsers
from sd_core.pictures.masks import read_mask
from sd_core.pictures.original import NOTES, Original, open_original
from sd_core.pictures.previews import proxy
from tabs.common.errors import plain_error
from tabs.common.forms import kept, picked, whole
from tabs.common.jobs import lasting
from tabs.common.progress import Status, note
from tabs.common.sessions import SESSIONS
from tabs.common.words import in_their_language, say
from tabs.restore.degrade import Damaging, make_damaged
from tabs.restore.examples import examples
from tabs.restore.job import Repaired, RestoreJobRequest, repair
from tabs.restore.mask_editor import Marking, canvas, keep_mask, marked
from tabs.restore.picture import Made, Opened, digest
from tabs.restore.result import Comparing
from tabs.restore.settings import Choices, is_generator, model_choices


@dataclass(frozen=True, eq=False)
class RestoreTab:
    """The tab's components, and what happens to them.

    Attributes:
        picture: the place where a picture to restore goes, from other tabs too.
        opened: holds the `Opened` that is worked on.
        known: holds each `Made` that this page has seen, by its digest.
    """

    registry: ModelRegistry
    picture: gr.Image
    facts: gr.HTML
    gallery: gr.Gallery
    damaging: Damaging
    marking: Marking
    choices: Choices
    go: gr.Button
    stop: gr.Button
    comparing: Comparing
    opened: gr.State
    known: gr.State

    def on_open(self, model: str | None, request: gr.Request):
        """The models and the examples of today. Drawing the examples takes some seconds, at the first visit only."""
        offered = model_choices(self.registry, request)
        names = [name for _, name in offered]
        chosen_model = model if model in names else (names[0] if names else None)
        shown = [(str(e.shown), say(request, f"damage_{e.kind}")) for e in examples()]
        return gr.Dropdown(choices=offered, value=chosen_model), shown

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
        changes |= self.choices.arranged(model, mine.what or what, original.has_alpha, False)
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

    def on_settled(self, current: Opened | None, exact: str | None, request: gr.Request):
        """The canvas has its picture: now the marks that are known already can follow."""
        if current is None or exact is None:
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


# Each of these puts another picture into its place, from which `on_picture` opens it, and notes what is known of it.


def _put(mine: Made, made: dict) -> tuple[str, dict]:
    return str(mine.picture), made | {digest(mine.picture): mine}


def on_damage(current: Opened | None, kind: str, strength: float, seed: float, made: dict, request: gr.Request):
    """Damages the picture, or once more the original of one that was damaged before."""
    before = made.get(digest(kept(current, request).path))
    source = before.original if before and before.original else current.path
    folder = SESSIONS.of(request).new_folder()
    return _put(make_damaged(open_original(source), kind, strength, whole(seed or 0), folder), made)


def on_example(event: gr.SelectData, made: dict):
    example = picked(event, examples())
    return _put(example.made, made) if example else (gr.skip(), gr.skip())


def on_go_on(
    current: Opened, editor, exact, what: str, repaired: Repaired, number: int, made: dict, request: gr.Request
):
    """The candidate becomes the picture to restore; what is left is remembered as it is now."""
    path = kept(repaired, request).paths[number]
    mask = marked(editor, current.size, exact)
    marks = Path(keep_mask(mask, SESSIONS.of(request).new_folder())) if mask.any() else None
    left = made.get(digest(current.path), Made(current.path, None))
    left = replace(left, picture=current.path, mask=marks, what=what, repaired=repaired, candidate=number)
    return _put(Made(path, repaired.original, before=left), made)


def on_undo(current: Opened, made: dict, request: gr.Request):
    return _put(kept(kept(made.get(digest(kept(current, request).path)), request).before, request), made)


def on_compared(repaired: Repaired | None, number: int):
    return repaired.paths[number] if repaired else gr.skip()


def on_stop(request: gr.Request) -> None:
    SESSIONS.of(request).stop()
