"""Settings and requests that check themselves: frozen dataclasses whose types and ranges pydantic holds them to.

    @checked
    class Request:
        count: int = Field(1, ge=1, le=64, title="The number of pictures")

    Request(count=0)  # UserError: The number of pictures must be a whole number from 1 to 64, not 0.

The sentence comes from the kind of pydantic's error, and from the field: its title (or its name) and its bounds. What
types cannot say, a pydantic validator or `__post_init__` says by raising ValueError with a sentence of its own, which
the user reads as it is.
"""

from collections.abc import Callable, Mapping
from functools import cache, wraps
from typing import Any, Literal, TypeVar, dataclass_transform, get_args

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo

from sd_core.errors import UserError

T = TypeVar("T")
_adapter = cache(TypeAdapter)
_STRICT = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
_SENTENCES = {  # by pydantic's kind of error, with names from its context
    "json_invalid": "This is no JSON: {error}.",
    "extra_forbidden": "There is no setting {name!r}.",
    "unexpected_keyword_argument": "There is no setting {name!r}.",
    "missing": "{setting} is missing.",
    "missing_argument": "{setting} is missing.",
    "string_unicode": "{setting} holds what is no text, such as half of an emoji; leave that out.",
    "string_too_long": "{setting} may have up to {max_length:,} characters.",
    "too_short": "{setting} must have at least {min_length:,}, not {actual_length}.",
}
_TYPES = {"string_type": "text", "bool_type": "true or false", "tuple_type": "a list", "dict_type": "an object"}
_NUMBERS = ("int_type", "int_from_float", "float_type", "finite_number")
_LIMITS = {"gt": "above {gt}", "ge": "at least {ge}", "lt": "below {lt}", "le": "at most {le}"}
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
        first = error.errors(include_url=False)[0]
        said = first.get("ctx", {}).get("error")
        if isinstance(said, Exception):  # of a validator
            template, values = getattr(said, "template", str(said)), getattr(said, "values", {})
        else:
            template, values = _sentence(cls, first)
        raise cls._raised(template, **values) from None


def _sentence(cls: type, error: Mapping[str, Any]) -> tuple[str, dict[str, object]]:
    """What is wrong, as a `UserError` says it: a template, and the values that go into it."""
    kind, context = error["type"], error.get("ctx", {})
    called, field = _setting(cls, error["loc"])
    values = {"setting": called, "name": error["loc"][-1] if error["loc"] else "", **context}
    if kind in _SENTENCES:
        return _SENTENCES[kind], values
    values["value"] = _shown(error["input"])
    if kind in _NUMBERS or context.keys() & _LIMITS.keys():
        bounds = {key: getattr(each, key) for each in field.metadata for key in _LIMITS if hasattr(each, key)}
        wanted = _number("int" in kind or field.annotation is int, bounds or context)
        values |= {key: f"{value:g}" for key, value in bounds.items()}
    else:
        wanted = _TYPES.get(kind) or error["msg"].removeprefix("Input should be ").replace("'", "")
    return f"{{setting}} must be {wanted}, not {{value}}.", values


def _setting(cls: Any, place: tuple[int | str, ...]) -> tuple[str, FieldInfo | None]:
    """What the setting at `place` is called at the beginning of a sentence, and its field."""
    called, field = "This", None
    for part in place:
        fields = next((each.__pydantic_fields__ for each in (cls, *get_args(cls)) if hasattr(each, "_raised")), None)
        if fields is None:  # the item of a list, which is called as the list
            break
        part = list(fields)[part] if isinstance(part, int) else part  # given by position
        field = fields.get(part)
        called = field and field.title or part.replace("_", " ").capitalize()
        cls = field and field.annotation
    return called, field


def _number(whole: bool, bounds: Mapping[str, float]) -> str:
    """What a number must be, such as "a whole number from {ge} to {le}"."""
    if {"ge", "le"} <= bounds.keys():
        return "a whole number from {ge} to {le}" if whole else "between {ge} and {le}"
    limits = " and ".join(words for key, words in _LIMITS.items() if key in bounds)
    if whole:
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
