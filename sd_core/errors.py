"""What can go wrong, as exceptions.

A `UserError` is something a user can cause; its message is shown to them as it is. Anything else that is raised is a
bug: it is logged, and never shown as the user's mistake.
"""


class UserError(ValueError):
    """What a user can cause. The message is one plain sentence that says what is wrong and what to do."""


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
