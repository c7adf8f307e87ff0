"""What to train and how: the settings of the Train tab."""

from dataclasses import dataclass

import gradio as gr

from sd_core.data.cifar10 import NATIVE_RESOLUTION as CIFAR_RESOLUTION
from sd_core.data.pairs import MOST_DRAWN
from sd_core.models.registry import ModelRegistry
from sd_core.training.config import TrainingConfig
from tabs.common.forms import QUIET, Form
from tabs.common.words import T
from tabs.train.base_model import FRESH, RESOLUTION, kind_shown, starts
from tabs.train.data import DataControls, kinds_for
from tabs.train.estimate import Estimate
from tabs.train.limits import Limits
from tabs.train.new_run import MAX_STEPS, Values

FRESH_RATE, TUNED_RATE = 3e-3, 1e-3  # learning rates: what was learnt already should not be forgotten


@dataclass(frozen=True)
class Preset:
    """How long to train, and with how much: `steps` of `batch` pictures, `count` different characters."""

    steps: int
    batch: int
    count: int
    size: str


PRESETS = {  # times are for two CPU cores and 64×64 pixels
    "taste": Preset(200, 32, 500, "tiny"),
    "half_hour": Preset(2000, 64, 6000, "small"),
    "overnight": Preset(30_000, 64, 24_000, "small"),
}
LONGEST_ON_A_SPACE = "taste"  # of the presets, where a run's time is limited


class Settings(Form):
    """Draws the settings, whose values make a run, and lets them follow one another."""

    made = Values

    def __init__(self, registry: ModelRegistry, limits: Limits):
        self._registry, self._limits = registry, limits
        taste = PRESETS["taste"]
        data = DataControls(registry, limits, taste.count)
        self.data, self.styles, self.count = data.kind, data.styles, data.count
        self.files, self.fit, self.template = data.files, data.fit, data.template
        self.start = gr.Dropdown(
            starts(registry), value="", label=T("train_start"), info=T("train_start_info"), elem_id="train-start"
        )
        self.fast = gr.Checkbox(
            False, label=T("train_fast"), info=T("train_fast_info"), visible=False, elem_id="train-fast"
        )
        self.size = gr.Radio(list(limits.sizes), value=taste.size, label=T("size"), elem_id="train-size")
        self.resolution = gr.Radio(
            list(limits.resolutions), value=RESOLUTION, label=T("resolution"), elem_id="train-resolution"
        )
        offered = [LONGEST_ON_A_SPACE] if limits.minutes else list(PRESETS)
        presets = [(T(f"preset_{preset}"), preset) for preset in offered]
        preset = gr.Radio(presets, value="taste", label=T("preset"), info=T("preset_info"), elem_id="train-preset")
        self.steps = gr.Number(
            taste.steps, label=T("train_steps"), precision=0, minimum=1, maximum=MAX_STEPS, elem_id="train-steps"
        )
        with gr.Accordion(T("advanced"), open=False, elem_id="train-advanced"):
            self._draw_advanced(taste)
        data.follow(self.start, self.resolution)
        self._follow(data, preset)
        Estimate(registry, limits, [self.start, self.fast, self.size, self.resolution, self.steps, self.batch])

    def _draw_advanced(self, taste: Preset) -> None:
        self.batch = gr.Slider(8, self._limits.batch, taste.batch, step=8, label=T("batch"), elem_id="train-batch")
        self.learning_rate = gr.Number(FRESH_RATE, label=T("learning_rate"), minimum=1e-6, maximum=0.1)
        self.ema = gr.Slider(0, 0.5, TrainingConfig.ema_share, step=0.01, label=T("ema"))
        self.dropout = gr.Slider(0, 0.5, TrainingConfig.caption_dropout, step=0.05, label=T("dropout"))
        self.bf16 = gr.Checkbox(True, label=T("precision"), container=True)
        self.prompts = gr.Textbox(
            label=T("sample_prompts"), info=T("sample_prompts_info"), lines=2, max_lines=16, elem_id="train-prompts"
        )
        self.seed = gr.Number(0, label=T("seed"), precision=0, minimum=0, elem_id="train-seed")
        self.flips = gr.Checkbox(True, label=T("flips"), container=True)
        self.name = gr.Textbox(label=T("run_name"), info=T("run_name_info"), max_lines=1, elem_id="run-name")

    def _follow(self, data: DataControls, preset: gr.Radio) -> None:
        """Lets a choice bring what belongs to it."""
        start, size, resolution = self.start, self.size, self.resolution
        data.kind.input(self.on_data, [data.kind, start], [data.characters, data.own, resolution], **QUIET)
        preset.input(self.on_preset, [preset, start], [self.steps, self.batch, data.count, size], **QUIET)
        start.input(self.on_start, start, [size, resolution, self.learning_rate], **QUIET)
        of_captions = [self.fit, self.template, self.dropout, self.prompts, self.flips]
        changed = [self.fast, *of_captions, data.count, data.kind, data.characters, resolution]
        start.change(self.on_kind, [start, data.count, data.kind], changed, **QUIET)

    def on_data(self, kind: str, model: str):
        """Each kind of data has its own questions, and CIFAR-10 its own resolution."""
        visible = gr.Group(visible=kind == "characters"), gr.Column(visible=kind == "own")
        native = CIFAR_RESOLUTION if kind == "cifar10" else RESOLUTION
        return *visible, gr.skip() if model not in FRESH else native

    def on_preset(self, key: str, model: str):
        chosen = PRESETS[key]
        count = min(chosen.count, self._most_characters(kind_shown(self._registry, model)))
        return chosen.steps, chosen.batch, count, gr.skip() if model not in FRESH else chosen.size

    def on_start(self, model: str):
        """A trained model has its own size and resolution."""
        if model in FRESH:
            return gr.Radio(interactive=True), gr.Radio(interactive=True), FRESH_RATE
        shape = self._registry.describe(model).model
        offered = shape.resolution if shape.resolution in self._limits.resolutions else None
        return gr.Radio(value=shape.size, interactive=False), gr.Radio(value=offered, interactive=False), TUNED_RATE

    def on_kind(self, model: str, count: float, pictures: str):
        """A restorer is shown crops of large pictures, damaged and mirrored at random, and no captions."""
        kind = kind_shown(self._registry, model)
        most = self._most_characters(kind)
        of_captions = gr.Radio, gr.Textbox, gr.Slider, gr.Textbox, gr.Checkbox
        captioned = [part(visible=kind == "generator") for part in of_captions]
        offered = kinds_for(kind)
        kept = pictures in [value for _, value in offered]
        pictures = pictures if kept else "characters"
        shown = gr.Radio(offered, value=pictures), gr.Group(visible=pictures == "characters")
        native = gr.skip() if kept or model not in FRESH else RESOLUTION
        fast = gr.Checkbox(value=False, visible=kind == "generator" and model not in FRESH)
        return fast, *captioned, gr.Slider(maximum=most, value=min(count, most)), *shown, native

    def _most_characters(self, kind: str) -> int:
        """How many different ones may be asked for: a restorer's are large."""
        return min(self._limits.count, MOST_DRAWN) if kind == "restorer" else self._limits.count
