"""What the benchmarks share: naming the machine, tables, and RESULTS.md, in which each benchmark owns its sections."""

import os
import platform
import re
import statistics
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from sd_core.device import best_device, synchronize
from sd_core.pictures.metrics import DATA_RANGE

RESULTS = Path(__file__).parent / "RESULTS.md"
PANELS = Path(__file__).parent / "panels"
LONG, FEW = 30, 3
WARM_UPS = 3  # on accelerators, where programs are compiled and kernels chosen as shapes are met
_TITLE = "# Measured results\n\nEvery section is written by the command it names; the machine is named with it.\n"


def parser(docstring: str) -> ArgumentParser:
    """A command line that explains itself by its file's docstring, with the options all benchmarks have."""
    made = ArgumentParser(description=docstring, formatter_class=RawDescriptionHelpFormatter)
    made.add_argument("--device", type=torch.device, default=best_device(), help="cpu, cuda, ...; the best there is")
    made.add_argument("--results", type=Path, default=RESULTS, help="the file whose section is replaced")
    return made


def machine(device: torch.device | str = "cpu") -> str:
    """The machine in one line: processor, cores, accelerator if used, and the version of torch."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [f"{_processor()}, {cores} cores"]
    if torch.device(device).type == "cuda":
        parts.insert(0, torch.cuda.get_device_name(device))
    return "; ".join([*parts, f"torch {torch.__version__}", f"{torch.get_num_threads()} threads"])


def psnr(pictures: Tensor, originals: Tensor) -> Tensor:
    """Peak signal-to-noise ratio [B] of pictures [B, 3, H, W] in [-1, 1], in dB: higher is closer, infinite equal."""
    error = (pictures.double() - originals.double()).square().flatten(1).mean(1)
    return (10 * (DATA_RANGE**2 / error).log10()).float()


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A markdown table, padded so that it also reads well in a terminal."""
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in (header, *rows)]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def update_results(section: str, markdown: str, path: Path = RESULTS) -> None:
    """Replaces what `path` says under the name `section`, or adds it at the end; everything else stays as it is."""
    if not re.fullmatch(r"[a-z0-9-]+", section):
        raise ValueError(f"A section is named in lower case with hyphens, not {section!r}.")
    begin, end = f"<!-- {section}: begin -->", f"<!-- {section}: end -->"
    block = f"{begin}\n{markdown.strip()}\n{end}\n"
    text = path.read_text("utf-8") if path.exists() else _TITLE
    before, found, rest = text.partition(begin)
    if found:
        _, closed, after = rest.partition(end + "\n")
        if not closed:
            raise ValueError(f"{path} has no end of section {section}.")
        text = before + block + after
    else:
        text = f"{text.rstrip()}\n\n{block}"
    work = path.with_suffix(".tmp")
    work.write_text(text, "utf-8")
    os.replace(work, path)


def report(section: str, title: str, command: str, body: str, device: torch.device | str, path: Path = RESULTS) -> None:
    """Prints a benchmark's result and keeps it: title, machine, the command that made it, and `body`."""
    today = time.strftime("%Y-%m-%d")
    markdown = f"## {title}\n\n{machine(device)}. Measured {today} by `{command}`.\n\n{body}"
    print("\n" + markdown)
    update_results(section, markdown, path)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """How long `work` takes, with nothing of it left in flight."""
    synchronize(device)
    started = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - started


def interleaved(
    ours: Callable[[], object], theirs: Callable[[], object], repeats: int, device: torch.device
) -> tuple[float, float, float]:
    """Times both in turn, A B A B ..., once both are warm, so that what else the machine does hits both alike.

    Of pairs that take longer than LONG seconds, FEW are enough: what disturbs a clock is short.

    Returns (median seconds of ours, median seconds of theirs, median of theirs / ours over the pairs).
    """
    for _ in range(1 if device.type == "cpu" else WARM_UPS):
        ours()
        theirs()
    pairs: list[tuple[float, float]] = []
    while len(pairs) < (min(repeats, FEW) if pairs and sum(pairs[-1]) > LONG else repeats):
        pairs.append((seconds(ours, device), seconds(theirs, device)))
    a, b = zip(*pairs, strict=True)
    return statistics.median(a), statistics.median(b), statistics.median(y / x for x, y in pairs)
