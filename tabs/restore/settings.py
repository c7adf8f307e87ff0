"""How a picture is to be repaired: the model, the kind of repair, and its settings."""

from dataclasses import dataclass

import gradio as gr
import numpy as np

from sd_core.diffusion.noise import MAX_SEED
from sd_core.errors import CheckpointError
from sd_core.models.registry import ModelRegistry
from sd_core.restoration.inpainting import FILL_STEPS
from sd_core.restoration.region import CropBox
from sd_core.restoration.request import MAX_CANDIDATES, MAX_STEPS, MAX_STRENGTH, UPSCALES
from tabs.common.forms import Form, whole
from tabs.common.words import T, say
from tabs.restore.job import RestoreJobRequest
from tabs.restore.picture import Opened
from tabs.restore.region import Region, build_region, wire_region

MAX_LEVEL = 150  # of the noise slider, on the scale 0-255
QUIET = dict(show_progress="hidden", api_visibility="private")


@dataclass
class Choices(Form):
    """The components whose values make a request."""

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

    def chosen(self, values: dict) -> "Chosen":
        """What they hold, of the `values` of some components."""
        return Chosen(**self.held(values))


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
        """The request they make. Raises UserError."""
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
    """What is shown or hidden as the choices ask for it."""

    whole: gr.Column
    region: Region


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
    region = build_region()
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
    choices = Choices(
        model, what, fill, strength, sigma, upscale, steps, candidates, seed, region.prompt, region.across, region.down,
        region.share,
    )  # fmt: skip
    return choices, Boxes(whole_box, region)


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


def arrangeable(choices: Choices, boxes: Boxes) -> list[gr.blocks.Block]:
    """What `arranged` may change."""
    return [choices.what, choices.fill, choices.sigma, boxes.whole, boxes.region.box]


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
        boxes.region.box: gr.Column(visible=generator),
    }


def wire_choices(choices: Choices, boxes: Boxes, registry: ModelRegistry, opened: gr.State) -> None:
    """What changes as one chooses. `opened` holds an `Opened`."""

    def on_arrange(model: str | None, what: str, current: Opened | None):
        return arranged(choices, boxes, is_generator(registry, model), what, bool(current and current.has_alpha))

    def on_other(model: str | None, what: str):
        """Another kind of repair is chosen: the steps that it usually takes."""
        return FILL_STEPS if what == "marked" and is_generator(registry, model) else 1

    kind = [choices.model, choices.what]
    gr.on([part.change for part in kind], on_arrange, [*kind, opened], arrangeable(choices, boxes), **QUIET)
    gr.on([part.input for part in kind], on_other, kind, choices.steps, **QUIET)  # not when the page itself sets them
    wire_region(boxes.region, opened)
