"""The Restore tab: a noisy picture comes back clean.

A generator does it, at the size it was trained at, and the page says so. What the app damaged itself it can also judge:
the files it made are known by their content, so that nothing depends on the order of events.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from sd_core.checkpoint import CheckpointError
from sd_core.generation import MAX_SEED
from sd_core.images import open_picture
from sd_core.noise_removal import MAX_STEPS
from sd_core.shelf import Shelf
from tabs.controls import whole
from tabs.examples import examples
from tabs.repairing import Shown, Wanted, add_noise, measured, repair
from tabs.restore_api import build_api
from tabs.sessions import SESSIONS
from tabs.status import Status
from tabs.streaming import plain_error
from tabs.words import T, add_words, say

MAX_LEVEL = 150  # of the sliders, on the scale 0-255
ADDED_LEVEL = 40
UNNOTICED = 1.0  # a measured level below it is no noise worth removing
QUIET = dict(show_progress="hidden", api_visibility="private")

add_words({
    "restore": ("Restore", "修复"),
    "restore_about": (
        "Removes noise from a picture of the kind the model learnt. The model works at its own size: the centre of "
        "your picture is fitted to that, and the result is not enlarged.",
        "为模型所学类型的图片去除噪声。模型只在自己的尺寸下工作：会取图片中央并缩放到该尺寸，结果不会再放大。",
    ),
    "restore_picture": ("Picture to restore", "待修复的图片"),
    "restore_examples": ("Or try one of these: drawn for this page, then damaged", "或试试这些由本页绘制并加噪的图片"),
    "noise_level_label": ("Noise level", "噪声强度"),
    "noise_level_info": (
        "0-255; measured for you, adjust it freely; 0 measures it again", "0-255；自动测得，可自行调整；0 表示重新测量"
    ),
    "faithful_detailed": ("Faithful – Detailed", "忠实 – 细节"),
    "faithful_detailed_info": (
        "1 step: the average of all that the picture may have been. More steps: sharper, and partly invented",
        "1 步：所有可能原图的平均。步数越多越清晰，但部分细节是想象的",
    ),
    "prompt_optional": ("What it shows (optional)", "画面内容（可选）"),
    "restore_seed_info": ("Another seed, other details; without effect at 1 step", "不同种子，不同细节；1 步时无影响"),
    "add_noise": ("Add noise for me", "为我添加噪声"),
    "add_noise_info": ("Then the result can be compared with the original", "这样就能把结果与原图比较"),
    "before_after": ("Before | After", "修复前 | 修复后"),
    "download_restored": ("Download PNG", "下载 PNG"),
    "noise_found": ("Noise found: {sigma:g} of 255.", "测得噪声强度：{sigma:g}（满值 255）。"),
    "noise_none": ("Hardly any noise found.", "几乎没有测到噪声。"),
    "was_fitted": (
        "Your {width}×{height} picture is fitted to {resolution}×{resolution}.",
        "{width}×{height} 的图片已缩放为 {resolution}×{resolution}。",
    ),
    "closeness": (
        "Closeness to the original (PSNR): {before:.1f} dB before, {after:.1f} dB after.",
        "与原图的接近程度（PSNR）：修复前 {before:.1f} dB，修复后 {after:.1f} dB。",
    ),
    "no_upload": ("Choose a picture first.", "请先选择一张图片。"),
})  # fmt: skip


@dataclass(frozen=True)
class RestoreTab:
    """What the rest of the page may use: the place where a picture to restore goes."""

    picture: gr.Image


@dataclass
class _Parts:
    """The components, in the order in which they are drawn."""

    picture: gr.Image
    found: gr.HTML
    gallery: gr.Gallery
    model: gr.Dropdown
    sigma: gr.Slider
    steps: gr.Slider
    prompt: gr.Textbox
    seed: gr.Number
    added: gr.Slider
    add: gr.Button
    go: gr.Button
    stop: gr.Button
    preview: gr.Image
    compare: gr.ImageSlider
    status: gr.HTML
    closeness: gr.HTML
    download: gr.DownloadButton


def build(shelf: Shelf, tab: gr.Tab) -> RestoreTab:
    """Draws the tab inside the current `gr.Tab`, which is `tab`, and wires it."""
    parts = _build_parts(shelf)
    originals = gr.State({})  # content of a file that the app damaged -> the file of the original

    def resolution_of(model: str | None, request: gr.Request) -> int:
        if not model:
            raise ValueError(say(request, "no_model"))
        return shelf.describe(model).model.resolution

    def on_open(model: str | None):
        """The models and the examples of today. Drawing the examples takes a second, at the first visit only."""
        shown = [(str(e.shown), f"σ = {e.sigma:g}") for e in examples()]
        names = shelf.names()
        chosen = model if model in names else (names[0] if names else None)
        return gr.Dropdown(choices=_models(shelf), value=chosen), shown

    def on_picture(path: str | None, model: str | None, request: gr.Request):
        """Measures a new picture."""
        if not path or not model:
            return {parts.found: ""}
        try:
            resolution = resolution_of(model, request)
            width, height = open_picture(path).size
            sigma = min(measured(path, resolution), MAX_LEVEL)
        except ValueError as error:
            gr.Warning(str(error))
            return {parts.picture: None, parts.found: ""}
        notes = [say(request, "noise_found", sigma=sigma) if sigma >= UNNOTICED else say(request, "noise_none")]
        if (width, height) != (resolution, resolution):
            notes.append(say(request, "was_fitted", width=width, height=height, resolution=resolution))
        return {parts.sigma: sigma, parts.found: _note(" ".join(notes))}

    def on_add(path: str | None, model: str | None, level: float, seed: float, known: dict, request: gr.Request):
        """Damages the picture, or once more the original of one that was damaged before."""
        try:
            if not path:
                raise ValueError(say(request, "no_upload"))
            source = known.get(_digest(path), path)
            folder = SESSIONS.of(request).new_folder()
            noisy, original = add_noise(source, resolution_of(model, request), level, whole(seed or 0), folder)
        except ValueError as error:
            raise plain_error(error) from error
        return str(noisy), known | {_digest(noisy): str(original)}

    def on_example(event: gr.SelectData, known: dict):
        example = examples()[event.index]
        return str(example.noisy), known | {_digest(example.noisy): str(example.original)}

    def on_restore(path, model, sigma, steps, prompt, seed, known, request: gr.Request) -> Iterator[dict]:
        try:
            resolution_of(model, request)
            if not path:
                raise ValueError(say(request, "no_upload"))
            level = sigma or None  # 0 until it is measured, which whoever is quick with the button does not wait for
            wanted = Wanted(path, level, whole(steps), prompt or "", whole(seed or 0), known.get(_digest(path)))
            yield _busy(parts, True) | {parts.closeness: ""}
            for shown in repair(request, shelf, model, wanted):
                yield _update(parts, shown, request)
            yield _busy(parts, False)
        except Exception as error:  # told in one sentence
            yield _busy(parts, False) | {parts.status: Status(request).ready()}
            raise plain_error(error) from error

    tab.select(on_open, parts.model, [parts.model, parts.gallery], **QUIET)
    gr.on(
        [parts.picture.change, parts.model.change], on_picture, [parts.picture, parts.model],
        [parts.picture, parts.sigma, parts.found], trigger_mode="always_last", **QUIET,
    ).failure(_bad_picture, None, parts.picture, **QUIET)  # fmt: skip
    parts.add.click(
        on_add, [parts.picture, parts.model, parts.added, parts.seed, originals], [parts.picture, originals], **QUIET
    )
    parts.gallery.select(on_example, originals, [parts.picture, originals], **QUIET)
    inputs = [parts.picture, parts.model, parts.sigma, parts.steps, parts.prompt, parts.seed, originals]
    outputs = [parts.go, parts.stop, parts.preview, parts.compare, parts.status, parts.closeness, parts.download]
    parts.go.click(on_restore, inputs, outputs, concurrency_limit=None, **QUIET)
    parts.stop.click(_stop, None, None, queue=False, **QUIET)
    build_api(shelf)
    return RestoreTab(parts.picture)


def _build_parts(shelf: Shelf) -> _Parts:
    gr.HTML(f'<div class="sd-note">{T("restore_about")}</div>')
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            picture = gr.Image(
                label=T("restore_picture"), type="filepath", image_mode=None, sources=["upload", "clipboard", "webcam"],
                height=320, buttons=["fullscreen"], elem_id="restore-picture",
            )  # fmt: skip
            found = gr.HTML(elem_id="noise-found")
            gr.HTML(_note(T("restore_examples")))  # a label would lie over the pictures
            gallery = gr.Gallery(
                show_label=False, columns=6, height="auto", allow_preview=False, interactive=False, buttons=[],
                object_fit="contain", elem_id="restore-examples",
            )  # fmt: skip
            models = _models(shelf)
            model = gr.Dropdown(models, value=models[0][1] if models else None, label=T("model"), elem_id="restorer")
            sigma = gr.Slider(
                0, MAX_LEVEL, 0, step=0.1, label=T("noise_level_label"), info=T("noise_level_info"), elem_id="level"
            )
            steps = gr.Slider(
                1, MAX_STEPS, 1, step=1, label=T("faithful_detailed"), info=T("faithful_detailed_info"),
                elem_id="detail",
            )  # fmt: skip
            prompt = gr.Textbox(label=T("prompt_optional"), elem_id="restore-prompt")
            with gr.Accordion(T("advanced"), open=False):
                seed = gr.Number(
                    0, label=T("seed"), info=T("restore_seed_info"), precision=0, minimum=0, maximum=MAX_SEED
                )
            with gr.Accordion(T("add_noise"), open=False, elem_id="add-noise"):
                added = gr.Slider(
                    0, MAX_LEVEL, ADDED_LEVEL, step=1, label=T("noise_level_label"), info=T("add_noise_info"),
                    elem_id="added-level",
                )  # fmt: skip
                add = gr.Button(T("add_noise"), size="sm", elem_id="add-noise-go")
        with gr.Column(scale=1, min_width=300):
            go = gr.Button(T("restore"), variant="primary", size="lg", elem_id="restore-go")
            stop = gr.Button(T("stop"), variant="stop", size="lg", visible=False, elem_id="restore-stop")
            preview = gr.Image(
                label=T("preview"), show_label=False, format="jpeg", interactive=False, height=520,
                buttons=["fullscreen"], elem_id="restore-preview",
            )  # fmt: skip
            compare = gr.ImageSlider(
                label=T("before_after"), type="filepath", interactive=False, visible=False, height=520, max_height=520,
                buttons=["fullscreen"], elem_id="compare",
            )  # fmt: skip
            status = gr.HTML(f'<div class="sd-status">{T("ready")}</div>', elem_id="restore-status")
            closeness = gr.HTML(elem_id="closeness")
            download = gr.DownloadButton(T("download_restored"), visible=False, size="sm", elem_id="download-restored")
    return _Parts(
        picture, found, gallery, model, sigma, steps, prompt, seed, added, add, go, stop, preview, compare, status,
        closeness, download,
    )  # fmt: skip


def _models(shelf: Shelf) -> list[tuple[str, str]]:
    """The choices of the model picker: each model with the size it works at."""
    choices = []
    for name in shelf.names():
        try:
            size = shelf.describe(name).model.resolution
        except CheckpointError:  # it went away in the meantime
            continue
        choices.append((f"{name} ({size}×{size})", name))
    return choices


def _busy(parts: _Parts, yes: bool) -> dict:
    return {parts.go: gr.Button(visible=not yes), parts.stop: gr.Button(visible=yes)}


def _update(parts: _Parts, shown: Shown, request: gr.Request) -> dict:
    """What changes on the page: the preview while it works, and its place taken by the comparison at the end."""
    update: dict = {parts.status: shown.status}
    if shown.preview is not None:
        update[parts.preview] = gr.Image(shown.preview, visible=True)
        update[parts.compare] = gr.ImageSlider(visible=False)
    if done := shown.repaired:
        update[parts.preview] = gr.Image(visible=False)
        update[parts.compare] = gr.ImageSlider(tuple(map(str, done.compared)), visible=True)
        update[parts.download] = gr.DownloadButton(value=done.path, visible=True)
        if done.ratios:
            before, after = done.ratios
            update[parts.closeness] = _note(say(request, "closeness", before=before, after=after))
    return update


def _note(text: str) -> str:
    return f'<div class="sd-note" aria-live="polite">{text}</div>'


def _digest(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _stop(request: gr.Request) -> None:
    SESSIONS.of(request).stop()


def _bad_picture(request: gr.Request) -> None:
    gr.Warning(say(request, "bad_start"))
