"""What can go wrong, as exceptions."""


class PictureError(ValueError):
    """A file is no picture this program can use; the message says why, in one sentence."""


class TrainingFailed(RuntimeError):
    """Training cannot go on; the message says why and what to try."""


class RunError(ValueError):
    """A run cannot do what was asked; the message says why."""


class CheckpointError(ValueError):
    """A folder is no usable checkpoint; the message says why and what to do."""


class ProbeFailed(ValueError):
    """Nothing could be measured; the message says why."""


class DataError(ValueError):
    """Data that cannot be used; the message is one sentence that says what is wrong and what to do."""
