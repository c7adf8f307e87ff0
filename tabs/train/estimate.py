"""What the training that is chosen will take on this machine, measured by a few steps of it."""

import html
from dataclasses import dataclass

import gradio as gr

from sd_core.errors import CheckpointError, ProbeFailed, RunError
from sd_core.models.registry import ModelRegistry
from sd_core.training.estimate import probe
from tabs.common.errors import plain_error
from tabs.common.forms import whole
from tabs.common.words import T, say
from tabs.train.base_model import kind_of, resolution_of
from tabs.train.limits import Limits
from tabs.train.run_status import duration, megabytes

SAMPLES_PER_RUN, SAMPLE_AT_MOST = 8, 500  # sample grids, and steps between them


def sample_every(steps: int) -> int:
    """Steps between the sample grids of a run of so many."""
    return max(1, min(SAMPLE_AT_MOST, steps // SAMPLES_PER_RUN))


def build_estimate(
    registry: ModelRegistry,
    limits: Limits,
    start: gr.Dropdown,
    size: gr.Radio,
    resolution: gr.Radio,
    steps: gr.Number,
    batch: gr.Slider,
) -> None:
    """Draws a button that has the steps measured, and what they say about the whole."""
    measure = gr.Button(T("estimate"), size="sm", interactive=not limits.refusal, elem_id="train-estimate")
    said = gr.HTML(elem_id="train-estimated")

    asked = [start, size, resolution, steps, batch]
    measured = measure.click(
        Estimate(registry, limits).on_measure, asked, said, show_progress="minimal", show_progress_on=said,
        api_visibility="private",
    )  # fmt: skip
    # What was measured is not true of other settings.
    gr.on(
        [setting.change for setting in asked], None, None, said, js="() => ''",
        cancels=measured, show_progress="hidden", api_visibility="private",
    )  # fmt: skip


@dataclass(frozen=True)
class Estimate:
    """Has the steps measured."""

    registry: ModelRegistry
    limits: Limits

    def on_measure(
        self, start: str, size: str, resolution: int | None, steps: float | None, batch: float, visitor: gr.Request
    ):
        try:
            self.limits.check_allowed(visitor)
            steps = max(1, whole(steps or 1))
            kind, pixels = kind_of(self.registry, start), resolution_of(self.registry, start, resolution)
            found = probe(kind, size, pixels, whole(batch))
        except (RunError, ProbeFailed, CheckpointError, OSError) as error:
            raise plain_error(error, visitor) from error
        seconds = found.seconds(steps, steps // sample_every(steps))
        parts = (
            say(visitor, "estimate_parameters", millions=found.parameters / 1e6),
            say(visitor, "estimate_memory", memory=megabytes(found.memory)),
            say(visitor, "estimate_time", time=duration(seconds), steps=steps),
            found.device,
        )
        return f'<div class="sd-note">{html.escape(" · ".join(parts))}</div>'
