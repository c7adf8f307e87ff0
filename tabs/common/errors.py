"""How errors reach people: as one plain sentence, in their language, and without a server's paths."""

import logging
import re
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import gradio as gr

from sd_core.errors import PictureError
from tabs.common.translations import in_their_language
from tabs.common.words import add_words, say

P = ParamSpec("P")
T = TypeVar("T")

add_words({
    "no_memory": (
        "There is not enough memory for this; ask for fewer or smaller pictures.",
        "内存不足，请减少图片数量或尺寸。",
    ),
    "files_gone": (
        "The files of this picture were tidied away meanwhile; open or make the picture again.",
        "该图片的文件已被清理，请重新打开或生成图片。",
    ),
    "went_wrong": (
        "Something went wrong inside the program; its log says more.",
        "程序内部出错，详情见日志。",
    ),
    "job_stopped": ("The job was stopped before its end.", "任务在完成前被停止。"),
})  # fmt: skip

log = logging.getLogger(__name__)

# Folders may have spaces in their names; names outside quotes are taken to have none.
_QUOTED_PATH = re.compile(r"""(['"])(?:/|[A-Za-z]:\\)[^'"\n]*?([^/\\'"\n]+)[/\\]?\1""")
_PATH = re.compile(r"""(?<![\w/:.'"])(?:/|[A-Za-z]:\\)(?:[^'"/\\\n:;,]+[/\\])+([^\s'"/\\]*[^\s'"/\\.,:;])""")


def without_paths(text: str) -> str:
    """The text with the names of files and folders instead of where they are on this machine."""
    return _PATH.sub(r"\1", _QUOTED_PATH.sub(r"\1\2\1", text))


def sentence_for(visitor: gr.Request | None, text: str) -> str:
    """A sentence of the library as the page tells it: without paths, in the visitor's language."""
    return in_their_language(without_paths(text), visitor)


def plain_error(error: BaseException, visitor: gr.Request | None = None) -> gr.Error:
    """What the page says of an error: its sentence if it is one meant for people, else what to do or where to look."""
    if isinstance(error, gr.Error):
        return error
    if isinstance(error, FileNotFoundError) or (
        isinstance(error, PictureError) and isinstance(error.__cause__, FileNotFoundError)
    ):
        return _said(say(visitor, "files_gone"))
    if isinstance(error, ValueError):  # the library's own errors all are
        return _said(sentence_for(visitor, str(error)))
    if isinstance(error, MemoryError) or "memory" in str(error).lower():
        return _said(say(visitor, "no_memory"))
    log.error("A job failed.", exc_info=error)
    return _said(say(visitor, "went_wrong"))


def _said(sentence: str) -> gr.Error:
    return gr.Error(sentence, print_exception=False)


def told(handler: Callable[P, T]) -> Callable[P, T]:
    """Makes a page's handler tell its errors in one sentence, in the language of the `gr.Request` it is given."""

    @wraps(handler)
    def telling(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return handler(*args, **kwargs)
        except Exception as error:
            visitor = next((a for a in (*args, *kwargs.values()) if isinstance(a, gr.Request)), None)
            raise plain_error(error, visitor) from error

    return telling
