"""What the page shows of runs: the list, and the state, curves, samples and log of one of them; only what is new."""

from dataclasses import dataclass, field

import gradio as gr

from sd_core.models.registry import ModelRegistry
from sd_core.runs.run import Run
from tabs.common.errors import without_paths
from tabs.common.words import T, say
from tabs.train.chart import line_chart
from tabs.train.compare import Comparison
from tabs.train.export import Export
from tabs.train.run_controls import Steering, usable
from tabs.train.run_list import build_runs, run_list
from tabs.train.run_status import READ, all_standings, grids_of, is_on_chart, loss_curves, status_line
from tabs.train.samples import Samples

LOG_LINES = 60


@dataclass(frozen=True)
class Seen:
    """What a page shows already, so that only what is new is sent to it. `run` is "" where there is no run, and None
    before the first look; `step` is the last one on the chart, which is drawn to `scale`; `said` has hashes of the
    rest, by what it is."""

    run: str | None = None
    step: int = -1
    scale: str = ""
    grids: int = 0
    said: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Look:
    """What a page tells when it asks what is new.

    Attributes:
        name: of the run it shows.
        seen: what it shows already.
        position: of the slider of samples.
        scale: of the charts, "logarithmic" or "linear".
        compared: the names of the runs side by side.
        browser: its name, which tells whose runs are its own.
    """

    name: str
    seen: Seen
    position: float
    scale: str
    compared: list[str]
    browser: str


class Watch:
    """Draws the components that show a run, empty.

    Attributes:
        chosen: holds the name of the run that is shown.
        seen: holds a `Seen`.
    """

    def __init__(self, registry: ModelRegistry):
        self.chosen, self.seen = gr.State(""), gr.State(Seen())
        self.runs = build_runs()
        self.status = gr.HTML(f'<div class="sd-status">{T("no_run")}</div>', elem_id="train-status")
        self.steering = Steering()
        # Their values are no keys of words.py: Gradio would translate even those.
        scales = [(T("scale_logarithmic"), "logarithmic"), (T("scale_linear"), "linear")]
        self.scale = gr.Radio(scales, value="logarithmic", container=False, elem_id="loss-scale")
        self.plot = gr.HTML(elem_id="loss")
        self.samples = Samples(registry, self.chosen)
        self.export = Export(registry, self.chosen)
        self.comparison = Comparison(registry, self.scale)
        with gr.Accordion(T("log"), open=False):
            self.log = gr.Textbox(lines=8, max_lines=16, show_label=False, interactive=False, elem_id="train-log")

    def outputs(self) -> list[gr.blocks.Block]:
        """All that a look may change."""
        samples = self.samples
        return [
            self.runs, self.status, *self.steering.buttons(), self.plot, samples.picture, samples.position,
            samples.animate, samples.animation, self.export.download, self.export.pushed, self.log,
            self.comparison.runs, self.chosen, self.seen,
        ]  # fmt: skip

    def no_news(self, look: Look, visitor: gr.Request) -> dict:
        """Updates for a page that may show a run still, where there is none."""
        if look.seen.run == "":
            return {self.seen: look.seen}
        status = f'<div class="sd-status">{say(visitor, "no_run")}</div>'
        changes = {self.runs: "", self.status: status, self.plot: "", self.log: ""}
        changes |= self.steering.news(usable(None, False))
        changes |= self.samples.news([], 0, 1, visitor, fresh=True)
        changes |= self.export.news() | self.comparison.news([], look.compared)
        return changes | {self.chosen: "", self.seen: Seen("")}

    def news(self, runs: list[Run], run: Run, look: Look, mine: bool, visitor: gr.Request) -> dict:
        """Updates for what the page does not show yet of `run`, one of all `runs`. `mine` says whether this browser may
        steer it."""
        standings, seen = all_standings(runs), look.seen
        standing, fresh = standings[run.name], run.name != seen.run
        works, names, grids = usable(standing, mine), tuple(standings), grids_of(run)
        texts = {
            self.runs: run_list(runs, standings, run.name, visitor),
            self.status: status_line(standing, visitor),
            self.log: without_paths(run.log(LOG_LINES)) if mine else "",  # it names its owner's files
        }
        said = {part.elem_id: hash(text) for part, text in texts.items()} | {"works": hash(works), "names": hash(names)}
        new = {key for key, _ in said.items() - seen.said.items()}
        changes = {part: text for part, text in texts.items() if part.elem_id in new}
        changes |= self.samples.news(grids, seen.grids, look.position, visitor, fresh)
        if "works" in new:
            changes |= self.steering.news(works)
        if "names" in new:
            changes |= self.comparison.news(list(names), look.compared)
        step = seen.step
        if fresh or look.scale != seen.scale or not is_on_chart(standing, step):
            step = standing.status.step
            curves = loss_curves(run.metrics(READ), visitor)
            changes[self.plot] = line_chart(curves, say(visitor, "loss_curve"), look.scale == "logarithmic")
        if fresh:
            changes |= self.export.news()
        if run.name != look.name:  # what was chosen is gone, or nothing was
            changes[self.chosen] = run.name
        return changes | {self.seen: Seen(run.name, step, look.scale, len(grids), said)}
