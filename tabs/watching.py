"""What the page shows of a run: read from its folder, drawn small, and told only when it is new."""

import html
import math
from dataclasses import asdict, dataclass

import gradio as gr
import pandas as pd

from sd_core.runs import Run, RunError, Status
from tabs.status import bar_line
from tabs.words import add_words, say

POINTS = 400  # of each curve: a chart with thousands does not draw
READ = 4000  # metric lines looked at, spread over the whole run
HALF_LIFE = 0.02  # of the smoothed curve, as a share of the run

add_words({
    "state_queued": ("Waiting to start", "等待开始"),
    "state_starting": ("Starting …", "正在启动……"),
    "state_running": ("Training", "训练中"),
    "state_preparing": ("Preparing pictures: {prepared:,} of {pictures:,}", "准备图片：{prepared:,} / {pictures:,}"),
    "state_pausing": ("Pausing after the step in hand …", "完成当前步后暂停……"),
    "state_stopping": ("Stopping after the step in hand …", "完成当前步后停止……"),
    "state_paused": ("Paused", "已暂停"),
    "state_stopped": ("Stopped", "已停止"),
    "state_finished": ("Finished", "已完成"),
    "state_failed": ("Failed", "失败"),
    "train_step": ("step {step:,} of {steps:,}", "第 {step:,} 步，共 {steps:,} 步"),
    "train_loss": ("loss {loss:.3f}", "损失 {loss:.3f}"),
    "train_speed": ("{speed:.0f} pictures/s", "每秒 {speed:.0f} 张"),
    "train_left": ("{time} left", "剩余 {time}"),
    "series_raw": ("each point", "原始"),
    "series_smooth": ("smoothed", "平滑"),
    "samples_at": ("Samples after {step:,} steps", "{step:,} 步后的样本"),
    "samples_none": ("Samples", "样本"),
    "no_run": ("No run yet; start one.", "还没有训练；请开始一次。"),
})  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """What a page shows already, so that only what is new is sent to it."""

    run: str = ""
    runs: tuple[tuple[str, str], ...] = ()
    step: int = -1
    sample: str = ""
    log: int = -1


@dataclass(frozen=True)
class Standing:
    """How a run stands, looked at once. `working` says whether a process is at it; `state` names its state in the
    page's words, which are more than the folder's."""

    name: str
    status: Status
    working: bool
    state: str

    @classmethod
    def of(cls, run: Run) -> "Standing":
        try:
            status = run.status()
        except RunError as error:
            return cls(run.name, Status("failed", str(error)), False, "failed")
        starting = status.state == "queued" and run.is_worked_on()
        working = starting or status.state == "running"
        state = "starting" if starting else status.state
        if working and run.wished() != "run":
            state = {"pause": "pausing", "stop": "stopping"}[run.wished()]
        elif status.state == "running" and status.pictures:
            state = "preparing"
        return cls(run.name, status, working, state)

    def word(self, visitor: gr.Request) -> str:
        return say(visitor, f"state_{self.state}", **asdict(self.status))

    def label(self, visitor: gr.Request) -> str:
        """Its entry in a list of runs: name and state, without what changes at every look."""
        state = "running" if self.working else self.state
        return f"{self.name} · {say(visitor, f'state_{state}')}"


def curve(lines: list[dict], raw: str, smooth: str) -> pd.DataFrame:
    """The loss over the steps as a chart's rows: log10, both curves thinned, both present even when there is nothing.

    Args:
        lines: of `Run.metrics`.
        raw, smooth: the names of the two curves.
    """
    steps = [line["step"] for line in lines if line.get("loss", 0) > 0]
    losses = [math.log10(line["loss"]) for line in lines if line.get("loss", 0) > 0]
    rows = []
    for name, values in ((raw, losses), (smooth, smoothed(losses))):
        points = thinned(list(zip(steps, values, strict=True)))
        rows += [(step, round(value, 4), name) for step, value in points] or [(0, None, name)]
    frame = pd.DataFrame(rows, columns=["step", "loss", "series"])
    return frame.astype({"loss": float})  # a chart that began with a column of None takes all that follows for names


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


def status_line(standing: Standing, visitor: gr.Request) -> str:
    """How a run stands, in HTML: a bar, and a line of state, step, loss, speed, time left and reason."""
    status = standing.status
    parts = [standing.word(visitor)]
    if status.step:
        parts.append(say(visitor, "train_step", step=status.step, steps=status.steps))
        parts.append(say(visitor, "train_loss", loss=status.loss))
    if status.state == "running" and status.pictures_per_second:
        parts.append(say(visitor, "train_speed", speed=status.pictures_per_second))
        parts.append(say(visitor, "train_left", time=duration(status.seconds_left)))
    if status.reason:
        parts.append(status.reason)
    preparing = status.state == "running" and status.pictures
    done, total = (status.prepared, status.pictures) if preparing else (status.step, status.steps)
    return _line(parts, min(1.0, done / max(1, total)))


def _line(parts: list[str], share: float = 0.0) -> str:
    return bar_line(html.escape(" · ".join(parts)), share)


def duration(seconds: float) -> str:
    """ "40 s", "3 min 20 s", "5 h 2 min"."""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
