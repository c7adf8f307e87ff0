"""The line under the preview: how far a job is, how long it will take, or what became of it."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import gradio as gr
from PIL import Image

from tabs.common.jobs import Stream, Waiting
from tabs.common.sessions import Session
from tabs.common.words import say

T = TypeVar("T")


def bar_line(text: str, share: float | None = None) -> str:
    """The line in HTML, with a bar that is filled to `share` unless that is None."""
    bar = ""
    if share is not None:
        percent = round(100 * share)
        bar = (
            f'<div class="sd-bar" role="progressbar" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{percent}">'
            f'<div style="width:{percent}%"></div></div>'
        )
    return f'<div class="sd-status" aria-live="polite">{bar}<span>{text}</span></div>'


def note(text: str) -> str:
    """A remark in HTML, read aloud when it changes."""
    return f'<div class="sd-note" aria-live="polite">{text}</div>'


class Status:
    """Times a job and tells its visitor about it, in HTML."""

    def __init__(self, visitor: gr.Request | None):
        self._visitor = visitor
        self._asked = time.monotonic()
        self._first: tuple[int, float] | None = None

    def ready(self) -> str:
        return bar_line(say(self._visitor, "ready"))

    def waiting(self, before: int) -> str:
        """Nothing has begun; `before` other jobs come first."""
        text = say(self._visitor, "before_you", before=before) if before else say(self._visitor, "starting")
        return bar_line(text, 0)

    def step(self, index: int, count: int) -> str:
        """Step `index` of `count` is done."""
        now = time.monotonic()
        if self._first is None:
            self._first = (index, now)
        first_index, first_time = self._first
        text = say(self._visitor, "step", index=index, count=count)
        if first_index < index < count:
            left = (now - first_time) / (index - first_index) * (count - index)
            text += " · " + say(self._visitor, "left", seconds=f"{left:.0f}" if left >= 1 else "&lt; 1")
        return bar_line(text, index / count)

    def stopped(self, index: int, count: int) -> str:
        return bar_line(say(self._visitor, "stopped_at", index=index, count=count))

    def keeping(self) -> str:
        """The work is done; what came of it is being written down."""
        return bar_line(say(self._visitor, "keeping"), 1)

    def done(self) -> str:
        return bar_line(say(self._visitor, "done_in", seconds=f"{time.monotonic() - self._asked:.1f}"), 1)


def follow(
    stream: Stream, session: Session, status: Status, picture: Callable[[T], Image.Image]
) -> Iterator[tuple[T | None, str, Path | None]]:
    """How a job goes: its newest item if there is one yet, the status line, and the file of a new preview, if any.

    Args:
        stream: of items that say with `index` and `count` how far they are.
        picture: what to show of an item.
    """
    step = None
    for item in stream:
        if not isinstance(item, Waiting):
            step = item
            yield step, status.step(step.index, step.count), session.preview(picture(step))
        elif step is None:
            yield None, status.waiting(item.before), None
        else:
            yield step, status.step(step.index, step.count), None
