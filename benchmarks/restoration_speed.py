"""How long a repair takes, in one step and in several, and how much memory: each size in a process of its own.

python -m benchmarks.restoration_speed
"""

import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks import common
from sd_core.environment import CHECKPOINTS
from sd_core.models import checkpoint
from sd_core.restoration.pipeline import restore
from sd_core.restoration.request import RestoreRequest, Restoring


@dataclass(frozen=True)
class Case:
    """A picture of `width` by `height` pixels. A scratch of 3 by `scratch` pixels lies at each of `places` (row,
    column); without any, it is cleaned as a whole."""

    width: int
    height: int
    target: str
    places: tuple[tuple[int, int], ...] = ()
    scratch: int = 50
    steps: int = 1

    def request(self) -> RestoreRequest:
        if not self.places:
            return RestoreRequest(whole=True, steps=self.steps)
        mask = torch.zeros(self.height, self.width, dtype=torch.bool)
        for row, column in self.places:
            mask[row : row + 3, column : column + self.scratch] = True
        return RestoreRequest(mask=mask, steps=self.steps)


CASES = {
    "512×512": Case(512, 512, "1 s"),
    "2000×2000": Case(2000, 2000, "linear in pixels"),
    "40 megapixels": Case(8000, 5000, "at most 3 GB"),
    "a 50-pixel scratch on 4000×3000": Case(4000, 3000, "3 s", ((1500, 2000),)),
    "two scratches in opposite corners of 40 megapixels, 4 steps": Case(
        8000, 5000, "2 GB", ((10, 20), (4987, 7930)), steps=4
    ),
    "the whole of 40 megapixels, 2 steps": Case(8000, 5000, "2 GB", steps=2),
}
REPEATS, ENOUGH = 9, 10  # a case is repeated so often, or until so many seconds have gone


def main(arguments: Sequence[str] | None = None) -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--model", type=Path, default=CHECKPOINTS / "restorer")
    parser.add_argument("--case", choices=CASES, help="measure this alone, in this process, and print it as JSON")
    options = parser.parse_args(arguments)
    if options.case:
        print(json.dumps(measured(options)))
        return
    rows = []
    for name, case in CASES.items():
        command = [sys.executable, "-m", "benchmarks.restoration_speed", "--case", name]
        command += ["--model", str(options.model), "--device", str(options.device)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        speed = case.width * case.height / found["seconds"] / 1e6
        rows.append([name, f"{found['seconds']:.2f} s", f"{speed:.2f}", f"{found['gigabytes']:.2f} GB", case.target])
    header = ["picture", "a repair", "megapixels/s", "peak memory of the process", "target"]
    text = f"The median of {REPEATS} repairs, or of as many as it takes to fill {ENOUGH} seconds.\n\n"
    text += common.table(header, rows)
    command = "python -m benchmarks.restoration_speed"
    common.report("restoration-speed", "Restoring: time and memory", command, text, options.device, options.results)


def measured(options) -> dict[str, float]:
    """Median seconds of a repair, the model being loaded and warm, and the process's peak memory."""
    case = CASES[options.case]
    model = checkpoint.load(options.model, options.device)
    picture, request = torch.randint(0, 256, (case.height, case.width, 3), dtype=torch.uint8), case.request()
    _exhaust(restore(model, picture[:512, :512], RestoreRequest(whole=True)))
    times = []
    while len(times) < REPEATS and sum(times) < ENOUGH:
        times.append(common.seconds(lambda: _exhaust(restore(model, picture, request)), options.device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": statistics.median(times), "gigabytes": peak / 2**20}


def _exhaust(repair: Iterator[Restoring]) -> None:
    for _ in repair:  # none is kept, which would count as the repair's memory
        pass


if __name__ == "__main__":
    main()
