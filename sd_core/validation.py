"""Settings and requests that check themselves: frozen dataclasses whose types and ranges pydantic holds them to.

    @checked
    class Request:
        count: int = Field(1, ge=1, le=64, title="The number of pictures")

    Request(count=0)  # UserError: The number of pictures must be a whole number from 1 to 64, not 0.

The sentence comes from the field: its title (or its name), its type and its bounds. What types cannot say, a pydantic
validator or `__post_init__` says by raising ValueError with a sentence of its own, which the user reads as it is.
"""

import typing
from collections.abc import Callable
from functools import cache, wraps
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, dataclass_transform

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo

from sd_core.errors import UserError

T = TypeVar("T")
_adapter = cache(TypeAdapter)
_STRICT = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
_NAMES = {str: "text", bool: "true or false", tuple: "a list", list: "a list", dict: "an object"}
_MOST_SHOWN = 60  # characters of a wrong value that a sentence repeats


@dataclass_transform(frozen_default=True, field_specifiers=(Field,))
def checked(
    cls: type[T] | None = None,
    *,
    error: type[UserError] = UserError,
    unknown: Literal["forbid", "ignore"] = "forbid",
) -> Any:
    """Makes a class a frozen dataclass whose values are checked when it is created.

    Types are strict unless a field says otherwise: no text for a number, no True for 1, no NaN; but a whole number may
    stand for a float. A tensor or an array is checked to be one.

    Args:
        cls: the class.
        error: what is raised where values are wrong, with one sentence.
        unknown: whether settings that the class does not know are wrong or passed over.
    """

    def decorated(cls: type[T]) -> type[T]:
        made = dataclass(cls, frozen=True, config=_STRICT | {"extra": unknown})
        construct = made.__init__

        @wraps(construct)
        def __init__(self, *args, **kwargs):
            _in_a_sentence(made, lambda: construct(self, *args, **kwargs))

        made.__init__, made._raised = __init__, error
        return made

    return decorated if cls is None else decorated(cls)


def from_json(cls: type[T], text: str | bytes) -> T:
    """The value of a `checked` class that `text` holds. Raises what creating one raises."""
    return _in_a_sentence(cls, lambda: _adapter(cls).validate_json(text))


def _in_a_sentence(cls: type, make: Callable[[], T]) -> T:
    try:
        return make()
    except ValidationError as error:
        said = error.errors(include_url=False)[0].get("ctx", {}).get("error")
        if isinstance(said, UserError):
            raise said if isinstance(said, cls._raised) else cls._raised(said.template, **said.values) from None
        template, values = first_sentence(error, cls)
        raise cls._raised(template, **values) from None


def first_sentence(error: ValidationError, cls: Any = None) -> tuple[str, dict[str, object]]:
    """What is wrong first, as a `UserError` says it: one plain sentence, and the values that go into it.

    Args:
        error: what pydantic raised.
        cls: what was to be made, a class with checked fields, which know what they are called and may be.
    """
    first = error.errors(include_url=False)[0]
    kind, place, context = first["type"], first["loc"], first.get("ctx", {})
    if kind in ("value_error", "assertion_error"):
        return str(context["error"]), {}
    if kind == "json_invalid":
        return "This is no JSON: {reason}.", {"reason": context["error"]}
    if kind == "unexpected_positional_argument":
        raise TypeError("There are more settings by position than there are fields.")
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return "There is no setting {name!r}.", {"name": place[-1]}
    called, wanted, bounds = _setting(cls, place)
    if kind in ("missing", "missing_argument"):
        return "{setting} is missing.", {"setting": called}
    if kind == "string_unicode":
        said = "{setting} holds what is no text, such as half of an emoji; leave that out."
        return said, {"setting": called}
    if kind == "string_too_long":
        return "{setting} may have up to {most:,} characters.", {"setting": called, "most": context["max_length"]}
    if kind == "too_short":
        said = "{setting} must have at least {least:,}, not {value}."
        return said, {"setting": called, "least": context["min_length"], "value": context["actual_length"]}
    wanted = wanted or first["msg"].removeprefix("Input should be ")
    return f"{{setting}} must be {wanted}, not {{value}}.", {
        "setting": called,
        "value": _shown(first["input"]),
        **bounds,
    }


def _setting(cls: Any, place: tuple[int | str, ...]) -> tuple[str, str, dict[str, str]]:
    """What the setting at `place` is called at the beginning of a sentence, what it must be ("" if unknown), with
    {names} where its bounds go, and those."""
    called, annotation, bounds = "This", cls, {}
    for part in place:
        annotation, _ = _bare(annotation)
        fields = getattr(annotation, "__pydantic_fields__", {})
        if fields and isinstance(part, int):  # given by position
            part = list(fields)[part]
        if part in fields:
            annotation, bounds = fields[part].annotation, _bounds(fields[part].metadata)
        elif isinstance(part, int) and typing.get_args(annotation):  # the item of a tuple or list
            annotation, bounds = typing.get_args(annotation)[0], {}
        if isinstance(part, str):
            title = part in fields and fields[part].title
            called = title or part.replace("_", " ").capitalize()
    annotation, inner = _bare(annotation)
    bounds = {key: f"{value:g}" if isinstance(value, float) else str(value) for key, value in (bounds | inner).items()}
    return called, _requirement(annotation, bounds.keys()), bounds


def _bare(annotation: Any) -> tuple[Any, dict[str, float]]:
    """A type without `Annotated` and `| None`, and the bounds that were annotated."""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is Annotated:
        annotation, bounds = _bare(arguments[0])
        return annotation, bounds | _bounds(arguments[1:])
    if typing.get_origin(annotation) in (typing.Union, UnionType) and arguments[1:] == (type(None),):
        return _bare(arguments[0])
    return annotation, {}


def _bounds(metadata: typing.Iterable[Any]) -> dict[str, float]:
    flat = [part for each in metadata for part in (each.metadata if isinstance(each, FieldInfo) else [each])]
    return {key: getattr(each, key) for each in flat for key in ("ge", "gt", "le", "lt") if hasattr(each, key)}


def _requirement(annotation: Any, bounds: typing.Collection[str]) -> str:
    """What a value must be, such as "a whole number from {ge} to {le}"; "" where that cannot be said."""
    if typing.get_origin(annotation) is Literal:
        *others, last = map(str, typing.get_args(annotation))
        return f"{', '.join(others)} or {last}" if others else last
    if annotation not in (int, float):
        return _NAMES.get(typing.get_origin(annotation) or annotation, "")
    if {"ge", "le"} <= set(bounds):
        return "a whole number from {ge} to {le}" if annotation is int else "between {ge} and {le}"
    said = {"gt": "above {gt}", "ge": "at least {ge}", "lt": "below {lt}", "le": "at most {le}"}
    limits = " and ".join(words for key, words in said.items() if key in bounds)
    if annotation is int:
        return f"a whole number {'of ' if limits.startswith('at') else ''}{limits}".rstrip()
    return limits or "a number"


def _shown(value: Any) -> str:
    """A wrong value as a sentence repeats it: what is long is cut, and what is no plain value only named."""
    if value is None:
        return "nothing"
    if not isinstance(value, (str, int, float)):
        return f"a {type(value).__name__}"
    if isinstance(value, int) and abs(value) > 10**_MOST_SHOWN:
        return "a number as large as that"
    text = repr(value[: _MOST_SHOWN + 1] if isinstance(value, str) else value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
