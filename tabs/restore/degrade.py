"""Damages a picture for people who want to see what a repair is worth, and remembers the original to measure it by."""

from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from sd_core.degradation.presets import DIALS, damage_picture
from sd_core.pictures.masks import save_mask
from sd_core.pictures.original import Original
from tabs.common.words import T, add_words
from tabs.restore.picture import Made

NAMES = {  # of `DIALS`, in English and Chinese
    "scratches": ("Scratches", "划痕"),
    "tears": ("Tears", "撕裂"),
    "scribbles": ("Scribbles", "涂鸦"),
    "blocks": ("Missing blocks", "缺失方块"),
    "holes": ("Holes", "破洞"),
    "dust": ("Dust", "灰尘"),
    "stains": ("Stains", "污渍"),
    "gaussian_noise": ("Gaussian noise", "高斯噪声"),
    "photon_noise": ("Photon noise", "光子噪声"),
    "defocus": ("Out of focus", "失焦模糊"),
    "motion_blur": ("Motion blur", "运动模糊"),
    "low_resolution": ("Low resolution", "低分辨率"),
    "jpeg": ("JPEG", "JPEG 压缩"),
    "webp": ("WebP", "WebP 压缩"),
    "fading": ("Fading", "褪色"),
    "colour_cast": ("Colour cast", "偏色"),
}

add_words({f"damage_{kind}": words for kind, words in NAMES.items()})
add_words({
    "damage_for_me": ("Damage a picture for me", "为我损坏一张图片"),
    "damage_kind": ("Damage", "损坏类型"),
    "damage_info": (
        "Then the result can be measured against the original; at most 2048 pixels a side are kept",
        "这样就能把结果与原图比较；每边最多保留 2048 像素",
    ),
    "damage_seed": ("Another number, other places", "不同数字，不同位置"),
})  # fmt: skip


@dataclass(frozen=True)
class Damaging:
    """The components."""

    kind: gr.Dropdown
    strength: gr.Slider
    seed: gr.Number
    go: gr.Button


def make_damaged(original: Original, kind: str, strength: float, seed: int, folder: Path) -> Made:
    """Damages a picture and writes the files to `folder`."""
    damaged, clean, lost = damage_picture(original, kind, strength, seed)
    mask = folder / "lost.png" if lost.any() else None
    made = Made(folder / "damaged.png", folder / "original.png", mask, "marked" if mask else "whole")
    damaged.save(made.picture)
    clean.save(made.original)
    if mask:
        save_mask(lost, mask)
    return made


def build_damaging() -> Damaging:
    with gr.Accordion(T("damage_for_me"), open=False, elem_id="damage-for-me"):
        kind = gr.Dropdown(
            [(T(f"damage_{kind}"), kind) for kind in DIALS], value="scratches", label=T("damage_kind"),
            info=T("damage_info"), elem_id="damage-kind",
        )  # fmt: skip
        strength = gr.Slider(0, 1, 0.5, step=0.05, label=T("strength"), elem_id="damage-strength")
        seed = gr.Number(0, label=T("seed"), info=T("damage_seed"), precision=0, minimum=0, elem_id="damage-seed")
        go = gr.Button(T("damage_for_me"), size="sm", elem_id="damage-go")
    return Damaging(kind, strength, seed, go)
