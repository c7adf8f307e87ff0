"""Events that put another picture into the Restore tab: damage, an example, going on from a repair, and going back.

Each gives the picture for its place, from which `RestoreTab.on_picture` opens it, and notes what is known of it.
"""

from dataclasses import replace
from pathlib import Path

import gradio as gr

from sd_core.pictures.original import open_original
from tabs.common.forms import kept, picked, whole
from tabs.common.sessions import SESSIONS
from tabs.restore.degrade import make_damaged
from tabs.restore.examples import examples
from tabs.restore.job import Repaired
from tabs.restore.mask_editor import keep_mask, marked
from tabs.restore.picture import Made, Opened, digest


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
    return _put(Made(path, repaired.original, what=what, before=left), made)


def on_undo(current: Opened, made: dict, request: gr.Request):
    return _put(kept(kept(made.get(digest(kept(current, request).path)), request).before, request), made)


def on_compared(repaired: Repaired | None, number: int):
    return repaired.paths[number] if repaired else gr.skip()
