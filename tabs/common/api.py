"""Answers programs: what the endpoints of the Generate and the Restore tab have in common."""

from collections.abc import Callable, Generator, Iterator
from typing import TypeVar

import gradio as gr

from sd_core.errors import UserError
from tabs.common.errors import plain_error
from tabs.common.forms import whole
from tabs.common.sessions import SESSIONS, Caller
from tabs.common.words import say

T = TypeVar("T")
SHOWN_VALUE = 40  # characters of what is no number


def last(items: Iterator[T]) -> Generator[T, None, T | None]:
    """Yields the items, and returns the last one; None if there is none."""
    item = None
    for item in items:
        yield item
    return item


def answered(request: gr.Request, job: Callable[[Caller], Generator[object, None, T]]) -> Iterator[T]:
    """Does a job in a session of its own, and yields what it returns. Errors are told in one sentence.

    Whenever the job yields, so does this, and Gradio can end both there if the program went away. A call that does not
    go through the queue takes what is yielded first for the answer, so there nothing comes before it.

    Args:
        job: is given its visitor; yields now and then, and returns the answer.
    """
    try:
        with SESSIONS.call(request) as caller:
            work = job(caller)
            while True:
                if request.session_hash:  # at once, too: Gradio cannot end what has yielded nothing yet
                    yield gr.skip()
                try:
                    next(work)
                except StopIteration as end:
                    yield end.value
                    return
    except Exception as error:
        raise plain_error(error, request) from error


def finished(result: T | None, caller: Caller) -> T:
    """The result of a job. Raises UserError where there is none, since it was stopped."""
    if result is None:
        raise UserError(say(caller, "job_stopped"))
    return result


def numbers(caller: Caller, **values: object) -> list[float]:
    """The values, whole ones as int. A program may send anything: Gradio does not look at it."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(say(caller, "no_number", name=name, value=repr(value)[:SHOWN_VALUE]))
    return [whole(value) for value in values.values()]
