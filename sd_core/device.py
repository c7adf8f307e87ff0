"""Which accelerator, which number format, and what pays on it."""

import os
import sys
from contextlib import nullcontext

import torch

from sd_core.errors import UserError
from sd_core.threads import THREADS


def best_device() -> torch.device:
    """The machine's accelerator, or its CPU. The environment variable SD_CORE_DEVICE overrides it."""
    if name := os.environ.get("SD_CORE_DEVICE"):
        try:
            return torch.device(name)
        except RuntimeError as error:
            raise UserError(f"SD_CORE_DEVICE is {name!r}, but must be cpu, cuda, cuda:1 or the like.") from error
    if torch.accelerator.is_available():
        device = torch.accelerator.current_accelerator()
        if (local := os.environ.get("LOCAL_RANK")) and device.type == "cuda":  # torchrun: each process has its own
            torch.accelerator.set_device_index(int(local))
            return torch.device(device.type, int(local))
        return device
    return torch.device("cpu")


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32 there: on a CPU only if it multiplies such numbers itself, in tiles (AMX)
    or in vectors (AVX-512); others emulate it.

    Asked of the processor, not of a clock: a run must go on after a pause as it began, however busy the machine is."""
    if device.type == "cpu":  # for which torch has no public name in all its versions
        return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def autocast(device: torch.device, enabled: bool = True):
    """A context for a step of training, and for a network that is asked once and whose rounding no later step makes
    worse: matrix work runs in bfloat16 where that is faster, and on a CPU in as many threads as others leave room for.
    Nothing changes elsewhere."""
    if device.type == "cpu":
        THREADS.fit()
    if enabled and has_fast_bf16(device):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def inference_autocast(device: torch.device):
    """The same for a walk of many steps. CPUs stay at float32, so that a seed gives the same picture on all, in any
    batch."""
    return autocast(device, enabled=device.type != "cpu")


def compile_pays(device: torch.device) -> bool:
    """Whether `torch.compile` earns back its compile time in a training run: on CUDA it does; see benchmarks/LOG.md."""
    return device.type == "cuda"


def synchronize(device: torch.device) -> None:
    """Waits for work in flight, so that a clock read next is honest."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def memory_taken(device: torch.device) -> int:
    """The most bytes that this process has taken so far: of a GPU's memory, or else of the machine's; 0 if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def describe(device: torch.device) -> str:
    """The device in words, for logs and the page."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"CPU, {torch.get_num_threads()} threads"
    return device.type.upper()
