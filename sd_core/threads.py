"""As many threads as there are free processors, so that the program stays fast where others work too.

A layer is done when its last thread is, and a thread whose processor another program holds waits for milliseconds where
the layer takes a fraction of one. Beside one busy program, two threads on two processors train at a tenth of their
speed, one thread at two thirds of it; see benchmarks/contention.py.
"""

import os
import time
from pathlib import Path

import torch

LOOK_SECONDS = 0.2  # between two looks: the system counts processor time in hundredths of a second
STALE_SECONDS = 2.0  # after which the time since the last look says little about now
ROOM = 0.7  # of a processor that others may take before it counts as taken: who makes our examples takes half of one
STATISTICS = Path("/proc/stat")  # Linux; elsewhere the threads stay as they are


class FittingThreads:
    """The threads of this process's work on the CPU: as many as torch has at first, fewer while others need processors.
    torch counts them for each thread that calls it, so each has to `fit`, and all share one look at the machine.

    Their number changes how sums are rounded. Who wants a training to be repeatable to the last bit sets
    OMP_NUM_THREADS, which is obeyed.
    """

    def __init__(self, statistics: Path = STATISTICS):
        self.statistics = statistics
        self._most: int | None = None  # None before the first look
        self._fitting = 1  # how many were found to fit
        self._looked = self._busy = self._own = 0.0  # when, and which processor times were read then

    def fit(self) -> None:
        """Sets the threads that torch takes for this one. Cheap enough to be called before each step of any work."""
        if self._most is None:
            found = "OMP_NUM_THREADS" not in os.environ and self.statistics.exists()
            self._most = self._fitting = torch.get_num_threads() if found else 1
        if self._most == 1:  # set by whoever started this, or nothing is known: they stay as they are
            return
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._fitting = max(1, min(self._most, int(self._look(now) + ROOM)))
        if torch.get_num_threads() != self._fitting:
            torch.set_num_threads(self._fitting)

    def _look(self, now: float) -> float:
        """The processors that others leave free."""
        busy, running, processors = self._read()
        own, since = time.process_time(), now - self._looked
        taken = (busy - self._busy - (own - self._own)) / since if since < STALE_SECONDS else running - 1
        self._looked, self._busy, self._own = now, busy, own
        return processors - taken

    def _read(self) -> tuple[float, int, int]:
        """Of the machine: seconds that its processors were busy, threads that want one now, and its processors."""
        lines = self.statistics.read_text().splitlines()
        user, nice, system, _idle, _wait, interrupts, soft, stolen = map(int, lines[0].split()[1:9])
        busy = (user + nice + system + interrupts + soft + stolen) / os.sysconf("SC_CLK_TCK")
        running = next(int(line.split()[1]) for line in lines if line.startswith("procs_running"))
        return busy, running, sum(line.startswith("cpu") for line in lines) - 1


THREADS = FittingThreads()
