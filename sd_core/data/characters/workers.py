"""Draws characters on all cores: a process per core, each writing its share of the pictures into one .npy file.

These are plain subprocesses (`python -m sd_core.data.characters.draw`), because multiprocessing's would run the main
program again on start, which a notebook or an app without a main guard does not survive.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

import numpy as np

from sd_core.errors import DataError

_PICTURES_PER_WORKER = 64  # fewer are drawn sooner than one more process starts


def draw_in_processes(path: Path, job: Mapping[str, Any], progress: Callable[[int, int], None] | None) -> list[str]:
    """Draw the pictures of `job` into a new file `path` (uint8 [count, R, R, 3]); returns their captions.

    job: styles, first_seed, resolution, count. Raises DataError when a worker fails; stopping early stops the workers.
    """
    count, side = job["count"], job["resolution"]
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, side, side, 3)).flush()
    captions = [""] * count
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(cores, -(-count // _PICTURES_PER_WORKER))
    reports: SimpleQueue[tuple[int, str] | None] = SimpleQueue()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        processes = [_start(path, {**job, "worker": w, "workers": workers}, errors) for w in range(workers)]
        try:
            for process in processes:
                Thread(target=_listen, args=(process, reports), daemon=True).start()
            running, done = workers, 0
            while running:
                report = reports.get()
                if report is None:
                    running -= 1
                    continue
                index, captions[index] = report
                done += 1
                if progress is not None:
                    progress(done, count)
        finally:
            for process in processes:
                process.kill()
                process.wait()
        if done != count:
            errors.seek(0)
            reason = (errors.read().strip().splitlines() or ["a drawing process ended early"])[-1]
            raise DataError(f"The characters could not be drawn ({reason}); check that the requirements are installed.")
    return captions


def _start(path: Path, share: Mapping[str, Any], errors: Any) -> subprocess.Popen[str]:
    source = str(Path(__file__).resolve().parents[3])
    paths = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "sd_core.data.characters.draw", str(path), json.dumps(share)]
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONIOENCODING": "utf-8"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, encoding="utf-8", env=environment)


def _listen(process: subprocess.Popen[str], reports: SimpleQueue[tuple[int, str] | None]) -> None:
    """Pass on a worker's lines, [index, caption] each, then None."""
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            try:
                index, caption = json.loads(line)
            except ValueError:  # the last line of a killed worker may be cut off
                break
            reports.put((index, caption))
    reports.put(None)
