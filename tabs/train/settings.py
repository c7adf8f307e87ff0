"""What to train and how: the settings of the Train tab."""

from dataclasses import dataclass

import gradio as gr

from sd_core.data.cifar10 import NATIVE_RESOLUTION as CIFAR_RESOLUTION
from sd_core.data.pairs import MOST_DRAWN
from sd_core.models.registry import ModelRegistry
from sd_core.training.config import FRESH_RATE, TUNED_RATE, TrainingConfig
from tabs.common.forms import QUIET, Form
from tabs.common.words import T
from tabs.train.base_model import FRESH, FRESH_RESTORER, RESOLUTION, first_start, kind_shown, resolution_of, starts
from tabs.train.data import ALL_STYLES, UNSEEN_STYLES, DataControls, kinds_for
from tabs.train.estimate import Estimate
from tabs.train.limits import Limits
from tabs.train.new_run import MAX_STEPS, Values


@dataclass(frozen=True)
class Preset:
    """How long to train, and with what: `steps` of `batch` pictures, `count` different characters in `styles`. A fresh
    model is of a `size`, for `resolution` pixels a side; a trained one keeps its own."""

    steps: int
    batch: int
    count: int
    styles: list[str]
    size: str = "tiny"
    resolution: int = RESOLUTION


TRAINED = "trained"
# For each start of `FRESH`, and for trained models. Times are for two CPU cores; a fresh generator needs small pictures
# of one style to show faces within some minutes.
PRESETS = {
    "": {
        "taste": Preset(1000, 32, 500, UNSEEN_STYLES, resolution=32),
        "half_hour": Preset(2000, 64, 6000, ALL_STYLES, "small"),
        "overnight": Preset(30_000, 64, 24_000, ALL_STYLES, "small", 256),
    },
    FRESH_RESTORER: {
        "taste": Preset(200, 32, 500, ALL_STYLES),
        "half_hour": Preset(2000, 64, 500, ALL_STYLES, "small"),
        "overnight": Preset(30_000, 64, 500, ALL_STYLES, "small"),
    },
    TRAINED: {
        "taste": Preset(200, 32, 100, UNSEEN_STYLES),
        "half_hour": Preset(2000, 64, 2000, UNSEEN_STYLES),
        "overnight": Preset(30_000, 64, 24_000, UNSEEN_STYLES),
    },
}
LONGEST_ON_A_SPACE = "taste"  # of the presets, where a run's time is limited


