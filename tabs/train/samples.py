"""The sample grids of a run: the newest, any earlier one by a slider, and all of them as an animation."""

from dataclasses import dataclass
from pathlib import Path

import gradio as gr
from PIL import Image

from sd_core.errors import UserError
from sd_core.models.registry import ModelRegistry
from sd_core.pictures.output import save_animation
from sd_core.runs.run import Run
from tabs.common.errors import plain_error
from tabs.common.sessions import SESSIONS
from tabs.common.words import T, say
from tabs.train.run_status import thinned

FRAMES, FRAME_WIDTH, FRAME_MS = 60, 384, 150  # of an animation
QUIET = dict(show_progress="hidden", api_visibility="private")


@dataclass
class SamplesView:
    """The components."""

    picture: gr.Image
    position: gr.Slider
    animate: gr.Button
    animation: gr.Image


def build_samples() -> SamplesView:
    """Draws the components, empty."""
    picture = gr.Image(
        label=T("samples_label"), format="jpeg", interactive=False, buttons=["download", "fullscreen"], height=520,
        visible=False, elem_id="samples",
    )  # fmt: skip
    position = gr.Slider(
        1, 2, 1, step=1, label=T("samples_slider"), buttons=[], visible=False, elem_id="samples-position"
    )
    animate = gr.Button(T("samples_animate"), size="sm", visible=False, elem_id="samples-animate")
    animation = gr.Image(interactive=False, visible=False, height=400, buttons=["download"], elem_id="samples-film")
    return SamplesView(picture, position, animate, animation)


def wire_samples(view: SamplesView, registry: ModelRegistry, chosen: gr.State) -> None:
    """Lets the slider and the button do their work for the run `chosen`."""

    events = SampleEvents(registry)
    view.position.input(
        events.on_slide, [chosen, view.position], view.picture, trigger_mode="always_last", concurrency_limit=None,
        **QUIET,
    )  # fmt: skip
    view.animate.click(events.on_animate, chosen, view.animation, show_progress="minimal", api_visibility="private")


@dataclass(frozen=True)
class SampleEvents:
    """Looks back through the samples of a run."""

    registry: ModelRegistry

    def on_slide(self, name: str, position: float, visitor: gr.Request):
        grids = Run(self.registry.runs / name).samples() if name else []
        return show(grids, int(position), visitor) if grids else gr.skip()

    def on_animate(self, name: str, visitor: gr.Request):
        try:
            grids = Run(self.registry.runs / name).samples() if name else []
            if not grids:
                raise UserError(say(visitor, "samples_too_few"))
            target = SESSIONS.of(visitor).new_folder() / f"{name}.webp"
            save_animation([_frame(path) for path in thinned(grids, FRAMES)], target, FRAME_MS)
        except (ValueError, OSError) as error:
            raise plain_error(error, visitor) from error
        return gr.Image(target, visible=True, label=name)


def news(view: SamplesView, grids: list[Path], known: int, position: float, visitor: gr.Request, fresh: bool) -> dict:
    """Updates for a page that knows of so many grids and shows that `position`; `fresh` for one that shows none of this
    run. Whoever looks back is left where he is; else the newest is shown."""
    if len(grids) == known and not fresh:
        return {}
    following = fresh or position >= known
    slider = dict(maximum=max(2, len(grids)), visible=len(grids) > 1)
    update: dict = {view.position: gr.Slider(**slider, **({"value": max(1, len(grids))} if following else {}))}
    update[view.animate] = gr.Button(visible=len(grids) > 1)
    if following:
        update[view.picture] = show(grids, len(grids), visitor)
    if fresh:
        update[view.animation] = gr.Image(None, visible=False)
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
