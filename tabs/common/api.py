"""Answers programs: what the endpoints of the Generate and the Restore tab have in common."""

import inspect
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import gradio as gr

from sd_core.errors import UserError
from tabs.common.forms import whole
from tabs.common.sessions import SESSIONS, Caller
from tabs.common.words import say

T = TypeVar("T")
Job = Generator[object, None, T]


@dataclass(frozen=True)
class Parameter:
    """What an endpoint takes.

    Attributes:
        name: in Python, HTTP and MCP.
        said: what programs, and the models that use them, read about it.
        default: what it is where nothing is sent; without one it has to be.
        part: makes the component that stands for it.
    """

    name: str
    said: str
    default: object = inspect.Parameter.empty
    part: Callable[..., gr.components.Component] = gr.Number

    def component(self) -> gr.components.Component:
        """A new one, which is where Gradio reads the default from."""
        value = None if self.default is inspect.Parameter.empty else self.default
        return self.part(value=value, label=self.name.replace("_", " ").capitalize())


def endpoint(job: Callable[..., Job], parameters: Sequence[Parameter], answer: gr.components.Component) -> None:
    """Adds an endpoint that has the name of a job and does it, with nothing to see.

    Gradio reads what it tells programs from a handler's signature and docstring, which are made here.

    Args:
        job: is given its caller, and the parameters by name; yields now and then, and returns what `answer` is to hold.
            Its docstring says what it does and returns.
        parameters: in the order in which programs give them. A whole number may come as 5.0.
    """

    def handler(*values):
        *given, request = values
        named = {p.name: whole(v) if p.part is gr.Number else v for p, v in zip(parameters, given, strict=True)}
        yield from answered(request, lambda caller: job(caller, **named))

    does, returns = inspect.getdoc(job).split("\n\nReturns:")
    told = "\n".join(f"    {parameter.name}: {parameter.said}" for parameter in parameters)
    taken = [(parameter.name, parameter.default) for parameter in parameters] + [("request", None)]
    handler.__name__, handler.__annotations__ = job.__name__, {"request": gr.Request}
    handler.__doc__ = f"{does}\n\nArgs:\n{told}\n\nReturns:{returns}"
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    handler.__signature__ = inspect.Signature([inspect.Parameter(n, kind, default=value) for n, value in taken])
    inputs = [parameter.component() for parameter in parameters]
    gr.Button(visible=False).click(
        handler, inputs, answer, api_name=job.__name__, concurrency_limit=None, preprocess=False
    )


def answered(request: gr.Request, job: Callable[[Caller], Job]) -> Iterator[T]:
    """Does a job in a session of its own, and yields what it returns.

    Whenever the job yields, so does this, and Gradio can end both there if the program went away. A call that does not
    go through the queue takes what is yielded first for the answer, so there nothing comes before it.
    """
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


def last(items: Iterator[T]) -> Generator[T, None, T | None]:
    """Yields the items, and returns the last one; None if there is none."""
    item = None
    for item in items:
        yield item
    return item


def finished(result: T | None, caller: Caller) -> T:
    """The result of a job. Raises UserError where there is none, since it was stopped."""
    if result is None:
        raise UserError(say(caller, "job_stopped"))
    return result
