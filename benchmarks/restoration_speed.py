"""How long a repair takes in one step, and how much memory: each size in a process of its own.

python -m benchmarks.restoration_speed
"""

import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from benchmarks import common
from sd_core.environment import CHECKPOINTS
from sd_core.models import checkpoint
from sd_core.restoration.pipeline import restore
from sd_core.restoration.request import RestoreRequest, Restoring

CASES = {  # width, height, pixels across of a scratch (None: the whole picture), target
    "512×512": (512, 512, None, "1 s"),
    "2000×2000": (2000, 2000, None, "linear in pixels"),
    "40 megapixels": (8000, 5000, None, "at most 3 GB"),
    "a 50-pixel scratch on 4000×3000": (4000, 3000, 50, "3 s"),
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
    for case, (width, height, _, target) in CASES.items():
        command = [sys.executable, "-m", "benchmarks.restoration_speed", "--case", case]
        command += ["--model", str(options.model), "--device", str(options.device)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        speed = width * height / found["seconds"] / 1e6
        rows.append([case, f"{found['seconds']:.2f} s", f"{speed:.2f}", f"{found['gigabytes']:.2f} GB", target])
    header = ["picture", "one step", "megapixels/s", "peak memory of the process", "target"]
    text = f"The median of {REPEATS} repairs, or of as many as it takes to fill {ENOUGH} seconds.\n\n"
    text += common.table(header, rows)
    command = "python -m benchmarks.restoration_speed"
    common.report("restoration-speed", "Restoring: time and memory", command, text, options.device, options.results)


def measured(options) -> dict[str, float]:
    """Median seconds of a repair, the model being loaded and warm, and the process's peak memory."""
    width, height, scratch, _ = CASES[options.case]
    model = checkpoint.load(options.model, options.device)
    picture = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8)
    if scratch:
        mask = torch.zeros(height, width, dtype=torch.bool)
        mask[1500:1503, 2000 : 2000 + scratch] = True
        request = RestoreRequest(mask=mask)
    else:
        request = RestoreRequest(whole=True)
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
