"""Several runs side by side: their curves on one chart, and the newest samples of each."""

import gradio as gr
from PIL import Image

from sd_core.models.registry import ModelRegistry
from sd_core.runs.run import Run
from tabs.common.forms import QUIET
from tabs.common.sessions import SESSIONS
from tabs.common.words import T, say
from tabs.train.chart import line_chart
from tabs.train.run_status import COLOURS, READ, losses_of, smoothed, thin_curve

MOST = len(COLOURS)
WIDTH = 512  # pixels, of each grid


class Comparison:
    """Draws the components, and shows the runs that are picked, on the scale "logarithmic" or "linear".

    Attributes:
        runs: the picker of runs.
        picked: what is picked, for handlers to ask: the picker itself refuses to tell once a run that it holds is gone.
    """

    def __init__(self, registry: ModelRegistry, scale: gr.Radio):
        self._registry = registry
        with gr.Accordion(T("compare"), open=False, elem_id="compare-runs"):
            self.runs = gr.Dropdown(
                [], multiselect=True, max_choices=MOST, label=T("compare_runs"), elem_id="compare-pick"
            )
            self.picked = gr.State([])
            chart = gr.HTML(elem_id="compare-chart")
            grids = gr.Gallery(
                label=T("compare_samples"), columns=2, height="auto", object_fit="contain", interactive=False,
                visible=False, buttons=["download", "fullscreen"], elem_id="compare-grids",
            )  # fmt: skip
        self.runs.change(self.on_change, [self.runs, scale], [self.picked, chart, grids], **QUIET)
        scale.input(self.on_pick, [self.picked, scale], [chart, grids], **QUIET)

    def on_pick(self, names: list[str], scale: str, visitor: gr.Request):
        found = [Run(self._registry.runs / name) for name in names or []]
        runs = [run for run in found if run.folder.is_dir()][:MOST]
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

    def news(self, names: list[str], picked: list[str]) -> dict:
        """The picker with the runs of today; of what is `picked`, that stays which is still there."""
        left = [name for name in picked if name in names]
        return {self.runs: gr.Dropdown(choices=names, multiselect=True, **({} if left == picked else {"value": left}))}


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
