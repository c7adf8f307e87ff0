"""Draws pictures on all cores, by loky's processes, which write them into one .npy file.

loky, because its processes do not run the main program again, which a notebook or an app without a main guard would not
survive, and because it tells when one of them dies.
"""

import os
from collections.abc import Callable
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import loky
import numpy as np

from sd_core.errors import DataError
from sd_core.progress import OnProgress, unwatched

PICTURES_PER_WORKER = 64  # fewer are drawn sooner than one more process starts
AT_A_TIME = 4  # pictures that a process draws between two reports
IDLE_SECONDS = 5  # after which a process ends whose program was killed

Draw = Callable[[int], tuple[np.ndarray, str]]


def draw_in_processes(path: Path, draw: Draw, count: int, side: int, progress: OnProgress = unwatched) -> list[str]:
    """Draws pictures into a new file.

    Args:
        path: of the file, uint8 [count, side, side, 3].
        draw: the picture of an index, uint8 [side, side, 3], and its caption; a function that can be pickled.
        count: how many.
        side: of each, in pixels.
        progress: called now and then with (pictures done, pictures in all). What it raises stops the drawing.

    Returns:
        Their captions.

    Raises:
        DataError: a process has died, or a package is missing.
    """
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, side, side, 3)).flush()
    parts = [range(first, min(first + AT_A_TIME, count)) for first in range(0, count, AT_A_TIME)]
    workers = min(loky.cpu_count(), -(-count // PICTURES_PER_WORKER))
    # They leave the group of this process, so that Ctrl-C in a shell is heard here alone. Windows has no such groups.
    alone = getattr(os, "setpgrp", None)
    pool = loky.ProcessPoolExecutor(workers, timeout=IDLE_SECONDS, initializer=alone)
    try:
        drawing = {pool.submit(_draw_part, path, draw, part): len(part) for part in parts}
        done = 0
        for future in as_completed(drawing):
            future.result()
            done += drawing[future]
            progress(done, count)
        return [caption for future in drawing for caption in future.result()]
    except (BrokenProcessPool, ImportError) as error:
        why = error if isinstance(error, ImportError) else "a process that drew them has died"
        raise DataError(
            f"The characters could not be drawn ({why}); check that the requirements are installed, and that there is "
            f"room in memory and on the disk."
        ) from error
    finally:
        pool.shutdown(kill_workers=True)


def _draw_part(path: Path, draw: Draw, part: range) -> list[str]:
    pixels = np.lib.format.open_memmap(path, mode="r+")
    captions = []
    for index in part:
        pixels[index], caption = draw(index)
        captions.append(caption)
    return captions
