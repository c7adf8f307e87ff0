"""The Train tab: starts runs and watches them.

A run's folder is the truth. The page reads it every two seconds while it is looked at, and writes nothing but wishes:
closing it never harms a run.
"""

from dataclasses import dataclass
from pathlib import Path

import gradio as gr
from PIL import Image

from sd_core.data.files import open_files
from sd_core.run_queue import ask, enqueue
from sd_core.runs import Run, RunError
from sd_core.shelf import Shelf
from tabs.sessions import SESSIONS
from tabs.streaming import plain_error
from tabs.train_settings import Values, build_settings, starts_of_today
from tabs.watching import READ, Seen, Standing, curve, status_line
from tabs.words import T, add_words, say

POLL_SECONDS = 2.0
LOG_LINES = 60
CURVE_COLOURS = ("#a5b4fc", "#6366f1")  # indigo, of each point and of the smoothed curve
QUIET = dict(show_progress="hidden", api_visibility="private")

add_words({
    "start_training": ("Start training", "开始训练"),
    "runs": ("Runs", "训练列表"),
    "pause": ("Pause", "暂停"),
    "resume": ("Resume", "继续"),
    "loss_curve": ("Loss (log10): pale each point, strong smoothed", "损失（log10）：浅色为原始，深色为平滑"),
    "samples_label": ("Samples", "样本"),
    "log": ("Log", "日志"),
    "run_started": (
        "Started {name}. Its model joins the lists in Generate and Restore with its first save.",
        "已开始 {name}。首次保存后，其模型会出现在“生成”和“修复”的列表中。",
    ),
})  # fmt: skip


@dataclass
class _Watch:
    """The components that show a run."""

    runs: gr.Dropdown
    status: gr.HTML
    pause: gr.Button
    resume: gr.Button
    stop: gr.Button
    plot: gr.LinePlot
    samples: gr.Image
    log: gr.Textbox
    seen: gr.State


def build(shelf: Shelf, tab: gr.Tab) -> None:
    """Draws the tab inside the current `gr.Tab`, which is `tab`, and wires it."""
    gr.HTML(f'<div class="sd-note">{T("train_about")}</div>')
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            settings = build_settings(shelf)
            go = gr.Button(T("start_training"), variant="primary", size="lg", elem_id="train-go")
        with gr.Column(scale=2, min_width=300):
            watch = _build_watch()
    timer = gr.Timer(POLL_SECONDS)
    outputs = list(vars(watch).values())

    def look(name: str | None, seen: Seen, visitor: gr.Request) -> dict:
        """What is new about the run `name`, or the newest one."""
        runs = Run.all(shelf.runs)
        run = next((run for run in runs if run.name == name), runs[0] if runs else None)
        return _news(watch, runs, run, seen, visitor)

    def on_start(request: gr.Request, *values):
        try:
            wanted = Values(*values)
            if wanted.data == "own":
                _check_archive(wanted.archive, request)
            run = wanted.create(shelf)
            enqueue(run)
        except Exception as error:  # told in one sentence
            raise plain_error(error) from error
        gr.Info(say(request, "run_started", name=run.name))
        return look(run.name, Seen(), request) | {settings.name: ""}

    def on_wish(wish: str):
        def handler(name: str | None, seen: Seen, request: gr.Request):
            try:
                if name is None:
                    raise RunError(say(request, "no_run"))
                run = Run(shelf.runs / name)
                enqueue(run) if wish == "run" else ask(run, wish)
            except (RunError, OSError) as error:
                raise plain_error(error) from error
            return look(name, seen, request)

        return handler

    def on_look(name: str | None, seen: Seen, request: gr.Request):
        return look(name, seen, request)

    watched = [watch.runs, watch.seen]
    go.click(on_start, settings.inputs(), [*outputs, settings.name], **QUIET)
    for button, wish in ((watch.pause, "pause"), (watch.resume, "run"), (watch.stop, "stop")):
        button.click(on_wish(wish), watched, outputs, **QUIET)
    gr.on([timer.tick, tab.select, watch.runs.input], on_look, watched, outputs, concurrency_limit=None, **QUIET)
    tab.select(lambda chosen: starts_of_today(shelf, chosen), settings.start, settings.start, **QUIET)


