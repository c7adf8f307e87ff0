"""Looks at all that a request brings before anything is done with it.

Whatever the page offers, anybody can send anything to any of its events, those that only the page itself uses too. So
each value is checked here by the kind of component that it stands for: a text is a text and not endless, a number is a
number, a file is one that was uploaded. What the values mean is for those to check who know it. `gr.State` is not among
them: it is kept on the server, and what a request sends in its place is thrown away.
"""

import inspect
from functools import singledispatch
from pathlib import Path

import gradio as gr
from gradio.components.api_component import Api
from gradio.exceptions import ComponentProcessingError
from gradio.i18n import I18nData
from PIL import Image

from sd_core.errors import UserError
from sd_core.pictures.masks import MARKED_SIDE
from tabs.common.budget import check_picture
from tabs.common.errors import plain_error
from tabs.common.sessions import Visitor
from tabs.common.uploads import uploaded
from tabs.common.words import say

MOST_TEXT = 20_000  # characters
MOST_CHOSEN = 200  # of a list
MOST_FILES = 20_000
MOST_LAYERS = 4  # of a canvas
CANVAS = {"background", "layers", "composite", "id"}  # of which the last stands for a way to send that is not used here
MOST_PICTURE_BYTES = 2**30
LARGEST = 2.0**53  # above this, floats are no longer exact
SHOWN = 40  # characters of a wrong value


class Page(gr.Blocks):
    """A page whose events get only what fits them, and whose errors are all told in one sentence."""

    async def process_api(self, block_fn, inputs, state=None, request=None, iterator=None, **more):
        if iterator is None:  # otherwise it goes on with what was checked when it began
            fn = self.fns[block_fn] if isinstance(block_fn, int) else block_fn
            try:
                inputs = checked(fn, inputs, request)
                _check_event(fn, more.get("event_data"), request)
            except (UserError, OSError) as error:
                raise plain_error(error, request) from error
        try:
            return await super().process_api(block_fn, inputs, state, request, iterator, **more)
        except ComponentProcessingError:  # Gradio could not read a file, which an event's `failure` is for
            raise
        except Exception as error:  # of an event that does not tell its errors itself
            raise plain_error(error, request) from error


def checked(fn, values: object, visitor: Visitor | None) -> list:
    """What a request sends to an event of the page, fit to be handed to it.

    Args:
        fn: Gradio's record of the event.
        values: as they came.
        visitor: who sent them.

    Raises:
        UserError: one of them is nothing that its component holds, or the event is one of an open page, and this
            visitor has none.
    """
    of_the_page = fn.api_visibility == "private" and not getattr(visitor, "session_hash", None)
    if of_the_page or not isinstance(values, list) or len(values) < len(fn.inputs):
        raise UserError(say(visitor, "no_request"))
    found = []
    for part, value, name in zip(fn.inputs, values, _names(fn, visitor), strict=False):
        if value is None and isinstance(part, gr.Number) and fn.api_visibility == "public":
            raise _refused("no_number", name, value, visitor)  # only on the page it is a box left empty
        found.append(None if part.stateful else _checked(part, value, name, visitor))
    return found


def _names(fn, visitor: Visitor | None) -> list[str]:
    """What the inputs of an event are called in sentences: for programs, as they name them."""
    if fn.api_visibility == "public":
        return list(inspect.signature(fn.fn).parameters)
    labels = [getattr(part, "label", None) or part.elem_id or type(part).__name__ for part in fn.inputs]
    return [say(visitor, label.key) if isinstance(label, I18nData) else label for label in labels]


def _refused(key: str, name: str, value: object, visitor: Visitor | None) -> UserError:
    return UserError(say(visitor, key, name=name, value=repr(value)[:SHOWN]))


@singledispatch
def _checked(part, value: object, name: str, visitor: Visitor | None) -> object:
    """A value that a component may hold, fit to be used. Raises UserError."""
    raise TypeError(f"Nothing says yet what may come in from a {type(part).__name__}.")


@_checked.register(gr.Textbox)
@_checked.register(gr.BrowserState)
def _text(part, value: object, name: str, visitor: Visitor | None) -> str:
    """None is what comes from a box that was not shown yet."""
    value = "" if value is None else value
    if not isinstance(value, str):
        raise _refused("no_text", name, value, visitor)
    if len(value) > MOST_TEXT:
        raise UserError(say(visitor, "long_text", name=name, most=MOST_TEXT))
    return value


