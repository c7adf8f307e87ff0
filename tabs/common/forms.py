"""Small form parts that several tabs share."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, TypeVar

import gradio as gr

from sd_core.errors import UserError
from tabs.common.sessions import Visitor
from tabs.common.words import say

T = TypeVar("T")
QUIET = dict(show_progress="hidden", api_visibility="private")  # how most events of the page are wired


class Form:
    """What forms are: each field of the dataclass `made` has its value from the component of that name."""

    made: type

    def components(self) -> dict[str, gr.components.Component]:
        """Those components, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self.made)}

    def inputs(self) -> set[gr.components.Component]:
        """All of them, for an event that wants to know what they hold."""
        return set(self.components().values())

    def chosen(self, values: dict) -> Any:
        """What they hold, of the `values` of some components, as `made`."""
        return self.made(**{name: values[component] for name, component in self.components().items()})


def whole(number: float) -> int | float:
    """5.0 as 5; anything that is no whole number stays, for the request's own check to name it."""
    return int(number) if number == number and abs(number) < 2**53 and number == int(number) else number


def kept(value: T | None, visitor: Visitor | None) -> T:
    """What the page keeps of a picture. Raises UserError where there is nothing: so there is no picture on it."""
    if value is None:
        raise UserError(say(visitor, "no_upload"))
    return value


def picked(event: gr.SelectData, items: Sequence[T]) -> T | None:
    """The one of the items that was clicked; None if there is none at that place, of which a request may tell, too."""
    index = event.index
    return items[index] if isinstance(index, int) and 0 <= index < len(items) else None


def offering(choices: Sequence[tuple[str, str]], chosen: str | None, otherwise: str | None) -> gr.Dropdown:
    """A picker with other choices. What is `chosen` stays as it is on the page, where somebody may have chosen again
    since this was asked, unless it is no longer there."""
    gone = chosen not in [value for _, value in choices]
    return gr.Dropdown(choices=choices, value=otherwise) if gone else gr.Dropdown(choices=choices)


def seed_box(value: int, **look) -> gr.Number:
    """A field for a seed. It knows no limits: of those Gradio speaks English only, and the request checks them too."""
    return gr.Number(value, precision=0, **look)
