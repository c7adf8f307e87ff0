"""Steering a run: pause, resume, stop, train longer, delete."""

import gradio as gr

from sd_core.errors import RunError
from sd_core.runs.queue import enqueue
from sd_core.runs.run import Run
from tabs.common.forms import whole
from tabs.common.words import T, say
from tabs.train.new_run import MAX_STEPS
from tabs.train.run_status import Standing

MORE_STEPS = 500  # offered
ONE_BY_ONE = "train-start"  # what puts runs into the queue, or two at once would both find room there


class Steering:
    """Draws the components, none of them usable yet."""

    def __init__(self):
        small = dict(size="sm", min_width=90, interactive=False)
        with gr.Row():
            self.pause = gr.Button(T("pause"), elem_id="train-pause", **small)
            self.resume = gr.Button(T("resume"), elem_id="train-resume", **small)
            self.stop = gr.Button(T("stop"), variant="stop", elem_id="train-stop", **small)
            self.delete = gr.Button(T("delete"), elem_id="train-delete", **small)
        with gr.Row(elem_id="longer-row"):
            self.longer = gr.Button(T("longer"), elem_id="train-longer", **small)
            self.more = gr.Number(
                MORE_STEPS, label=T("longer_by"), precision=0, minimum=1, maximum=MAX_STEPS, min_width=90,
                container=False, elem_id="train-more",
            )  # fmt: skip
        with gr.Group(visible=False, elem_id="delete-sure") as self.sure:
            self.question = gr.HTML(padding=True)
            self.asked = gr.State("")  # the run that the question names: another may be chosen before it is answered
            with gr.Row():
                self.yes = gr.Button(T("delete_yes"), variant="stop", size="sm", elem_id="delete-yes")
                self.no = gr.Button(T("delete_no"), size="sm", elem_id="delete-no")

    def buttons(self) -> tuple[gr.Button, ...]:
        """Those of `usable`."""
        return self.pause, self.resume, self.stop, self.longer, self.delete

    def news(self, works: tuple[bool, ...]) -> dict:
        """Updates that let those buttons work which `usable` says."""
        return {button: gr.Button(interactive=each) for button, each in zip(self.buttons(), works, strict=True)}


def train_longer(run: Run, more: float | None, visitor: gr.Request) -> None:
    """Lets the run go on for so many steps more. Raises RunError where that is no number of steps."""
    steps = whole(more or 0)
    if not isinstance(steps, int) or not 1 <= steps <= MAX_STEPS:
        raise RunError(say(visitor, "longer_bad", most=MAX_STEPS))
    status = run.known_status()
    # A run that was stopped early gets so many from where it is, one that goes on from where it would end.
    base = run.control().steps if status.state in ("running", "queued") else status.step
    enqueue(run, base + steps)


def usable(standing: Standing | None, mine: bool) -> tuple[bool, ...]:
    """Which of pause, resume, stop, longer and delete work for a run that stands so; `mine` says whether this browser
    may steer it."""
    working = standing is not None and standing.working
    there = standing is not None and mine
    ending = there and standing.state in ("pausing", "stopping")
    resumable = there and (not working or ending) and standing.state != "finished"
    return (
        there and working and not ending,
        resumable,
        there and working and standing.state != "stopping",
        there,
        there and not (working and standing.status.state == "running"),
    )
