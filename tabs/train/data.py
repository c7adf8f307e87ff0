"""What to train on: built-in characters, CIFAR-10, or one's own pictures, looked at before they are used."""

import functools
import html
import os
import shutil
from pathlib import Path

import gradio as gr
from PIL import Image

from sd_core.data.captions import side_by_side
from sd_core.data.characters.draw import EVALUATION_STYLE, FIRST_TRAINING_SEED, STYLES, character, render
from sd_core.data.folder import FITS
from sd_core.data.preview import LOOKED_AT, Preview, preview, preview_pairs
from sd_core.errors import RunError
from sd_core.models.registry import ModelRegistry
from sd_core.pictures.previews import data_url
from tabs.common.forms import QUIET
from tabs.common.sessions import SESSIONS
from tabs.common.words import T, say
from tabs.train.base_model import kind_of, resolution_of
from tabs.train.limits import Limits

KINDS = ("characters", "cifar10", "own")
SHOWN = 96  # pixels, the height of a picture in the preview
NAMED = 8  # files left out that are named
CAPTION_FILES = (".txt", ".jsonl")
ALL_STYLES = [style.name for style in STYLES]  # for a fresh model
UNSEEN_STYLES = [EVALUATION_STYLE]  # for a trained one: what it can be taught


class DataControls:
    """Draws the components whose values say what to train on, and those that depend on them; looks at what was
    dropped. At first `count` characters in `styles` are chosen."""

    def __init__(self, registry: ModelRegistry, limits: Limits, count: int, styles: list[str]):
        self._registry, self._limits = registry, limits
        self.kind = gr.Radio(kinds_for("generator"), value="characters", label=T("train_data"), elem_id="train-data")
        with gr.Group() as self.characters:
            self.styles = gr.CheckboxGroup(
                [*ALL_STYLES, *UNSEEN_STYLES], value=styles, label=T("styles"),
                info=T("styles_info"), elem_id="train-styles",
            )  # fmt: skip
            self.drawn = gr.HTML(elem_id="train-drawn")
            self.count = gr.Slider(10, limits.count, count, step=10, label=T("train_count"), elem_id="train-count")
        with gr.Column(visible=False) as self.own:
            self.files = gr.File(
                label=T("archive"), file_count="multiple", file_types=["image", ".zip", *CAPTION_FILES],
                type="filepath", height=150, elem_id="train-archive",
            )  # fmt: skip
            fits = [(T(f"fit_{fit}"), fit) for fit in FITS]
            self.fit = gr.Radio(fits, value="crop", label=T("fit"), elem_id="train-fit")
            self.template = gr.Textbox(
                "{}", label=T("template"), info=T("template_info"), max_lines=1, elem_id="train-template"
            )
            self.look = gr.HTML(elem_id="train-look")
            self.examples = gr.Gallery(
                label=T("preview_label"), columns=4, height="auto", interactive=False, visible=False, buttons=[],
                allow_preview=False, elem_id="train-examples",
            )  # fmt: skip

    def follow(self, start: gr.Dropdown, resolution: gr.Radio, tab: gr.Tab, started: gr.events.Dependency) -> None:
        """Shows the styles that are chosen, and what was dropped, as training from `start` will see it, whenever that
        changes. `started` is the event that brings what belongs to another start."""
        gr.on([self.styles.change, tab.select], on_styles, self.styles, self.drawn, **QUIET)
        looked_at = [self.files, self.fit, self.template, start, resolution]
        changes = [self.files.change, self.fit.input, self.template.submit, self.template.blur]
        shown = dict(show_progress="minimal", show_progress_on=self.look, api_visibility="private")
        gr.on(
            [*changes, resolution.change], self.on_files, looked_at, [self.look, self.examples],
            trigger_mode="always_last", **shown,
        )  # fmt: skip
        started.then(self.on_files, looked_at, [self.look, self.examples], **shown)

    def on_files(
        self, paths: list[str] | None, fit: str, template: str, start: str, resolution: int | None, visitor: gr.Request
    ):
        if not paths:
            return "", gr.Gallery(visible=False)
        self._limits.check_allowed(visitor)
        source = staged(paths, self._limits, visitor)
        self._limits.check_pixels(source, visitor, LOOKED_AT)
        pixels, pairs = resolution_of(self._registry, start, resolution), kind_of(self._registry, start) == "restorer"
        if pairs:
            found = preview_pairs(source, pixels)
        else:
            found = preview(source, pixels, fit=fit, caption_template=template or "{}")
        label = T("preview_pairs" if pairs else "preview_label")
        return summary(found, visitor), gr.Gallery(_examples(found, visitor), label=label, visible=True)


