"""What to train on and how: the settings of the Train tab, and the run they make."""

from dataclasses import dataclass, fields

import gradio as gr

from sd_core.checkpoint import CheckpointError
from sd_core.data.characters import STYLES
from sd_core.data.cifar10 import NATIVE_RESOLUTION as CIFAR_RESOLUTION
from sd_core.run_config import RunConfig
from sd_core.runs import Run, RunError, new_name
from sd_core.shelf import Shelf
from sd_core.training import TrainingConfig
from sd_core.unet import WIDTHS
from tabs.controls import whole
from tabs.words import T, add_words

RESOLUTIONS, RESOLUTION = (32, 64, 96, 128), 64
FRESH_RATE, TUNED_RATE = 3e-3, 1e-3  # learning rates: what was learnt already should not be forgotten
SAMPLES_PER_RUN, SAMPLE_AT_MOST = 8, 500  # sample grids, and steps between them
MAX_STEPS = 1_000_000


@dataclass(frozen=True)
class Preset:
    """How long to train, and with how much: `steps` of `batch` pictures, `count` different characters."""

    steps: int
    batch: int
    count: int
    size: str


PRESETS = {  # times are for two CPU cores and 64×64 pixels
    "taste": Preset(200, 32, 500, "tiny"),
    "half_hour": Preset(1000, 64, 6000, "small"),
    "overnight": Preset(20_000, 64, 24_000, "small"),
}

add_words({
    "train_about": (
        "Training runs in a process of its own: close the page, come back later, and it is still there.",
        "训练在独立进程中进行：关闭页面后再回来，训练仍在继续。",
    ),
    "train_data": ("Pictures", "训练图片"),
    "data_characters": ("Built-in characters", "内置角色"),
    "data_cifar10": ("CIFAR-10 (downloaded)", "CIFAR-10（需下载）"),
    "data_own": ("My own (.zip)", "我的图片（.zip）"),
    "styles": ("Styles", "画风"),
    "train_count": ("Number of pictures", "图片数量"),
    "archive": (
        "A .zip of pictures; captions from its folders, .txt files or metadata.jsonl",
        "图片 .zip；说明文字取自文件夹名、.txt 或 metadata.jsonl",
    ),
    "train_start": ("Start from", "起点"),
    "train_fresh": ("A fresh model", "全新模型"),
    "train_start_info": (
        "A trained model keeps its own size and resolution",
        "已训练的模型保持自己的大小和分辨率",
    ),
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
    "flips": ("Mirror half of the pictures, where captions allow it", "随机镜像一半图片（说明文字允许时）"),
    "run_name": ("Name of the run", "训练名称"),
    "run_name_info": ("Empty: chosen for you", "留空则自动命名"),
    "no_archive": ("Choose a .zip of pictures first.", "请先选择图片 .zip 文件。"),
})  # fmt: skip


