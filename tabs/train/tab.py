"""The Train tab: starts runs and watches them.

A run's folder is the truth. The page reads it every three seconds while it is looked at, sends what is new, and writes
nothing but wishes: closing it never harms a run.
"""

import gradio as gr

from sd_core.environment import runs_at_once
from sd_core.models.registry import ModelRegistry
from sd_core.runs import queue
from tabs.common.forms import QUIET
from tabs.common.words import T
from tabs.train.events import TrainTab
from tabs.train.limits import Limits
from tabs.train.run_controls import ONE_BY_ONE
from tabs.train.settings import Settings
from tabs.train.watch import Watch

POLL_SECONDS = 3.0


def build(registry: ModelRegistry, tab: gr.Tab) -> TrainTab:
    """Draws the tab inside the current `gr.Tab`, which is `tab`, and wires it."""
    limits = Limits.of_environment()
    # Both are fixed, or a restart of the app would take every browser's runs away from it.
    browser = gr.BrowserState("", storage_key="sd-train-browser", secret="small-stable-diffusion")
    gr.HTML(f'<div class="sd-note">{T("train_about")}</div>')
    note = gr.HTML(limits.note(None), elem_id="train-limits")
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            settings = Settings(registry, limits)
            go = gr.Button(
                T("start_training"), variant="primary", size="lg", interactive=not limits.refusal, elem_id="train-go"
            )
        with gr.Column(scale=2, min_width=300):
            watch = Watch(registry)
    timer = gr.Timer(POLL_SECONDS)
    parts = TrainTab(registry, limits, settings, go, watch, browser)
    watched, outputs = parts.inputs(), watch.outputs()
    wanted = {browser, watch.scale, watch.comparison.picked, *settings.inputs()}
    go.click(parts.on_start, wanted, [*outputs, settings.name, browser], concurrency_id=ONE_BY_ONE, **QUIET)
    _wire_steering(parts)
    watch.runs.select(parts.on_choose, watched, outputs, **QUIET)
    shown_now = [timer.tick, tab.select, watch.scale.input]
    gr.on(shown_now, parts.on_look, watched, outputs, concurrency_limit=None, **QUIET)
    tab.select(parts.on_start_choices, settings.start, settings.start, **QUIET)
    tab.select(parts.on_note, None, note, **QUIET)
    runs_at_once()  # an app that is set up wrongly says so when it starts
    if not limits.refusal:
        queue.ensure_keeper(registry.runs)  # of what was queued before the machine or the app was restarted
    return parts


def _wire_steering(parts: TrainTab) -> None:
    """Lets the buttons that steer a run do their work."""
    steering, watched, outputs = parts.watch.steering, parts.inputs(), parts.watch.outputs()
    one_by_one = dict(concurrency_id=ONE_BY_ONE, **QUIET)
    steering.pause.click(parts.on_pause, watched, outputs, **QUIET)
    steering.stop.click(parts.on_stop, watched, outputs, **QUIET)
    steering.resume.click(parts.on_resume, watched, outputs, **one_by_one)
    steering.longer.click(parts.on_longer, watched | {steering.more}, outputs, **one_by_one)
    asked = [steering.sure, steering.question, steering.asked]
    steering.delete.click(parts.on_delete, parts.watch.chosen, asked, **QUIET)
    steering.yes.click(parts.on_delete_yes, watched | {steering.asked}, [*outputs, steering.sure], **QUIET)
    steering.no.click(lambda: gr.Group(visible=False), None, steering.sure, **QUIET)
