"""Computes on a GPU that ZeroGPU hardware lends for the moment; does nothing special anywhere else.

There, a function that `spaces.GPU` decorates is called in a forked process, which alone has the GPU. What goes in and
comes out is pickled, so jobs are plain functions, and tensors cross as arrays: as tensors they would share memory, or a
GPU, with a process that may be gone. The app's own process keeps its models on the CPU and never touches CUDA.
https://huggingface.co/docs/hub/spaces-zerogpu
"""

from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from copy import copy
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from sd_core.models.registry import ModelRegistry
from tabs.common.errors import plain_error
from tabs.common.hosting import is_zero_gpu
from tabs.common.jobs import Line, line_for

T = TypeVar("T")
START_SECONDS = 15  # for a process, CUDA and a model
PIXELS_PER_SECOND = 8_000_000  # on the safe side: who asks for less is served sooner, who takes longer is cut off
MOST_SECONDS = 120

spaces = None
if is_zero_gpu():
    with suppress(ImportError):
        import spaces  # app.py has imported it already, before torch


def new_registry() -> ModelRegistry:
    """The models of the app's own process."""
    return ModelRegistry(device=torch.device("cpu")) if spaces else ModelRegistry()


def line(registry: ModelRegistry) -> Line:
    """The line that a job waits in: the one of its device, or that of the GPUs lent, which ZeroGPU keeps itself."""
    return Line() if spaces else line_for(registry.device)


def compute(registry: ModelRegistry, job: Callable[..., Iterator[T]], args: tuple, pixels: int) -> Iterator[T]:
    """What `job(registry, *args)` yields, computed where the computing is done.

    Args:
        job: a function of a module, which makes the sd_core generator.
        args: what it takes: numbers, tuples, tensors on the CPU, dataclasses of these, and functions of a module.
        pixels: how many a model computes for it, for the time that a GPU is lent.
    """
    if not spaces:
        yield from job(registry, *args)
        return
    folders = (registry.checkpoints, registry.runs)
    with closing(_on_gpu(job, _mapped(args, _to_array), folders, pixels)) as items:
        for item in items:
            yield _mapped(item, _to_tensor)


def _seconds(job: Callable, args: tuple, folders: tuple[Path, Path], pixels: int) -> int:
    """How long the GPU is wanted."""
    return min(MOST_SECONDS, START_SECONDS + pixels // PIXELS_PER_SECOND)


def _in_its_process(job: Callable, args: tuple, folders: tuple[Path, Path], pixels: int) -> Iterator:
    """Does the job where the GPU is. Of other errors than Gradio's own, only the kind would come back."""
    try:
        for item in job(_its_registry(*folders), *_mapped(args, _to_tensor)):
            yield _mapped(item, _to_array)
    except Exception as error:
        raise plain_error(error) from error


@cache
def _its_registry(checkpoints: Path, runs: Path) -> ModelRegistry:
    """The models of the process that has the GPU, for as long as it is kept for further jobs."""
    return ModelRegistry(checkpoints, runs)


_on_gpu = spaces.GPU(duration=_seconds)(_in_its_process) if spaces else None


def _mapped(value, change: Callable):
    """A value with `change` done to what is in its tuples and dataclasses."""
    if isinstance(value, tuple):
        return tuple(_mapped(each, change) for each in value)
    if is_dataclass(value):
        mapped = copy(value)
        for field in fields(value):  # past whatever checks the values: they are on their way only
            object.__setattr__(mapped, field.name, _mapped(getattr(value, field.name), change))
        return mapped
    return change(value)


def _to_array(value):
    return value.cpu().numpy() if isinstance(value, Tensor) else value


def _to_tensor(value):
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value
