"""Batches that are made ahead by other processes while the model learns: torch's DataLoader, begun at any step.

An example is a function of its number alone, so a training that goes on from a step gets the same examples as one that
was never stopped, however many processes make them.
"""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import count, islice
from typing import Any, TypeVar

import loky
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

T = TypeVar("T")
Share = Iterable[Tensor]  # the places [N] of each part; equal to what holds the same
MOST_WORKERS = 8
AHEAD = 2  # batches that a worker makes ahead
WATCH_SECONDS = 0.1  # between a worker's looks at whether its training still lives


def usual_workers(device: torch.device) -> int:
    """How many processes make the examples for a training on `device`; 0 where it makes them itself.

    A CPU's training is slow enough for one to keep up with it, and a GPU's takes all that there are cores for. Workers
    are forked, so that they share the pictures with the training.
    """
    cores = loky.cpu_count() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # of torchrun's processes on this machine
    can_fork = "fork" in multiprocessing.get_all_start_methods() and not multiprocessing.current_process().daemon
    if cores < 2 or not can_fork:
        return 0
    return 1 if device.type == "cpu" else min(MOST_WORKERS, cores - 1)


class ResumableLoader:
    """Batches of numbered examples, made ahead. Step n shows the examples from n times `batch` on.

    Args:
        make: an example from its number.
        collate: what is handed out of a list of examples: arrays rather than tensors, which would take shared memory,
            of which containers have little.
        batch: examples a step, over all processes that train together.
        workers: processes that make them; 0 to make them here, when they are asked for.
    """

    def __init__(self, make: Callable[[int], T], collate: Callable[[list[T]], Any], batch: int, workers: int):
        self.make, self.collate, self.batch, self.workers = make, collate, batch, workers
        self._batches: Iterator[Any] = iter(())
        self._coming: tuple[int, Share] | None = None  # the step and share that these are of

    def step(self, step: int, share: Share) -> Iterator[Any]:
        """What step number `step` shows, collated in the parts of `share`, which are places in the batch. The same
        share of the steps that follow is being made meanwhile."""
        if self._coming != (step, share):
            self._batches = self._from(step, share)
        self._coming = None  # whoever leaves in between begins anew
        yield from islice(self._batches, sum(1 for _ in share))
        self._coming = (step + 1, share)

    def close(self) -> None:
        """Ends the processes; `step` starts them anew."""
        self._batches, self._coming = iter(()), None

    def _from(self, step: int, share: Share) -> Iterator[Any]:
        ahead = {"prefetch_factor": AHEAD, "multiprocessing_context": "fork"} if self.workers else {}
        return iter(
            DataLoader(
                _Numbered(self.make),
                batch_sampler=_FromStep(step, share, self.batch),
                num_workers=self.workers,
                collate_fn=self.collate,
                worker_init_fn=partial(_begin_worker, os.getpid()),
                generator=torch.Generator(),  # or it would draw from everybody's
                **ahead,
            )
        )


class _Numbered(Dataset):
    def __init__(self, make: Callable[[int], Any]):
        self.make = make

    def __getitem__(self, number: int) -> Any:
        return self.make(number)


class _FromStep(Sampler[list[int]]):
    """The numbers of a share's parts, from a step on, for ever."""

    def __init__(self, step: int, share: Share, batch: int):
        self.first, self.share, self.batch = step, share, batch

    def __iter__(self) -> Iterator[list[int]]:
        for step in count(self.first):
            yield from ((step * self.batch + places).tolist() for places in self.share)


def _begin_worker(training: int, _: int) -> None:
    os.setpgrp()  # Ctrl-C, and whatever else ends a whole group, is for the training to hear, which then pauses
    threading.Thread(target=_end_with, args=(training,), daemon=True).start()


def _end_with(training: int) -> None:
    """Ends this process soon after the training's, even if that is killed while this one waits to hand on a batch."""
    while os.getppid() == training:
        time.sleep(WATCH_SECONDS)
    os._exit(1)
