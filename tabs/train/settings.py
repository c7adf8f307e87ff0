"""What to train and how: the settings of the Train tab."""

from dataclasses import dataclass

import gradio as gr

from sd_core.data.cifar10 import NATIVE_RESOLUTION as CIFAR_RESOLUTION
from sd_core.data.pairs import MOST_DRAWN
from sd_core.errors import CheckpointError
from sd_core.models.registry import ModelRegistry
from sd_core.training.config import TrainingConfig
from tabs.common.errors import plain_error
from tabs.common.forms import Form
from tabs.common.words import T
from tabs.train.base_model import FRESH, RESOLUTION, kind_shown, starts
from tabs.train.data import DataControls, build_data, kinds_for, wire_data
from tabs.train.estimate import build_estimate
from tabs.train.limits import Limits
from tabs.train.new_run import MAX_STEPS, Values

FRESH_RATE, TUNED_RATE = 3e-3, 1e-3  # learning rates: what was learnt already should not be forgotten
QUIET = dict(show_progress="hidden", api_visibility="private")


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


@dataclass
class Settings(Form):
    """The components whose values make a run."""

    data: gr.Radio
    styles: gr.CheckboxGroup
    count: gr.Slider
    files: gr.File
    fit: gr.Radio
    template: gr.Textbox
    start: gr.Dropdown
    size: gr.Radio
    resolution: gr.Radio
    steps: gr.Number
    batch: gr.Slider
    learning_rate: gr.Number
    ema: gr.Slider
    dropout: gr.Slider
    bf16: gr.Checkbox
    prompts: gr.Textbox
    seed: gr.Number
    flips: gr.Checkbox
    name: gr.Textbox

    def chosen(self, values: dict) -> Values:
        """What they hold, of the `values` of some components."""
        return Values(**self.held(values))


def build_settings(registry: ModelRegistry, limits: Limits) -> Settings:
    """Draws the settings, and lets them follow one another."""
    taste = PRESETS["taste"]
    data = build_data(limits, taste.count)
    start = gr.Dropdown(
        starts(registry), value="", label=T("train_start"), info=T("train_start_info"), elem_id="train-start"
    )
    size = gr.Radio(list(limits.sizes), value=taste.size, label=T("size"), elem_id="train-size")
    resolution = gr.Radio(list(limits.resolutions), value=RESOLUTION, label=T("resolution"), elem_id="train-resolution")
    offered = [LONGEST_ON_A_SPACE] if limits.minutes else list(PRESETS)
    presets = [(T(f"preset_{preset}"), preset) for preset in offered]
    preset = gr.Radio(presets, value="taste", label=T("preset"), info=T("preset_info"), elem_id="train-preset")
    steps = gr.Number(
        taste.steps, label=T("train_steps"), precision=0, minimum=1, maximum=MAX_STEPS, elem_id="train-steps"
    )
    with gr.Accordion(T("advanced"), open=False, elem_id="train-advanced"):
        batch = gr.Slider(8, limits.batch, taste.batch, step=8, label=T("batch"), elem_id="train-batch")
        rate = gr.Number(FRESH_RATE, label=T("learning_rate"), minimum=1e-6, maximum=0.1)
        ema = gr.Slider(0, 0.5, TrainingConfig.ema_share, step=0.01, label=T("ema"))
        dropout = gr.Slider(0, 0.5, TrainingConfig.caption_dropout, step=0.05, label=T("dropout"))
        bf16 = gr.Checkbox(True, label=T("precision"), container=True)
        prompts = gr.Textbox(
            label=T("sample_prompts"), info=T("sample_prompts_info"), lines=2, max_lines=16, elem_id="train-prompts"
        )
        seed = gr.Number(0, label=T("seed"), precision=0, minimum=0, elem_id="train-seed")
        flips = gr.Checkbox(True, label=T("flips"), container=True)
        name = gr.Textbox(label=T("run_name"), info=T("run_name_info"), max_lines=1, elem_id="run-name")
    settings = Settings(
        data.kind, data.styles, data.count, data.files, data.fit, data.template, start, size, resolution, steps, batch,
        rate, ema, dropout, bf16, prompts, seed, flips, name,
    )  # fmt: skip
    wire_data(data, start, resolution, registry, limits)
    _follow(registry, data, settings, preset, limits)
    build_estimate(registry, limits, start, size, resolution, steps, batch)
    return settings


def _follow(registry: ModelRegistry, data: DataControls, settings: Settings, preset: gr.Radio, limits: Limits) -> None:
    """Lets a choice bring what belongs to it."""
    events = SettingsEvents(registry, limits)
    start, size, resolution = settings.start, settings.size, settings.resolution
    data.kind.input(events.on_data, [data.kind, start], [data.characters, data.own, resolution], **QUIET)
    preset.input(events.on_preset, [preset, start], [settings.steps, settings.batch, data.count, size], **QUIET)
    start.input(events.on_start, start, [size, resolution, settings.learning_rate], **QUIET)
    of_captions = [settings.fit, settings.template, settings.dropout, settings.prompts, settings.flips]
    changed = [*of_captions, data.count, data.kind, data.characters, resolution]
    start.change(events.on_kind, [start, data.count, data.kind], changed, **QUIET)


@dataclass(frozen=True)
class SettingsEvents:
    """What a choice brings with it, in the order in which `_follow` names it."""

    registry: ModelRegistry
    limits: Limits

    def on_data(self, kind: str, model: str):
        """Each kind of data has its own questions, and CIFAR-10 its own resolution."""
        visible = gr.Group(visible=kind == "characters"), gr.Column(visible=kind == "own")
        native = CIFAR_RESOLUTION if kind == "cifar10" else RESOLUTION
        return *visible, gr.skip() if model not in FRESH else native

    def on_preset(self, key: str, model: str):
        chosen = PRESETS[key]
        count = min(chosen.count, self._most_characters(kind_shown(self.registry, model)))
        return chosen.steps, chosen.batch, count, gr.skip() if model not in FRESH else chosen.size

    def on_start(self, model: str, visitor: gr.Request):
        """A trained model has its own size and resolution."""
        if model in FRESH:
            return gr.Radio(interactive=True), gr.Radio(interactive=True), FRESH_RATE
        try:
            shape = self.registry.describe(model).model
        except CheckpointError as error:
            raise plain_error(error, visitor) from error
        offered = shape.resolution if shape.resolution in self.limits.resolutions else None
        return gr.Radio(value=shape.size, interactive=False), gr.Radio(value=offered, interactive=False), TUNED_RATE

    def on_kind(self, model: str, count: float, pictures: str):
        """A restorer is shown crops of large pictures, damaged and mirrored at random, and no captions."""
        kind = kind_shown(self.registry, model)
        most = self._most_characters(kind)
        of_captions = gr.Radio, gr.Textbox, gr.Slider, gr.Textbox, gr.Checkbox
        captioned = [part(visible=kind == "generator") for part in of_captions]
        offered = kinds_for(kind)
        kept = pictures in [value for _, value in offered]
        pictures = pictures if kept else "characters"
        shown = gr.Radio(offered, value=pictures), gr.Group(visible=pictures == "characters")
        native = gr.skip() if kept or model not in FRESH else RESOLUTION
        return *captioned, gr.Slider(maximum=most, value=min(count, most)), *shown, native

    def _most_characters(self, kind: str) -> int:
        """How many different ones may be asked for: a restorer's are large."""
        return min(self.limits.count, MOST_DRAWN) if kind == "restorer" else self.limits.count
