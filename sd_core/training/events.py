"""What training tells while it goes on."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Progress:
    """How training goes: `loss` is the mean since the last such event, in units of an untrained network's loss."""

    step: int
    steps: int
    pictures_seen: int
    loss: float
    learning_rate: float
    gradient_norm: float
    pictures_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class Sampling:
    """A sample grid is being drawn; `index` of `count` denoising steps are done."""

    step: int
    index: int
    count: int


@dataclass(frozen=True)
class Split:
    """The accelerator's memory was too small for a batch, which is split into `parts` from now on."""

    step: int
    parts: int


@dataclass(frozen=True)
class Samples:
    """Pictures [N, 3, H, W] made from the same seeds and prompts, or damaged pictures, every time."""

    step: int
    pictures: Tensor
    prompts: tuple[str, ...]


@dataclass(frozen=True)
class Saved:
    """The state is sound and worth keeping: whoever keeps it calls `Trainer.state` now."""

    step: int


@dataclass(frozen=True)
class Finished:
    step: int


Event = Progress | Sampling | Samples | Saved | Split | Finished