class Settings(Form):
    """Draws the settings, whose values make a run, and lets them follow one another."""

    made = Values

    def __init__(self, registry: ModelRegistry, limits: Limits, tab: gr.Tab):
        self._registry, self._limits = registry, limits
        start = first_start(registry)
        taste = preset_of("taste", start)
        data = DataControls(registry, limits, taste.count, taste.styles)
        self.data, self.styles, self.count, self.characters = data.kind, data.styles, data.count, data.characters
        self.files, self.fit, self.template = data.files, data.fit, data.template
        self.start = gr.Dropdown(
            starts(registry), value=start, label=T("train_start"), info=T("train_start_info"), elem_id="train-start"
        )
        self.fast = gr.Checkbox(
            False, label=T("train_fast"), info=T("train_fast_info"), visible=start not in FRESH, elem_id="train-fast"
        )
        size, resolution = self._shape(start, taste)
        self.size = gr.Radio(list(limits.sizes), label=T("size"), elem_id="train-size", **size)
        self.resolution = gr.Radio(
            list(limits.resolutions), label=T("resolution"), elem_id="train-resolution", **resolution
        )
        offered = [LONGEST_ON_A_SPACE] if limits.minutes else list(PRESETS[TRAINED])
        presets = [(T(f"preset_{name}"), name) for name in offered]
        preset = gr.Radio(presets, value="taste", label=T("preset"), info=T("preset_info"), elem_id="train-preset")
        self.steps = gr.Number(
            taste.steps, label=T("train_steps"), precision=0, minimum=1, maximum=MAX_STEPS, elem_id="train-steps"
        )
        with gr.Accordion(T("advanced"), open=False, elem_id="train-advanced"):
            self._draw_advanced(taste, _learning_rate(start))
        self._follow(data, preset, tab)
        Estimate(registry, limits, [self.start, self.fast, self.size, self.resolution, self.steps, self.batch])

    def _draw_advanced(self, taste: Preset, learning_rate: float) -> None:
        self.batch = gr.Slider(8, self._limits.batch, taste.batch, step=8, label=T("batch"), elem_id="train-batch")
        self.learning_rate = gr.Number(learning_rate, label=T("learning_rate"), minimum=1e-6, maximum=0.1)
        self.ema = gr.Slider(0, 0.5, TrainingConfig.ema_share, step=0.01, label=T("ema"))
        self.dropout = gr.Slider(0, 0.5, TrainingConfig.caption_dropout, step=0.05, label=T("dropout"))
        self.bf16 = gr.Checkbox(True, label=T("precision"), container=True)
        self.prompts = gr.Textbox(
            label=T("sample_prompts"), info=T("sample_prompts_info"), lines=2, max_lines=16, elem_id="train-prompts"
        )
        self.seed = gr.Number(0, label=T("seed"), precision=0, minimum=0, elem_id="train-seed")
        self.flips = gr.Checkbox(True, label=T("flips"), container=True)
        self.name = gr.Textbox(label=T("run_name"), info=T("run_name_info"), max_lines=1, elem_id="run-name")

    def _follow(self, data: DataControls, preset: gr.Radio, tab: gr.Tab) -> None:
        """Lets a choice bring what belongs to it."""
        shown = [data.characters, data.own, self.start, self.resolution]
        data.kind.input(self.on_data, [data.kind, self.start, preset], shown, **QUIET)
        asked = [preset, self.start, data.kind, data.styles]
        brought = [self.steps, self.batch, self.count, self.styles, self.size, self.resolution]
        preset.input(self.on_preset, asked, brought, **QUIET)
        of_kind = [self.learning_rate, self.fast, self.fit, self.template, self.dropout, self.prompts, self.flips]
        of_kind += [self.data, self.characters]
        started = self.start.change(self.on_start, asked, [*brought, *of_kind], **QUIET)
        data.follow(self.start, self.resolution, tab, started)

    def on_data(self, kind: str, start: str, preset: str):
        """Each kind of data has its own questions, and CIFAR-10 its own resolution: enlarged for a larger model, its
        pictures would fill the disk."""
        visible = gr.Group(visible=kind == "characters"), gr.Column(visible=kind == "own")
        if start in FRESH:
            return *visible, gr.skip(), _resolution(preset_of(preset, start), kind)
        fits = kind != "cifar10" or resolution_of(self._registry, start, None) == CIFAR_RESOLUTION
        return *visible, gr.skip() if fits else "", gr.skip()

    def on_preset(self, preset: str, start: str, pictures: str, styles: list[str]) -> dict:
        """What a preset brings. Styles stay where somebody chose others than the presets do."""
        chosen, kind = preset_of(preset, start), kind_shown(self._registry, start)
        size, resolution = self._shape(start, chosen, pictures)
        most = min(self._limits.count, MOST_DRAWN) if kind == "restorer" else self._limits.count  # of large ones
        return {
            self.steps: chosen.steps,
            self.batch: chosen.batch,
            self.count: gr.Slider(maximum=most, value=min(chosen.count, most)),
            self.styles: chosen.styles if styles in (ALL_STYLES, UNSEEN_STYLES) else gr.skip(),
            self.size: gr.Radio(**size),
            self.resolution: gr.Radio(**resolution),
        }

    def on_start(self, preset: str, start: str, pictures: str, styles: list[str]) -> dict:
        """What belongs to a model of this kind. A restorer is shown crops of large pictures, damaged and mirrored at
        random, and no captions."""
        kind = kind_shown(self._registry, start)
        draws, offered = kind == "generator", kinds_for(kind)
        kept = pictures in [value for _, value in offered]
        pictures = pictures if kept else "characters"
        return self.on_preset(preset, start, pictures, styles) | {
            self.learning_rate: _learning_rate(start),
            self.fast: gr.Checkbox(value=False, visible=draws and start not in FRESH),
            self.fit: gr.Radio(visible=draws),
            self.template: gr.Textbox(visible=draws),
            self.dropout: gr.Slider(visible=draws),
            self.prompts: gr.Textbox(visible=draws),
            self.flips: gr.Checkbox(visible=draws),
            self.data: gr.Radio(offered) if kept else gr.Radio(offered, value=pictures),
            self.characters: gr.Group(visible=pictures == "characters"),
        }

    def _shape(self, start: str, preset: Preset, pictures: str = "characters") -> tuple[dict, dict]:
        """What the choices of size and of resolution stand at, and whether they can be changed."""
        if start in FRESH:
            resolution = _resolution(preset, pictures)
            return dict(value=preset.size, interactive=True), dict(value=resolution, interactive=True)
        shape = self._registry.describe(start).model
        offered = shape.resolution if shape.resolution in self._limits.resolutions else None
        return dict(value=shape.size, interactive=False), dict(value=offered, interactive=False)


def preset_of(name: str, start: str) -> Preset:
    """The preset of this name for a training from `start`."""
    return PRESETS[start if start in FRESH else TRAINED][name]


def _learning_rate(start: str) -> float:
    return FRESH_RATE if start in FRESH else TUNED_RATE


def _resolution(preset: Preset, pictures: str) -> int:
    return CIFAR_RESOLUTION if pictures == "cifar10" else preset.resolution
