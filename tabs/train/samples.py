"""The sample grids of a run: the newest, any earlier one by a slider, and all of them as an animation."""

from pathlib import Path

import gradio as gr
from PIL import Image

from sd_core.errors import UserError
from sd_core.models.registry import ModelRegistry
from sd_core.pictures.output import save_animation
from sd_core.runs.run import Run
from tabs.common.forms import QUIET
from tabs.common.sessions import SESSIONS
from tabs.common.words import T, say
from tabs.train.run_status import thinned

FRAMES, FRAME_WIDTH, FRAME_MS = 60, 384, 150  # of an animation


class Samples:
    """Draws the components, empty, and looks back through the samples of the run `chosen`."""

    def __init__(self, registry: ModelRegistry, chosen: gr.State):
        self._registry = registry
        self.picture = gr.Image(
            label=T("samples_label"), format="jpeg", interactive=False, buttons=["download", "fullscreen"], height=520,
            visible=False, elem_id="samples",
        )  # fmt: skip
        self.position = gr.Slider(
            1, 2, 1, step=1, label=T("samples_slider"), buttons=[], visible=False, elem_id="samples-position"
        )
        self.animate = gr.Button(T("samples_animate"), size="sm", visible=False, elem_id="samples-animate")
        self.animation = gr.Image(
            interactive=False, visible=False, height=400, buttons=["download"], elem_id="samples-film"
        )
        self.position.input(
            self.on_slide, [chosen, self.position], self.picture, trigger_mode="always_last", concurrency_limit=None,
            **QUIET,
        )  # fmt: skip
        self.animate.click(self.on_animate, chosen, self.animation, show_progress="minimal", api_visibility="private")

    def on_slide(self, name: str, position: float, visitor: gr.Request):
        grids = self._grids(name)
        return show(grids, int(position), visitor) if grids else gr.skip()

    def on_animate(self, name: str, visitor: gr.Request):
        grids = self._grids(name)
        if not grids:
            raise UserError(say(visitor, "samples_too_few"))
        target = SESSIONS.of(visitor).new_folder() / f"{name}.webp"
        save_animation([_frame(path) for path in thinned(grids, FRAMES)], target, FRAME_MS)
        return gr.Image(target, visible=True, label=name)

    def _grids(self, name: str) -> list[Path]:
        return Run(self._registry.runs / name).samples() if name else []

    def news(self, grids: list[Path], known: int, position: float, visitor: gr.Request, fresh: bool) -> dict:
        """Updates for a page that knows of so many grids and shows that `position`; `fresh` for one that shows none of
        this run. Whoever looks back is left where he is; else the newest is shown."""
        if len(grids) == known and not fresh:
            return {}
        following = fresh or position >= known
        slider = dict(maximum=max(2, len(grids)), visible=len(grids) > 1)
        update: dict = {self.position: gr.Slider(**slider, **({"value": max(1, len(grids))} if following else {}))}
        update[self.animate] = gr.Button(visible=len(grids) > 1)
        if following:
            update[self.picture] = show(grids, len(grids), visitor)
        if fresh:
            update[self.animation] = gr.Image(None, visible=False)
        return update


def show(grids: list[Path], position: int, visitor: gr.Request) -> gr.Image:
    """The grid at that position, from 1, as a copy for the page, with its step as label."""
    if not grids:
        return gr.Image(None, label=say(visitor, "samples_none"), visible=False)
    path = grids[min(max(1, position), len(grids)) - 1]
    try:
        with Image.open(path) as grid:
            copy = SESSIONS.of(visitor).preview(grid.convert("RGB"))
    except OSError:  # deleted with its run, or cut off by a resume
        return gr.Image(None, label=say(visitor, "samples_none"))
    return gr.Image(copy, label=say(visitor, "samples_at", step=int(path.stem)), visible=True)


def _frame(path: Path) -> Image.Image:
    with Image.open(path) as grid:
        return grid.convert("RGB").resize((FRAME_WIDTH, round(grid.height * FRAME_WIDTH / grid.width)))
