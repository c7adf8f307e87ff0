"""What can go wrong, as exceptions.

A `UserError` is something a user can cause; its message is shown to them as it is. Anything else that is raised is a
bug: it is logged with its traceback under a reference, which is what the user is told, and never shown as the user's
mistake.
"""

import logging
import secrets

log = logging.getLogger(__name__)


class UserError(ValueError):
    """What a user can cause, as one plain sentence that says what is wrong and what to do.

    Args:
        template: the sentence, with {names} where `values` go. A page in another language finds its own by it.
        values: what they stand for.
    """

    def __init__(self, template: str, **values: object):
        super().__init__(template.format(**values) if values else template)
        self.template, self.values = template, values


class PictureError(UserError):
    """A file is no picture that this program can use."""


class DataError(UserError):
    """A data set that cannot be used."""


class CheckpointError(UserError):
    """A folder is no usable checkpoint."""


class RunError(UserError):
    """A run cannot do what was asked."""


class TrainingFailed(UserError):
    """Training cannot go on."""


class ProbeFailed(UserError):
    """Nothing could be measured."""


def logged(error: BaseException) -> str:
    """Logs a bug with its traceback, and returns the reference, six hex digits, under which the log has it.

    The bug is logged once and keeps its reference, through however many hands it goes.
    """
    if not hasattr(error, "reference"):
        error.reference = secrets.token_hex(3)
        log.error("A bug, reference %s:", error.reference, exc_info=error)
    return error.reference


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was not enough memory, of the machine or of an accelerator."""
    words = str(error).lower()
    said = any(part in words for part in ("out of memory", "not enough memory", "allocate memory"))
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError | OSError) and said)
