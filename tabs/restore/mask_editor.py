"""Marks the damage: a canvas over a copy of the picture, a proposal to correct, and masks as files.

Only marks are read back from the canvas, never the picture.
"""

from dataclasses import dataclass
from pathlib import Path

import gradio as gr
import numpy as np
from PIL import Image

from sd_core.errors import UserError
from sd_core.models.registry import ModelRegistry
from sd_core.pictures.masks import MARKED_SIDE, full_mask, holes, proxy_mask, read_mask, save_mask
from sd_core.pictures.original import open_original
from sd_core.pictures.previews import framed, unframed
from tabs.common.errors import plain_error, told
from tabs.common.forms import kept
from tabs.common.jobs import Waiting
from tabs.common.progress import note
from tabs.common.sessions import SESSIONS
from tabs.common.words import T, say
from tabs.restore.job import propose
from tabs.restore.picture import Opened

MARK = (236, 40, 120)  # pink: rare in pictures
MARK_OPACITY = 0.55
MARGIN_COLOUR = (203, 213, 225)  # around the picture
BRUSH = 14  # pixels of the copy: little more than a scratch is wide
QUALITY = 92  # JPEG, of an opaque copy
QUIET = dict(show_progress="hidden", api_visibility="private")

# Marks that reach an editor together with its first picture are lost at times: the picture, coming later, resets them.
# Only strokes can be undone: a picture or marks that arrive begin a history of their own.
SETTLED_JS = """async () => {
    const wait = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));
    for (let i = 0; i < 100 && !window.editor?.background_image; i++) await wait(100);
    await wait(500);
    const manager = window.editor?.command_manager;
    if (!manager || manager.forgets) return;
    manager.forgets = true;
    const execute = manager.execute.bind(manager);
    manager.execute = async (command, context) => {
        await execute(command, context);
        if (command.name !== 'Draw') manager.reset();
    };
    manager.reset();
}"""
DOWNLOAD_JS = "() => setTimeout(() => document.querySelector('#mask-file').click(), 200)"


@dataclass(frozen=True)
class Marking:
    """The components. `exact` holds the file of the mask at full size that is the ground of what is on the canvas."""

    hint: gr.HTML
    box: gr.Column
    editor: gr.ImageEditor
    find: gr.Button
    clear: gr.Button
    upload: gr.UploadButton
    download: gr.Button
    file: gr.DownloadButton
    note: gr.HTML
    exact: gr.State


def build_marking() -> Marking:
    hint = gr.HTML(f'<div class="sd-hint">{T("how_it_works")}</div>')
    with gr.Column(visible=False, elem_id="marking") as box:  # only the box is shown and hidden: see below
        # No property of the editor may change later. Gradio would go on with a copy of it that never gets the marks.
        editor = gr.ImageEditor(
            label=T("mark_damage"), type="pil", format="png", sources=(), transforms=(), height=520,
            brush=gr.Brush(
                colors=[f"rgba({MARK[0]}, {MARK[1]}, {MARK[2]}, {MARK_OPACITY})"], default_size=BRUSH,
                color_mode="fixed",
            ),
            eraser=gr.Eraser(default_size=BRUSH),
            layers=gr.LayerOptions(allow_additional_layers=False, layers=["Mask"]),
            canvas_size=(MARKED_SIDE, MARKED_SIDE), buttons=["fullscreen"], elem_id="mask-editor",
        )  # fmt: skip
        editor.accept_blobs = None  # a way to send pictures past all checks, which this page does not use
        said = gr.HTML(note(T("mark_info")), elem_id="mark-note")
        small = dict(size="sm", min_width=130)
        with gr.Row():
            find = gr.Button(T("find_damage"), elem_id="find-damage", **small)
            clear = gr.Button(T("clear_marks"), elem_id="clear-marks", **small)
            upload = gr.UploadButton(T("mask_upload"), file_types=["image"], elem_id="mask-upload", **small)
            download = gr.Button(T("mask_download"), elem_id="mask-download", **small)
        file = gr.DownloadButton(elem_id="mask-file")  # never seen: the page clicks it once it has its file
    return Marking(hint, box, editor, find, clear, upload, download, file, said, gr.State())


def canvas(copy: Image.Image, folder: Path, mask: np.ndarray | None = None) -> dict:
    """What the editor shows: a picture's copy (`proxy`), and marks, bool [H, W] at the picture's own size.

    All pictures come in a square frame: marks that reach the editor before its canvas has their size are put in the
    wrong place, so all canvases are of one size.
    """
    path = folder / ("canvas.png" if copy.mode == "RGBA" else "canvas.jpg")
    framed(copy, MARGIN_COLOUR).save(path, quality=QUALITY)
    layers = []
    if mask is not None and mask.any():
        marks = framed(Image.fromarray(proxy_mask(mask)).convert("L"), 0)
        layer = Image.new("RGBA", marks.size, (*MARK, 0))
        layer.paste((*MARK, round(255 * MARK_OPACITY)), mask=marks)
        layers = [str(folder / "marks.png")]
        layer.save(layers[0])
    return {"background": str(path), "layers": layers, "composite": None}  # else the composite becomes the background


