"""What the Train tab's events do: runs are started, looked at and steered."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import gradio as gr

from sd_core.errors import RunError
from sd_core.models.registry import ModelRegistry
from sd_core.pictures.archive import open_files
from sd_core.runs.queue import ask, enqueue
from sd_core.runs.run import Run
from tabs.common.words import say
from tabs.train.base_model import starts_of_today
from tabs.train.data import staged
from tabs.train.limits import Limits, new_browser, own
from tabs.train.run_controls import train_longer
from tabs.train.run_status import all_standings
from tabs.train.settings import Settings
from tabs.train.watch import Look, Seen, Watch


@dataclass(frozen=True, eq=False)
class TrainTab:
    """The tab's components, and what happens to them.

    Attributes:
        browser: holds a name of this browser, which it alone knows.
    """

    registry: ModelRegistry
    limits: Limits
    settings: Settings
    go: gr.Button
    watch: Watch
    browser: gr.BrowserState

    def looked_at(self) -> dict[str, gr.components.Component]:
        """The components that a `Look` is made of, by its attributes."""
        watch = self.watch
        return dict(
            name=watch.chosen, seen=watch.seen, position=watch.samples.position, scale=watch.scale,
            compared=watch.comparison.picked, browser=self.browser,
        )  # fmt: skip

    def inputs(self) -> set[gr.components.Component]:
        """What each look needs to know."""
        return set(self.looked_at().values())

    def on_look(self, values: dict, visitor: gr.Request) -> dict:
        return self._news(self._look(values), visitor)

    def on_choose(self, values: dict, event: gr.EventData, visitor: gr.Request) -> dict:
        """Turns to the run whose card was clicked."""
        changes = self._news(replace(self._look(values), name=event.run), visitor)
        # Which is not what was asked for, if that is no run.
        return changes | {self.watch.chosen: changes[self.watch.seen].run}

    def _look(self, values: dict) -> Look:
        return Look(**{name: values[component] for name, component in self.looked_at().items()})

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
        enqueue(run)
        look = Look(run.name, Seen(), 1, values[watch.scale], values[watch.comparison.picked], browser)
        changes = self._news(look, visitor)
        before = all_standings(Run.all(self.registry.runs))[run.name].before
        words = say(visitor, "run_queued", name=run.name, before=before) if before else None
        gr.Info(words or say(visitor, "run_started", name=run.name))
        return changes | {self.settings.name: "", self.browser: browser, watch.chosen: run.name}

    def on_pause(self, values: dict, visitor: gr.Request) -> dict:
        return self._steered(values, visitor, lambda run: ask(run, "pause"))

    def on_stop(self, values: dict, visitor: gr.Request) -> dict:
        return self._steered(values, visitor, lambda run: ask(run, "stop"))

    def on_resume(self, values: dict, visitor: gr.Request) -> dict:
        return self._steered(values, visitor, enqueue, goes_on=True)

    def on_longer(self, values: dict, visitor: gr.Request) -> dict:
        more = values[self.watch.steering.more]
        return self._steered(values, visitor, lambda run: train_longer(run, more, visitor), goes_on=True)

    def _steered(self, values: dict, visitor: gr.Request, action: Callable[[Run], None], goes_on: bool = False) -> dict:
        """Does something to the run that is looked at, and shows what came of it."""
        look = self._look(values)
        self._steer(look.name, look.browser, visitor, action, goes_on)
        return self._news(look, visitor)

    def _steer(
        self, name: str, browser: str, visitor: gr.Request, action: Callable[[Run], None], goes_on: bool = False
    ) -> None:
        """Does something to a run if this browser may, and, where the run then `goes_on`, if that may."""
        if not name:
            raise RunError(say(visitor, "no_run"))
        run = Run(self.registry.runs / name)
        self.limits.check_steer(run, browser, visitor)
        if goes_on:
            self.limits.check_resume(run, browser, visitor)
        action(run)

    def on_delete(self, name: str, visitor: gr.Request):
        """Asks whether that is meant."""
        if not name:
            return gr.skip(), gr.skip(), ""
        return gr.Group(visible=True), f"<p>{say(visitor, 'delete_sure', name=name)}</p>", name

    def on_delete_yes(self, values: dict, visitor: gr.Request) -> dict:
        look, asked = self._look(values), values[self.watch.steering.asked]
        self._steer(asked, look.browser, visitor, Run.delete)
        gr.Info(say(visitor, "deleted", name=asked))
        changes = self._news(replace(look, name="" if look.name == asked else look.name), visitor)
        return changes | {self.watch.steering.sure: gr.Group(visible=False)}

    def on_start_choices(self, start: str):
        """The models of today to start from."""
        return starts_of_today(self.registry, start)

    def on_note(self, visitor: gr.Request):
        return self.limits.note(visitor)
