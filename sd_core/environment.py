"""Where this machine keeps what it makes, how many runs work at a time, and how threads wait: read from this process's
environment, or set in it."""

import os
from pathlib import Path

from sd_core.errors import RunError

CHECKPOINTS = Path(__file__).parent.parent / "checkpoints"

# How many turns of a loop the threads of GNU OpenMP, which torch for Linux brings, wait awake for one another before
# they sleep (300,000 if unset): long enough for the gaps between two layers, too short to hold a processor that others
# need. See benchmarks/contention.py.
SPINS = {"GOMP_SPINCOUNT": "1000"}
CHOSEN = ("OMP_WAIT_POLICY", *SPINS)


def runs_folder() -> Path:
    """Where training runs are. The environment variable SD_CORE_RUNS overrides it."""
    return Path(os.environ.get("SD_CORE_RUNS") or "runs")


def default_cache() -> Path:
    """Where prepared pictures are kept: $SD_CORE_CACHE, else ~/.cache/sd_core."""
    return Path(os.environ.get("SD_CORE_CACHE") or Path.home() / ".cache" / "sd_core")


def checkpoints_folder() -> Path:
    """Where released models are. The environment variable SD_CORE_CHECKPOINTS overrides it."""
    return Path(os.environ.get("SD_CORE_CHECKPOINTS") or CHECKPOINTS)


def runs_at_once() -> int:
    """How many runs work at a time on this machine. The environment variable SD_CORE_RUNS_AT_ONCE sets it.

    Raises:
        RunError: it says no whole number above 0.
    """
    said = os.environ.get("SD_CORE_RUNS_AT_ONCE") or "1"
    if not (said.isascii() and said.isdigit() and int(said)):
        raise RunError(f"SD_CORE_RUNS_AT_ONCE is {said!r}, but must be a whole number above 0.")
    return int(said)


def limit_spinning() -> None:
    """Lets threads that wait sleep soon, so that the program stays fast beside others. OpenMP reads this as torch loads
    it. Nothing changes where the user has set how threads wait."""
    if not any(name in os.environ for name in CHOSEN):
        os.environ |= SPINS
