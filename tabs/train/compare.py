"""Several runs side by side: their curves on one chart, and the newest samples of each."""

from dataclasses import dataclass

import gradio as gr
from PIL import Image

from sd_core.models.registry import ModelRegistry
from sd_core.runs.run import Run
from tabs.common.sessions import SESSIONS
from tabs.common.words import T, say
from tabs.train.chart import line_chart
from tabs.train.run_status import COLOURS, READ, losses_of, smoothed, thin_curve

MOST = len(COLOURS)
WIDTH = 512  # pixels, of each grid
QUIET = dict(show_progress="hidden", api_visibility="private")


@dataclass
class Comparison:
    """The components that others know: the picker of runs, and what is picked.

    `picked` is what handlers ask: the picker itself refuses to tell once a run that it holds is gone.
    """

    runs: gr.Dropdown
    picked: gr.State


def build_comparison(registry: ModelRegistry, scale: gr.Radio) -> Comparison:
    """Draws and wires them; `scale` holds "logarithmic" or "linear"."""
    with gr.Accordion(T("compare"), open=False, elem_id="compare-runs"):
        picker = gr.Dropdown(
            [], multiselect=True, max_choices=MOST, label=T("compare_runs"), elem_id="compare-pick"
        )  # fmt: skip
        picked = gr.State([])
        chart = gr.HTML(elem_id="compare-chart")
        grids = gr.Gallery(
            label=T("compare_samples"), columns=2, height="auto", object_fit="contain", interactive=False,
            visible=False, buttons=["download", "fullscreen"], elem_id="compare-grids",
        )  # fmt: skip

    events = ComparisonEvents(registry)
    picker.change(events.on_change, [picker, scale], [picked, chart, grids], **QUIET)
    scale.input(events.on_pick, [picked, scale], [chart, grids], **QUIET)
    return Comparison(picker, picked)


@dataclass(frozen=True)
class ComparisonEvents:
    """Shows the runs that are picked."""

    registry: ModelRegistry

    def on_pick(self, names: list[str], scale: str, visitor: gr.Request):
        runs = [Run(self.registry.runs / name) for name in names or [] if (self.registry.runs / name).is_dir()][:MOST]
        if not runs:
            return "", gr.Gallery(visible=False)
        curves = []
        for run, colour in zip(runs, COLOURS, strict=False):
            steps, losses = losses_of(run.metrics(READ))
            curves.append(thin_curve(run.name, steps, smoothed(losses), colour))
        chart = line_chart(curves, say(visitor, "compare_loss"), scale == "logarithmic")
        return chart, gr.Gallery(_grids(runs, visitor), columns=3 if len(runs) == 3 else 2, visible=True)

    def on_change(self, names: list[str], scale: str, visitor: gr.Request):
        return names, *self.on_pick(names, scale, visitor)


def news(comparison: Comparison, names: list[str], picked: list[str]) -> dict:
    """The picker with the runs of today; of what is `picked`, that stays which is still there."""
    left = [name for name in picked if name in names]
    return {
        comparison.runs: gr.Dropdown(choices=names, multiselect=True, **({} if left == picked else {"value": left}))
    }


def _grids(runs: list[Run], visitor: gr.Request) -> list[tuple[str, str]]:
    folder = SESSIONS.of(visitor).new_folder()
    found = []
    for number, run in enumerate(runs):
        samples = run.samples()
        if samples:
            copy = folder / f"{number}.jpg"
            with Image.open(samples[-1]) as grid:
                small = grid.convert("RGB")
                small.thumbnail((WIDTH, WIDTH))
                small.save(copy, quality=90)
            found.append((str(copy), say(visitor, "compare_caption", name=run.name, step=int(samples[-1].stem))))
    return found