def on_styles(styles: list[str]) -> str:
    """A character of each, in HTML."""
    return f'<div class="sd-styles">{"".join(map(_example_of, styles))}</div>'


@functools.cache
def _example_of(style: str) -> str:
    picture = data_url(Image.fromarray(render(character(style, FIRST_TRAINING_SEED).svg, SHOWN)))
    return f'<figure><img src="{picture}" alt=""><figcaption>{style}</figcaption></figure>'


def kinds_for(model_kind: str) -> list[tuple[str, str]]:
    """The choices of data. CIFAR-10's pictures are smaller than the crops that a restorer learns from."""
    return [(T(f"data_{kind}"), kind) for kind in KINDS if model_kind == "generator" or kind != "cifar10"]


def staged(paths: list[str] | None, limits: Limits, visitor: gr.Request | None) -> Path:
    """The uploaded .zip, or a folder with the uploaded pictures and their captions. Raises RunError."""
    found = [Path(path) for path in paths or []]
    if not found:
        raise RunError(say(visitor, "no_archive"))
    limits.check_upload(found, visitor)
    zips = [path for path in found if path.suffix.lower() == ".zip"]
    if zips and len(found) > 1:
        raise RunError(say(visitor, "one_archive"))
    if zips:
        return zips[0]
    folder = SESSIONS.of(visitor).new_folder() / "pictures"
    folder.mkdir()
    for path, name in side_by_side(found).items():
        try:
            os.link(path, folder / name)  # the same pictures are staged again at every change of how they are looked at
        except OSError:  # another disk, or one without links
            shutil.copyfile(path, folder / name)
    return folder


def summary(found: Preview, visitor: gr.Request | None) -> str:
    """Counts, and what is left out and why, in HTML."""
    if found.looked_at < found.total:
        counts = dict(total=found.total, looked=found.looked_at, usable=found.usable)
        parts = [say(visitor, "preview_some", **counts)]
    else:
        parts = [say(visitor, "preview_usable", count=found.usable)]
    if found.captioned is not None:
        some = say(visitor, "preview_captions", count=found.captioned)
        parts.append(some if found.captioned else say(visitor, "preview_no_captions"))
    lines = [html.escape(" · ".join(parts))]
    if found.skipped:
        lines.append(html.escape(say(visitor, "preview_skipped", count=len(found.skipped))))
        lines += [f"{html.escape(s.file)}: {html.escape(s.reason)}" for s in found.skipped[:NAMED]]
        if len(found.skipped) > NAMED:
            lines.append(html.escape(say(visitor, "preview_more", count=len(found.skipped) - NAMED)))
    return f'<div class="sd-note">{"<br>".join(lines)}</div>'


def _examples(found: Preview, visitor: gr.Request) -> list[tuple[str, str]]:
    folder = SESSIONS.of(visitor).new_folder()
    shown = []
    for number, (pixels, caption) in enumerate(zip(found.examples, found.captions, strict=True)):
        path = folder / f"{number}.png"
        height, width, _ = pixels.shape
        Image.fromarray(pixels).resize((SHOWN * width // height, SHOWN), Image.Resampling.BICUBIC).save(path)
        shown.append((str(path), caption))
    return shown
