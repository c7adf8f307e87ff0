"""What to train and how: the settings of the Train tab, and the run they make."""

from dataclasses import dataclass, fields
from pathlib import Path

import gradio as gr

from sd_core.data.cifar10 import NATIVE_RESOLUTION as CIFAR_RESOLUTION
from sd_core.data.pairs import MOST_DRAWN
from sd_core.errors import CheckpointError, RunError
from sd_core.models.registry import ModelRegistry
from sd_core.runs.config import RunConfig
from sd_core.runs.run import Run, new_name
from sd_core.training.config import SIGMAS, TrainingConfig
from tabs.common.errors import plain_error
from tabs.common.forms import whole
from tabs.common.words import T, add_words
from tabs.train.base_model import FRESH, RESOLUTION, kind_of, kind_shown, starts
from tabs.train.data import DataControls, build_data, kinds_for, wire_data
from tabs.train.estimate import SAMPLE_AT_MOST, build_estimate, sample_every
from tabs.train.limits import Limits

FRESH_RATE, TUNED_RATE = 3e-3, 1e-3  # learning rates: what was learnt already should not be forgotten
MAX_STEPS = 1_000_000
MOST_PROMPTS = 16
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

add_words({
    "size": ("Model size", "模型大小"),
    "resolution": ("Resolution", "分辨率"),
    "preset": ("How long", "训练时长"),
    "preset_info": ("On two CPU cores; a GPU is much faster", "按两个 CPU 核心估计；GPU 快得多"),
    "preset_taste": ("Two-minute taste", "两分钟体验"),
    "preset_half_hour": ("Half an hour", "半小时"),
    "preset_overnight": ("Overnight", "一整夜"),
    "train_steps": ("Steps", "步数"),
    "batch": ("Pictures per step", "每步图片数"),
    "learning_rate": ("Learning rate", "学习率"),
    "ema": ("Average of the weights (EMA): share of the training it looks back over", "权重平均（EMA）回看的比例"),
    "dropout": ("Pictures shown without their caption, for guidance", "不带说明文字的图片比例（用于引导）"),
    "precision": ("16-bit arithmetic where that is faster", "在更快时使用 16 位运算"),
    "sample_prompts": ("Prompts of the sample grid, one a line", "样本网格的提示词，每行一个"),
    "sample_prompts_info": ("Empty: captions from the pictures", "留空则取自图片的说明文字"),
    "flips": ("Mirror half of the pictures, where captions allow it", "随机镜像一半图片（说明文字允许时）"),
    "run_name": ("Name of the run", "训练名称"),
    "run_name_info": ("Empty: chosen for you", "留空则自动命名"),
})  # fmt: skip


@dataclass
class Settings:
    """The components whose values make a run, in the order in which handlers take them."""

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

    def inputs(self) -> list[gr.components.Component]:
        return [getattr(self, f.name) for f in fields(self)]


@dataclass(frozen=True)
class Values:
    """What `Settings` hold."""

    data: str
    styles: list[str]
    count: float
    files: list[str] | None
    fit: str
    template: str
    start: str
    size: str
    resolution: int | None
    steps: float | None
    batch: float
    learning_rate: float | None
    ema: float
    dropout: float
    bf16: bool
    prompts: str
    seed: float | None
    flips: bool
    name: str

    def create(self, registry: ModelRegistry, limits: Limits | None = None, pictures: Path | None = None) -> Run:
        """The run they make, waiting. `pictures` are one's own, a folder or .zip. Raises ValueError with one
        sentence."""
        limits = limits or Limits()
        steps = whole(self.steps or 0)
        if not isinstance(steps, int) or not 1 <= steps <= MAX_STEPS:
            raise RunError(f"The number of steps must be a whole number from 1 to {MAX_STEPS:,}.")
        prompts = tuple(line.strip() for line in (self.prompts or "").splitlines() if line.strip())
        if len(prompts) > MOST_PROMPTS:
            raise RunError(f"A sample grid shows up to {MOST_PROMPTS} prompts, not {len(prompts)}.")
        characters, own = self.data == "characters", self.data == "own"
        kind = kind_of(registry, self.start)
        sigma_mean, sigma_std = SIGMAS[kind]
        config = RunConfig(
            data=str(pictures) if own else self.data,
            kind=kind,
            styles=tuple(self.styles) if characters else None,
            count=whole(self.count) if characters else None,
            caption_template=(self.template or "").strip() or "{}",
            fit=self.fit,
            size=self.size,
            resolution=self.resolution or RESOLUTION,  # none is chosen where a trained model decides
            start=str(registry.folder(self.start)) if self.start not in FRESH else "",
            minutes=limits.minutes,
            training=TrainingConfig(
                steps=steps,
                batch=whole(self.batch),
                learning_rate=self.learning_rate or 0,
                sigma_mean=sigma_mean,
                sigma_std=sigma_std,
                ema_share=self.ema,
                caption_dropout=self.dropout,
                bf16=self.bf16,
                sample_prompts=prompts,
                flips=self.flips,
                seed=whole(self.seed or 0),
                sample_every=sample_every(steps),
                save_every=SAMPLE_AT_MOST,
            ),
        ).settled()
        _check(config, limits)
        name = (self.name or "").strip() or new_name(config.data if not own else pictures.name, registry.runs)
        return Run.create(name, config, registry.runs, pictures if own else None)


