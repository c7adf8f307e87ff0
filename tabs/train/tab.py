"""The Train tab: starts runs and watches them.

A run's folder is the truth. The page reads it every three seconds while it is looked at, sends what is new, and writes
nothing but wishes: closing it never harms a run.
"""

from dataclasses import dataclass

import gradio as gr

from sd_core.environment import runs_at_once
from sd_core.models.registry import ModelRegistry
from sd_core.pictures.archive import open_files
from sd_core.runs.queue import enqueue, ensure_keeper
from sd_core.runs.run import Run
from tabs.common.errors import plain_error, without_paths
from tabs.common.words import T, add_words, say
from tabs.train import compare, export, run_controls, samples
from tabs.train.base_model import starts_of_today
from tabs.train.chart import line_chart
from tabs.train.compare import Comparison, build_comparison
from tabs.train.data import staged
from tabs.train.limits import Limits, new_browser, own
from tabs.train.run_controls import Steering, build_steering, wire_steering
from tabs.train.run_list import build_runs, run_list
from tabs.train.run_status import READ, all_standings, grids_of, is_on_chart, loss_curves, status_line
from tabs.train.samples import SamplesView, build_samples, wire_samples
from tabs.train.settings import Values, build_settings

POLL_SECONDS = 3.0
LOG_LINES = 60
QUIET = dict(show_progress="hidden", api_visibility="private")

add_words({
    "train_about": (
        "Training runs in a process of its own: close the page, come back later, and it is still there. One run works "
        "at a time, the others wait in a queue.",
        "训练在独立进程中进行：关闭页面后再回来，训练仍在继续。同一时间只进行一个训练，其余排队等候。",
    ),
    "start_training": ("Start training", "开始训练"),
    "loss_curve": ("Loss", "损失"),
    "scale_logarithmic": ("logarithmic", "对数"),
    "scale_linear": ("linear", "线性"),
    "log": ("Log", "日志"),
    "run_started": (
        "Started {name}. Its model joins the lists in Generate and Restore with its first save.",
        "已开始 {name}。首次保存后，其模型会出现在“生成”和“修复”的列表中。",
    ),
    "run_queued": ("{name} is in the queue; {before} before it.", "{name} 已加入队列，前面还有 {before} 个训练。"),
})  # fmt: skip


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


@dataclass
class _Watch:
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


def build(registry: ModelRegistry, tab: gr.Tab) -> None:
    """Draws the tab inside the current `gr.Tab`, which is `tab`, and wires it."""
    limits = Limits.of_environment()
    # Both are fixed, or a restart of the app would take every browser's runs away from it.
    browser = gr.BrowserState("", storage_key="sd-train-browser", secret="small-stable-diffusion")
    gr.HTML(f'<div class="sd-note">{T("train_about")}</div>')
    note = gr.HTML(limits.note(None), elem_id="train-limits")
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            settings = build_settings(registry, limits)
            go = gr.Button(
                T("start_training"), variant="primary", size="lg", interactive=not limits.refusal, elem_id="train-go"
            )
        with gr.Column(scale=2, min_width=300):
            watch = _build_watch(registry)
    timer = gr.Timer(POLL_SECONDS)
    outputs = watch.outputs()
    watched = [watch.chosen, watch.seen, watch.samples.position, watch.scale, watch.comparison.picked, browser]

    def look(
        visitor: gr.Request, name: str, seen: Seen, position: float, scale: str, compared: list[str], identity: str
    ) -> dict:
        """What is new about the run `name`, or the newest one."""
        runs = Run.all(registry.runs)
        run = next((run for run in runs if run.name == name), runs[0] if runs else None)
        if run is None:
            return _no_news(watch, seen, compared, visitor)
        news = _news(watch, runs, run, seen, position, scale, limits.may_steer(run, identity), visitor)
        if tuple(run.name for run in runs) != seen.names:
            news |= compare.news(watch.comparison, [run.name for run in runs], compared)
        if run.name != name:  # what was chosen is gone, or nothing was
            news[watch.chosen] = run.name
        return news

    def on_start(visitor: gr.Request, identity: str, scale: str, compared: list[str], *values):
        identity = identity or new_browser()
        try:
            limits.check_start(identity, registry.runs, visitor)
            wanted = Values(*values)
            pictures = None
            if wanted.data == "own":
                pictures = staged(wanted.files, limits, visitor)
                open_files(pictures).close()  # refuses what is no .zip before a run is made of it
            run = wanted.create(registry, limits, pictures)
            own(run, identity, visitor)
            enqueue(run)
        except Exception as error:  # told in one sentence
            raise plain_error(error, visitor) from error
        news = look(visitor, run.name, Seen(), 1, scale, compared, identity)
        before = all_standings(Run.all(registry.runs))[run.name].before
        words = say(visitor, "run_queued", name=run.name, before=before) if before else None
        gr.Info(words or say(visitor, "run_started", name=run.name))
        return news | {settings.name: "", browser: identity, watch.chosen: run.name}

    def on_look(visitor: gr.Request, *watched):
        return look(visitor, *watched)

    def on_note(visitor: gr.Request):
        return limits.note(visitor)

    def on_choose(event: gr.EventData, visitor: gr.Request, *watched):
        news = look(visitor, event.run, *watched[1:])
        return news | {watch.chosen: news[watch.seen].run}  # which is not what was asked for, if that is no run

    go.click(
        on_start, [browser, watch.scale, watch.comparison.picked, *settings.inputs()],
        [*outputs, settings.name, browser], concurrency_id=run_controls.ONE_BY_ONE, **QUIET,
    )  # fmt: skip
    wire_steering(watch.steering, registry, limits, watched, outputs, look)
    wire_samples(watch.samples, registry, watch.chosen)
    watch.runs.select(on_choose, watched, outputs, **QUIET)
    gr.on([timer.tick, tab.select, watch.scale.input], on_look, watched, outputs, concurrency_limit=None, **QUIET)
    tab.select(lambda chosen: starts_of_today(registry, chosen), settings.start, settings.start, **QUIET)
    tab.select(on_note, None, note, **QUIET)
    runs_at_once()  # an app that is set up wrongly says so when it starts
    if not limits.refusal:
        ensure_keeper(registry.runs)  # of what was queued before the machine or the app was restarted


