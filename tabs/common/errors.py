"""How errors reach people: as one plain sentence, in their language, and without a server's paths.

What a user can cause is a `UserError`, and told as it is. Anything else is a bug: it is logged with its traceback under
a reference, and the page shows that reference too, so that whoever reads the log finds what a visitor saw.
"""

import re

import gradio as gr

from sd_core.errors import PictureError, UserError, is_out_of_memory, logged
from tabs.common.words import in_their_language, say

MOST_SHOWN = 2000  # characters of a sentence: more is nothing to read, and may be somebody's file

# Folders may have spaces in their names; names outside quotes are taken to have none. Each pattern takes whatever may
# belong to a path at one go, and never goes back over it: a hostile text must not cost more than its length.
_QUOTED_PATH = re.compile(r"""(['"])(?:/|[A-Za-z]:\\)([^'"\n]*)\1""")
_PATH = re.compile(r"""(?<![\w/:.'"])(?:/|[A-Za-z]:\\)([^'"\n:;,]*)""")
_NAME = re.compile(r"[^\s/\\]+")


def without_paths(text: str) -> str:
    """The text with the names of files and folders instead of where they are on this machine."""
    return _PATH.sub(_name_first, _QUOTED_PATH.sub(_quoted_name, text))


def _quoted_name(found: re.Match) -> str:
    """The last part of a path between quotes, which may have spaces; a quoted "/" stays."""
    name = re.split(r"[/\\]", found[2].rstrip("/\\"))[-1]
    return f"{found[1]}{name}{found[1]}" if name else found[0]


def _name_first(found: re.Match) -> str:
    """What follows a path's last folder: its name, and the words after it. A path of one part alone stays."""
    parts = re.split(r"[/\\]", found[1])
    for place in range(len(parts) - 1, 0, -1):
        name = _NAME.match(parts[place])
        if name and name[0].strip("."):
            return "/".join(parts[place:])
    return found[0]


def sentence_for(visitor: gr.Request | None, said: UserError | str) -> str:
    """A sentence of the library as the page tells it: in the visitor's language, without paths."""
    text = in_their_language(said, visitor)
    return without_paths(text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + "…")


def plain_error(error: BaseException, visitor: gr.Request | None = None) -> gr.Error:
    """What the page says of an error: its sentence if it is one meant for people, else what to do or where to look."""
    if isinstance(error, gr.Error):
        return error
    if isinstance(error.__cause__ if isinstance(error, PictureError) else error, FileNotFoundError):
        sentence = say(visitor, "files_gone")
    elif isinstance(error, UserError):
        sentence = sentence_for(visitor, error)
    elif is_out_of_memory(error):
        sentence = say(visitor, "no_memory")
    else:
        sentence = say(visitor, "went_wrong", reference=logged(error))
    return gr.Error(sentence, print_exception=False)