def marked(value: dict | None, size: tuple[int, int], exact: str | None) -> np.ndarray:
    """The mask, bool [H, W], of a picture of (width, height), from what the editor holds.

    Args:
        exact: the file of the mask that the editor was given, if any.
    """
    marks = np.zeros((MARKED_SIDE, MARKED_SIDE), bool)
    for layer in (value or {}).get("layers") or []:
        if layer.size == marks.shape[::-1]:
            marks |= np.asarray(layer.convert("RGBA"))[..., 3] > 0
    return full_mask(unframed(marks, size), size, read_mask(exact, size) if exact else None)


def keep_mask(mask: np.ndarray, folder: Path, name: str = "mask.png") -> str:
    path = folder / name
    save_mask(mask, path)
    return str(path)


@dataclass(frozen=True)
class DamageFinder:
    """Looks for damage; `fill` is ticked where the picture has holes."""

    parts: Marking
    registry: ModelRegistry
    fill: gr.Checkbox

    def on_find(self, current: Opened, model: str | None, editor: dict, exact: str | None, request: gr.Request):
        """Adds what the model finds to what is marked already."""
        yield {self.parts.note: note(say(request, "finding")), self.parts.find: gr.Button(interactive=False)}
        try:
            original = open_original(kept(current, request).path)
            mask = marked(editor, current.size, exact)
            restorers = self.registry.names("restorer")
            restorer = model if model in restorers else next(iter(restorers), None)
            if restorer is None:
                raise UserError(say(request, "no_restorer"))
            found = None
            for item in propose(request, self.registry, restorer, original):
                found = found if isinstance(item, Waiting) else item
            if found is None:  # something else was begun meanwhile
                yield {self.parts.find: gr.Button(interactive=True), self.parts.note: note(say(request, "mark_info"))}
                return
            words = say(request, "found", share=100 * found.mean()) if found.any() else say(request, "found_nothing")
            folder = SESSIONS.of(request).new_folder()
            changes = {
                self.parts.editor: canvas(current.copied(), folder, mask | found),
                self.parts.exact: keep_mask(mask | found, folder),
                self.parts.note: note(words),
            }
            if holes(original).any():
                changes[self.fill] = True
        except Exception as error:  # told in one sentence
            yield {self.parts.find: gr.Button(interactive=True), self.parts.note: note(say(request, "mark_info"))}
            raise plain_error(error, request) from error
        yield changes | {self.parts.find: gr.Button(interactive=True)}


@told
def on_clear(current: Opened, request: gr.Request):
    empty = canvas(kept(current, request).copied(), SESSIONS.of(request).new_folder())
    return empty, None, note(say(request, "mark_info"))


@told
def on_mask(current: Opened, file: dict, request: gr.Request):
    """An uploaded mask takes the place of what is marked."""
    mask = read_mask(kept(file, request)["path"], kept(current, request).size)
    folder = SESSIONS.of(request).new_folder()
    words = note(say(request, "mask_read", share=100 * mask.mean()))
    return canvas(current.copied(), folder, mask), keep_mask(mask, folder), words


@told
def on_mask_file(current: Opened, editor: dict, exact: str | None, request: gr.Request):
    return keep_mask(marked(editor, kept(current, request).size, exact), SESSIONS.of(request).new_folder())


def wire_marking(
    parts: Marking, registry: ModelRegistry, opened: gr.State, model: gr.Dropdown, fill: gr.Checkbox
) -> None:
    """What the buttons do. `opened` holds an `Opened`."""
    marks = [opened, parts.editor, parts.exact]
    shown = [parts.editor, parts.exact, parts.note]
    # Gradio tells whatever it has ever shown progress on of each step of any job, and an editor, or what it lies in,
    # answers by sending its whole canvas: a page that hangs. So no event shows its progress there.
    aside = dict(show_progress_on=parts.note, **QUIET)
    finder = DamageFinder(parts, registry, fill)
    looked_at = [opened, model, parts.editor, parts.exact]
    parts.find.click(finder.on_find, looked_at, [*shown, parts.find, fill], concurrency_limit=None, **aside)
    # The editor's own way to clear it takes the picture away, too.
    gr.on([parts.clear.click, parts.editor.clear], on_clear, opened, shown, **aside)
    parts.upload.upload(on_mask, [opened, parts.upload], shown, preprocess=False, **aside)
    saved = parts.download.click(on_mask_file, marks, parts.file, **QUIET)
    saved.success(None, js=DOWNLOAD_JS, **QUIET)
