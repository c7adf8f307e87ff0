"""What the training that is chosen will take on this machine, measured by a few steps of it."""

import html

import gradio as gr

from sd_core.models.registry import ModelRegistry
from sd_core.training.estimate import Work, probe
from tabs.common.forms import QUIET, whole
from tabs.common.words import T, say
from tabs.train.base_model import FRESH, kind_of, resolution_of
from tabs.train.limits import Limits
from tabs.train.run_status import duration, megabytes

SAMPLES_PER_RUN, SAMPLE_AT_MOST = 8, 500  # sample grids, and steps between them


def sample_every(steps: int) -> int:
    """Steps between the sample grids of a run of so many."""
    return max(1, min(SAMPLE_AT_MOST, steps // SAMPLES_PER_RUN))


class Estimate:
    """Draws a button that has the steps measured, and what they say about the whole. `asked` are the settings that
    `on_measure` takes."""

    def __init__(self, registry: ModelRegistry, limits: Limits, asked: list[gr.components.Component]):
        self._registry, self._limits = registry, limits
        measure = gr.Button(T("estimate"), size="sm", interactive=not limits.refusal, elem_id="train-estimate")
        said = gr.HTML(elem_id="train-estimated")
        shown = {"show_progress": "minimal", "show_progress_on": said, "api_visibility": "private"}
        measure.click(self.on_measure, asked, said, trigger_mode="always_last", **shown)
        # What was measured is not true of other settings. What is still being measured says itself what it is of: a
        # browser tells of a change late, and would cancel what was asked for after it.
        gr.on([setting.change for setting in asked], None, None, said, js="() => ''", **QUIET)

    def on_measure(
        self,
        start: str,
        fast: bool,
        size: str,
        resolution: int | None,
        steps: float | None,
        batch: float,
        visitor: gr.Request,
    ):
        self._limits.check_allowed(visitor)
        steps = max(1, whole(steps or 1))
        kind, pixels = kind_of(self._registry, start), resolution_of(self._registry, start, resolution)
        folder = "" if start in FRESH else str(self._registry.folder(start))
        found = probe(Work(kind, size, pixels, whole(batch), folder, fast=fast and bool(folder)))
        seconds = found.seconds(steps, steps // sample_every(steps))
        parts = (
            say(visitor, "estimate_of", model=start if folder else size, side=pixels, batch=whole(batch)),
            say(visitor, "estimate_parameters", millions=found.parameters / 1e6),
            say(visitor, "estimate_memory", memory=megabytes(found.memory)),
            say(visitor, "estimate_time", time=duration(seconds), steps=steps),
            found.device,
        )
        return f'<div class="sd-note">{html.escape(" · ".join(parts))}</div>'
