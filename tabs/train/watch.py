"""What the page shows of runs: the list, and the state, curves, samples and log of one of them; only what is new."""

from dataclasses import dataclass

import gradio as gr

from sd_core.models.registry import ModelRegistry
from sd_core.runs.run import Run
from tabs.common.errors import without_paths
from tabs.common.words import T, say
from tabs.train import compare, export, run_controls, samples
from tabs.train.chart import line_chart
from tabs.train.compare import Comparison, build_comparison
from tabs.train.run_controls import Steering, build_steering
from tabs.train.run_list import build_runs, run_list
from tabs.train.run_status import READ, all_standings, grids_of, is_on_chart, loss_curves, status_line
from tabs.train.samples import SamplesView, build_samples

LOG_LINES = 60


@dataclass(frozen=True)
class Seen:
    """What a page shows already, so that only what is new is sent to it. `run` is "" where there is no run, and None
    before the first look; `step` is the last one on the chart."""

    run: str | None = None
    runs: int = 0
    names: tuple[str, ...] = ()
    status: int = 0
    usable: tuple[bool, ...] = ()
    step: int = -1
    scale: str = ""
    grids: int = 0
    log: int = 0


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


@dataclass(frozen=True, eq=False)
class Watch:
    """The components that show a run."""

    runs: gr.HTML
    status: gr.HTML
    steering: Steering
    scale: gr.Radio
    plot: gr.HTML
    samples: SamplesView
    after: export.After
    log: gr.Textbox
    comparison: Comparison
    chosen: gr.State
    seen: gr.State

    def outputs(self) -> list:
        """All that a look may change."""
        s, v = self.steering, self.samples
        return [
            self.runs, self.status, s.pause, s.resume, s.stop, s.longer, s.delete, self.plot, v.picture, v.position,
            v.animate, v.animation, self.after.download, self.after.pushed, self.log, self.comparison.runs, self.chosen,
            self.seen,
        ]  # fmt: skip


def build_watch(registry: ModelRegistry) -> Watch:
    """Draws the components, empty."""
    runs = build_runs()
    status = gr.HTML(f'<div class="sd-status">{T("no_run")}</div>', elem_id="train-status")
    steering = build_steering()
    # Their values are no keys of words.py: Gradio would translate even those.
    scales = [(T("scale_logarithmic"), "logarithmic"), (T("scale_linear"), "linear")]
    scale = gr.Radio(scales, value="logarithmic", container=False, elem_id="loss-scale")
    plot = gr.HTML(elem_id="loss")
    samples = build_samples()
    chosen = gr.State("")
    after = export.build_after(registry, chosen)
    comparison = build_comparison(registry, scale)
    with gr.Accordion(T("log"), open=False):
        log = gr.Textbox(lines=8, max_lines=16, show_label=False, interactive=False, elem_id="train-log")
    return Watch(runs, status, steering, scale, plot, samples, after, log, comparison, chosen, gr.State(Seen()))


def no_news(watch: Watch, look: Look, visitor: gr.Request) -> dict:
    """Updates for a page that may show a run still, where there is none."""
    if look.seen.run == "":
        return {watch.seen: look.seen}
    changes = {watch.runs: "", watch.status: f'<div class="sd-status">{say(visitor, "no_run")}</div>', watch.plot: ""}
    changes |= run_controls.news(watch.steering, run_controls.usable(None, False))
    changes |= samples.news(watch.samples, [], 0, 1, visitor, fresh=True)
    changes |= export.news(watch.after) | compare.news(watch.comparison, [], look.compared)
    return changes | {watch.log: "", watch.chosen: "", watch.seen: Seen("")}


def news(watch: Watch, runs: list[Run], run: Run, look: Look, mine: bool, visitor: gr.Request) -> dict:
    """Updates for what the page does not show yet of `run`, one of all `runs`. `mine` says whether this browser may
    steer it."""
    standings = all_standings(runs)
    standing = standings[run.name]
    seen = look.seen
    fresh = run.name != seen.run
    if fresh:
        seen = Seen(run.name, seen.runs, seen.names)
    listed = run_list(runs, standings, run.name, visitor)
    status = status_line(standing, visitor)
    usable = run_controls.usable(standing, mine)
    grids = grids_of(run)
    log = without_paths(run.log(LOG_LINES)) if mine else ""  # it names its owner's files
    changes = samples.news(watch.samples, grids, seen.grids, look.position, visitor, fresh)
    if hash(status) != seen.status:
        changes[watch.status] = status
    if usable != seen.usable:
        changes |= run_controls.news(watch.steering, usable)
    if hash(listed) != seen.runs:
        changes[watch.runs] = listed
    drawn = look.scale == seen.scale and is_on_chart(standing, seen.step)
    if not drawn:
        curves = loss_curves(run.metrics(READ), visitor)
        changes[watch.plot] = line_chart(curves, say(visitor, "loss_curve"), look.scale == "logarithmic")
    if fresh:
        changes |= export.news(watch.after)
    if hash(log) != seen.log:
        changes[watch.log] = log
    names = tuple(standings)
    if names != seen.names:
        changes |= compare.news(watch.comparison, list(names), look.compared)
    if run.name != look.name:  # what was chosen is gone, or nothing was
        changes[watch.chosen] = run.name
    step = seen.step if drawn else standing.status.step
    changes[watch.seen] = Seen(
        run.name, hash(listed), names, hash(status), usable, step, look.scale, len(grids), hash(log)
    )
    return changes
