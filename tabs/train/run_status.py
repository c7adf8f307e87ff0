"""What the page says of a run, read from its folder: its state in words, and its curves thinned for a chart."""

import functools
import html
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import gradio as gr

from sd_core.errors import RunError
from sd_core.runs.queue import free_places, waiting
from sd_core.runs.run import Run, Status
from tabs.common.errors import sentence_for
from tabs.common.progress import bar_line
from tabs.common.words import say
from tabs.train.chart import Curve

POINTS = 400  # of each curve: more than a chart has pixels for are of no use
COLOURS = ("#6366f1", "#f59e0b", "#10b981", "#ec4899")
READ = 2000  # metric lines looked at, spread over the whole run
HALF_LIFE = 0.02  # of the smoothed curve, as a share of the run
SETTLED_NS = 2_000_000_000  # after which a folder's time of change tells of every later one, however coarse its clock


@dataclass(frozen=True)
class Standing:
    """How a run stands, looked at once. `working` says whether a process is at it; `state` names its state in the
    page's words, which are more than the folder's; `before` counts the runs before it in the queue."""

    name: str
    status: Status
    working: bool
    state: str
    before: int = 0

    @classmethod
    def of(cls, run: Run, queue: list[str] | None = None, free: int | None = None) -> "Standing":
        """How `run` stands, given the names of the runs in the `queue` and how many of them may start."""
        try:
            status = run.status()
        except RunError as error:
            return cls(run.name, Status("failed", str(error)), False, "failed")
        root = run.folder.parent
        queue = [each.name for each in waiting(root)] if queue is None else queue
        queued = status.state == "queued" and run.name in queue
        before = queue.index(run.name) if queued else 0
        free = (free_places(root) if free is None else free) if queued else 0
        working = queued or status.state == "running"
        if queued:
            state = "starting" if before < free else "waiting"
        elif working and (wished := run.control().wish) != "run":
            state = {"pause": "pausing", "stop": "stopping"}[wished]
        elif status.state == "running" and status.pictures:
            state = "preparing"
        elif status.state == "running" and status.draws:
            state = "drawing"
        else:
            state = status.state
        return cls(run.name, status, working, state, before + 1 - free if state == "waiting" else 0)

    def word(self, visitor: gr.Request | None) -> str:
        """Its state, with what changes at every look."""
        return say(visitor, f"state_{self.state}", before=self.before, **asdict(self.status))

    def short_word(self, visitor: gr.Request | None) -> str:
        """Its state, without that."""
        state = self.state if self.state in ("starting", "waiting") or not self.working else "running"
        return say(visitor, f"state_{state}", before=self.before)


def all_standings(runs: list[Run]) -> dict[str, Standing]:
    """How each of the runs stands, by name."""
    if not runs:
        return {}
    root = runs[0].folder.parent
    queue = [run.name for run in waiting(root)]
    free = free_places(root) if queue else 0
    return {run.name: Standing.of(run, queue, free) for run in runs}


def is_on_chart(standing: Standing, step: int) -> bool:
    """Whether a chart that was drawn at `step` shows the run as it is: of a run at work, what is less than one of the
    chart's points can wait."""
    now = standing.status.step
    return now == step or (standing.working and 0 <= step < now < step + now / POINTS)


def grids_of(run: Run) -> list[Path]:
    """Its sample grids, oldest first, listed only when there are others than at the last look."""
    folder = run.folder / "samples"
    try:
        changed = folder.stat().st_mtime_ns
    except OSError:
        return []
    return list(_listed(folder, changed)) if time.time_ns() - changed > SETTLED_NS else run.samples()


@functools.lru_cache(maxsize=256)
def _listed(folder: Path, changed: int) -> tuple[Path, ...]:
    return tuple(Run(folder.parent).samples())


def loss_curves(lines: list[dict], visitor: gr.Request | None) -> list[Curve]:
    """The loss over the steps, as logged and smoothed, from lines of `Run.metrics`."""
    steps, losses = losses_of(lines)
    raw, smooth = say(visitor, "series_raw"), say(visitor, "series_smooth")
    return [thin_curve(raw, steps, losses, COLOURS[0], True), thin_curve(smooth, steps, smoothed(losses), COLOURS[0])]


def losses_of(lines: list[dict]) -> tuple[list[int], list[float]]:
    """The steps and losses of metric lines that have one."""
    kept = [line for line in lines if isinstance(line.get("loss"), int | float)]
    return [line["step"] for line in kept], [line["loss"] for line in kept]


def thin_curve(name: str, steps: list[int], values: list[float], colour: str, faint: bool = False) -> Curve:
    """A curve of at most `POINTS` points."""
    points = thinned(list(zip(steps, values, strict=True)))
    return Curve(name, [step for step, _ in points], [value for _, value in points], colour, faint)


def thinned(points: list, most: int = POINTS) -> list:
    """At most `most` of the points, evenly spread, the first and the last among them."""
    if len(points) <= most:
        return points
    return [points[round(i * (len(points) - 1) / (most - 1))] for i in range(most)]


def smoothed(values: list[float]) -> list[float]:
    """Exponential moving average, corrected for its start (Kingma & Ba 2015, section 3)."""
    keep = 0.5 ** (1 / max(1.0, HALF_LIFE * len(values)))
    average, weight, out = 0.0, 0.0, []
    for value in values:
        average, weight = keep * average + (1 - keep) * value, keep * weight + (1 - keep)
        out.append(average / weight)
    return out


def status_line(standing: Standing, visitor: gr.Request | None) -> str:
    """How a run stands, in HTML: a bar, a line of state, step, loss, speed and reason, and one of what it takes."""
    status = standing.status
    at_work = status.state == "running"
    parts = [standing.word(visitor)]
    if status.step:
        parts.append(say(visitor, "train_step", step=status.step, steps=status.steps))
        parts.append(say(visitor, "train_loss", loss=status.loss))
    if at_work and status.pictures_per_second:
        parts.append(say(visitor, "train_speed", speed=status.pictures_per_second))
        parts.append(say(visitor, "train_left", time=duration(status.seconds_left)))
    if status.reason:
        parts.append(sentence_for(visitor, status.reason))
    takes = []
    if status.step:
        takes.append(say(visitor, "train_seen", seen=status.pictures_seen))
        takes.append(say(visitor, "train_worked", time=duration(status.seconds_worked)))
        if status.learning_rate:
            takes.append(say(visitor, "train_rate", rate=status.learning_rate))
        if status.memory:
            takes.append(say(visitor, "train_memory", memory=megabytes(status.memory)))
        takes.append(status.device)
    preparing = at_work and status.pictures
    done, total = (status.prepared, status.pictures) if preparing else (status.step, status.steps)
    lines = [html.escape(" · ".join(filter(None, texts))) for texts in (parts, takes) if texts]
    return bar_line("<br>".join(lines), min(1.0, done / max(1, total)))


def duration(seconds: float) -> str:
    """ "40 s", "3 min 20 s", "5 h 2 min"."""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def age(seconds: float) -> str:
    """ "3 min", "5 h", "12 d", coarse so that it seldom changes."""
    seconds = max(0, seconds)  # a clock may have been set back
    for unit, length in (("d", 86_400), ("h", 3600)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds // 60)} min"


def megabytes(count: int) -> str:
    """ "350 MB", "1.2 GB"."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
