"""The queue of runs: some work at a time, by default one, and the others wait for their turn, in order.

The queue is in the runs' folders (`queued` in the status, a ticket in `control.json`), so it survives whatever dies. A
small process, the keeper, starts a trainer for whoever comes next and tells why a trainer ended that could not tell
itself. It lives as long as there is something to keep, with or without the app; whoever queues a run, and every
trainer that ends, sees to it that there is one. That no more runs work than may is not left to it: a trainer works only
while it holds one of the `slots`, which are locks and so are given back by the system when it dies.

    python -m sd_core.runs.queue FOLDER
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from sd_core.environment import runs_at_once
from sd_core.errors import RunError
from sd_core.runs.run import SURE_SECONDS, Run, Status, is_held

NICENESS = 10  # of processes that nobody waits for at a prompt, by default: whoever uses the page comes first
KEEP_SECONDS = 0.5  # between two looks of the keeper
TURN_SECONDS = 0.5  # between two looks of a process that waits for its turn
QUEUE = ".queue"  # the folder, beside the runs, of the queue's locks
PROGRAM = Path(__file__).parents[2]

keepers: list[subprocess.Popen] = []  # that this process started: to be reaped


# For whoever has a wish


def waiting(root: Path) -> list[Run]:
    """The runs in the queue, the next one first."""
    found = []
    for run in Run.all(root):
        with suppress(RunError):
            if run.known_status().state == "queued" and (ticket := run.control().ticket):
                found.append((ticket, run.name, run))
    return [run for _, _, run in sorted(found, key=lambda entry: entry[:2])]


def working(root: Path) -> list[Run]:
    """The runs that a process works on."""
    found = []
    for run in Run.all(root):
        with suppress(RunError):
            if run.known_status().state == "running" and run.is_worked_on():
                found.append(run)
    return found


def free_places(root: Path) -> int:
    """How many of the runs in the queue may start now."""
    return max(0, runs_at_once() - len(working(root)))


def enqueue(run: Run, steps: int | None = None) -> None:
    """Puts a run at the end of the queue, perhaps with another total of steps. One that waits keeps its place; one that
    is at work is only told of the steps.

    Raises:
        RunError: its configuration cannot be read, or it is on its way to an end.
    """
    run.config()
    root = run.folder.parent
    with _lock(root, "order"):
        held = run.is_worked_on(SURE_SECONDS)
        if held and steps is None and run.control().wish == "run":
            raise RunError("{name} is being worked on already.", name=run.name)
        if held and run.known_status().state == "running":
            run.wish("run", steps)  # a process that has not got to a pause yet forgets it
            return
        state = run.known_status()
        placed = state.state == "queued" and run.control().ticket
        run.wish("run", steps, run.control().ticket if placed else _next_ticket(root))
        run.write_status(replace(state, state="queued", reason="", steps=run.control().steps))
    ensure_keeper(root)


def join(run: Run) -> None:
    """Gives the run that this process holds, or is about to, a place in the queue if it has none."""
    root = run.folder.parent
    with _lock(root, "order"):
        state = run.known_status()
        if not (state.state == "queued" and run.control().ticket):
            run.wish(run.control().wish, ticket=_next_ticket(root))
            run.write_status(replace(state, state="queued", reason=""))


def ask(run: Run, wish: str) -> None:
    """Asks for "pause" or "stop". A run in the queue that nobody works on yet leaves it at once."""
    with _lock(run.folder.parent, "order"):
        run.wish(wish)
        state = run.known_status()
        if state.state == "queued" and not run.is_worked_on(SURE_SECONDS):
            run.write_status(replace(state, state={"pause": "paused", "stop": "stopped"}[wish]))


def leave(run: Run, status: Status) -> None:
    """Writes the last status of a run whose process ends. One that was paused or stopped waits for its turn again, if
    somebody has wished since for it to go on; so does one that has finished, if somebody has wished for more steps."""
    with _lock(run.folder.parent, "order"):
        control = run.control()
        more = status.state == "finished" and not status.reason and control.steps > status.step
        if (status.state in ("paused", "stopped") or more) and control.wish == "run":
            run.wish("run", ticket=_next_ticket(run.folder.parent))
            status = replace(status, state="queued")
        run.write_status(status)


def ensure_keeper(root: Path) -> None:
    """Starts the keeper, if runs wait and there is none. It outlives this process."""
    keepers[:] = [keeper for keeper in keepers if keeper.poll() is None]
    if not waiting(root) or is_held(_lock(root, "keeper")):
        return
    keeper = subprocess.Popen(
        [sys.executable, "-m", "sd_core.runs.queue", str(root.resolve())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd=PROGRAM,
    )
    keepers.append(keeper)


def _next_ticket(root: Path) -> int:
    tickets = [0]  # counted, not timed: clocks jump
    for run in Run.all(root):
        with suppress(RunError):
            tickets.append(run.control().ticket)
    return 1 + max(tickets)


def _lock(root: Path, name: str) -> FileLock:
    folder = root / QUEUE
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / name, is_singleton=False)


# For a process that works on a run


def wait_for_turn(run: Run, left: Callable[[], bool]) -> FileLock | None:
    """Waits until no run is before this one and a slot is free, and returns the slot, to be released after the work.

    None when `left()` says that somebody wishes otherwise.
    """
    root = run.folder.parent
    while not left():
        names = [each.name for each in waiting(root)]
        before = names.index(run.name) if run.name in names else 0
        if before < free_places(root) and (slot := _free_slot(root)):
            return slot
        if before:  # by somebody who needs a keeper
            ensure_keeper(root)
        time.sleep(TURN_SECONDS)
    return None


def _free_slot(root: Path) -> FileLock | None:
    for number in range(runs_at_once()):
        slot = _lock(root, f"slot-{number}")
        with suppress(Timeout):
            slot.acquire(timeout=0)
            return slot
    return None


# The keeper


def keep(root: Path) -> None:
    """Starts whoever comes next, as long as runs wait or its own trainers work."""
    # Looked at again after each release: whoever queued a run and found the keeper there relies on it.
    while waiting(root):
        try:
            with _lock(root, "keeper").acquire(timeout=SURE_SECONDS):  # whoever looks at it holds it for a moment
                _serve(root)
        except Timeout:
            return


def _serve(root: Path) -> None:
    trainers: dict[Run, tuple[int, subprocess.Popen]] = {}
    while True:
        for run, (ticket, process) in list(trainers.items()):
            if process.poll() is not None:
                del trainers[run]
                _tell_end(run, ticket, process.returncode)
        ours = {run.name for run in trainers}
        free = runs_at_once() - len(ours | {run.name for run in working(root)})
        queue = [run for run in waiting(root) if run.name not in ours]
        for run in queue[: max(0, free)]:
            with suppress(RunError, OSError):  # deleted at this moment
                if not run.is_worked_on():  # else a process waits for its turn by itself
                    trainers[run] = run.control().ticket, _start(run)
        if not trainers and not queue:
            return
        time.sleep(KEEP_SECONDS)


def _start(run: Run) -> subprocess.Popen:
    with open(run.folder / "log.txt", "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "sd_core", "train", "--run", str(run.folder), "--queued", "--quiet"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=PROGRAM,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )


def _tell_end(run: Run, ticket: int, code: int) -> None:
    """Tells why a process ended that could not tell itself: it was killed, or never came as far as the run."""
    with suppress(RunError, OSError), _lock(run.folder.parent, "order"):
        status = run.known_status()
        unasked = status.state == "queued" and run.control().ticket == ticket
        if (unasked or status.state == "running") and not run.is_worked_on(SURE_SECONDS):
            run.write_status(replace(status, state="failed", reason=_last_words(run, code)))


def _last_words(run: Run, code: int) -> str:
    if code == -signal.SIGKILL:
        return "Its process was killed (SIGKILL), perhaps for want of memory; it can be resumed."
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        return f"Its process was ended from outside ({name}); it can be resumed."
    return f"Its process ended early: {run.log(1) or f'exit code {code}'}"


def _be_polite() -> None:
    """Yields to others as much as the environment variable SD_CORE_NICENESS says, from 0 to 19."""
    said = os.environ.get("SD_CORE_NICENESS") or ""
    niceness = min(19, int(said)) if said.isascii() and said.isdigit() else NICENESS
    with suppress(OSError, AttributeError):  # a system without priorities
        os.nice(niceness)
    with suppress(OSError):  # Linux weighs whole sessions against one another, whatever the niceness inside them
        Path("/proc/self/autogroup").write_text(str(niceness))


if __name__ == "__main__":
    _be_polite()
    keep(Path(sys.argv[1]))
