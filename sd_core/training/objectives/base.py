"""What the training loop is taught from: each step's examples, the loss they are judged by, and the samples that show
what has been learnt. Captioned pictures teach a generator, pairs of clean and damaged crops a restorer.

Whatever is random in step n comes from generators seeded by (seed, n), whoever asks and however often.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from sd_core.models.denoiser import Denoiser


@dataclass(frozen=True)
class BatchSlice:
    """Which pictures of a batch are this process's: those from `first` to before `last`, in `parts` parts."""

    first: int
    last: int
    parts: int

    def __iter__(self) -> Iterator[Tensor]:
        yield from torch.arange(self.first, self.last).chunk(self.parts)


@dataclass(frozen=True)
class SampleProgress:
    """Samples on their way: `index` of `count` steps are done. The last has the pictures [N, 3, H, W], on the CPU."""

    index: int
    count: int
    pictures: Tensor | None = None


class Objective(ABC):
    """Examples for a model in training.

    Args:
        seed: of all that is random.
        batch: pictures per step, over all processes.
    """

    loss: nn.Module  # the loss of what `examples` gives
    exploded: float  # a loss above which training has gone wrong

    def __init__(self, seed: int, batch: int):
        self.seed, self.batch = seed, batch

    def generator(self, purpose: int, number: int, device: torch.device | str = "cpu") -> torch.Generator:
        """A generator for one purpose of one step, the same in every process and after every resume."""
        seed = int(np.random.SeedSequence([self.seed, purpose, number]).generate_state(1, np.uint64)[0] >> 1)
        return torch.Generator(device).manual_seed(seed)

    def close(self) -> None:  # noqa: B027, most make examples themselves
        """Ends the processes that make examples; the next examples start them anew."""

    def sample_prompts(self) -> tuple[str, ...]:
        """The prompts of the samples, where there are any."""
        return ()

    @abstractmethod
    def edges(self, model: Denoiser) -> Iterable[nn.Module]:
        """The modules at the network's input and output, and embeddings."""

    @abstractmethod
    def examples(self, step: int, share: BatchSlice, device: torch.device) -> Iterator[tuple[Tensor, ...]]:
        """The arguments of `loss` for each part of a process's share of step number `step`."""

    @abstractmethod
    def drawing(self, model: Denoiser) -> Iterator[SampleProgress]:
        """Pictures that show what `model` has learnt, always for the same questions, drawn step by step."""