def _build_watch(registry: ModelRegistry) -> _Watch:
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
    return _Watch(runs, status, steering, scale, plot, samples, after, log, comparison, chosen, gr.State(Seen()))


def _no_news(watch: _Watch, seen: Seen, compared: list[str], visitor: gr.Request) -> dict:
    """Updates for a page that may show a run still, where there is none."""
    if seen.run == "":
        return {watch.seen: seen}
    news = {watch.runs: "", watch.status: f'<div class="sd-status">{say(visitor, "no_run")}</div>', watch.plot: ""}
    news |= run_controls.news(watch.steering, run_controls.usable(None, False))
    news |= samples.news(watch.samples, [], 0, 1, visitor, fresh=True)
    news |= export.news(watch.after) | compare.news(watch.comparison, [], compared)
    return news | {watch.log: "", watch.chosen: "", watch.seen: Seen("")}


def _news(
    watch: _Watch,
    runs: list[Run],
    run: Run,
    seen: Seen,
    position: float,
    scale: str,
    mine: bool,
    visitor: gr.Request,
) -> dict:
    """Updates for what the page does not show yet."""
    standings = all_standings(runs)
    standing = standings[run.name]
    fresh = run.name != seen.run
    if fresh:
        seen = Seen(run.name, seen.runs, seen.names)
    listed = run_list(runs, standings, run.name, visitor)
    status = status_line(standing, visitor)
    usable = run_controls.usable(standing, mine)
    grids = grids_of(run)
    log = without_paths(run.log(LOG_LINES)) if mine else ""  # it names its owner's files
    news = samples.news(watch.samples, grids, seen.grids, position, visitor, fresh)
    if hash(status) != seen.status:
        news[watch.status] = status
    if usable != seen.usable:
        news |= run_controls.news(watch.steering, usable)
    if hash(listed) != seen.runs:
        news[watch.runs] = listed
    drawn = scale == seen.scale and is_on_chart(standing, seen.step)
    if not drawn:
        curves = loss_curves(run.metrics(READ), visitor)
        news[watch.plot] = line_chart(curves, say(visitor, "loss_curve"), scale == "logarithmic")
    if fresh:
        news |= export.news(watch.after)
    if hash(log) != seen.log:
        news[watch.log] = log
    step = seen.step if drawn else standing.status.step
    names = tuple(standings)
    news[watch.seen] = Seen(run.name, hash(listed), names, hash(status), usable, step, scale, len(grids), hash(log))
    return news
