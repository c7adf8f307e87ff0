"""The page's words, in English and Simplified Chinese: gettext catalogues under `locale/`, a file a language.

Labels are translated by the browser (`T`). Toasts, and texts with numbers in them, are not, so their words are chosen
here by the language that the browser asks for (`say`). Both find words by a key. The library speaks English only, as
its command line does; of its sentences, the catalogues hold those that people most often meet on the page
(`in_their_language`).
"""

from functools import cache
from pathlib import Path

import gradio as gr
from babel.messages.pofile import read_po

from sd_core.errors import UserError

LOCALES = Path(__file__).parent / "locale"


@cache
def catalogue(language: str) -> dict[str, str]:
    """The words of a language ("en" or "zh") by their keys."""
    with open(LOCALES / language / "LC_MESSAGES" / "page.po", "rb") as file:
        return {message.id: message.string for message in read_po(file, language) if message.id}


@cache
def i18n() -> gr.I18n:
    """What `launch` is told, for the browser to translate by."""
    return gr.I18n(**{language: catalogue(language) for language in ("en", "zh")})


def T(key: str):
    """The words for `key`, in the language of the browser that shows them."""
    if key not in catalogue("en"):
        raise KeyError(f"There are no words for {key!r}.")
    return i18n()(key)


def say(request: gr.Request | None, key: str, **values: object) -> str:
    """The words for `key` in the language of whoever made `request`, for toasts and texts with `values` in them."""
    return catalogue(language_of(request))[key].format(**values)


def in_their_language(said: UserError | str, visitor: gr.Request | None) -> str:
    """A sentence of the library as `visitor` reads it; in English where no other is known."""
    words = catalogue(language_of(visitor))
    if isinstance(said, str):
        return words.get(said, said)
    if said.template not in words:
        return str(said)
    values = {name: words.get(value, value) if isinstance(value, str) else value for name, value in said.values.items()}
    return words[said.template].format(**values) if values else words[said.template]


def language_of(request: gr.Request | None) -> str:
    """ "zh" if the browser that made `request` asks for Chinese before all else, else "en"."""
    accepted = request.headers.get("accept-language", "") if request is not None and request.headers else ""
    return "zh" if accepted.lower().startswith("zh") else "en"