def _build_watch() -> _Watch:
    runs = gr.Dropdown([], label=T("runs"), elem_id="runs")
    status = gr.HTML(f'<div class="sd-status">{T("no_run")}</div>', elem_id="train-status")
    with gr.Row():
        small = dict(size="sm", min_width=100, interactive=False)
        pause = gr.Button(T("pause"), elem_id="train-pause", **small)
        resume = gr.Button(T("resume"), elem_id="train-resume", **small)
        stop = gr.Button(T("stop"), variant="stop", elem_id="train-stop", **small)
    plot = gr.LinePlot(
        x="step", y="loss", color="series", x_title=" ", y_title=" ", height=300,
        label=T("loss_curve"), color_title="", buttons=["fullscreen", "export"], elem_id="loss",
    )  # fmt: skip
    samples = gr.Image(
        label=T("samples_label"), format="jpeg", interactive=False, buttons=["download", "fullscreen"], height=520,
        elem_id="samples",
    )  # fmt: skip
    with gr.Accordion(T("log"), open=False):
        log = gr.Textbox(lines=8, max_lines=16, show_label=False, interactive=False, elem_id="train-log")
    return _Watch(runs, status, pause, resume, stop, plot, samples, log, gr.State(Seen()))


def _news(watch: _Watch, runs: list[Run], run: Run | None, seen: Seen, visitor: gr.Request) -> dict:
    """Updates for what the page does not show yet."""
    if run is None:
        return {watch.status: f'<div class="sd-status">{say(visitor, "no_run")}</div>', watch.seen: Seen()}
    standings = {each.name: Standing.of(each) for each in runs}
    choices = tuple((standing.label(visitor), name) for name, standing in standings.items())
    standing = standings[run.name]
    if run.name != seen.run:
        seen = Seen(run.name)
    news: dict = {watch.status: status_line(standing, visitor), **_buttons(watch, standing)}
    if choices != seen.runs:
        news[watch.runs] = gr.Dropdown(choices=list(choices), value=run.name)
    if standing.status.step != seen.step:
        names = say(visitor, "series_raw"), say(visitor, "series_smooth")
        frame = curve(run.metrics(READ), *names)
        # The chart appears with its first run: a series that its first frame lacks is never drawn, and their names are
        # in the visitor's language. Later only its value changes, which draws it anew without a flicker.
        colours = dict(zip(names, CURVE_COLOURS, strict=True))
        news[watch.plot] = gr.LinePlot(frame, color_map=colours) if seen.step < 0 else frame
    grids = run.samples()
    sample = grids[-1].name if grids else ""
    if sample != seen.sample or seen.step < 0:
        news[watch.samples] = _sample(run, sample, visitor)
    log = run.log(LOG_LINES)
    if hash(log) != seen.log:
        news[watch.log] = log
    news[watch.seen] = Seen(run.name, choices, standing.status.step, sample, hash(log))
    return news


def _sample(run: Run, sample: str, visitor: gr.Request):
    """A copy of a sample grid for the page, with its step as label."""
    if not sample:
        return gr.Image(None, label=say(visitor, "samples_none"))
    path = run.folder / "samples" / sample
    with Image.open(path) as grid:
        copy = SESSIONS.of(visitor).preview(grid.convert("RGB"))
    return gr.Image(copy, label=say(visitor, "samples_at", step=int(path.stem)))


def _buttons(watch: _Watch, standing: Standing) -> dict:
    resumable = not standing.working and standing.state != "finished"
    return {
        watch.pause: gr.Button(interactive=standing.working),
        watch.stop: gr.Button(interactive=standing.working),
        watch.resume: gr.Button(interactive=resumable),
    }


def _check_archive(path: str | None, visitor: gr.Request) -> None:
    """Refuses what is no .zip of pictures before a run is made of it."""
    if not path:
        raise RunError(say(visitor, "no_archive"))
    open_files(Path(path)).close()
