"""Marks the damage: a canvas over a copy of the picture, a proposal to correct, and masks as files.

Only marks are read back from the canvas, never the picture.
"""

from pathlib import Path

import gradio as gr
import numpy as np
from PIL import Image

from sd_core.errors import UserError
from sd_core.models.registry import ModelRegistry
from sd_core.pictures.masks import MARKED_SIDE, full_mask, holes, proxy_mask, read_mask, save_mask
from sd_core.pictures.original import open_original
from sd_core.pictures.previews import framed, unframed
from tabs.common.forms import QUIET, kept
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


class Marking:
    """Draws the components. `exact` holds the file of the mask at full size that is the ground of what is on the
    canvas."""

    def __init__(self):
        self.exact = gr.State()
        self.hint = gr.HTML(f'<div class="sd-hint">{T("how_it_works")}</div>')
        with gr.Column(visible=False, elem_id="marking") as self.box:  # only the box is shown and hidden: see below
            # No property of the editor may change later. Gradio would go on with a copy of it that never gets the
            # marks.
            self.editor = gr.ImageEditor(
                label=T("mark_damage"), type="pil", format="png", sources=(), transforms=(), height=520,
                brush=gr.Brush(colors=[f"rgba{(*MARK, MARK_OPACITY)}"], default_size=BRUSH, color_mode="fixed"),
                eraser=gr.Eraser(default_size=BRUSH),
                layers=gr.LayerOptions(allow_additional_layers=False, layers=["Mask"]),
                canvas_size=(MARKED_SIDE, MARKED_SIDE), buttons=["fullscreen"], elem_id="mask-editor",
            )  # fmt: skip
            self.editor.accept_blobs = None  # a way to send pictures past all checks, which this page does not use
            self.note = gr.HTML(note(T("mark_info")), elem_id="mark-note")
            small = dict(size="sm", min_width=130)
            with gr.Row():
                self.find = gr.Button(T("find_damage"), elem_id="find-damage", **small)
                self.clear = gr.Button(T("clear_marks"), elem_id="clear-marks", **small)
                self.upload = gr.UploadButton(T("mask_upload"), file_types=["image"], elem_id="mask-upload", **small)
                self.download = gr.Button(T("mask_download"), elem_id="mask-download", **small)
            # Never seen: the page clicks it once it has its file.
            self.file = gr.DownloadButton(elem_id="mask-file")

    def follow(self, registry: ModelRegistry, opened: gr.State, model: gr.Dropdown, fill: gr.Checkbox) -> None:
        """Lets the buttons do their work. `opened` holds an `Opened`; `fill` is ticked where the picture has holes."""
        self._registry, self._fill = registry, fill
        marks = [opened, self.editor, self.exact]
        shown = [self.editor, self.exact, self.note]
        # Gradio tells whatever it has ever shown progress on of each step of any job, and an editor, or what it lies
        # in, answers by sending its whole canvas: a page that hangs. So no event shows its progress there.
        aside = dict(show_progress_on=self.note, **QUIET)
        self.find.click(self.on_find, [*marks, model], [*shown, self.find, fill], concurrency_limit=None, **aside)
        # The editor's own way to clear it takes the picture away, too.
        gr.on([self.clear.click, self.editor.clear], on_clear, opened, shown, **aside)
        self.upload.upload(on_mask, [opened, self.upload], shown, preprocess=False, **aside)
        saved = self.download.click(on_mask_file, marks, self.file, **QUIET)
        saved.success(None, js=DOWNLOAD_JS, **QUIET)

    def on_find(self, current: Opened, editor: dict, exact: str | None, model: str | None, request: gr.Request):
        """Adds what the model finds to what is marked already."""
        idle = {self.find: gr.Button(interactive=True), self.note: note(say(request, "mark_info"))}
        yield {self.note: note(say(request, "finding")), self.find: gr.Button(interactive=False)}
        try:
            found = self._found(kept(current, request), editor, exact, model, request)
        except Exception:
            yield idle
            raise
        yield idle | found

    def _found(self, current: Opened, editor: dict, exact: str | None, model: str | None, request: gr.Request) -> dict:
        """What changes where something is found; nothing if something else was begun meanwhile."""
        original = open_original(current.path)
        mask = marked(editor, current.size, exact)
        restorers = self._registry.names("restorer")
        if not restorers:
            raise UserError(say(request, "no_restorer"))
        restorer = model if model in restorers else restorers[0]
        *_, found = None, *propose(request, self._registry, restorer, original)
        if found is None:
            return {}
        words = say(request, "found", share=100 * found.mean()) if found.any() else say(request, "found_nothing")
        folder = SESSIONS.of(request).new_folder()
        changes = {
            self.editor: canvas(current.copied(), folder, mask | found),
            self.exact: keep_mask(mask | found, folder),
            self.note: note(words),
        }
        return changes | ({self._fill: True} if holes(original).any() else {})


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


def keep_mask(mask: np.ndarray, folder: Path) -> str:
    path = folder / "mask.png"
    save_mask(mask, path)
    return str(path)


def on_clear(current: Opened, request: gr.Request):
    empty = canvas(kept(current, request).copied(), SESSIONS.of(request).new_folder())
    return empty, None, note(say(request, "mark_info"))


def on_mask(current: Opened, file: dict, request: gr.Request):
    """An uploaded mask takes the place of what is marked."""
    mask = read_mask(kept(file, request)["path"], kept(current, request).size)
    folder = SESSIONS.of(request).new_folder()
    words = note(say(request, "mask_read", share=100 * mask.mean()))
    return canvas(current.copied(), folder, mask), keep_mask(mask, folder), words


def on_mask_file(current: Opened, editor: dict, exact: str | None, request: gr.Request):
    return keep_mask(marked(editor, kept(current, request).size, exact), SESSIONS.of(request).new_folder())
