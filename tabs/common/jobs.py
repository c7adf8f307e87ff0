"""Runs an sd_core generator in a thread of its own and hands what it yields to the page.

Gradio would run it in whatever worker threads are free, a different one at each step, start the next visitor's job
while a cancelled one still works, and show every step however late. Here one thread does one job, one job at a time
works on a device, in the order they came, and the page gets the newest step.
"""

import contextvars
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import wraps
from typing import ParamSpec, TypeVar

import gradio as gr
import torch

P = ParamSpec("P")
T = TypeVar("T")
POLL_SECONDS = 0.25  # how often a waiting page comes up for air: Gradio can close its generator only then


class Line:
    """A lock that lets jobs in by the order they came, and tells each how many are before it."""

    def __init__(self):
        self._changed = threading.Condition()
        self._jobs: list[object] = []

    def join(self, job: object) -> None:
        with self._changed:
            self._jobs.append(job)

    def wait(self, job: object, stop: threading.Event) -> bool:
        """Waits until `job` is first. False if `stop` was set before."""
        with self._changed:
            while self._jobs[0] is not job and not stop.is_set():
                self._changed.wait(POLL_SECONDS)
            return not stop.is_set()

    def leave(self, job: object) -> None:
        with self._changed:
            if job in self._jobs:
                self._jobs.remove(job)
            self._changed.notify_all()

    def before(self, job: object) -> int:
        """How many jobs are before this one."""
        with self._changed:
            return self._jobs.index(job) if job in self._jobs else 0


_lines: dict[str, Line] = {}
_lines_lock = threading.Lock()


def line_for(device: torch.device | str) -> Line:
    """The one line of jobs for a device."""
    with _lines_lock:
        return _lines.setdefault(str(device), Line())


@dataclass(frozen=True)
class Waiting:
    """Nothing new yet; `before` other jobs come first."""

    before: int = 0


class Stream:
    """A job under way. Iterate over it, or use `stream`.

    Args:
        work: makes the sd_core generator; called in the job's thread once the device is free, so it may load a model.
        line: of the device it needs.

    Attributes:
        abandoned: whether nobody wants to know any more what comes of it.
    """

    def __init__(self, work: Callable[[], Iterator[T]], line: Line):
        self._work, self._line = work, line
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._newest: list[T] = []  # at most one item
        self._error: BaseException | None = None
        self._done = False
        self.abandoned = False
        line.join(self)
        context = contextvars.copy_context()  # says whose job it is, which ZeroGPU wants to know
        self._thread = threading.Thread(target=context.run, args=(self._run,), name="job", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the job within one step. Never blocks."""
        self._stop.set()

    def abandon(self) -> None:
        """Ends the job, and nobody wants to know what came of it."""
        self.abandoned = True
        self.stop()

    @property
    def running(self) -> bool:
        """Whether it works, or waits for its turn."""
        return not self._done

    def _run(self) -> None:
        try:
            if self._line.wait(self, self._stop):
                self._produce()
        except BaseException as error:  # reaches whoever iterates
            self._error = error
        finally:
            self._line.leave(self)
            with self._changed:
                self._done = True
                self._changed.notify_all()

    def _produce(self) -> None:
        with closing(self._work()) as items:
            for item in items:
                with self._changed:
                    self._newest = [item]  # a page that is slow misses the one before
                    self._changed.notify_all()
                if self._stop.is_set():
                    return

    def __iter__(self) -> Iterator[T | Waiting]:
        """The newest item whenever there is one, the last one in any case, and `Waiting` now and then in between."""
        try:
            while True:
                with self._changed:
                    if not self._newest and not self._done:
                        self._changed.wait(POLL_SECONDS)
                    newest, self._newest = self._newest, []
                    done = self._done
                if newest:
                    yield newest[0]
                elif done:
                    break
                else:
                    yield Waiting(self._line.before(self))
            if self._error is not None:
                raise self._error
        finally:
            self.stop()


def lasting(handler: Callable[P, Iterator[dict]]) -> Callable[P, Iterator[dict]]:
    """Makes each item of a page's handler repeat how the ones before it changed components, as in
    `{button: gr.Button(visible=False)}`.

    Gradio sends of an item only what differs from the one before, and the page works that into the one before even if
    it has yet to show it: what an item leaves out, a slow page never sees. Plain values it does not change in this way,
    and to repeat them would undo what a person chose meanwhile.
    """

    @wraps(handler)
    def repeating(*args: P.args, **kwargs: P.kwargs) -> Iterator[dict]:
        said = {}
        with closing(handler(*args, **kwargs)) as items:
            for item in items:
                said |= item
                yield said
                said = {part: change for part, change in said.items() if isinstance(change, gr.blocks.Block)}

    return repeating