def _check(config: RunConfig, limits: Limits) -> None:
    """Raises RunError for what the page does not offer, which a program may ask for all the same."""
    if config.size not in limits.sizes:
        raise RunError(f"The size {config.size} is not allowed here; choose among {', '.join(limits.sizes)}.")
    if limits.minutes and config.resolution > max(limits.resolutions):
        raise RunError(f"Up to {max(limits.resolutions)}×{max(limits.resolutions)} pixels are allowed here.")
    if config.training.batch > limits.batch:
        raise RunError(f"Up to {limits.batch} pictures per step are allowed here, not {config.training.batch}.")
    if config.count and config.count > limits.count:
        raise RunError(f"Up to {limits.count:,} pictures are allowed here, not {config.count:,}.")


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
    start, size, resolution = settings.start, settings.size, settings.resolution

    def on_data(kind: str, model: str):
        """Each kind of data has its own questions, and CIFAR-10 its own resolution."""
        visible = gr.Group(visible=kind == "characters"), gr.Column(visible=kind == "own")
        native = CIFAR_RESOLUTION if kind == "cifar10" else RESOLUTION
        return *visible, gr.skip() if model not in FRESH else native

    def on_preset(key: str, model: str):
        chosen = PRESETS[key]
        count = min(chosen.count, _most_characters(kind_shown(registry, model), limits))
        return chosen.steps, chosen.batch, count, gr.skip() if model not in FRESH else chosen.size

    def on_start(model: str, visitor: gr.Request):
        """A trained model has its own size and resolution."""
        if model in FRESH:
            return gr.Radio(interactive=True), gr.Radio(interactive=True), FRESH_RATE
        try:
            shape = registry.describe(model).model
        except CheckpointError as error:
            raise plain_error(error, visitor) from error
        offered = [value for _, value in resolution.choices]
        return (
            gr.Radio(value=shape.size, interactive=False),
            gr.Radio(value=shape.resolution if shape.resolution in offered else None, interactive=False),
            TUNED_RATE,
        )

    def on_kind(model: str, count: float, pictures: str):
        """A restorer is shown crops of large pictures, damaged and mirrored at random, and no captions."""
        kind = kind_shown(registry, model)
        most = _most_characters(kind, limits)
        captioned = [type(each)(visible=kind == "generator") for each in of_captions]
        offered = kinds_for(kind)
        kept = pictures in [value for _, value in offered]
        pictures = pictures if kept else "characters"
        shown = gr.Radio(offered, value=pictures), gr.Group(visible=pictures == "characters")
        native = gr.skip() if kept or model not in FRESH else RESOLUTION
        return *captioned, gr.Slider(maximum=most, value=min(count, most)), *shown, native

    of_captions = [settings.fit, settings.template, settings.dropout, settings.prompts, settings.flips]
    data.kind.input(on_data, [data.kind, start], [data.characters, data.own, resolution], **QUIET)
    preset.input(on_preset, [preset, start], [settings.steps, settings.batch, data.count, size], **QUIET)
    start.input(on_start, start, [size, resolution, settings.learning_rate], **QUIET)
    start.change(
        on_kind,
        [start, data.count, data.kind],
        [*of_captions, data.count, data.kind, data.characters, resolution],
        **QUIET,
    )


def _most_characters(kind: str, limits: Limits) -> int:
    """How many different ones may be asked for: a restorer's are large."""
    return min(limits.count, MOST_DRAWN) if kind == "restorer" else limits.count
