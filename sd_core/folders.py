"""Where this machine keeps what it makes: training runs, and prepared pictures."""

import os
from pathlib import Path


def runs_folder() -> Path:
    """Where training runs are. The environment variable SD_CORE_RUNS overrides it."""
    return Path(os.environ.get("SD_CORE_RUNS") or "runs")


def default_cache() -> Path:
    """Where prepared pictures are kept: $SD_CORE_CACHE, else ~/.cache/sd_core."""
    return Path(os.environ.get("SD_CORE_CACHE") or Path.home() / ".cache" / "sd_core")
