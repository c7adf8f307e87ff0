"""How a picture is to be repaired: the model, the kind of repair, and its settings."""

from dataclasses import dataclass, fields

import gradio as gr
import numpy as np
from PIL import Image

from sd_core.diffusion.noise import MAX_SEED
from sd_core.errors import CheckpointError
from sd_core.models.registry import ModelRegistry
from sd_core.pictures.masks import proxy_size
from sd_core.pictures.previews import outlined
from sd_core.restoration.inpainting import FILL_STEPS
from sd_core.restoration.region import CropBox
from sd_core.restoration.request import MAX_CANDIDATES, MAX_STEPS, MAX_STRENGTH, UPSCALES
from tabs.common.errors import told
from tabs.common.forms import whole
from tabs.common.sessions import SESSIONS
from tabs.common.words import T, add_words, say
from tabs.restore.job import RestoreJobRequest
from tabs.restore.picture import Opened

MAX_LEVEL = 150  # of the noise slider, on the scale 0-255
QUIET = dict(show_progress="hidden", api_visibility="private")

add_words({
    "restorer_choice": ("{name}: any damage, any size", "{name}：任何损坏，任何尺寸"),
    "generator_choice": (
        "{name}: missing parts and noise, in pictures of its kind ({size}×{size})",
        "{name}：补画缺失或去除噪声，限同类图片（{size}×{size}）",
    ),
    "repair_what": ("Repair", "修复方式"),
    "repair_marked": ("Repair marked areas only", "只修复标出的区域"),
    "repair_whole": ("Clean the whole picture", "清理整张图片"),
    "fill_transparent": ("Fill what is transparent inside the marks", "填补标记内的透明处"),
    "clean_strength_info": ("1 is what the model finds right", "1 为模型自动判断的强度"),
    "noise_level_label": ("Noise level", "噪声强度"),
    "noise_level_info": ("On the scale 0-255; 0 finds it automatically", "范围 0-255；0 表示自动判断"),
    "upscale": ("Enlarge", "放大"),
    "upscale_none": ("No", "否"),
    "faithful_detailed": ("Faithful – Detailed", "忠实 – 细节"),
    "faithful_detailed_info": (
        "1 step: the average of all that the picture may have been. More steps: sharper, and partly invented",
        "1 步：所有可能原图的平均。步数越多越清晰，但部分细节是想象的",
    ),
    "candidates": ("Candidates", "候选数量"),
    "candidates_info": ("Different answers to choose from, from 2 steps on", "可供选择的不同结果，2 步起有效"),
    "restore_seed_info": ("Another seed, other details; without effect at 1 step", "不同种子，不同细节；1 步时无影响"),
    "prompt_optional": ("What it shows (optional)", "画面内容（可选）"),
    "square_about": (
        "This model works on one square of the picture. Click where it should be.",
        "该模型只处理图片中的一个方块。点击图片选择位置。",
    ),
    "square_size": ("Size of the square, % of the shorter side", "方块大小（短边的 %）"),
    "square_across": ("From the left, %", "距左侧 %"),
    "square_down": ("From the top, %", "距顶部 %"),
})  # fmt: skip


@dataclass
class Choices:
    """The components whose values make a request, in the order in which handlers take them."""

    model: gr.Dropdown
    what: gr.Radio
    fill: gr.Checkbox
    strength: gr.Slider
    sigma: gr.Slider
    upscale: gr.Radio
    steps: gr.Slider
    candidates: gr.Slider
    seed: gr.Number
    prompt: gr.Textbox
    across: gr.Slider
    down: gr.Slider
    share: gr.Slider

    def inputs(self) -> list[gr.components.Component]:
        return [getattr(self, f.name) for f in fields(self)]


@dataclass(frozen=True)
class Chosen:
    """What `Choices` hold."""

    model: str | None
    what: str
    fill: bool
    strength: float
    sigma: float
    upscale: int
    steps: float
    candidates: float
    seed: float | None
    prompt: str
    across: float
    down: float
    share: float

    def wanted(
        self, opened: Opened, mask: np.ndarray | None, generator: bool, original: str | None
    ) -> RestoreJobRequest:
        """The request they make. Raises ValueError with one sentence."""
        square = None
        if generator:
            square = CropBox.within(opened.size, self.across / 100, self.down / 100, self.share / 100)
        cleaning = self.what == "whole"
        return RestoreJobRequest(
            opened.path,
            self.model,
            mask,
            whole=cleaning,
            strength=self.strength,
            sigma=(self.sigma or None) if cleaning else None,
            upscale=self.upscale if cleaning else 1,
            steps=whole(self.steps),
            candidates=whole(self.candidates),
            seed=whole(self.seed or 0),
            fill=self.fill,
            prompt=self.prompt or "",
            square=square,
            original=original and str(original),
        )


@dataclass(frozen=True)
class Boxes:
    """What is shown or hidden as the choices ask for it, and the picture with the square."""

    whole: gr.Column
    square: gr.Column
    shown: gr.Image


