"""Damages a picture for people who want to see what a repair is worth, and remembers the original to measure it by."""

from pathlib import Path

import gradio as gr

from sd_core.degradation.presets import DIALS, damage_picture
from sd_core.pictures.masks import save_mask
from sd_core.pictures.original import Original
from tabs.common.words import T
from tabs.restore.picture import Made


class Damaging:
    """Draws the components."""

    def __init__(self):
        kinds = [(T(f"damage_{kind}"), kind) for kind in DIALS]
        with gr.Accordion(T("damage_for_me"), open=False, elem_id="damage-for-me"):
            self.kind = gr.Dropdown(
                kinds, value="scratches", label=T("damage_kind"), info=T("damage_info"), elem_id="damage-kind"
            )
            self.strength = gr.Slider(0, 1, 0.5, step=0.05, label=T("strength"), elem_id="damage-strength")
            self.seed = gr.Number(
                0, label=T("seed"), info=T("damage_seed"), precision=0, minimum=0, elem_id="damage-seed"
            )
            self.go = gr.Button(T("damage_for_me"), size="sm", elem_id="damage-go")


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
