"""Steering a run: pause, resume, stop, train longer, delete."""

from dataclasses import dataclass

import gradio as gr

from sd_core.errors import RunError
from sd_core.runs.queue import enqueue
from sd_core.runs.run import Run
from tabs.common.forms import whole
from tabs.common.words import T, say
from tabs.train.run_status import Standing

MORE_STEPS = 500  # offered
MOST_STEPS = 1_000_000
ONE_BY_ONE = "train-start"  # what puts runs into the queue, or two at once would both find room there
QUIET = dict(show_progress="hidden", api_visibility="private")


@dataclass
class Steering:
    """The components."""

    pause: gr.Button
    resume: gr.Button
    stop: gr.Button
    delete: gr.Button
    more: gr.Number
    longer: gr.Button
    sure: gr.Group
    question: gr.HTML
    asked: gr.State
    yes: gr.Button
    no: gr.Button


def build_steering() -> Steering:
    """Draws the components, none of them usable yet."""
    small = dict(size="sm", min_width=90, interactive=False)
    with gr.Row():
        pause = gr.Button(T("pause"), elem_id="train-pause", **small)
        resume = gr.Button(T("resume"), elem_id="train-resume", **small)
        stop = gr.Button(T("stop"), variant="stop", elem_id="train-stop", **small)
        delete = gr.Button(T("delete"), elem_id="train-delete", **small)
    with gr.Row(elem_id="longer-row"):
        longer = gr.Button(T("longer"), elem_id="train-longer", **small)
        more = gr.Number(
            MORE_STEPS, label=T("longer_by"), precision=0, minimum=1, maximum=MOST_STEPS, min_width=90,
            container=False, elem_id="train-more",
        )  # fmt: skip
    with gr.Group(visible=False, elem_id="delete-sure") as sure:
        question = gr.HTML(padding=True)
        asked = gr.State("")  # the run that the question names: another may be chosen before it is answered
        with gr.Row():
            yes = gr.Button(T("delete_yes"), variant="stop", size="sm", elem_id="delete-yes")
            no = gr.Button(T("delete_no"), size="sm", elem_id="delete-no")
    return Steering(pause, resume, stop, delete, more, longer, sure, question, asked, yes, no)


def train_longer(run: Run, more: float | None, visitor: gr.Request) -> None:
    """Lets the run go on for so many steps more. Raises RunError where that is no number of steps."""
    steps = whole(more or 0)
    if not isinstance(steps, int) or not 1 <= steps <= MOST_STEPS:
        raise RunError(say(visitor, "longer_bad", most=MOST_STEPS))
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


def news(steering: Steering, works: tuple[bool, ...]) -> dict:
    """Updates that let those buttons work which `usable` says."""
    buttons = (steering.pause, steering.resume, steering.stop, steering.longer, steering.delete)
    return {button: gr.Button(interactive=each) for button, each in zip(buttons, works, strict=True)}