@dataclass
class Settings:
    """The components whose values make a run, in the order in which handlers take them."""

    data: gr.Radio
    styles: gr.CheckboxGroup
    count: gr.Slider
    archive: gr.File
    start: gr.Dropdown
    size: gr.Radio
    resolution: gr.Radio
    steps: gr.Number
    batch: gr.Slider
    learning_rate: gr.Number
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
    archive: str | None
    start: str
    size: str
    resolution: int | None
    steps: float | None
    batch: float
    learning_rate: float | None
    seed: float | None
    flips: bool
    name: str

    def create(self, shelf: Shelf) -> Run:
        """The run they make, queued. Raises ValueError with one sentence."""
        steps = whole(self.steps or 0)
        if not isinstance(steps, int) or not 1 <= steps <= MAX_STEPS:
            raise RunError(f"The number of steps must be a whole number from 1 to {MAX_STEPS:,}.")
        built_in_characters = self.data == "characters"
        every = max(1, min(SAMPLE_AT_MOST, steps // SAMPLES_PER_RUN))
        config = RunConfig(
            data=self.archive if self.data == "own" else self.data,
            styles=tuple(self.styles) if built_in_characters else None,
            count=whole(self.count) if built_in_characters else None,
            size=self.size,
            resolution=self.resolution or RESOLUTION,  # none is chosen where a trained model decides
            start=str(shelf.folder(self.start)) if self.start else "",
            training=TrainingConfig(
                steps=steps,
                batch=whole(self.batch),
                learning_rate=self.learning_rate or 0,
                flips=self.flips,
                seed=whole(self.seed or 0),
                sample_every=every,
                save_every=SAMPLE_AT_MOST,
            ),
        )
        name = (self.name or "").strip() or new_name(config.data, shelf.runs)
        return Run.create(name, config, shelf.runs, self.archive if self.data == "own" else None)


def build_settings(shelf: Shelf) -> Settings:
    """Draws the settings, and lets them follow one another."""
    taste, styles = PRESETS["taste"], [style.name for style in STYLES]
    kinds = [(T(f"data_{kind}"), kind) for kind in ("characters", "cifar10", "own")]
    data = gr.Radio(kinds, value="characters", label=T("train_data"), elem_id="train-data")
    with gr.Group() as characters:
        chosen = gr.CheckboxGroup(styles, value=styles, label=T("styles"), elem_id="train-styles")
        count = gr.Slider(10, 24_000, taste.count, step=10, label=T("train_count"), elem_id="train-count")
    archive = gr.File(
        label=T("archive"), file_types=[".zip"], type="filepath", visible=False, height=140, elem_id="train-archive"
    )
    start = gr.Dropdown(
        _starts(shelf), value="", label=T("train_start"), info=T("train_start_info"), elem_id="train-start"
    )
    size = gr.Radio(list(WIDTHS), value=taste.size, label=T("size"), elem_id="train-size")
    resolution = gr.Radio(list(RESOLUTIONS), value=RESOLUTION, label=T("resolution"), elem_id="train-resolution")
    presets = [(T(f"preset_{preset}"), preset) for preset in PRESETS]
    preset = gr.Radio(presets, value="taste", label=T("preset"), info=T("preset_info"), elem_id="train-preset")
    steps = gr.Number(taste.steps, label=T("train_steps"), precision=0, minimum=1, maximum=MAX_STEPS)
    with gr.Accordion(T("advanced"), open=False, elem_id="train-advanced"):
        batch = gr.Slider(8, 256, taste.batch, step=8, label=T("batch"))
        rate = gr.Number(FRESH_RATE, label=T("learning_rate"), minimum=1e-6, maximum=0.1)
        seed = gr.Number(0, label=T("seed"), precision=0, minimum=0)
        flips = gr.Checkbox(True, label=T("flips"), container=True)
        name = gr.Textbox(label=T("run_name"), info=T("run_name_info"), max_lines=1, elem_id="run-name")
    settings = Settings(
        data, chosen, count, archive, start, size, resolution, steps, batch, rate, seed, flips, name
    )  # fmt: skip

    quiet = dict(show_progress="hidden", api_visibility="private")

    def on_data(kind: str, model: str):
        """Each kind of data has its own questions, and CIFAR-10 its own resolution."""
        visible = gr.Group(visible=kind == "characters"), gr.File(visible=kind == "own")
        native = CIFAR_RESOLUTION if kind == "cifar10" else RESOLUTION
        return *visible, gr.skip() if model else native

    def on_preset(key: str, model: str):
        chosen = PRESETS[key]
        return chosen.steps, chosen.batch, chosen.count, gr.skip() if model else chosen.size

    data.input(on_data, [data, start], [characters, archive, resolution], **quiet)
    preset.input(on_preset, [preset, start], [steps, batch, count, size], **quiet)

    def on_start(model: str):
        """A trained model has its own size and resolution."""
        if not model:
            return gr.Radio(interactive=True), gr.Radio(interactive=True), FRESH_RATE
        try:
            shape = shelf.describe(model).model
        except CheckpointError as error:
            raise gr.Error(str(error), print_exception=False) from error
        return (
            gr.Radio(value=shape.size, interactive=False),
            gr.Radio(value=shape.resolution if shape.resolution in RESOLUTIONS else None, interactive=False),
            TUNED_RATE,
        )

    start.input(on_start, start, [size, resolution, rate], **quiet)
    return settings


def _starts(shelf: Shelf) -> list[tuple[str, str]]:
    return [(T("train_fresh"), ""), *((name, name) for name in shelf.names())]


def starts_of_today(shelf: Shelf, chosen: str) -> gr.Dropdown:
    """The picker of the model to start from, with what there is now."""
    choices = _starts(shelf)
    known = {value for _, value in choices}
    return gr.Dropdown(choices=choices, value=chosen if chosen in known else "")