@_checked.register(gr.Number)
@_checked.register(gr.Slider)
def _number(part, value: object, name: str, visitor: Visitor | None) -> float | None:
    """None is an empty box, which a slider has not."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST  # no NaN is
    if not number and (value is not None or isinstance(part, gr.Slider)):
        raise _refused("no_number", name, value, visitor)
    return value


@_checked.register(gr.Checkbox)
def _switch(part, value: object, name: str, visitor: Visitor | None) -> bool:
    if value is not None and not isinstance(value, bool):
        raise _refused("no_switch", name, value, visitor)
    return bool(value)


@_checked.register(gr.Radio)
@_checked.register(gr.Dropdown)
@_checked.register(gr.CheckboxGroup)
@_checked.register(gr.Dataset)
@_checked.register(Api)
def _choice(part, value: object, name: str, visitor: Visitor | None) -> object:
    """One choice or several: whether they are among those there are, Gradio looks at."""
    several = isinstance(part, gr.CheckboxGroup) or getattr(part, "multiselect", False)
    choices = value if several and isinstance(value, list) else [value]
    no_list = isinstance(part, gr.CheckboxGroup) and not isinstance(value, list)
    # What began as a choice is never none.
    none = value is None and isinstance(part, gr.Radio | gr.Dropdown) and isinstance(part.value, str)
    if len(choices) > MOST_CHOSEN or no_list or none:
        raise _refused("no_choice", name, value, visitor)
    for choice in choices:
        if isinstance(choice, int | float):
            _number(part, choice, name, visitor) if not isinstance(choice, bool) else None
        else:
            _text(part, choice, name, visitor)
    if isinstance(part, gr.Dataset) and not isinstance(value, int):
        raise _refused("no_choice", name, value, visitor)
    return value


@_checked.register(gr.Image)
@_checked.register(gr.UploadButton)
@_checked.register(gr.File)
def _files(part, value: object, name: str, visitor: Visitor | None) -> dict | list[dict] | None:
    if getattr(part, "file_count", "single") == "single":
        picture = _file(value, visitor, MOST_PICTURE_BYTES)
        if picture:
            check_picture(Path(picture["path"]), visitor)
        return picture
    if value is None:
        return None
    files = value if isinstance(value, list) else [value]
    if len(files) > MOST_FILES:
        raise UserError(say(visitor, "many_files", most=MOST_FILES))
    return [_file(each, visitor) for each in files if each is not None]


@_checked.register(gr.ImageEditor)
def _canvas(part, value: object, name: str, visitor: Visitor | None) -> dict | None:
    """Its pictures are all of the canvas's size, which is known, so that none can be a surprise when it is decoded."""
    if value is None:
        return None
    fits = isinstance(value, dict) and value.keys() <= CANVAS and value.get("id") is None
    layers = value.get("layers") or [] if fits else None
    if not isinstance(layers, list) or len(layers) > MOST_LAYERS:
        raise UserError(say(visitor, "large_canvas"))
    sides = {side: _file(value.get(side), visitor, MOST_PICTURE_BYTES) for side in ("background", "composite")}
    checked_layers = [_file(layer, visitor, MOST_PICTURE_BYTES) for layer in layers if layer is not None]
    for file in (*sides.values(), *checked_layers):
        if file and not _fits_a_canvas(Path(file["path"])):
            raise UserError(say(visitor, "large_canvas"))
    return sides | {"layers": checked_layers}


def _fits_a_canvas(path: Path) -> bool:
    """Whether a picture is small enough for the canvas, which may be a little larger than what is marked."""
    try:
        with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as picture:
            return max(picture.size) <= 2 * MARKED_SIDE
    except Exception:  # decoders raise whatever comes to their mind at what is no picture
        return False


def _file(value: object, visitor: Visitor | None, most: int | None = None) -> dict | None:
    """A file as Gradio's own uploads are described, whatever it was described as."""
    if value is None:
        return None
    path = uploaded(value, visitor, most) if most else uploaded(value, visitor)
    return {"path": str(path), "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}


def _check_event(fn, event: gr.EventData | None, visitor: Visitor | None) -> None:
    """What an event tells of itself: the place that was clicked, or the run whose card was. Raises UserError."""
    kinds = [p.annotation for p in inspect.signature(fn.fn).parameters.values()] if fn.fn else []
    needed = {"index", "value"} if gr.SelectData in kinds else {"run"} if gr.EventData in kinds else set()
    if not needed:
        return
    told = getattr(event, "_data", None)
    if not isinstance(told, dict) or not needed <= told.keys():
        raise UserError(say(visitor, "no_request"))
    index, run = told.get("index"), told.get("run", "")
    places = index if isinstance(index, list) and len(index) == 2 else [index]
    fits = all(place is None or (isinstance(place, int) and 0 <= place < LARGEST) for place in places)
    if not fits or not isinstance(run, str) or len(run) > MOST_TEXT:
        raise UserError(say(visitor, "no_request"))
