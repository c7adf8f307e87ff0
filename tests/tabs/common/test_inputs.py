"""What may come in with a request: each value fits its component, or is refused in a sentence."""

import math
from types import SimpleNamespace

import gradio as gr
import pytest

from sd_core.errors import UserError
from tabs.common.inputs import LARGEST, MOST_TEXT, checked
from tabs.common.sessions import SESSIONS

VISITOR = gr.Request(SimpleNamespace(headers={}), session_hash="inputs")
NONSENSE = [
    12345, -1, 0.5, 1e300, -1e300, math.nan, math.inf, 10**400, True, None, "", "x", "\0", "x" * 10**6, "../" * 3000,
    {}, {"a": []}, {"path": 5}, {"path": None}, {"path": "\0"}, {"path": "x" * 10**5}, {"layers": 5}, {"layers": [[]]},
    {"layers": [None] * 1000}, {"id": "x"}, [], [[[]]], [None], ["x"] * 10**5, [{"path": "/etc/hostname"}],
]  # fmt: skip


@pytest.fixture(scope="module")
def page(built):
    with built() as (_, page):
        yield page
    SESSIONS.close()


def is_fit(part, value) -> bool:
    """Whether a handler can rely on it."""
    if isinstance(part, gr.Textbox | gr.BrowserState):
        return isinstance(value, str) and len(value) <= MOST_TEXT
    if isinstance(part, gr.Number | gr.Slider):
        return value is None or (isinstance(value, int | float) and abs(value) <= LARGEST)
    if isinstance(part, gr.Checkbox):
        return isinstance(value, bool)
    if isinstance(part, gr.ImageEditor):
        return value is None or value["layers"] == []
    if isinstance(part, gr.Image | gr.File | gr.UploadButton):
        return value is None or value == []
    if value is None and isinstance(part, gr.Radio | gr.Dropdown):
        return not isinstance(part.value, str)  # what began as a choice is never none
    choices = value if isinstance(value, list) else [value]
    return len(choices) < 1000 and all(choice is None or isinstance(choice, str | int | float) for choice in choices)


def test_whatever_is_sent_fits_its_component_or_is_refused_in_a_sentence(page):
    tried = 0
    for event in page.fns.values():
        for position, part in enumerate(event.inputs):
            for value in NONSENSE:
                usual = [None if isinstance(p, gr.Image | gr.File) else getattr(p, "value", None) for p in event.inputs]
                usual[position] = value
                tried += 1
                try:
                    found = checked(event, usual, VISITOR)[position]
                except UserError as error:
                    assert len(str(error)) < 300
                else:
                    assert found is None if part.stateful else is_fit(part, found), (event.name, part, str(value)[:60])
    assert tried > 5000


def test_too_few_values_are_refused(page):
    for event in page.fns.values():
        if event.inputs:
            with pytest.raises(UserError, match="does not fit"):
                checked(event, [], VISITOR)


def test_the_pages_own_events_are_for_those_who_have_it_open(page):
    private = next(event for event in page.fns.values() if event.api_name == "note")
    assert checked(private, [], VISITOR) == []
    with pytest.raises(UserError, match="open it anew"):
        checked(private, [], gr.Request(SimpleNamespace(headers={})))
