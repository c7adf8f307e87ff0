"""The Train tab: starts runs, watches them and steers them.

A run's folder is the truth. The page reads it every three seconds while it is looked at, sends what is new, and writes
nothing but wishes: closing it never harms a run.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import gradio as gr

from sd_core.environment import runs_at_once
from sd_core.errors import RunError
from sd_core.models.registry import ModelRegistry
from sd_core.pictures.archive import open_files
from sd_core.runs import queue
from sd_core.runs.run import Run
from tabs.common.forms import QUIET, Form
from tabs.common.words import T, say
from tabs.train.base_model import starts_of_today
from tabs.train.data import staged
from tabs.train.limits import Limits, new_browser, own
from tabs.train.run_controls import ONE_BY_ONE, train_longer
from tabs.train.run_status import all_standings
from tabs.train.settings import Settings
from tabs.train.watch import Look, Seen, Watch

POLL_SECONDS = 3.0


class TrainTab(Form):
    """Draws the tab inside the current `gr.Tab`, which is `tab`; its methods are what happens to it. As a form, it
    tells what each look needs to know.

    Attributes:
        browser: holds a name of this browser, which it alone knows.
    """

    made = Look

    def __init__(self, registry: ModelRegistry, tab: gr.Tab):
        self.registry, self.limits = registry, Limits.of_environment()
        # Both are fixed, or a restart of the app would take every browser's runs away from it.
        self.browser = gr.BrowserState("", storage_key="sd-train-browser", secret="small-stable-diffusion")
        gr.HTML(f'<div class="sd-note">{T("train_about")}</div>')
        note = gr.HTML(self.limits.note(None), elem_id="train-limits")
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                self.settings = Settings(registry, self.limits, tab)
            with gr.Column(scale=2, min_width=300):  # on a wide screen Start is seen without scrolling
                usable = not self.limits.refusal
                go = gr.Button(
                    T("start_training"), variant="primary", size="lg", interactive=usable, elem_id="train-go"
                )
                watch = self.watch = Watch(registry)
        self.name, self.seen, self.position = watch.chosen, watch.seen, watch.samples.position
        self.scale, self.compared = watch.scale, watch.comparison.picked
        self._wire(go, tab)
        self._wire_steering()
        tab.select(partial(starts_of_today, registry), self.settings.start, self.settings.start, **QUIET)
        tab.select(self.limits.note, None, note, **QUIET)
        runs_at_once()  # an app that is set up wrongly says so when it starts
        if not self.limits.refusal:
            queue.ensure_keeper(registry.runs)  # of what was queued before the machine or the app was restarted

    def _wire(self, go: gr.Button, tab: gr.Tab) -> None:
        """Lets runs be started and looked at."""
        watch, watched, outputs = self.watch, self.inputs(), self.watch.outputs()
        wanted = {self.browser, watch.scale, watch.comparison.picked, *self.settings.inputs()}
        started = [*outputs, self.settings.name, self.browser]
        go.click(self.on_start, wanted, started, concurrency_id=ONE_BY_ONE, **QUIET)
        watch.runs.select(self.on_choose, watched, outputs, **QUIET)
        shown_now = [gr.Timer(POLL_SECONDS).tick, tab.select, watch.scale.input]
        gr.on(shown_now, self.on_look, watched, outputs, concurrency_limit=None, **QUIET)

    def _wire_steering(self) -> None:
        """Lets the buttons that steer a run do their work."""
        steering, watched, outputs = self.watch.steering, self.inputs(), self.watch.outputs()
        one_by_one = dict(concurrency_id=ONE_BY_ONE, **QUIET)
        steering.pause.click(self.on_pause, watched, outputs, **QUIET)
        steering.stop.click(self.on_stop, watched, outputs, **QUIET)
        steering.resume.click(self.on_resume, watched, outputs, **one_by_one)
        steering.longer.click(self.on_longer, watched | {steering.more}, outputs, **one_by_one)
        asked = [steering.sure, steering.question, steering.asked]
        steering.delete.click(self.on_delete, self.watch.chosen, asked, **QUIET)
        steering.yes.click(self.on_delete_yes, watched | {steering.asked}, [*outputs, steering.sure], **QUIET)
        steering.no.click(lambda: gr.Group(visible=False), None, steering.sure, **QUIET)

    def on_look(self, values: dict, visitor: gr.Request) -> dict:
        return self._news(self.chosen(values), visitor)

    def on_choose(self, values: dict, event: gr.EventData, visitor: gr.Request) -> dict:
        """Turns to the run whose card was clicked."""
        changes = self._news(replace(self.chosen(values), name=event.run), visitor)
        # Which is not what was asked for, if that is no run.
        return changes | {self.watch.chosen: changes[self.watch.seen].run}

    def _news(self, look: Look, visitor: gr.Request) -> dict:
        """What is new about the run that is looked at, or the newest one."""
        runs = Run.all(self.registry.runs)
        run = next((run for run in runs if run.name == look.name), runs[0] if runs else None)
        if run is None:
            return self.watch.no_news(look, visitor)
        return self.watch.news(runs, run, look, self.limits.may_steer(run, look.browser), visitor)

    def on_start(self, values: dict, visitor: gr.Request) -> dict:
        """Makes a run of the settings, puts it into the queue, and turns to it."""
        watch, browser = self.watch, values[self.browser] or new_browser()
        self.limits.check_start(browser, self.registry.runs, visitor)
        wanted = self.settings.chosen(values)
        pictures = None
        if wanted.data == "own":
            pictures = staged(wanted.files, self.limits, visitor)
            open_files(pictures).close()  # refuses what is no .zip before a run is made of it
            self.limits.check_pixels(pictures, visitor)
        run = wanted.create(self.registry, self.limits, pictures)
        own(run, browser, visitor)
        queue.enqueue(run)
        look = Look(run.name, Seen(), 1, values[watch.scale], values[watch.comparison.picked], browser)
        changes = self._news(look, visitor)
        before = all_standings(Run.all(self.registry.runs))[run.name].before
        words = say(visitor, "run_queued", name=run.name, before=before) if before else None
        gr.Info(words or say(visitor, "run_started", name=run.name))
        return changes | {self.settings.name: "", self.browser: browser, watch.chosen: run.name}

    def on_pause(self, values: dict, visitor: gr.Request) -> dict:
        return self._steered(values, visitor, lambda run: queue.ask(run, "pause"))

    def on_stop(self, values: dict, visitor: gr.Request) -> dict:
        return self._steered(values, visitor, lambda run: queue.ask(run, "stop"))

    def on_resume(self, values: dict, visitor: gr.Request) -> dict:
        return self._steered(values, visitor, queue.enqueue, goes_on=True)

    def on_longer(self, values: dict, visitor: gr.Request) -> dict:
        more = values[self.watch.steering.more]
        return self._steered(values, visitor, lambda run: train_longer(run, more, visitor), goes_on=True)

    def _steered(self, values: dict, visitor: gr.Request, action: Callable[[Run], None], goes_on: bool = False) -> dict:
        """Does something to the run that is looked at, and shows what came of it."""
        look = self.chosen(values)
        self._steer(look, visitor, action, goes_on)
        return self._news(look, visitor)

    def _steer(self, look: Look, visitor: gr.Request, action: Callable[[Run], None], goes_on: bool = False) -> None:
        """Does something to a run if this browser may, and, where the run then `goes_on`, if that may."""
        if not look.name:
            raise RunError(say(visitor, "no_run"))
        run = Run(self.registry.runs / look.name)
        self.limits.check_steer(run, look.browser, visitor)
        if goes_on:
            self.limits.check_resume(run, look.browser, visitor)
        action(run)

    def on_delete(self, name: str, visitor: gr.Request):
        """Asks whether that is meant."""
        if not name:
            return gr.skip(), gr.skip(), ""
        return gr.Group(visible=True), f"<p>{say(visitor, 'delete_sure', name=name)}</p>", name

    def on_delete_yes(self, values: dict, visitor: gr.Request) -> dict:
        look, asked = self.chosen(values), values[self.watch.steering.asked]
        self._steer(replace(look, name=asked), visitor, Run.delete)
        gr.Info(say(visitor, "deleted", name=asked))
        changes = self._news(replace(look, name="" if look.name == asked else look.name), visitor)
        return changes | {self.watch.steering.sure: gr.Group(visible=False)}