def build_choices(registry: ModelRegistry) -> tuple[Choices, Boxes]:
    models = model_choices(registry)
    model = gr.Dropdown(models, value=models[0][1] if models else None, label=T("model"), elem_id="restorer")
    ways = [(T("repair_marked"), "marked"), (T("repair_whole"), "whole")]
    what = gr.Radio(ways, value="marked", label=T("repair_what"), elem_id="repair-what")
    fill = gr.Checkbox(False, label=T("fill_transparent"), visible=False, elem_id="fill")
    with gr.Column(visible=False) as whole_box:
        strength = gr.Slider(
            0, MAX_STRENGTH, 1, step=0.05, label=T("strength"), info=T("clean_strength_info"), elem_id="strength"
        )
        scales = [(T("upscale_none") if scale == 1 else f"{scale}×", scale) for scale in UPSCALES]
        upscale = gr.Radio(scales, value=1, label=T("upscale"), elem_id="upscale")
    sigma = gr.Slider(
        0, MAX_LEVEL, 0, step=0.5, label=T("noise_level_label"), info=T("noise_level_info"), visible=False,
        elem_id="level",
    )  # fmt: skip
    with gr.Column(visible=False) as square_box:
        gr.HTML(f'<div class="sd-note">{T("square_about")}</div>')
        shown = gr.Image(
            show_label=False, type="filepath", interactive=False, height=260, buttons=[], elem_id="square-shown"
        )
        share = gr.Slider(5, 100, 100, step=1, label=T("square_size"), elem_id="square-share")
        with gr.Row():
            across = gr.Slider(0, 100, 50, step=1, label=T("square_across"), min_width=120, elem_id="square-across")
            down = gr.Slider(0, 100, 50, step=1, label=T("square_down"), min_width=120, elem_id="square-down")
        prompt = gr.Textbox(label=T("prompt_optional"), elem_id="restore-prompt")
    steps = gr.Slider(
        1, MAX_STEPS, 1, step=1, label=T("faithful_detailed"), info=T("faithful_detailed_info"), elem_id="detail"
    )
    with gr.Row():
        candidates = gr.Slider(
            1, MAX_CANDIDATES, 1, step=1, label=T("candidates"), info=T("candidates_info"), min_width=180,
            elem_id="candidates",
        )  # fmt: skip
        seed = gr.Number(
            0, label=T("seed"), info=T("restore_seed_info"), precision=0, minimum=0, maximum=MAX_SEED, min_width=120,
            elem_id="restore-seed",
        )  # fmt: skip
    choices = Choices(model, what, fill, strength, sigma, upscale, steps, candidates, seed, prompt, across, down, share)
    return choices, Boxes(whole_box, square_box, shown)


def model_choices(registry: ModelRegistry, request: gr.Request | None = None) -> list[tuple[str, str]]:
    """The choices of the model picker: restorers, and generators with the size they work at."""
    found = [(say(request, "restorer_choice", name=name), name) for name in registry.names("restorer")]
    for name in registry.names("generator"):
        try:
            size = registry.describe(name).model.resolution
        except CheckpointError:  # it went away in the meantime
            continue
        found.append((say(request, "generator_choice", name=name, size=size), name))
    return found


def is_generator(registry: ModelRegistry, model: str | None) -> bool:
    try:
        return bool(model) and registry.describe(model).model.kind == "generator"
    except CheckpointError:
        return False


def arranged(
    choices: Choices, boxes: Boxes, generator: bool, what: str, has_alpha: bool, fill: bool | None = None
) -> dict:
    """Shows the settings that matter for this kind of repair, hides the others, and sets `fill` unless that is None."""
    whole = what == "whole"
    value = {} if fill is None else {"value": fill}
    return {
        choices.what: gr.Radio(value=what),
        choices.fill: gr.Checkbox(visible=not whole and has_alpha, **value),
        choices.sigma: gr.Slider(visible=whole),
        boxes.whole: gr.Column(visible=whole and not generator),
        boxes.square: gr.Column(visible=generator),
    }


def moved(clicked_at: tuple[int, int], size: tuple[int, int], share: float) -> tuple[int, ...]:
    """Where a square of `share` % lies, in % as the sliders say it, once its middle is moved to a click on a picture of
    (width, height)."""
    side = min(size) * share / 100
    places = []
    for clicked, length in zip(clicked_at, size, strict=True):
        room = length - side
        places.append(round(min(max((clicked - side / 2) / room, 0), 1) * 100) if room > 0 else 50)
    return tuple(places)


def square_on(picture: Image.Image, across: float, down: float, share: float) -> Image.Image:
    """The picture with the square that is worked on."""
    square = CropBox.within(picture.size, across / 100, down / 100, share / 100)
    return outlined(picture, square.left, square.top, square.side)


def wire_choices(choices: Choices, boxes: Boxes, registry: ModelRegistry, opened: gr.State) -> None:
    """What changes as one chooses. `opened` holds an `Opened`."""

    def on_arrange(model: str | None, what: str, current: Opened | None):
        return arranged(choices, boxes, is_generator(registry, model), what, bool(current and current.has_alpha))

    def on_other(model: str | None, what: str):
        """Another kind of repair is chosen: the steps that it usually takes."""
        return FILL_STEPS if what == "marked" and is_generator(registry, model) else 1

    @told
    def on_square(current: Opened | None, across: float, down: float, share: float, request: gr.Request):
        if current is None:
            return None
        return str(SESSIONS.of(request).preview(square_on(current.copied(), across, down, share)))

    def on_square_click(current: Opened, share: float, event: gr.SelectData):
        return moved(event.index, proxy_size(current.size), share)

    settings = [choices.what, choices.fill, choices.sigma, boxes.whole, boxes.square]
    gr.on(
        [choices.model.change, choices.what.change],
        on_arrange,
        [choices.model, choices.what, opened],
        settings,
        **QUIET,
    )
    kind = [choices.model, choices.what]
    gr.on([part.input for part in kind], on_other, kind, choices.steps, **QUIET)  # not when the page itself sets them
    place = [choices.across, choices.down, choices.share]
    gr.on(
        [opened.change, *(slider.change for slider in place)], on_square, [opened, *place], boxes.shown,
        trigger_mode="always_last", **QUIET,
    )  # fmt: skip
    boxes.shown.select(on_square_click, [opened, choices.share], place[:2], **QUIET)
